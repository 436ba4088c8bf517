"""A random nano, a few foundation pictures and a small Hand3D-like folder: what the training tests run on."""

import sys
from pathlib import Path

import pytest
import torch

from vipa.data.spec import DataSpec
from vipa.hands.motion_codec import MotionCodec
from vipa.models import VipaForConditionalGeneration, nano_vipa_config
from vipa.models.presets import nano_processor
from vipa.nano.foundation.picture_questions import sample_turns
from vipa.nano.foundation.picture_set import render_pictures
from vipa.nano.foundation.tokenizer import train_tokenizer
from vipa.training.runs import TrainRun

sys.path.insert(0, str(Path(__file__).parent))  # pytest runs in importlib mode


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return folder, render_pictures(folder, range(8), frames=2, workers=1)


@pytest.fixture(scope="session")
def tokenizer(pictures):
    import numpy as np

    rng = np.random.default_rng(0)
    data = pictures[1]
    texts = [
        text for p in data.pictures for turn in sample_turns(p, p, 20, rng) for text in (turn.prompt, turn.answer)
    ]
    tokenizer = train_tokenizer(texts * 5, vocabulary=600)
    tokenizer.add_tokens(MotionCodec().tokens)
    return tokenizer


@pytest.fixture(scope="session")
def start(tmp_path_factory, tokenizer) -> Path:
    """A folder with a whole nano of random weights."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    VipaForConditionalGeneration(nano_vipa_config(tokenizer)).save_pretrained(folder)
    nano_processor(tokenizer).save_pretrained(folder)
    return folder


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
