"""A random nano, a few foundation pictures and a small Hand3D-like folder: what the training tests run on."""

import sys
from pathlib import Path

import pytest

from vipa.data.spec import DataSpec
from vipa.training.runs import TrainRun

sys.path.insert(0, str(Path(__file__).parent))  # pytest runs in importlib mode


@pytest.fixture
def run(start, pictures, tmp_path) -> TrainRun:
    spec = DataSpec("foundation", pictures[0], batch=2, turns=3)
    return TrainRun(
        name="test",
        start=str(start),
        out=tmp_path / "run",
        data=(spec,),
        trained=("fusion",),
        steps=6,
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup=0.1,
        log_every=1,
        save_every=3,
        threads=1,
    )
