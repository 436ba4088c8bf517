"""The whole recipe of nano: foundation, stages, evaluation; hours on two cores, resumable at any moment.

vipa train nano --out runs/nano                 # trains everything and evaluates
vipa train nano --out runs/nano --scale small   # the same in minutes, to see it work
vipa train nano --out runs/nano --pack          # then writes src/vipa/weights/nano

Every part is a job of its own (`io.jobs`), done once for its settings: `store/` holds them.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from vipa.benchmarks.ablation.arms import BUDGETS, find_arm
from vipa.benchmarks.ablation.plan import (
    AUTO,
    Ablation,
    asked_job,
    clips_job,
    collected,
    demonstrations_job,
    places,
    stage_job,
)
from vipa.benchmarks.ablation.work import WORK, parts_of
from vipa.io.files import atomic_write, remove
from vipa.io.jobs import Job, run_jobs
from vipa.models import VipaForConditionalGeneration, selfcheck
from vipa.models.cut3r import Cut3rModel
from vipa.models.starts import start_hash
from vipa.nano.evaluation import StagesEvaluation, copy_logs, evaluate_stages
from vipa.nano.foundation.run import PICTURES, FoundationRun, film_foundation, train_foundation
from vipa.nano.foundation.spatial import Cut3rTraining, train_cut3r
from vipa.nano.shipped import CONVENTIONS, NANO, NANO_STAGES, beside, load_nano
from vipa.training.known import TRAININGS
from vipa.training.setup import TOKENS
from vipa.worlds.scene import scene_settings

STAGE_NAMES = ("stage1", "stage2", "stage3")

UNIT_ERROR = 0.065
"""Of nano's 3D encoder: standard deviation of true depth / its depth (the median over a clip) on 150 training clips."""

EDGE = (0.82, 0.05)
"""Of nano's 3D encoder, which runs fingers into what lies behind them: the quantile of joint depth / surface depth
that is the scale, and its error beyond what differs between frames. Chosen on the same clips: 2 % too small, half
of all clips within 5 % (the median: 9, 9)."""


@dataclass(frozen=True)
class Scale:
    """How long everything is: fields of `FoundationRun` and of `Cut3rTraining`, and the rest as of `Ablation`."""

    foundation: dict[str, Any]
    spatial: dict[str, Any]
    stages: Ablation


SCALES: dict[str, Scale] = {
    "tiny": Scale(
        {"sequences": 6, "held_out": 3, "vision_steps": 2, "language_steps": 2},
        {"sequences": 6, "steps": 2},
        Ablation(6, 4, 3, 2, 2, 2, 6, 4, 1, tasks=("touch",), save_every=1, validate_every=1),
    ),
    "small": Scale(
        {"sequences": 400, "held_out": 60, "vision_steps": 120, "language_steps": 120},
        {"sequences": 300, "steps": 120},
        Ablation(60, 30, 60, 80, 80, 120, 100, 60, 4, validate_every=20),
    ),
    "full": Scale(
        {"sequences": 12_000, "held_out": 500, "vision_steps": 6_000, "language_steps": 8_800},
        {"sequences": 10_000, "steps": 16_000},
        Ablation(
            2_000,
            150,
            2_000,
            2_400,
            2_800,
            6_000,
            1_000,
            None,
            50,
            compile=True,
            validate_every=200,
            temperature=4,
        ),
    ),
    "gpu": Scale(
        {"sequences": 12_000, "held_out": 500, "vision_steps": 4_000, "vision_batch": 256, "vision_rate": 1e-3}
        | {"language_steps": 6_000, "language_batch": 32, "language_rate": 1e-3},
        {"sequences": 10_000, "steps": 6_000, "images_per_step": 192, "precision": "fp32"},
        Ablation(**asdict(replace(BUDGETS["gpu"], validate_every=100, temperature=4))),
    ),
}
"""`gpu`: fewer and larger steps than `full`, whose steps a GPU does no faster. temperature: movements are few of the
tabletop's questions, and learned only as far as they are seen (docs/results/ablation.md)."""


@dataclass(frozen=True)
class NanoRecipe:
    """Everything that makes nano's weights. May be stopped at any moment; the same command goes on.

    start: nano:foundation or a folder with `vlm` and `spatial`, from which the foundation goes on instead of from
    random numbers.
    scale: `full` (hours of a CPU), `gpu` (fewer and larger steps), `small` (minutes) or `tiny` (a test).
    ambiguity: of all scenes (0: the world of the first shipped weights). views: of the robot. seed: of every training.
    grounding: weight of the foundation's questions in stages 1 to 3, so that words stay tied to things (0: none).
    split: what is measured on, `test` once.
    devices: as of `Ablation`. pack: write the weights into the package when they are there.
    """

    out: Path
    start: str | None = None
    scale: Literal["tiny", "small", "full", "gpu"] = "full"
    ambiguity: float = 1.0
    views: tuple[str, ...] = ("agent", "wrist")
    seed: int = 0
    grounding: float = 0.0
    split: Literal["validation", "test"] = "validation"
    devices: tuple[str, ...] = AUTO
    pack: bool = False

    def train(self) -> str:
        return f"models and results are at {make_nano(self)}"


make = NanoRecipe
HERE = "vipa.nano.recipe"
GROUNDING_BATCH = 4
"""Pictures with 6 questions each in a step that also grounds."""


def recipe_jobs(run: NanoRecipe) -> dict[str, Job]:
    """Every part by name, in order."""
    scale = SCALES[run.scale]
    whole = replace(scale.stages, ambiguity=run.ambiguity, views=run.views, split=run.split, devices=run.devices)
    common: dict[str, Any] = scene_settings(run.ambiguity) | {"seed": run.seed}
    begin: dict[str, dict[str, str]] = {"vlm": {}, "spatial": {}}
    if run.start is not None:
        vlm, encoder = parts_of(run.start)
        common |= {"start": start_hash(vlm)[:8] + start_hash(encoder)[:8]}
        begin = {"vlm": {"start": str(vlm)}, "spatial": {"start": str(encoder)}}
    jobs = films(run)
    jobs["foundation"] = Job(
        "foundation",
        f"{HERE}:foundation",
        common | scale.foundation,
        {"films": jobs["pictures"]},
        options={"compile": whole.compile, "validate_every": max(1, scale.foundation["language_steps"] // 25)}
        | begin["vlm"],
        units=scale.foundation["vision_steps"] + scale.foundation["language_steps"],
    )
    jobs["spatial"] = Job(
        "spatial",
        f"{HERE}:spatial",
        common | scale.spatial,
        {"films": jobs["sequences"]},
        options=begin["spatial"] | {"validate_every": max(1, scale.spatial["steps"] // 25)},
        units=scale.spatial["steps"],
    )
    parts = {"vlm": jobs["foundation"], "spatial": jobs["spatial"]}
    jobs["parts"] = Job("parts", f"{WORK}:joined", {"vlm": "language/model", "spatial": "final"}, parts, units=0)
    settings = {"preset": "nano", "fusion": {}, "seed": run.seed}
    jobs["start"] = Job("start", f"{WORK}:start", settings, {"start": jobs["parts"]})
    also = {"films": ("foundation", PICTURES, GROUNDING_BATCH, run.grounding)} if run.grounding else {}
    before = jobs["start"]
    for name in STAGE_NAMES:
        data = jobs["demonstrations" if name == "stage3" else "clips"]
        stage = stage_job(whole, find_arm("full"), run.seed, name, before, data)
        if name == "stage3":
            needs, every = {"held_out": jobs["held out"]}, {"validate_every": whole.validate_every}
            stage = replace(stage, needs={**stage.needs, **needs}, options={**stage.options, **every})
        if also:
            needs = {**stage.needs, "films": jobs["pictures"]}
            stage = replace(stage, settings={**stage.settings, "also": also}, needs=needs)
        jobs[name] = before = stage
    asked = {"questions": whole.questions, "motions": whole.motions, "episodes": whole.episodes}
    asked |= {"tasks": whole.tasks, "split": run.split} | scene_settings(run.ambiguity)
    needs = {name: jobs[name] for name in ("start", "clips", "asked", *STAGE_NAMES)}
    jobs["results"] = Job("results", f"{HERE}:results", asked, needs, units=4 * whole.episodes)
    return jobs


def films(run: NanoRecipe) -> dict[str, Job]:
    """All that is filmed, apart from what learns from it, so that other trainings share it."""
    scale, scenes = SCALES[run.scale], scene_settings(run.ambiguity)
    whole = replace(scale.stages, ambiguity=run.ambiguity, views=run.views, split=run.split)
    counts = {name: scale.foundation[name] for name in ("sequences", "held_out")}
    clips = {"sequences": scale.spatial["sequences"]}
    return {
        "pictures": Job("pictures", f"{HERE}:pictures", scenes | counts, units=sum(counts.values())),
        "sequences": Job("sequences", f"{HERE}:sequences", scenes | clips, units=scale.spatial["sequences"]),
        "clips": clips_job(whole),
        "asked": asked_job(whole),
        "demonstrations": demonstrations_job(whole),
        "held out": collected(whole, "validation", whole.held),
    }


def make_nano(run: NanoRecipe) -> Path:
    """All parts that are not done yet; the folder of the results."""
    jobs, store = recipe_jobs(run), run.out / "store"
    run_jobs(list(jobs.values()), store, places(run.devices), lambda said: print(said, flush=True))
    remove(store / TOKENS)
    made = {name: str(job.folder(store).relative_to(run.out)) for name, job in jobs.items()}
    atomic_write(run.out / "parts.json", json.dumps(made, indent=1) + "\n")
    if run.pack:
        pack({name: job.folder(store) for name, job in jobs.items()})
    return jobs["results"].folder(store)


# What the jobs do (io.jobs.Job.make)


def pictures(folder: Path, settings: dict[str, Any], needs: Mapping[str, Path], options: dict[str, Any]) -> None:
    """What the vision-language half learns from."""
    film_foundation(folder, **_fields(settings))


def sequences(folder: Path, settings: dict[str, Any], needs: Mapping[str, Path], options: dict[str, Any]) -> None:
    """What the 3D half learns from."""
    Cut3rTraining(folder, **_fields(settings)).film()


def foundation(folder: Path, settings: dict[str, Any], needs: Mapping[str, Path], options: dict[str, Any]) -> None:
    """The vision-language half."""
    train_foundation(FoundationRun(folder, films=needs["films"], **_fields(settings), **_begun(options)))


def spatial(folder: Path, settings: dict[str, Any], needs: Mapping[str, Path], options: dict[str, Any]) -> None:
    """The 3D half."""
    run = Cut3rTraining(folder, save_every=100, **_fields(settings), **_begun(options))
    train_cut3r(run, data=run.film(needs["films"]))


def _fields(settings: dict[str, Any]) -> dict[str, Any]:
    """Of a run, whose scenes are always of the version of now; without its start, whose place options name."""
    return {name: value for name, value in settings.items() if name not in ("scenes", "start")}


def _begun(options: dict[str, Any]) -> dict[str, Any]:
    """Options whose start is a path; of the settings it is the content."""
    return options | {"start": Path(options["start"]) if "start" in options else None}


def results(folder: Path, settings: dict[str, Any], needs: Mapping[str, Path], options: dict[str, Any]) -> None:
    """All benchmarks, and the trainings' logs beside them."""
    stages = {name: needs[name] for name in STAGE_NAMES}
    models = (str(path / "model") for path in stages.values())
    asked = _fields(settings)
    start, data, fitted = str(needs["start"]), needs["asked"], needs["clips"]
    evaluate_stages(StagesEvaluation(start, *models, data=data, out=folder, fitted=fitted, **asked))
    copy_logs(stages, folder)


# Into the package


def pack(folders: Mapping[str, Path]) -> None:
    """Weights, logs and results of a finished recipe into the package."""
    pack_foundation(folders["parts"] / "vlm", folders["parts"] / "spatial")
    for part in ("vision", "language"):
        keep_log(folders["foundation"] / part, part)
    keep_log(folders["spatial"], "cut3r")
    for stage in STAGE_NAMES:
        pack_stage(folders[stage] / "model", stage)
    record_stages()
    logs = shutil.ignore_patterns("logs")  # `keep_log` has them
    shutil.copytree(folders["results"], NANO / "results", ignore=logs, dirs_exist_ok=True)


def trained_parts(stage: str) -> tuple[str, ...]:
    """What a stage of nano trains, and its file in the package holds."""
    return TRAININGS.load(stage).make(Path(), Path()).trained


def pack_foundation(vlm: Path, spatial: Path) -> None:
    """The two pretrained parts into the package, float16."""
    folder = NANO / "foundation"
    model = VipaForConditionalGeneration.from_pretrained(vlm, dtype=torch.float16)
    model.save_pretrained(folder / "vlm")
    AutoTokenizer.from_pretrained(vlm).save_pretrained(folder / "vlm")
    encoder = Cut3rModel.from_pretrained(spatial, dtype=torch.float16)
    encoder.config.unit_error, encoder.config.edge = UNIT_ERROR, EDGE
    encoder.config.source = "tabletop"
    encoder.save_pretrained(folder / "spatial")


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
