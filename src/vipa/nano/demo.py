"""`vipa demo`: films, annotates, trains three stages and evaluates, and writes the report anew as it goes.

Every step can be resumed. The report is there after the first one, with what is known by then.
"""

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import transformers

import vipa
from vipa.benchmarks.report.report import Report as Page
from vipa.benchmarks.report.report import render
from vipa.clips.clip import Clip
from vipa.clips.sources import load_source
from vipa.hand3d.config import AnnotateConfig, FramesConfig, MotionConfig, RelationsConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.pipeline.annotate import Report, annotate, annotate_source
from vipa.io.child_process import end_with_parent
from vipa.io.files import atomic_write
from vipa.io.progress import counter
from vipa.nano.evaluation import (
    StagesEvaluation,
    copy_logs,
    evaluate_motions,
    evaluate_questions,
    evaluate_robot,
    read_column,
)
from vipa.nano.foundation.run import FoundationRun, train_foundation
from vipa.nano.foundation.spatial import Cut3rTraining, train_cut3r
from vipa.nano.pictures import load_steps, real_steps, save_steps, tabletop_steps
from vipa.nano.shipped import NANO
from vipa.robots.known.tabletop import collect
from vipa.training.known import TRAININGS
from vipa.training.loop import train
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import TEST, TRAIN

STAGE_NAMES = ("stage1", "stage2", "stage3")
REAL = Path(__file__).parent / "real"
"""A few seconds of a real hand, in the form of the source `folder` (SOURCE.md there)."""


@dataclass(frozen=True)
class DemoRun:
    """Everything that decides what the demo does.

    train_clips, test_clips: filmed and annotated. demonstrations: of the robot's experts. stage*_steps: of training,
    from the shipped foundation on; where the package has none, foundation_steps of each foundation training make a
    small one first. questions, motions, episodes: of the evaluation (episodes per task and policy).
    compile: the language model in training (see `TrainRun`); worth its minute in long trainings.
    """

    out: Path = Path("runs/demo")
    train_clips: int = 80
    test_clips: int = 40
    demonstrations: int = 80
    foundation_steps: int = 100
    stage1_steps: int = 120
    stage2_steps: int = 240
    stage3_steps: int = 180
    questions: int = 200
    motions: int = 80
    tasks: tuple[str, ...] = ("touch", "push", "lift", "place")
    episodes: int = 8
    seed: int = 0
    compile: bool = False


REWRITTEN = 20.0
"""Seconds between two writings of the report while a stage trains."""


def run_demo(run: DemoRun) -> Path:
    """Does what is not done yet and returns the report's path. ValueError where run.out holds another demo."""

    transformers.logging.disable_progress_bar()
    _claim(run)
    steps: list[tuple[str, str, Callable[[DemoRun], None]]] = [
        ("foundation", "the pretrained parts that nano starts from", find_foundation),
        ("annotate", "filming and annotating clips", annotate_clips),
        ("pictures", "drawing one clip's way through annotation", draw_pictures),
        ("demonstrations", "collecting robot demonstrations", collect_demonstrations),
        (
            "stage1",
            "stage 1: fusion and language model learn to answer questions about space",
            train_stage("stage1"),
        ),
        ("questions", "asking about held-out clips", evaluate("questions")),
        ("stage2", "stage 2: they learn motions", train_stage("stage2")),
        ("motions", "predicting motions in held-out clips", evaluate("motions")),
        ("stage3", "stage 3: the action head learns to move the robot", train_stage("stage3")),
        ("robot", "letting the robot act in fresh scenes", evaluate("robot")),
    ]
    print(f"The report, which grows from now on: {report_path(run).resolve()}", flush=True)
    title = ""
    try:
        for number, (name, what, action) in enumerate(steps, 1):
            title = f"[{number}/{len(steps)}] {what}"
            write_report(run, title)
            with _step(run, name, title) as todo:
                if todo:
                    action(run)
    except BaseException:
        write_report(run, f"Stopped at {title}; the same command continues it.", reload=False)
        raise
    return write_report(run)


def find_foundation(run: DemoRun) -> None:
    """Nothing to do where the package has the foundation weights; otherwise a small foundation is trained."""

    if (NANO / "foundation" / "vlm").is_dir():
        return
    print("The package has no foundation weights yet: a small foundation is trained first.", flush=True)
    steps, folder = run.foundation_steps, run.out / "foundation"
    vlm = train_foundation(
        FoundationRun(folder / "2d", sequences=5 * steps, held_out=50, vision_steps=steps, language_steps=steps)
    )
    spatial = train_cut3r(Cut3rTraining(folder / "3d", sequences=2 * steps, steps=steps))
    for name, part in (("vlm", vlm), ("spatial", spatial)):
        if not (folder / name).exists():
            shutil.copytree(part, folder / name)


def foundation_of(run: DemoRun) -> str:
    """What stage 1 starts from."""
    own = run.out / "foundation"
    return str(own) if (own / "spatial").is_dir() else "nano:foundation"


def annotate_clips(run: DemoRun) -> None:
    """Hand3D from clips of the train and the test seeds, and from the real video."""

    def clips() -> Iterator[Clip]:
        for i in range(run.train_clips):
            yield replace(film_clip(TRAIN[i]), split="train")
        for i in range(run.test_clips):
            yield replace(film_clip(TEST[i]), split="test")

    total = run.train_clips + run.test_clips
    with counter("filming and annotating", "clips", total) as count:
        report = annotate(clips(), run.out / "hand3d", progress=lambda _: count(total=total))
    print(report.summary())
    print(f"and a real video: {annotate_real(run.out / 'real').summary()}")


def annotate_real(out: Path) -> Report:
    """Hand3D from the real video, whose hand moves by centimetres only."""

    config = AnnotateConfig(
        frames=FramesConfig(rate=0.5),
        relations=RelationsConfig(least_hand_movement=0.01),
        motion=MotionConfig(least_movement=0.01),
    )
    return annotate_source("folder", REAL, out, config)


def collect_demonstrations(run: DemoRun) -> None:

    seeds = TRAIN[: run.demonstrations]
    with counter("demonstrations", "episodes", len(seeds)) as count:
        collect(
            run.out / "demonstrations",
            seeds,
            dict.fromkeys(run.tasks, 1.0),
            workers=2,
            progress=lambda done, total: count(done=done, total=total),
        )


def train_stage(name: str) -> Callable[[DemoRun], None]:
    """Each stage begins with what the stage before made; stage 1 with the shipped foundation."""

    def action(run: DemoRun) -> None:

        number = int(name[-1])
        data = run.out / ("hand3d" if number < 3 else "demonstrations")
        start = foundation_of(run) if number == 1 else str(model_of(run, f"stage{number - 1}"))
        steps = {1: run.stage1_steps, 2: run.stage2_steps, 3: run.stage3_steps}[number]
        stage = TRAININGS.load(name).make(data, run.out / name, start=start)
        stage = replace(stage, steps=steps, seed=run.seed, save_every=100, compile=run.compile)
        # A process that has filmed and trained before trains at half the speed: each stage has a fresh one, of a
        # process that has only imported.
        context = get_context("forkserver")
        context.set_forkserver_preload(["vipa.training.loop"])
        with ProcessPoolExecutor(1, context, initializer=begin_stage) as fresh:
            training = fresh.submit(train, stage)
            while not wait([training], timeout=REWRITTEN).done:
                write_report(run, f"stage {number} trains")
            training.result()

    return action


def begin_stage() -> None:
    """This process shows its own progress alone, and ends when the one that started it does, however that ended."""

    transformers.logging.disable_progress_bar()
    end_with_parent()


def model_of(run: DemoRun, stage: str) -> Path:
    return run.out / stage / "model"


def evaluate(what: Literal["questions", "motions", "robot"]) -> Callable[[DemoRun], None]:
    """A part of the evaluation of all stages."""

    def action(run: DemoRun) -> None:

        part = {"questions": evaluate_questions, "motions": evaluate_motions, "robot": evaluate_robot}[what]
        with counter("evaluating", "") as count:
            part(evaluation_of(run), lambda name, done, total: count(name, done=done, total=total))

    return action


def evaluation_of(run: DemoRun) -> StagesEvaluation:

    return StagesEvaluation(
        foundation_of(run),
        *(str(model_of(run, stage)) for stage in STAGE_NAMES),
        data=run.out / "hand3d",
        out=run.out / "results",
        questions=run.questions,
        motions=run.motions,
        tasks=run.tasks,
        episodes=run.episodes,
        videos=1,
    )


def draw_pictures(run: DemoRun) -> None:
    """A held-out clip of the tabletop world, and the real video, as cards."""

    folder, data = run.out / "pictures", Hand3D(run.out / "hand3d")
    moving = {r.clip_id for r in data.action("test")}
    clip_id = next((c.id for c in data.clips("test") if c.id in moving), next(data.clips("test")).id)
    seed = int(clip_id.rsplit("_", 1)[1])
    assert seed in TEST
    steps = tabletop_steps(data, clip_id, seed, folder)
    for clip in load_source("folder").read_clips(REAL):
        if not isinstance(clip, Exception):
            steps += real_steps(Hand3D(run.out / "real"), clip, folder)
    save_steps(steps, folder / "steps.json")


def report_path(run: DemoRun) -> Path:
    return run.out / "report.html"


def write_report(run: DemoRun, doing: str = "", reload: bool = True) -> Path:
    """The page, from whatever is in run.out and in the package. doing: what the demo is at, where it is not done."""

    seconds = {p.stem: json.loads(p.read_text())["seconds"] for p in sorted((run.out / "steps").glob("*.json"))}
    begun = {stage: run.out / stage for stage in STAGE_NAMES if (run.out / stage / "log.jsonl").exists()}
    copy_logs(begun, run.out / "results")
    now = read_column(run.out / "results", "trained just now", "now", _minutes(seconds))
    shipped = read_column(
        NANO / "results", "shipped nano", "shipped", "longer training, weights in the package", NANO / "logs"
    )
    facts = (
        ("Command", "make demo (vipa demo)"),
        ("Version", vipa.__version__),
        ("Machine", f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"),
        ("Time", ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())),
        ("Settings", ", ".join(f"{k} {v}" for k, v in asdict(run).items() if isinstance(v, int))),
        ("Splits", "training, test and foundation scenes come from disjoint ranges of seeds"),
        ("Intervals", "95 %: bootstrap over clips for questions and motions, Wilson for success rates"),
    )
    date = datetime.now().strftime("%d %B %Y, %H:%M").lstrip("0")
    steps = load_steps(run.out / "pictures" / "steps.json")
    reload_after = round(REWRITTEN) if doing and reload else None
    page = render(Page(date, steps, (now, shipped), facts, doing=doing, reload_after=reload_after))
    atomic_write(report_path(run), page)
    return report_path(run)


def _minutes(seconds: dict[str, float]) -> str:
    total = sum(seconds.get(stage, 0.0) for stage in STAGE_NAMES)
    return f"{total / 60:.1f} minutes of training" if total else ""


def _claim(run: DemoRun) -> None:
    """Saves the settings; a folder made with other settings is refused."""
    path, text = run.out / "demo.json", json.dumps(asdict(run), indent=1, default=str)
    if path.exists() and path.read_text() != text:
        raise ValueError(f"{run.out} holds a demo with other settings: choose another --out, or delete the folder")
    atomic_write(path, text)


@contextmanager
def _step(run: DemoRun, name: str, title: str) -> Iterator[bool]:
    """Yields whether the step is to be done; marks it done, with its seconds over all tries, when it ends."""
    marker, partial = run.out / "steps" / f"{name}.json", run.out / "steps" / f".{name}.partial"
    if marker.exists():
        print(f"{title}: done before", flush=True)
        yield False
        return
    print(title, flush=True)
    before = float(partial.read_text()) if partial.exists() else 0.0
    start = time.monotonic()
    try:
        yield True
    except BaseException:
        atomic_write(partial, str(before + time.monotonic() - start))
        raise
    seconds = before + time.monotonic() - start
    atomic_write(marker, json.dumps({"seconds": round(seconds, 1)}))
    partial.unlink(missing_ok=True)
