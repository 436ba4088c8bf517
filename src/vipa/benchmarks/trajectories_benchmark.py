"""Wrist trajectories as motion tokens against the truth (sections 3.2.1 and 5, Fig. 9).

Average displacement error (ADE): mean distance in metres between predicted and true waypoints over the whole
trajectory; final displacement error (FDE): at the last one. Both per hand, averaged over hands, in the camera frame of
the observation image. A text that holds no motion is counted and scored as far off as the tokens' volume allows.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vipa.benchmarks.answering import ModelAnswerer, Motions
from vipa.benchmarks.asking import Answerer, Asking, Exam
from vipa.benchmarks.results import Mean, TrajectoryResult
from vipa.benchmarks.statistics import clustered_mean
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import ActionRecord
from vipa.hands.motion_codec import MotionCodec
from vipa.io.progress import counter

Trajectories = dict[str, np.ndarray]
"""Wrist points (waypoints, 3) in metres per hand."""


@dataclass(frozen=True)
class ScoredTrajectory:
    """One record with its answer; errors in metres."""

    id: str
    clip_id: str
    task: str
    answer: str
    parsed: bool
    average_error: float
    final_error: float


def has_motion(record: ActionRecord) -> bool:
    """Whether the response is a motion (motion translation answers in words)."""
    return record.task != "motion_translation"


def displacement_errors(predicted: Trajectories, true: Trajectories) -> tuple[float, float]:
    """(ADE, FDE) in metres, averaged over the hands of the truth.

    A predicted trajectory that is too short stays at its last waypoint, one that is too long is cut. ValueError
    where a hand is missing or has no waypoint.
    """
    average, final = [], []
    for side, points in true.items():
        said = predicted.get(side)
        if said is None or len(said) == 0:
            raise ValueError(f"no trajectory of the {side} hand")
        index = np.minimum(np.arange(len(points)), len(said) - 1)
        distances = np.linalg.norm(said[index] - points, axis=-1)
        average.append(distances.mean())
        final.append(distances[-1])
    return float(np.mean(average)), float(np.mean(final))


def worst_errors(true: Trajectories, codec: MotionCodec) -> tuple[float, float]:
    """(ADE, FDE) of staying in the corner of the volume that is farthest off, per waypoint."""
    low, high = np.array(codec.low), np.array(codec.high)
    far = {side: np.where(points - low > high - points, low, high) for side, points in true.items()}
    return displacement_errors(far, true)


def score(records: Sequence[ActionRecord], answers: Sequence[str], codec: MotionCodec) -> list[ScoredTrajectory]:
    """Every record with the errors of its answer. codec: of the data set's motion tokens."""
    scored = []
    for record, answer in zip(records, answers, strict=True):
        try:
            errors, parsed = displacement_errors(codec.from_text(answer), record.trajectories), True
        except ValueError:
            errors, parsed = worst_errors(record.trajectories, codec), False
        scored.append(ScoredTrajectory(record.id, record.clip_id, record.task, answer, parsed, *errors))
    return scored


def summarise(name: str, protocol: dict, scored: Sequence[ScoredTrajectory]) -> TrajectoryResult:
    """Means and intervals. ValueError for no records."""
    if not scored:
        raise ValueError("trajectories: there are no motion records to score in this split")
    by_task: dict[str, list[ScoredTrajectory]] = defaultdict(list)
    for s in scored:
        by_task[s.task].append(s)
    return TrajectoryResult(
        name,
        protocol,
        len(scored),
        sum(not s.parsed for s in scored),
        *_means(scored),
        {task: _means(group) for task, group in sorted(by_task.items())},
    )


def motions(data: Hand3D, split: str) -> list[ActionRecord]:
    return [record for record in data.action(split) if has_motion(record)]


TRAJECTORIES = Exam(
    name="trajectories",
    table="action",
    records=motions,
    score=lambda data, records, answers: score(records, answers, codec_of(data)),
    summarise=summarise,
)
evaluate_trajectories = TRAJECTORIES.ask


@dataclass(frozen=True)
class Settings(Asking):
    """Predicts wrist motions and measures their distance to the truth (average and final displacement).

    Baselines: `stay` (the hand stays where it is), `mean` (the mean trajectory of the train split) and
    `mean-from-start` (the same from the true start).
    """


def codec_of(data: Hand3D) -> MotionCodec:
    """Of the data set's motion tokens: what their answers are written and read with."""
    codec = data.conventions.codec
    assert codec is not None  # a manifest says it
    return codec


def start_of(record: ActionRecord, side: str) -> np.ndarray:
    """Where the hand truly is in the observation image, (3,) metres."""
    past = record.past_left if side == "left" else record.past_right
    return np.array(past[-1]) if past else record.trajectories[side][0]


@dataclass(frozen=True)
class StayAnswerer:
    """The hand stays where it truly is in the image: knows where the hand is, but not where it goes."""

    codec: MotionCodec
    name = "hand stays where it is"

    @property
    def identity(self) -> dict[str, Any]:
        return {"baseline": "stay"}

    def __call__(self, records: Sequence[ActionRecord]) -> list[str]:
        return [
            self.codec.to_text({s: np.tile(start_of(r, s), (len(p), 1)) for s, p in r.trajectories.items()})
            for r in records
        ]


class MeanAnswerer:
    """The mean trajectory of the records it was fitted on, per hand.

    from_start: mean displacement from where the hand is in the image, added to where it truly is (knows where the
    hand is); otherwise the mean position in the camera frame (looks at nothing).
    """

    def __init__(self, records: Sequence[ActionRecord], codec: MotionCodec, *, from_start: bool):
        self.codec, self.from_start = codec, from_start
        self.name = "mean trajectory from the true start" if from_start else "mean trajectory"
        gathered: dict[str, list[np.ndarray]] = defaultdict(list)
        for record in records:
            for side, points in record.trajectories.items():
                gathered[side].append(points - start_of(record, side) if from_start else points)
        if not gathered:
            raise ValueError(
                "trajectories: no motion records to fit the mean trajectory on (is the train split empty?)"
            )
        self.means = {side: _ragged_mean(group) for side, group in gathered.items()}
        self.any_hand = _ragged_mean([points for group in gathered.values() for points in group])

    @property
    def identity(self) -> dict[str, Any]:
        means = {side: np.round(mean, 4).tolist() for side, mean in self.means.items()}
        return {"baseline": "mean", "from_start": self.from_start, "means": means}

    def __call__(self, records: Sequence[ActionRecord]) -> list[str]:
        return [
            self.codec.to_text({s: self._of(r, s, len(p)) for s, p in r.trajectories.items()}) for r in records
        ]

    def _of(self, record: ActionRecord, side: str, length: int) -> np.ndarray:
        mean = self.means.get(side, self.any_hand)
        said = mean[np.minimum(np.arange(length), len(mean) - 1)]
        return said + start_of(record, side) if self.from_start else said


BASELINES: dict[str, Callable[[Hand3D], Answerer[ActionRecord]]] = {
    "stay": lambda data: StayAnswerer(codec_of(data)),
    "mean": lambda data: MeanAnswerer(motions(data, "train"), codec_of(data), from_start=False),
    "mean-from-start": lambda data: MeanAnswerer(motions(data, "train"), codec_of(data), from_start=True),
}


def run(settings: Settings) -> TrajectoryResult:
    """Asks the model or the baseline."""
    if settings.model in BASELINES:
        answerer = BASELINES[settings.model](Hand3D(settings.data))
    else:
        answerer = Motions(ModelAnswerer(settings.model, settings.data))
    with counter("predicting", "motions") as count:
        return evaluate_trajectories(answerer, **settings.asked(count))


def _ragged_mean(trajectories: Sequence[np.ndarray]) -> np.ndarray:
    """Mean per waypoint over those trajectories that are long enough, (longest, 3)."""
    longest = max(len(points) for points in trajectories)
    padded = np.full((len(trajectories), longest, 3), np.nan)
    for row, points in zip(padded, trajectories):
        row[: len(points)] = points
    return np.nanmean(padded, axis=0)


def _means(scored: Sequence[ScoredTrajectory]) -> tuple[Mean, Mean]:
    clips = [s.clip_id for s in scored]
    average, final = [s.average_error for s in scored], [s.final_error for s in scored]
    return clustered_mean(average, clips), clustered_mean(final, clips)
