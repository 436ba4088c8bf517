"""Benchmarks: hand3d (questions), trajectories (wrist motions), tabletop (closed loop), stages (all of these),
translations (motions in words), annotation (Hand3D's geometry), cut3r (the 3D encoder)."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from vipa.benchmarks.annotation_quality import annotation
from vipa.io.files import atomic_write

Folder = Annotated[str, tyro.conf.Positional]


def hand3d(
    model: Folder,
    data: Path,
    out: Path,
    split: Literal["train", "validation", "test"] = "test",
    limit: int | None = None,
    batch: int = 32,
) -> None:
    """Answers the questions of a Hand3D data set and scores distance and direction (section 5).

    model: a folder with a model, a shipped one (nano:stage1), or `constant` (median distance and majority direction
    per kind, fitted on the train split). out: JSON file of the result; the answers are written beside it, and a run
    that was stopped continues. limit: so many records of a fixed shuffle.
    """
    from vipa.benchmarks.hand3d_test import ConstantAnswerer, evaluate_hand3d
    from vipa.hand3d.dataset.reader import Hand3D
    from vipa.io.progress import counter

    if model == "constant":
        answerer = ConstantAnswerer(list(Hand3D(data).visual("train")))
    else:
        from vipa.benchmarks.answering import ModelAnswerer, Questions

        answerer = Questions(ModelAnswerer(model, data))
    with counter("answering", "questions") as count:
        result = evaluate_hand3d(
            answerer,
            data,
            out,
            split=split,
            limit=limit,
            batch_size=batch,
            progress=lambda done, total: count(done=done, total=total),
        )
    print(f"{result.name} on {split}: {result.all.records} questions, {result.all.unparsable} unparsable")
    for s in result.scores:
        unit = "degrees" if s.kind == "camera_rotation" else "m"
        print(
            f"  {s.kind:<20} {s.records:>6}   error {s.error.value:.3f} {unit} "
            f"[{s.error.low:.3f}, {s.error.high:.3f}]   direction {s.direction_score.value:.2f} of 3 "
            f"[{s.direction_score.low:.2f}, {s.direction_score.high:.2f}]"
        )
    print(f"written: {out}")


def trajectories(
    model: Folder,
    data: Path,
    out: Path,
    split: Literal["train", "validation", "test"] = "test",
    limit: int | None = None,
    batch: int = 32,
) -> None:
    """Predicts wrist motions and measures their distance to the truth (average and final displacement).

    model: a folder with a model, a shipped one (nano:stage2), or a baseline: `stay` (the hand stays where it is),
    `mean` (the mean trajectory of the train split) or `mean-from-start` (the same from the true start). out, limit:
    as for hand3d.
    """
    from vipa.benchmarks.trajectories import (
        MeanAnswerer,
        StayAnswerer,
        codec_of,
        evaluate_trajectories,
        has_motion,
    )
    from vipa.hand3d.dataset.reader import Hand3D
    from vipa.io.progress import counter

    if model == "stay":
        answerer = StayAnswerer(codec_of(Hand3D(data)))
    elif model in ("mean", "mean-from-start"):
        train = [record for record in Hand3D(data).action("train") if has_motion(record)]
        answerer = MeanAnswerer(train, codec_of(Hand3D(data)), from_start=model == "mean-from-start")
    else:
        from vipa.benchmarks.answering import ModelAnswerer, Motions

        answerer = Motions(ModelAnswerer(model, data))
    with counter("predicting", "motions") as count:
        result = evaluate_trajectories(
            answerer,
            data,
            out,
            split=split,
            limit=limit,
            batch_size=batch,
            progress=lambda done, total: count(done=done, total=total),
        )
    print(f"{result.name} on {split}: {result.records} motions, {result.unparsable} unparsable")
    for name, (average, final) in {"all": (result.average_error, result.final_error), **result.by_task}.items():
        print(
            f"  {name:<26} average {average.value:.3f} m [{average.low:.3f}, {average.high:.3f}]   "
            f"final {final.value:.3f} m [{final.low:.3f}, {final.high:.3f}]"
        )
    print(f"written: {out}")


def translations(
    model: Folder,
    data: Path,
    out: Path,
    split: Literal["train", "validation", "test"] = "test",
    limit: int | None = None,
    batch: int = 32,
) -> None:
    """Puts wrist motions into words and compares them with the texts that the motions are under.

    model: a folder with a model, a shipped one (nano:stage2), or `constant` (the most common text of the train split).
    out, limit: as for hand3d.
    """
    from vipa.benchmarks.translations import ConstantTranslator, evaluate_translations
    from vipa.hand3d.dataset.reader import Hand3D
    from vipa.io.progress import counter

    if model == "constant":
        translator = ConstantTranslator(list(Hand3D(data).action("train")))
    else:
        from vipa.benchmarks.answering import ModelAnswerer, Translations

        translator = Translations(ModelAnswerer(model, data))
    with counter("translating", "motions") as count:
        result = evaluate_translations(
            translator,
            data,
            out,
            split=split,
            limit=limit,
            batch_size=batch,
            progress=lambda done, total: count(done=done, total=total),
        )
    print(f"{result.name} on {split}: {result.records} motions, {result.silent} answers without a word")
    for name, mean in result.scores.items():
        print(f"  {name:<8} {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]   of {result.counts[name]}")
    print(f"written: {out}")


def tabletop(
    model: Folder,
    out: Path,
    tasks: tuple[str, ...] = ("touch", "push", "lift", "place"),
    split: Literal["train", "validation", "test"] = "test",
    episodes: int = 50,
    blank: bool = False,
    videos: int = 3,
    execute: int = 4,
) -> None:
    """Lets the policy act in the tabletop world and counts successes, with rollout videos.

    model: a folder after stage 3, or nano:stage3. out: folder of results; a run that was stopped continues.
    episodes: scenes per task. blank: cover the camera, for comparison. execute: steps of a chunk before the next.
    """
    from vipa.benchmarks.closed_loop import TabletopEvaluation, evaluate_tabletop
    from vipa.io.progress import counter
    from vipa.robots.loading import load_policy
    from vipa.robots.policy import BlankImages

    policy = load_policy(model)
    player = BlankImages(policy) if blank else policy
    name = f"{model}, blank image" if blank else model
    run = TabletopEvaluation(out, name, tasks, split, episodes=episodes, videos=videos, execute=execute)
    with counter("acting", "episodes") as count:
        result = evaluate_tabletop(player, run, lambda done, total: count(done=done, total=total))
    for task, score in result.scores.items():
        print(f"  {task:<10} {score}")
    print(f"written: {out}")


def cut3r(
    out: Path,
    model: Path | None = None,
    clips: int = 300,
    data: Path = Path("runs/cut3r/data"),
) -> None:
    """Measures a 3D encoder on held-out sequences: depth, points and camera motion, with and without its memory.

    out: Markdown file. model: a folder of CUT3R weights; left out, the shipped nano's. data: where the sequences of the
    tabletop world are, or are rendered to.
    """
    from vipa.benchmarks.encoder3d import measure_cut3r
    from vipa.io.progress import counter

    with counter("seeing", "clips") as count:
        text = measure_cut3r(model, clips, data, lambda done, total: count(done=done, total=total))
    atomic_write(out, text)
    print(f"{text}\nwritten: {out}")


BENCHMARKS = {
    "hand3d": hand3d,
    "trajectories": trajectories,
    "translations": translations,
    "tabletop": tabletop,
    "annotation": annotation,
    "cut3r": cut3r,
}


def main(args: list[str]) -> None:
    if args[:1] == ["stages"]:
        _stages(args[1:])
    else:
        tyro.extras.subcommand_cli_from_dict(BENCHMARKS, args=args, prog="vipa evaluate")


def _stages(args: list[str]) -> None:
    """All benchmarks, for the models of all stages and every baseline, as the demo's report shows them."""
    from vipa.io.progress import counter
    from vipa.nano.evaluation import StagesEvaluation, evaluate_stages

    run = tyro.cli(StagesEvaluation, args=args, prog="vipa evaluate stages")
    with counter("evaluating", "") as count:
        evaluate_stages(run, lambda name, done, total: count(name, done=done, total=total))
    print(f"written: {run.out}")
