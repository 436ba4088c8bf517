"""3D-action pretraining on Hand3D-action: fusion and language model learn (section 3.2.3)."""

from dataclasses import replace
from pathlib import Path

from vipa.data.spec import DataSpec
from vipa.training.runs import STAGE2_PARTS, Preset, TrainRun, as_nano, on_gpus, start_of


def make(data: Path, out: Path, preset: Preset = "nano", start: str | None = None) -> TrainRun:
    """The run of a preset. data: a Hand3D data set. start: as of `TrainRun`; left out, nano after stage 1."""
    run = TrainRun(
        name="stage2",
        start=start or start_of(preset, "stage1"),
        out=out,
        data=(DataSpec("hand3d_action", data, batch=32, turns=1),),
        trained=STAGE2_PARTS,
        steps=32_215,  # one epoch of the 1,030,850 samples of the paper
        learning_rate=1e-5,
        weight_decay=0.01,
        warmup=0.03,
    )
    if preset == "nano":
        spec = DataSpec("hand3d_action", data, batch=22, turns=4)  # likewise
        run = replace(as_nano(run), data=(spec,), steps=1_400, learning_rate=7e-4)
    held_out = replace(run.data[0], split="validation")
    return on_gpus(replace(run, validation=(held_out,)), preset)
