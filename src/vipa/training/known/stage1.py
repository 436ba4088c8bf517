"""3D-visual pretraining on Hand3D-visual: only the fusion learns (section 3.2.3); nano's language model too."""

from dataclasses import replace
from pathlib import Path

from vipa.data.spec import DataSpec
from vipa.training.runs import NANO_STAGE1_PARTS, STAGE1_PARTS, Preset, TrainRun, as_nano, on_gpus, start_of


def make(data: Path, out: Path, preset: Preset = "nano", start: str | None = None) -> TrainRun:
    """The run of a preset. data: a Hand3D data set. start: as of `TrainRun`; left out, nano's foundation."""
    run = TrainRun(
        name="stage1",
        start=start or start_of(preset, "foundation"),
        out=out,
        data=(DataSpec("hand3d_visual", data, batch=32, turns=1),),
        trained=STAGE1_PARTS,
        steps=9_387,  # one epoch of the 300,368 pairs of the paper: each once, the last step begins a second
        learning_rate=1e-5,
        weight_decay=0.01,
        warmup=0.03,
    )
    if preset == "nano":
        spec = DataSpec("hand3d_visual", data, batch=20, turns=8)  # about 8 image prefixes a step
        run = replace(as_nano(run), data=(spec,), trained=NANO_STAGE1_PARTS, steps=1_200, learning_rate=7e-4)
    held_out = replace(run.data[0], split="validation")
    return on_gpus(replace(run, validation=(held_out,)), preset)
