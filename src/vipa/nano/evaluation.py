"""All benchmarks, for the models of all stages and every baseline, as the demo's report shows them.

`vipa evaluate stages` writes one folder:

results/
  hand3d_{constant,before,stage1}.json
  trajectories_{stay,mean,mean_from_start,stage2}.json
  tabletop_{policy,blank}/result.json, tabletop_policy/videos/*.mp4
  drawings/*.jpg with captions.json
  logs/{stage1,stage2,stage3}.jsonl
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vipa.benchmarks.answering import ModelAnswerer, Motions, Questions
from vipa.benchmarks.hand3d_benchmark import ConstantAnswerer, evaluate_hand3d
from vipa.benchmarks.report.contenders import Arm, Column, Media, read_run
from vipa.benchmarks.report.curves import read_curve
from vipa.benchmarks.tabletop_benchmark import TabletopEvaluation, evaluate_tabletop, processes_for
from vipa.benchmarks.trajectories_benchmark import BASELINES, codec_of, evaluate_trajectories
from vipa.clips.drawing import TRUTH_COLOUR, Canvas, save_image
from vipa.geometry import Intrinsics
from vipa.hand3d.dataset.reader import Hand3D
from vipa.io.files import atomic_write
from vipa.io.progress import counter
from vipa.robots.policy import BlankImages, Policy, VipaPolicy

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class StagesEvaluation:
    """One evaluation of all stages, complete.

    before ... stage3: models by name (nano:STAGE) or folder. data: Hand3D data set whose `split` is asked. fitted: one
    on whose train split the baselines are fitted (None: the same one). out: folder of the results. questions, motions:
    records asked of a fixed shuffle (None: all). tasks, episodes: of the robot; the blank-image policy plays the same.
    drawings: motions drawn. ambiguity: of the robot's scenes.
    """

    before: str
    stage1: str
    stage2: str
    stage3: str
    data: Path
    out: Path
    fitted: Path | None = None
    split: str = "test"
    questions: int | None = None
    motions: int | None = None
    tasks: tuple[str, ...] = ("touch", "push", "lift", "place")
    episodes: int = 50
    videos: int = 2
    drawings: int = 6
    ambiguity: float = 0.0


Settings = StagesEvaluation


def run(settings: StagesEvaluation) -> str:
    """All of it, with progress; what the report needs besides the files there are the training logs."""
    with counter("evaluating", "") as count:
        evaluate_stages(settings, lambda name, done, total: count(name, done=done, total=total))
    return f"results of {settings.before}, {settings.stage1}, {settings.stage2} and {settings.stage3}"


def evaluate_stages(run: StagesEvaluation, progress: Progress = lambda name, done, total: None) -> None:
    """Does whatever of the evaluation is not there yet. progress(what, done, total)."""
    evaluate_questions(run, progress)
    evaluate_motions(run, progress)
    evaluate_robot(run, progress)


def evaluate_questions(run: StagesEvaluation, progress: Progress) -> None:
    """Hand3D-test: constant, before stage 1 (no fusion: a new one would only add noise), after stage 1."""
    makers = {
        "constant": lambda: ConstantAnswerer(list(Hand3D(run.fitted or run.data).visual("train"))),
        "before": lambda: Questions(ModelAnswerer(run.before, run.data, spatial="none")),
        "stage1": lambda: Questions(ModelAnswerer(run.stage1, run.data)),
    }
    for name, make in makers.items():
        evaluate_hand3d(
            make(),
            run.data,
            run.out / f"hand3d_{name}.json",
            split=run.split,
            limit=run.questions,
            progress=lambda done, total, name=name: progress(f"questions, {name}", done, total),
        )


def evaluate_motions(run: StagesEvaluation, progress: Progress) -> None:
    """Trajectories: three baselines, after stage 2; drawings of the first motions."""
    data, fitted = Hand3D(run.data), Hand3D(run.fitted or run.data)
    makers = {
        **{name.replace("-", "_"): partial(make, fitted) for name, make in BASELINES.items()},
        "stage2": lambda: Motions(ModelAnswerer(run.stage2, run.data)),
    }
    for name, make in makers.items():
        evaluate_trajectories(
            make(),
            run.data,
            run.out / f"trajectories_{name}.json",
            split=run.split,
            limit=run.motions,
            progress=lambda done, total, name=name: progress(f"motions, {name}", done, total),
        )
    draw_motions(data, run.out / "trajectories_stage2_answers.jsonl", run.out / "drawings", run)


def evaluate_robot(run: StagesEvaluation, progress: Progress) -> None:
    """Closed loop: the policy and the same policy with its camera covered."""
    policy = VipaPolicy.from_pretrained(run.stage3)
    players: dict[str, Policy] = {"policy": policy, "blank": BlankImages(policy)}
    for name, player in players.items():
        evaluation = TabletopEvaluation(
            run.out / f"tabletop_{name}",
            f"{run.stage3}, {name}",
            run.tasks,
            split=run.split,
            episodes=run.episodes,
            ambiguity=run.ambiguity,
            videos=run.videos if name == "policy" else 0,
            processes=processes_for(policy.model.device.type),
            anew=True,  # as the questions and motions of other weights are
        )
        evaluate_tabletop(
            player, evaluation, lambda done, total, name=name: progress(f"robot, {name}", done, total)
        )


def draw_motions(data: Hand3D, answers: Path, folder: Path, run: StagesEvaluation) -> None:
    """The first instructed motions of the answers, drawn on their images: truth green, prediction orange (Fig. 9).

    The first in the file, not the best: the order is that of the data set.
    """
    rows = [json.loads(line) for line in answers.read_text().splitlines()[1:]]
    said = {row["id"]: row["answer"] for row in rows if row["task"] == "instructional_generation"}
    step = max(1, len(said) // run.drawings)
    chosen = list(said)[::step][: run.drawings]
    records = {r.id: r for r in data.action(run.split) if r.id in chosen}
    frames = {f.id: f for f in data.frames(run.split) if f.id in {r.frame_id for r in records.values()}}
    captions = {}
    for number, key in enumerate(chosen):
        record = records[key]
        fx, fy, cx, cy, width, height = frames[record.frame_id].intrinsics
        camera = Intrinsics(fx, fy, cx, cy, int(width), int(height), "calibrated")
        canvas = Canvas(data.image(record.frame_id), max(1, round(336 / width)), camera)
        for points in record.trajectories.values():
            canvas.path(points, TRUTH_COLOUR)
        try:
            for points in codec_of(data).from_text(said[key]).values():
                canvas.path(points, "#ff7a1a")
        except ValueError:
            canvas.label("no motion in the answer")
        save_image(canvas.array, folder / f"{number}.jpg")
        captions[f"{number}.jpg"] = record.text
    atomic_write(folder / "captions.json", json.dumps(captions, indent=1))


def copy_logs(runs: dict[str, Path], out: Path) -> None:
    """Training logs beside the results; runs: stage -> folder of its training."""
    for stage, folder in runs.items():
        (out / "logs").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "log.jsonl", out / "logs" / f"{stage}.jsonl")


HAND3D = {"stage1": "after stage 1", "before": "before stage 1", "constant": "constant"}
TRAJECTORIES = {
    "stage2": "after stage 2",
    "stay": "hand stays where it is",
    "mean_from_start": "mean trajectory, true start",
    "mean": "mean trajectory",
}
POLICIES = {"policy": "policy", "blank": "blank image"}
"""Who answers: key of the file -> name, the trained model first, then what it is compared with."""


def read_column(results: Path, name: str, tone: str, note: str = "", logs: Path | None = None) -> Column:
    """Whatever of the results is there; of a benchmark nothing where the trained model has none. logs: where the
    training logs are, by default among the results."""
    found = sorted((logs or results / "logs").glob("stage*.jsonl"))
    losses = {path.stem: read_curve(path) for path in found}

    def arms(names: dict[str, str], file: str) -> tuple[Arm, ...]:
        paths = {key: results / file.format(key) for key in names}
        first = next(iter(names))
        if not paths[first].exists():
            return ()
        tones = {first: tone, "before": "before"}
        found = [key for key in names if paths[key].exists()]
        return tuple(Arm(names[key], tones.get(key, "base"), (read_run(paths[key]),)) for key in found)

    captions = results / "drawings" / "captions.json"
    drawings = json.loads(captions.read_text()) if captions.exists() else {}
    return Column(
        name,
        tone,
        note,
        losses,
        hand3d=arms(HAND3D, "hand3d_{}.json"),
        trajectories=arms(TRAJECTORIES, "trajectories_{}.json"),
        closed_loop=arms(POLICIES, "tabletop_{}/result.json"),
        drawings=tuple(Media(results / "drawings" / file, caption) for file, caption in drawings.items()),
    )
