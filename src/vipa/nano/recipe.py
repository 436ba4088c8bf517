"""The whole recipe of the shipped nano: foundation, stages, evaluation; hours on two cores.

vipa train nano --out runs/nano            # trains everything and evaluates
vipa train nano --out runs/nano --pack     # then writes src/vipa/weights/nano
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from vipa.io.files import atomic_write
from vipa.models import VipaForConditionalGeneration, selfcheck
from vipa.models.cut3r import Cut3rModel
from vipa.nano.demo import STAGE_NAMES, DemoRun, run_demo
from vipa.nano.foundation.run import FoundationRun, train_foundation
from vipa.nano.foundation.spatial import Cut3rTraining, train_cut3r
from vipa.nano.shipped import CONVENTIONS, NANO, NANO_STAGES, beside, load_nano
from vipa.training.known import TRAININGS

UNIT_ERROR = 0.065
"""Of nano's 3D encoder: standard deviation of true depth / its depth (the median over a clip) on 150 training clips."""

EDGE = (0.82, 0.05)
"""Of nano's 3D encoder, which runs fingers into what lies behind them: the quantile of joint depth / surface depth
that is the scale, and its error beyond what differs between frames. Chosen on the same clips: 2 % too small, half
of all clips within 5 % (the median: 9, 9)."""


@dataclass(frozen=True)
class NanoRecipe:
    """Everything that made the shipped weights (their foundation's trainings in two rounds each, docs/results/nano.md,
    which this does in one). pack: write them into the package when they are there."""

    out: Path
    pack: bool = False

    def train(self) -> str:
        return f"models and results are at {make_nano(self)}"


make = NanoRecipe


def make_nano(run: NanoRecipe) -> Path:
    """Both halves of the foundation, the three stages from it, their evaluation; each part is done once."""
    vlm = train_foundation(FoundationRun(run.out / "foundation", compile=True))
    spatial = train_cut3r(shipped_cut3r(run.out / "cut3r"))
    pack_foundation(vlm, spatial, run.out)
    demo = shipped_stages(run.out / "stages")
    run_demo(demo)
    if run.pack:
        for stage in STAGE_NAMES:
            pack_stage(demo.out / stage / "model", stage)
        record_stages()
        logs = shutil.ignore_patterns("logs")  # `keep_log` has them
        shutil.copytree(demo.out / "results", NANO / "results", ignore=logs, dirs_exist_ok=True)
    return demo.out


def shipped_cut3r(out: Path) -> Cut3rTraining:
    """The clock ends it, so another machine gets elsewhere; what the shipped weights got is in docs/results/nano.md."""
    return Cut3rTraining(out, sequences=10_000, steps=40_000, learning_rate=1e-3, max_minutes=120.0)


def shipped_stages(out: Path) -> DemoRun:
    """The demo, longer: the same commands that `make demo` runs for minutes."""
    return DemoRun(
        out=out,
        train_clips=800,
        test_clips=150,
        demonstrations=1_200,
        stage1_steps=1_200,
        stage2_steps=1_400,
        stage3_steps=2_200,
        questions=1_000,
        motions=300,
        episodes=50,
        compile=True,
    )


def trained_parts(stage: str) -> tuple[str, ...]:
    """What a stage of nano trains, and its file in the package holds."""
    return TRAININGS.load(stage).make(Path(), Path()).trained


def pack_foundation(vlm: Path, spatial: Path, logs: Path) -> None:
    """The two pretrained parts into the package, float16, with the logs of their trainings below `logs`."""
    folder = NANO / "foundation"
    model = VipaForConditionalGeneration.from_pretrained(vlm, dtype=torch.float16)
    model.save_pretrained(folder / "vlm")
    AutoTokenizer.from_pretrained(vlm).save_pretrained(folder / "vlm")
    encoder = Cut3rModel.from_pretrained(spatial, dtype=torch.float16)
    encoder.config.unit_error, encoder.config.edge = UNIT_ERROR, EDGE
    encoder.config.source = "tabletop"
    encoder.save_pretrained(folder / "spatial")
    for path in sorted(logs.glob("**/log.jsonl")):
        if "stages" not in path.parts:
            keep_log(path.parent, path.parent.name)


def pack_stage(model_folder: Path, stage: str) -> None:
    """What a stage trained into the package, float16, with its run."""
    model = VipaForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float16)
    wanted = {id(p) for part in trained_parts(stage) for p in model.parts()[part].parameters()}
    tensors = {name: p.detach().clone() for name, p in model.named_parameters() if id(p) in wanted}
    NANO.mkdir(parents=True, exist_ok=True)
    save_file(tensors, NANO / f"{stage}.safetensors")
    path = NANO / CONVENTIONS
    said = json.loads(path.read_text()) | {stage: model.config.conventions}
    atomic_write(path, json.dumps(said, indent=1) + "\n")
    keep_log(model_folder.parent, stage)
    for contract in model_folder.glob("action_contract.json"):
        shutil.copy(contract, NANO / contract.name)


def record_stages() -> None:
    """What each shipped stage computes, beside its weights, for `vipa model check`."""
    for stage in NANO_STAGES:
        torch.manual_seed(0)
        model, _ = load_nano(stage)
        selfcheck.record(model, beside(stage, selfcheck.FILE).parent)


def keep_log(run: Path, name: str) -> None:
    """Log and settings of a training into the package; of folders only the names."""
    (NANO / "logs").mkdir(parents=True, exist_ok=True)
    shutil.copy(run / "log.jsonl", NANO / "logs" / f"{name}.jsonl")
    settings = json.loads((run / "run.json").read_text(), object_pairs_hook=_names_of_folders)
    atomic_write(NANO / "logs" / f"{name}.json", json.dumps(settings, indent=1) + "\n")


def _names_of_folders(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: Path(v).name if isinstance(v, str) and v.startswith("/") else v for key, v in pairs}
