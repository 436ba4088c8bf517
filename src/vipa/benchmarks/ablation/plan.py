"""From arms, seeds and a budget to jobs, and what they will cost."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from tyro.conf import Suppress

from vipa.benchmarks.ablation.arms import MAIN, Arm, Benchmark, Budget, find_arm
from vipa.benchmarks.ablation.work import WORK, stage_run
from vipa.benchmarks.labels import TRUTH, labels_of
from vipa.data.spec import DataSpec
from vipa.io.child_process import cores
from vipa.io.jobs import Job, in_order
from vipa.models.presets import preset_names
from vipa.models.starts import start_hash
from vipa.training.known import TRAININGS
from vipa.training.record import HOW, data_hash
from vipa.training.runs import start_of
from vipa.worlds.scene import scene_settings

AUTO = ("auto",)
HAND3D = ("hand3d_visual", "hand3d_action")
JOB_GIGABYTES = 3
"""Of memory, for each of nano's jobs at once."""


@dataclass(frozen=True)
class Ablation(Budget):
    """Trains arms that differ in one thing, asks all of them the same, and writes tables with paired tests. May be
    stopped at any moment; the same command goes on, and what arms have in common is done once."""

    out: Path = Path("runs/ablation")
    """Folder of the jobs (`store`) and of the tables (`ablation.md`, `ablation.json`)."""
    arms: tuple[str, ...] = MAIN
    """Names; `vipa ablate --help` lists them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of every training."""
    benchmarks: tuple[Benchmark, ...] = ("questions", "motions", "tabletop")
    """What is measured."""
    ambiguity: float = 1.0
    """Of the tabletop's scenes (docs/worlds.md)."""
    views: tuple[str, ...] = ("agent",)
    """What the robot sees with: agent, wrist."""
    split: Literal["validation", "test"] = "validation"
    """Whose clips and scenes are measured; `test` once, when everything is chosen."""
    preset: str = "nano"
    """Size of the model."""
    start: str | None = None
    """Folder with the pretrained parts `vlm` and `spatial`; left out, nano's foundation."""
    hand3d: Path | None = None
    """A Hand3D data set to learn from and be asked about, instead of clips of the tabletop."""
    robot_data: Path | None = None
    """A folder of robot demonstrations instead of the tabletop's own."""
    devices: tuple[str, ...] = AUTO
    """Each does one job at a time: cuda:0, cpu (with all its cores), cpu:0 (with one core), ...; a GPU that is named
    several times does as many at once, and nano leaves it room. auto: every GPU, or every core, or of a larger preset
    than nano the CPU."""
    threads: Suppress[int | None] = None

    def places(self) -> tuple[str, ...]:
        """The devices that jobs run on."""
        return places(self.devices, self.preset)


def places(devices: tuple[str, ...], preset: str = "nano") -> tuple[str, ...]:
    """What AUTO stands for; other devices as they are. Of nano two jobs of a core each do half as much again as one of
    two; larger presets have the whole CPU and its memory."""
    if devices != AUTO:
        return devices
    if gpus := torch.cuda.device_count():
        return tuple(f"cuda:{i}" for i in range(gpus))
    if preset != "nano":
        return ("cpu",)
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return tuple(f"cpu:{i}" for i in range(min(cores(), max(1, int(gigabytes // JOB_GIGABYTES)))))


def loaders(places: tuple[str, ...]) -> int:
    """Processes that load data for each training on these devices: for those on GPUs an equal share of the cores."""
    return max(1, cores() // len(places) - 1) if places[0].startswith("cuda") else 0


@dataclass(frozen=True)
class Planned:
    """What one arm with one seed comes to. evaluations: by benchmark, one job each (of the tabletop one a task)."""

    arm: Arm
    seed: int
    evaluations: Mapping[Benchmark, tuple[Job, ...]]

    @property
    def jobs(self) -> list[Job]:
        return in_order([job for jobs in self.evaluations.values() for job in jobs])


def plan(run: Ablation) -> list[Planned]:
    """Every arm with every seed. ValueError for an unknown arm or preset, or a start without its parts."""
    if run.preset not in preset_names():
        raise ValueError(f"preset {run.preset!r} is unknown; known: {', '.join(preset_names())}")
    if not (run.arms and run.seeds and run.benchmarks):
        raise ValueError("vipa ablate: name at least one arm, one seed and one benchmark")
    return [_planned(run, find_arm(name), seed) for name in run.arms for seed in run.seeds]


def _planned(run: Ablation, arm: Arm, seed: int) -> Planned:
    held, taught, robot = asked_job(run), labelled_job(run, arm), demonstrations_job(run)
    model = before = _start(run, arm, seed)
    evaluations: dict[Benchmark, tuple[Job, ...]] = {}
    asked = {"split": run.split, "spatial": arm.spatial}
    stages: dict[str, Job] = {}
    if arm.pretraining:
        for name in ("stage1", "stage2"):
            model = stages[name] = stage_job(run, arm, seed, name, model, taught)
    if arm.spatial != "real" and not arm.encoder:
        raise ValueError(f"arm {arm.name}: it reads no 3D tokens that could be {arm.spatial}")
    if "questions" in run.benchmarks:
        untrained = "none" if not arm.pretraining and arm.fusion.get("kind") != "none" else arm.spatial
        settings = asked | {"limit": run.questions, "spatial": untrained}
        needs = {"model": stages.get("stage1", before), "data": held}
        evaluations["questions"] = (_asked("questions", settings, needs, run.questions or 10 * run.held),)
    if "motions" in run.benchmarks and arm.pretraining:
        needs = {"model": stages["stage2"], "data": held}
        evaluations["motions"] = (
            _asked("motions", asked | {"limit": run.motions}, needs, run.motions or 15 * run.held),
        )
    if "tabletop" in run.benchmarks and arm.spatial != "shuffled":
        policy = stage_job(run, arm, seed, "stage3", model, robot)
        played = asked | {"episodes": run.episodes} | scene_settings(run.ambiguity)
        evaluations["tabletop"] = tuple(
            _asked("tabletop", played | {"task": task}, {"model": policy}, run.episodes) for task in run.tasks
        )
    return Planned(arm, seed, evaluations)


def _asked(name: str, settings: dict[str, Any], needs: Mapping[str, Job], units: float) -> Job:
    """An evaluation: begun again when it was stopped, for what shares a batch may change the last bit of an answer."""
    return Job(name, f"{WORK}:{name}", settings, needs, resumes=False, units=units)


def clips_job(run: Ablation) -> Job:
    """A Hand3D data set of the splits train and validation, filmed or given: whatever is asked, trainings share it."""
    if run.hand3d is not None:
        return given("hand3d", run.hand3d, *HAND3D, splits=("train", "validation"))
    return _filmed(run, {"train": run.clips, "validation": run.held})


def asked_job(run: Ablation) -> Job:
    """The Hand3D data set whose `split` is asked."""
    if run.split == "validation":
        return clips_job(run)
    if run.hand3d is not None:
        return given("hand3d", run.hand3d, *HAND3D, splits=(run.split,))
    return _filmed(run, {run.split: run.held})


def _filmed(run: Ablation, counts: Mapping[str, int], **more: Any) -> Job:
    """Clips of the tabletop: so many of each split."""
    settings = {"clips": dict(counts)} | more | scene_settings(run.ambiguity)
    return Job("clips", f"{WORK}:clips", settings, units=sum(counts.values()))


def labelled_job(run: Ablation, arm: Arm) -> Job:
    """The clips that an arm learns from: those of `clips_job`, or their training clips with other labels."""
    if arm.labels == TRUTH:
        return clips_job(run)
    if run.hand3d is not None:
        raise ValueError(f"arm {arm.name}: it labels the tabletop's own clips; leave out --hand3d")
    start = _start_of(run)
    if not labels_of(start)[arm.labels].network:
        return _filmed(run, {"train": run.clips}, labels=arm.labels)
    job = _filmed(run, {"train": run.clips}, labels=arm.labels, content=start_content(run))
    return replace(job, options={"start": start})


def demonstrations_job(run: Ablation) -> Job:
    """The robot's, collected or given."""
    if run.robot_data is not None:
        return given("robot-data", run.robot_data, "episodes")
    return collected(run, "train", run.demonstrations)


def collected(run: Ablation, split: str, count: int) -> Job:
    """Demonstrations of the tabletop's expert."""
    settings = {"split": split, "count": count, "tasks": run.tasks, "views": run.views}
    settings |= scene_settings(run.ambiguity)
    return Job("demonstrations", f"{WORK}:demonstrations", settings, units=count)


def given(name: str, folder: Path, *kinds: str, splits: tuple[str, ...] = ("train",)) -> Job:
    """A folder of data that is there already, as a job that links to it."""
    content = [data_hash(DataSpec(kind, folder, batch=1, split=split)) for kind in kinds for split in splits]
    return Job(name, f"{WORK}:given", {"content": content}, options={"folder": str(folder.resolve())}, units=0)


def _start(run: Ablation, arm: Arm, seed: int) -> Job:
    start = _start_of(run)
    settings = {"content": start_content(run), "preset": run.preset, "fusion": dict(arm.fusion), "seed": seed}
    return Job("start", f"{WORK}:start", settings, options={"start": start}, units=1)


def _start_of(run: Ablation) -> str:
    return run.start or start_of(run.preset, "foundation")  # type: ignore[arg-type]


def start_content(run: Ablation) -> str:
    """What the weights are that all arms begin with."""
    return _content(_start_of(run))


@cache
def _content(start: str) -> str:
    return start_hash(start)


def stage_job(run: Ablation, arm: Arm, seed: int, stage: str, model: Job, data: Job) -> Job:
    """A stage of an arm. Its settings are all that the result follows from, the preset's own included."""
    steps = {"stage1": run.stage1_steps, "stage2": run.stage2_steps, "stage3": run.stage3_steps}
    extra = run.stage1_steps + run.stage2_steps if arm.augment and not arm.pretraining else 0
    number = steps[stage] + (extra if stage == "stage3" else 0)
    changes: dict[str, Any] = {
        "stage": stage,
        "preset": run.preset,
        "data": _changed_data(run, arm, stage),
        "trained": (),
        **({"batch_factor": run.batch_factor} if run.batch_factor != 1 else {}),
        "run": {"steps": number, "seed": seed},
    }
    plain = stage_run(changes, Path("data"), Path("out"), "start")
    own = TRAINED_ALONE.get((stage, arm.pretraining), ())
    trained = dict.fromkeys((*own, *(arm.stage1 if stage == "stage1" and arm.stage1 else _trained(run, stage))))
    if arm.fusion.get("kind") == "none":
        trained.pop("fusion", None)
    changes["trained"] = tuple(trained) or ("language",)
    decides = {
        k: v for k, v in asdict(plain).items() if k not in (*HOW, "start", "trained", "data", "steps", "seed")
    }
    decides["data"] = [{k: v for k, v in asdict(spec).items() if k != "path"} for spec in plain.data]
    options = {"save_every": run.save_every, "compile": run.compile}
    options |= {"threads": run.threads} if run.threads else {}
    options |= {"workers": loaders(run.places())}
    if run.validate_every and stage != "stage3" and arm.labels == TRUTH:
        options |= {"validate_every": run.validate_every, "validate_answers": 0}
    settings = changes | {"preset's": decides}
    needs = {"model": model, "data": data}
    return Job(stage, f"{WORK}:stage", settings, needs, options, units=number)


def _changed_data(run: Ablation, arm: Arm, stage: str) -> dict[str, float]:
    """Fields of the stage's data that are not the preset's."""
    if stage == "stage3":
        return {"augment": arm.augment} if arm.augment else {}
    return {"temperature": run.temperature} if stage == "stage1" and run.temperature != 1 else {}


def _trained(run: Ablation, stage: str) -> tuple[str, ...]:
    return TRAININGS.load(stage).make(Path("data"), Path("out"), preset=run.preset, start="start").trained


TRAINED_ALONE = {("stage3", False): ("fusion",)}
"""Without pretraining the fusion is new in stage 3, and learns there."""

# What it costs

PACE: dict[str, tuple[float, float]] = {
    "clips": (7.0, 0.19),
    "demonstrations": (7.0, 0.22),
    "start": (7.0, 0.0),
    "stage1": (10.0, 0.77),
    "stage2": (10.0, 0.88),
    "stage3": (10.0, 0.83),
    "questions": (8.0, 0.05),
    "motions": (8.0, 0.10),
    "tabletop": (9.0, 0.86),
}
"""Processor seconds of one thread that a nano job needs: (to begin, per unit), by `speed/ablation.py`."""


def seconds_of(job: Job, store: Path, known: Mapping[str, float]) -> float:
    """What a job took, or will take: at the pace of those of its name that are done here, else at PACE."""
    if (record := job.record(store)) is not None:
        return float(record["seconds"])
    if job.name in known:
        return known[job.name] * job.units
    begin, pace = PACE.get(job.name, (0.0, 0.0))
    return begin + pace * job.units


def paces(store: Path) -> dict[str, float]:
    """Seconds per unit of all that is done in a store, by name."""
    spent: dict[str, tuple[float, float]] = {}
    for path in store.glob("*-*.json"):
        record, name = json.loads(path.read_text()), path.stem.rpartition("-")[0]
        seconds, units = spent.get(name, (0.0, 0.0))
        spent[name] = seconds + float(record["seconds"]), units + float(record["units"])
    return {name: seconds / units for name, (seconds, units) in spent.items() if units}


def plan_text(run: Ablation, planned: list[Planned]) -> str:
    """The plan as a table: every job once, which arms share it, what it costs and whether it is done; and the sum."""
    store = run.out / "store"
    jobs = in_order([job for p in planned for job in p.jobs])
    known = paces(store)
    users: dict[str, list[str]] = {}
    for p in planned:
        for job in p.jobs:
            users.setdefault(job.key, []).append(f"{p.arm.name}/{p.seed}")
    lines = [f"{'part':<36}{'units':>7}{'seconds':>9}  {'':6}arms/seeds"]
    left = whole = 0.0
    for job in jobs:
        seconds, done = seconds_of(job, store, known), job.record(store) is not None
        whole += seconds
        left += 0.0 if done else seconds
        names = users[job.key]
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        lines.append(f"{job.key:<36}{job.units:>7g}{seconds:>9.0f}  {'done' if done else '':<6}{shown}")
    apart = sum(seconds_of(job, store, known) for p in planned for job in p.jobs)
    places = len(run.places())
    lines.append(
        f"{len(jobs)} parts, {whole:.0f} s, {left:.0f} s of them to do ({left / 60 / places:.0f} minutes on {places} "
        f"device{'s' * (places > 1)}); without sharing {apart:.0f} s"
    )
    return "\n".join(lines)
