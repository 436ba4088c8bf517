"""Post-training on robot demonstrations: language model and action head learn (section 3.3)."""

from dataclasses import replace
from pathlib import Path

from vipa.data.spec import DataSpec
from vipa.training.runs import STAGE3_PARTS, Preset, TrainRun, as_nano, on_gpus, start_of


def make(data: Path, out: Path, preset: Preset = "nano", start: str | None = None) -> TrainRun:
    """The run of a preset. data: robot demonstrations. start: as of `TrainRun`; left out, nano after stage 2."""
    run = TrainRun(
        name="stage3",
        start=start or start_of(preset, "stage2"),
        out=out,
        data=(DataSpec("episodes", data, batch=128, noise_draws=1),),
        trained=STAGE3_PARTS,
        steps=30_000,
        learning_rate=5e-5,
        weight_decay=1e-5,
        warmup=0.05,
    )
    if preset == "nano":
        spec = DataSpec("episodes", data, batch=32, noise_draws=8)
        run = replace(as_nano(run), data=(spec,), steps=2_200, learning_rate=5e-4)
    return on_gpus(run, preset)
