"""What the jobs of an ablation do; each is called in a process of its own (`io.jobs`)."""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from vipa.benchmarks.answering import ModelAnswerer, Motions, Questions
from vipa.benchmarks.hand3d_benchmark import evaluate_hand3d
from vipa.benchmarks.labels import TRUTH, Labels, labels_of
from vipa.benchmarks.tabletop_benchmark import TabletopEvaluation, evaluate_tabletop, processes_for
from vipa.benchmarks.trajectories_benchmark import evaluate_trajectories
from vipa.data.spec import DataSpec
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.estimators.base import Estimators
from vipa.hand3d.pipeline.annotate import finish, prepare
from vipa.hand3d.pipeline.work import ClipReport, annotate_clip
from vipa.io.child_process import begin_worker, cores
from vipa.io.files import atomic_write, whole_folder
from vipa.models.configuration import ActionHeadConfig
from vipa.models.loading import load_tokenizer
from vipa.models.modeling import VipaForConditionalGeneration
from vipa.models.motion_tokens import add_motion_tokens
from vipa.models.presets import find_preset, processor_of
from vipa.models.starts import FUSION_FIELDS, beside
from vipa.robots.known.tabletop import collect
from vipa.robots.policy import VipaPolicy
from vipa.training.known import TRAININGS
from vipa.training.loop import train
from vipa.training.runs import TrainRun
from vipa.training.setup import TOKENS
from vipa.worlds.seeds import seeds_of

WORK = "vipa.benchmarks.ablation.work"
Settings = dict[str, Any]
Needs = Mapping[str, Path]


def clips(folder: Path, settings: Settings, needs: Needs, options: Settings) -> None:
    """A Hand3D data set of the tabletop world. settings: `clips`, how many of each split; `labels`, if not the truth;
    those of a network are made by the 3D encoder of options' `start`."""
    began, ambiguity = time.perf_counter(), settings["ambiguity"]
    weights = str(parts_of(options["start"])[1]) if "start" in options else ""
    labels = labels_of(weights)[settings.get("labels", TRUTH)]
    out = prepare(folder, labels.config)
    asked = [
        (split, seed, ambiguity) for split, count in settings["clips"].items() for seed in seeds_of(split)[:count]
    ]
    if (workers := cores()) == 1:
        reports = [annotate_tabletop(out, labels, *one) for one in asked]
    else:
        with ProcessPoolExecutor(workers, get_context("spawn"), begin_worker) as pool:
            reports = list(pool.map(partial(annotate_tabletop, out, labels), *zip(*asked), chunksize=4))
    print(finish(out, labels.config, reports, began).summary())


def annotate_tabletop(out: Path, labels: Labels, split: str, seed: int, ambiguity: float) -> ClipReport:
    """One clip of the world, filmed and annotated."""
    from vipa.worlds.film import film_clip

    clip = labels.known(replace(film_clip(seed, ambiguity=ambiguity), split=split))
    return annotate_clip(clip, out, labels.config, _estimators(labels.config))


@cache
def _estimators(config: AnnotateConfig) -> Estimators:
    """Opened once in a process."""
    return Estimators.of(config)


def demonstrations(folder: Path, settings: Settings, needs: Needs, options: Settings) -> None:
    """Of the robot's experts; a failed one is left out."""
    seeds = seeds_of(settings["split"])[: settings["count"]]
    tasks = dict.fromkeys(settings["tasks"], 1.0)
    done = collect(folder, seeds, tasks, views=settings["views"], ambiguity=settings["ambiguity"], workers=cores())
    print(f"{len(done.written) + len(done.found)} demonstrations, {len(done.failed)} failed")


def start(folder: Path, settings: Settings, needs: Needs, options: Settings) -> None:
    """The pretrained parts joined, with a new fusion of this kind. needs: `start`, or settings `start` names it."""
    torch.manual_seed(settings["seed"])
    vlm, spatial = parts_of(str(needs["start"]) if "start" in needs else options["start"])
    preset = find_preset(settings["preset"])
    sizes = preset.config()
    assert isinstance(sizes.action_config, ActionHeadConfig)
    fusion = {name: getattr(sizes.spatial_fusion_config, name) for name in FUSION_FIELDS} | settings["fusion"]
    reads = fusion["kind"] != "none" and fusion["source"] == "spatial"
    model = VipaForConditionalGeneration.from_parts(
        vlm, spatial if reads else None, fusion=fusion, action=sizes.action_config
    )
    processor = processor_of(model.config, load_tokenizer(vlm), preset.spatial_size)
    if model.config.motion_token_start is None:
        add_motion_tokens(model, processor.tokenizer)
    with whole_folder(folder) as new:
        model.float().eval().save_pretrained(new)
        processor.save_pretrained(new)


def parts_of(name: str) -> tuple[Path, Path]:
    """Where a start's two pretrained parts are. ValueError where it does not have them."""
    folder = Path(name)
    if not (folder / "vlm" / "config.json").exists():
        folder = beside(name, "vlm").parent
    for part in ("vlm", "spatial"):
        if not (folder / part / "config.json").exists():
            raise ValueError(
                f"{name}: an ablation starts with the two pretrained parts, `vlm` and `spatial` (no {part})"
            )
    return folder / "vlm", folder / "spatial"


def stage_run(settings: Settings, data: Path, out: Path, start: str, **looks: Path) -> TrainRun:
    """The training of a stage: the preset's, with what the settings change. looks: `held_out` of stage 3."""
    run = TRAININGS.load(settings["stage"]).make(data, out, preset=settings["preset"], start=start, **looks)
    times = settings.get("batch_factor", 1)
    specs = tuple(replace(spec, batch=times * spec.batch, **settings["data"]) for spec in run.data)
    rate = run.learning_rate * times**0.5
    return replace(run, data=specs, trained=tuple(settings["trained"]), learning_rate=rate, **settings["run"])


def mixed_in(settings: Settings, needs: Needs) -> tuple[DataSpec, ...]:
    """Other data that a stage also learns from, by what it needs: {role: [kind, folder below it, batch, weight]}."""
    return tuple(
        DataSpec(kind, needs[role] / below, batch=batch, weight=weight, turns=6)
        for role, (kind, below, batch, weight) in settings.get("also", {}).items()
    )


def stage(folder: Path, settings: Settings, needs: Needs, options: Settings) -> None:
    """One stage of training; `<folder>/model` is the model. Images are encoded once for all stages of the store."""
    before = needs["model"]
    begin = before / "model" if (before / "model").is_dir() else before
    looks = {"held_out": needs["held_out"]} if "held_out" in needs else {}
    run = stage_run(settings, needs["data"], folder, str(begin), **looks)
    data = (*run.data, *mixed_in(settings, needs))
    print(train(replace(run, data=data, cache=folder.parent / TOKENS, **options)))


def _model(folder: Path) -> Path:
    return folder / "model" if (folder / "model").is_dir() else folder


def questions(folder: Path, settings: Settings, needs: Needs, options: Settings) -> None:
    """Hand3D-test; `<folder>/result.json`, with the answers beside it."""
    answerer = Questions(ModelAnswerer(_model(needs["model"]), needs["data"], spatial=settings["spatial"]))
    evaluate_hand3d(
        answerer, needs["data"], folder / "result.json", split=settings["split"], limit=settings["limit"]
    )


def motions(folder: Path, settings: Settings, needs: Needs, options: Settings) -> None:
    """Wrist trajectories; `<folder>/result.json`, with the answers beside it."""
    answerer = Motions(ModelAnswerer(_model(needs["model"]), needs["data"], spatial=settings["spatial"]))
    evaluate_trajectories(
        answerer, needs["data"], folder / "result.json", split=settings["split"], limit=settings["limit"]
    )


def tabletop(folder: Path, settings: Settings, needs: Needs, options: Settings) -> None:
    """One task of the robot in closed loop."""
    policy = VipaPolicy.from_pretrained(_model(needs["model"]))
    if settings["spatial"] == "zeroed":
        policy.model.set_spatial_control("zero")
    evaluation = TabletopEvaluation(
        folder,
        "ablation",
        (settings["task"],),
        split=settings["split"],
        episodes=settings["episodes"],
        videos=0,
        processes=processes_for(policy.model.device.type),
        ambiguity=settings["ambiguity"],
    )
    evaluate_tabletop(policy, evaluation)


def given(folder: Path, settings: Settings, needs: Needs, options: Settings) -> None:
    """A folder that was there before, under the name of its content."""
    folder.unlink(missing_ok=True)
    folder.symlink_to(options["folder"])


def joined(folder: Path, settings: Settings, needs: Needs, options: Settings) -> None:
    """Two pretrained parts in one folder. needs: `vlm`, `spatial`; settings: where in them the weights are."""
    import shutil

    with whole_folder(folder) as new:
        for part in ("vlm", "spatial"):
            shutil.copytree(needs[part] / settings[part], new / part)
        atomic_write(new / "parts.json", json.dumps(settings))
