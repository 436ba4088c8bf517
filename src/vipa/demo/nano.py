"""The whole recipe of the shipped nano, and its packing into the package.

python -m vipa.demo.nano --out runs/nano            # trains everything, evaluates, hours on two cores
python -m vipa.demo.nano --out runs/nano --pack     # then writes src/vipa/weights/nano
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from vipa.demo.run import DemoRun, run_demo
from vipa.models import VipaForConditionalGeneration
from vipa.models.cut3r import Cut3rModel
from vipa.training.foundation.cut3r import Cut3rTraining, train_cut3r
from vipa.training.foundation.run import FoundationRun, train_foundation
from vipa.training.stages import NANO_STAGE1_PARTS, STAGE2_PARTS, STAGE3_PARTS
from vipa.weights import NANO

STAGE_PARTS = {"stage1": NANO_STAGE1_PARTS, "stage2": STAGE2_PARTS, "stage3": STAGE3_PARTS}


@dataclass(frozen=True)
class NanoRecipe:
    """Everything that made the shipped weights. pack: write them into the package when they are there."""

    out: Path
    pack: bool = False
    train_clips: int = 800
    test_clips: int = 150
    demonstrations: int = 600
    stage1_steps: int = 900
    stage2_steps: int = 500
    stage3_steps: int = 450
    questions: int = 1_000
    motions: int = 300
    episodes: int = 25


def make_nano(run: NanoRecipe) -> None:
    """Both halves of the foundation, the three stages from it, their evaluation; each part is done once."""
    vlm = train_foundation(FoundationRun(run.out / "foundation"))
    spatial = train_cut3r(Cut3rTraining(run.out / "cut3r"))
    pack_foundation(vlm, spatial, run.out)
    demo = stages_run(run)
    run_demo(demo)
    if run.pack:
        for stage in STAGE_PARTS:
            pack_stage(demo.out / stage / "model", stage)
        shutil.copytree(demo.out / "results", NANO / "results", dirs_exist_ok=True)


def stages_run(run: NanoRecipe) -> DemoRun:
    """The demo, longer: the same commands that `make demo` runs for minutes."""
    return DemoRun(
        out=run.out / "stages",
        train_clips=run.train_clips,
        test_clips=run.test_clips,
        demonstrations=run.demonstrations,
        stage1_steps=run.stage1_steps,
        stage2_steps=run.stage2_steps,
        stage3_steps=run.stage3_steps,
        questions=run.questions,
        motions=run.motions,
        episodes=run.episodes,
    )


def pack_foundation(vlm: Path, spatial: Path, logs: Path) -> None:
    """The two pretrained parts into the package, float16, with the logs of their trainings below `logs`."""
    folder = NANO / "foundation"
    model = VipaForConditionalGeneration.from_pretrained(vlm, dtype=torch.float16)
    model.save_pretrained(folder / "vlm")
    AutoTokenizer.from_pretrained(vlm).save_pretrained(folder / "vlm")
    Cut3rModel.from_pretrained(spatial, dtype=torch.float16).save_pretrained(folder / "spatial")
    for path in sorted(logs.glob("**/log.jsonl")):
        if "stages" not in path.parts:
            keep_log(path.parent, path.parent.name)


def pack_stage(model_folder: Path, stage: str) -> None:
    """What a stage trained into the package, float16, with its run."""
    model = VipaForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float16)
    wanted = {id(p) for part in STAGE_PARTS[stage] for p in model.parts()[part].parameters()}
    tensors = {name: p.detach().clone() for name, p in model.named_parameters() if id(p) in wanted}
    NANO.mkdir(parents=True, exist_ok=True)
    save_file(tensors, NANO / f"{stage}.safetensors")
    keep_log(model_folder.parent, stage)
    for contract in model_folder.glob("action_contract.json"):
        shutil.copy(contract, NANO / contract.name)


def keep_log(run: Path, name: str) -> None:
    """Log and settings of a training into the package; of folders only the names."""
    (NANO / "logs").mkdir(parents=True, exist_ok=True)
    shutil.copy(run / "log.jsonl", NANO / "logs" / f"{name}_log.jsonl")
    settings = json.loads((run / "run.json").read_text(), object_pairs_hook=_names_of_folders)
    (NANO / "logs" / f"{name}_run.json").write_text(json.dumps(settings, indent=1) + "\n")


def _names_of_folders(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: Path(v).name if isinstance(v, str) and v.startswith("/") else v for key, v in pairs}


if __name__ == "__main__":
    import tyro

    make_nano(tyro.cli(NanoRecipe))
