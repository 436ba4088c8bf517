"""Wrist trajectories as motion tokens against the truth (sections 3.2.1 and 5, Fig. 9).

Average displacement error (ADE): mean distance in metres between predicted and true waypoints over the whole
trajectory; final displacement error (FDE): at the last one. Both per hand, averaged over hands, in the camera frame of
the observation image; also at 1, 2 and 3 s, over the motions that last so long. An answer may hold several samples, one
a line: errors are their mean, and, apart, those of the nearest (best of K, ADE and FDE each by its own nearest). A text
that holds no motion is counted and scored as far off as the tokens' volume allows.

At 2 s with 1, 5 or 10 samples this is EgoDex's protocol (arXiv 2505.11709) reduced to wrists: theirs measures wrists
and fingertips of both hands, in the camera of the observation, and gives the model the hands' present pose.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vipa.benchmarks.asking import Answerer, Asking, Exam, Pictures
from vipa.benchmarks.results import Horizon, Mean, TrajectoryResult
from vipa.benchmarks.statistics import clustered_mean
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import ActionRecord
from vipa.hands.motion_codec import MotionCodec
from vipa.io.progress import counter

Trajectories = dict[str, np.ndarray]
"""Wrist points (waypoints, 3) in metres per hand."""


@dataclass(frozen=True)
class ScoredTrajectory:
    """One record with its answer; errors in metres. valid: share of its samples that are motions. horizons: seconds, as
    text -> average, final, best average and best final error of a motion that lasts so long."""

    id: str
    clip_id: str
    task: str
    answer: str
    parsed: bool
    valid: float
    average_error: float
    final_error: float
    best_average: float
    best_final: float
    horizons: dict[str, tuple[float, float, float, float]]


HORIZONS = (1.0, 2.0, 3.0)
"""Seconds."""


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
    """Every record with the errors of its answer, a sample a line. codec: of the data set's motion tokens."""
    scored = []
    for record, answer in zip(records, answers, strict=True):
        samples = [_motion(line, record.trajectories, codec) for line in answer.split("\n")]
        horizons = {}
        for seconds in HORIZONS:
            steps = round(seconds * record.rate)
            if min(map(len, record.trajectories.values())) >= steps:
                horizons[f"{seconds:g}"] = _errors(samples, record.trajectories, codec, steps)
        valid = float(np.mean([sample is not None for sample in samples]))
        longest = max(map(len, record.trajectories.values()))
        errors = _errors(samples, record.trajectories, codec, longest)
        scored.append(
            ScoredTrajectory(
                record.id, record.clip_id, record.task, answer, valid > 0, valid, *errors, horizons=horizons
            )
        )
    return scored


def _motion(text: str, true: Trajectories, codec: MotionCodec) -> Trajectories | None:
    """None where a text holds no motion of the hands that are asked for."""
    try:
        said = codec.from_text(text)
        displacement_errors(said, true)
    except ValueError:
        return None
    return said


def _errors(
    samples: Sequence[Trajectories | None], true: Trajectories, codec: MotionCodec, steps: int
) -> tuple[float, float, float, float]:
    """(ADE, FDE, best ADE, best FDE) of the first `steps` waypoints; ADE and FDE are means over the samples."""
    true = {side: points[:steps] for side, points in true.items()}
    worst = worst_errors(true, codec)
    errors = np.array([worst if said is None else displacement_errors(said, true) for said in samples])
    average, final = errors.mean(axis=0).tolist()
    best_average, best_final = errors.min(axis=0).tolist()
    return average, final, best_average, best_final


def summarise(name: str, protocol: dict, scored: Sequence[ScoredTrajectory]) -> TrajectoryResult:
    """Means and intervals. ValueError for no records."""
    if not scored:
        raise ValueError("trajectories: there are no motion records to score in this split")
    by_task: dict[str, list[ScoredTrajectory]] = defaultdict(list)
    for s in scored:
        by_task[s.task].append(s)
    clips = [s.clip_id for s in scored]
    return TrajectoryResult(
        name,
        protocol,
        len(scored),
        sum(not s.parsed for s in scored),
        *_means(scored),
        {task: _means(group) for task, group in sorted(by_task.items())},
        max(s.answer.count("\n") + 1 for s in scored),
        float(np.mean([s.valid for s in scored])),
        clustered_mean([s.best_average for s in scored], clips),
        clustered_mean([s.best_final for s in scored], clips),
        tuple(
            _horizon(seconds, scored) for seconds in HORIZONS if any(f"{seconds:g}" in s.horizons for s in scored)
        ),
    )


def _horizon(seconds: float, scored: Sequence[ScoredTrajectory]) -> Horizon:
    """Of the motions that last so long."""
    group = [(s.horizons[f"{seconds:g}"], s.clip_id) for s in scored if f"{seconds:g}" in s.horizons]
    clips = [clip for _, clip in group]
    return Horizon(seconds, len(group), *(clustered_mean([e[i] for e, _ in group], clips) for i in range(4)))


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

    samples: int = 1
    """Motions drawn of each record's distribution, for the best of K; 1: the one motion of median bins."""
    pictures: Pictures = "shown"
    """Blind baselines: `covered`, the pictures mid-grey, or `none`, the prompt's text alone."""


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
    if settings.samples < 1:
        raise ValueError(f"--samples {settings.samples}: at least 1")
    if settings.model in BASELINES:
        if settings.pictures != "shown" or settings.samples > 1:
            raise ValueError(f"the baseline `{settings.model}` looks at no picture and says one motion")
        answerer = BASELINES[settings.model](Hand3D(settings.data))
    else:
        from vipa.benchmarks.answering import ModelAnswerer, Motions  # torch takes seconds, help does not need it

        answerer = Motions(
            ModelAnswerer(settings.model, settings.data, pictures=settings.pictures), settings.samples
        )
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
