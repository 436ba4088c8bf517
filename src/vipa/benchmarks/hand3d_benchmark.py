"""Hand3D-test: questions about metric space, answered in words (section 5, Fig. 8).

Distance error: |said - true| in metres. Direction score: one point for each of the three axes whose sign is right,
where "not named" is a sign too; 3 is best. An answer that does not parse (`words.free_answers` has the rules) is
counted, listed and scored worst: no points, and the largest error that any answer within the split's range of distances
could make; no answer scores worse than that. Intervals are bootstrapped over clips, since the records of one clip are
not independent.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from vipa.benchmarks.asking import Asking, Exam, Pictures, Spatial
from vipa.benchmarks.endpoint_answering import EndpointAnswerer
from vipa.benchmarks.results import DistanceRange, Hand3DResult, KindScores
from vipa.benchmarks.statistics import clustered_mean
from vipa.geometry.directions import DIRECTION_WORDS
from vipa.hand3d.config import EndpointConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import VisualRecord
from vipa.hand3d.measure.relations import TURN_WORDS
from vipa.hand3d.words.free_answers import read_answer
from vipa.hand3d.words.questions import STILL, question_kind
from vipa.io.progress import counter

WORDS = {"camera_rotation": TURN_WORDS}
"""(negative, positive) words per axis of a kind of question; of the others DIRECTION_WORDS."""

RANGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, np.inf)
"""Metres between which true distances are looked at together."""


@dataclass(frozen=True)
class Scored:
    """One record with its answer. amount (true), said (None: not parsed) and error are in metres, or in degrees for
    camera rotations. axes: whether the sign is right, of x, y and z."""

    id: str
    clip_id: str
    source: str
    kind: str
    truth: str
    answer: str
    parsed: bool
    amount: float
    said: float | None
    error: float
    axes: tuple[bool, ...]
    direction_score: int


def signs(words: Iterable[str], kind: str) -> tuple[int, int, int]:
    """Sign per axis that direction words name; words of another kind of question count for nothing."""
    found = [0, 0, 0]
    for word in words:
        for axis, pair in enumerate(WORDS.get(kind, DIRECTION_WORDS)):
            if word in pair:
                found[axis] = 1 if word == pair[1] else -1
    return found[0], found[1], found[2]


def score(records: Sequence[VisualRecord], answers: Sequence[str]) -> list[Scored]:
    """Every record with the score of its answer."""
    largest: dict[str, float] = defaultdict(float)
    for record in records:
        kind = question_kind(record.relation)
        largest[kind] = max(largest[kind], _amount(record, kind))
    scored = []
    for record, answer in zip(records, answers, strict=True):
        kind = question_kind(record.relation)
        amount, truth = _amount(record, kind), signs(record.relation.directions, kind)
        error, said = max(amount, largest[kind] - amount), None
        axes: tuple[bool, ...] = (False, False, False)
        try:
            parsed = read_answer(answer, "degrees" if kind == "camera_rotation" else "metres")
        except ValueError:
            pass  # scored worst, above
        else:
            said = parsed.degrees if kind == "camera_rotation" else parsed.distance
            assert said is not None
            error = min(error, abs(said - amount))
            axes = tuple(a == b for a, b in zip(signs(parsed.directions, kind), truth))
        scored.append(
            Scored(
                record.id,
                record.clip_id,
                record.source,
                kind,
                record.answer,
                answer,
                said is not None,
                amount,
                said,
                error,
                axes,
                sum(axes),
            )
        )
    return scored


def summarise(name: str, protocol: dict, scored: Sequence[Scored]) -> Hand3DResult:
    """Means, intervals and histograms of scored records. ValueError for none."""
    if not scored:
        raise ValueError("Hand3D-test: there are no records to score in this split")
    metric = [s for s in scored if s.kind != "camera_rotation"]
    kinds = {kind: [s for s in scored if s.kind == kind] for kind in sorted({s.kind for s in scored})}
    sources = {source: [s for s in scored if s.source == source] for source in sorted({s.source for s in scored})}
    counts = Counter(s.direction_score for s in scored)
    edges = np.linspace(0.0, 0.5, 26)
    histogram, _ = np.histogram(np.clip([s.error for s in metric], 0, 0.4999), edges)
    return Hand3DResult(
        name,
        protocol,
        (_scores("all", scored), *(_scores(kind, group) for kind, group in kinds.items())),
        (counts[0], counts[1], counts[2], counts[3]),
        tuple(edges.tolist()),
        tuple(histogram.tolist()),
        tuple(_scores(source, group) for source, group in sources.items()),
        tuple(_range(low, high, metric) for low, high in pairwise(RANGES)),
        {s.id: s.answer for s in scored if not s.parsed},
    )


HAND3D = Exam(
    name="hand3d",
    table="visual",
    records=lambda data, split: data.visual(split),
    score=lambda data, records, answers: score(records, answers),
    summarise=summarise,
)
evaluate_hand3d = HAND3D.ask


@dataclass(frozen=True)
class Settings(Asking):
    """Answers the questions of a Hand3D data set and scores distance and direction (section 5).

    Baseline: `constant`, the median distance and majority direction per kind of question, of the train split. Any
    vision-language model behind an OpenAI-compatible server: `endpoint`, with --endpoint.url and --endpoint.model.
    """

    spatial: Spatial = "real"
    """Controls of what the 3D tokens bring: `zeroed`, `shuffled` (each question gets the tokens of another clip's
    frames), or `none` (answered without the fusion)."""
    pictures: Pictures = "shown"
    """Blind baselines: `covered`, the pictures mid-grey, or `none`, the question's text alone."""
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    """The server, where the model is `endpoint`."""


def run(settings: Settings) -> Hand3DResult:
    """Asks the model, the endpoint or the baseline."""
    ours = settings.model not in (ConstantAnswerer.name, "endpoint")
    if settings.spatial != "real" and not ours:
        raise ValueError(f"--spatial {settings.spatial}: `{settings.model}` has no 3D tokens")
    if settings.pictures != "shown" and settings.model == ConstantAnswerer.name:
        raise ValueError(f"--pictures {settings.pictures}: the baseline `constant` looks at none")
    if ours:
        from vipa.benchmarks.answering import (
            ModelAnswerer,
            Questions,
        )  # torch takes seconds, help does not need it

        model = ModelAnswerer(settings.model, settings.data, spatial=settings.spatial, pictures=settings.pictures)
        answerer = Questions(model)
    elif settings.model == "endpoint":
        answerer = EndpointAnswerer(settings.endpoint, settings.data, settings.pictures)
    else:
        answerer = ConstantAnswerer(list(Hand3D(settings.data).visual("train")))
    with counter("answering", "questions") as count:
        return evaluate_hand3d(answerer, **settings.asked(count))


class ConstantAnswerer:
    """Says per kind of question the median amount and, per axis, the most frequent sign of the records it was
    fitted on: the best that one can do without looking."""

    name = "constant"

    def __init__(self, records: Sequence[VisualRecord]):
        amounts: dict[str, list[float]] = defaultdict(list)
        votes: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for record in records:
            kind = question_kind(record.relation)
            amounts[kind].append(_amount(record, kind))
            votes[kind].append(signs(record.relation.directions, kind))
        self.answers: dict[str, str] = {}
        for kind, values in amounts.items():
            pairs = WORDS.get(kind, DIRECTION_WORDS)
            best = [Counter(vote[axis] for vote in votes[kind]).most_common(1)[0][0] for axis in range(3)]
            words = " and ".join(pairs[axis][sign > 0] for axis, sign in enumerate(best) if sign) or STILL
            amount = float(np.median(values))
            self.answers[kind] = (
                f"{words}, {amount:.3f} degrees" if pairs is TURN_WORDS else f"{words}, {amount:.2f}m"
            )

    @property
    def identity(self) -> dict:
        return {"baseline": "constant", "answers": self.answers}

    def __call__(self, records: Sequence[VisualRecord]) -> list[str]:
        return [self.answers.get(question_kind(record.relation), "") for record in records]


def _amount(record: VisualRecord, kind: str) -> float:
    """Degrees for camera rotations, metres for everything else."""
    amount = record.degrees if kind == "camera_rotation" else record.distance
    assert amount is not None
    return amount


def _scores(name: str, scored: Sequence[Scored]) -> KindScores:
    """Of a group; its error and its axes are those of the kinds measured in metres, where it has any."""
    measured = [s for s in scored if s.kind != "camera_rotation"] or scored
    clips = [s.clip_id for s in measured]
    x, y, z = (clustered_mean([float(s.axes[axis]) for s in measured], clips) for axis in range(3))
    return KindScores(
        name,
        len(scored),
        sum(not s.parsed for s in scored),
        clustered_mean([s.error for s in measured], clips),
        clustered_mean([s.direction_score for s in scored], [s.clip_id for s in scored]),
        (x, y, z),
    )


def _range(low: float, high: float, metric: Sequence[Scored]) -> DistanceRange:
    """What is said where the true distance is in [low, high)."""
    group = [s for s in metric if low <= s.amount < high]
    bias = [(s.said - s.amount, s.clip_id) for s in group if s.said is not None]
    return DistanceRange(
        low,
        high if np.isfinite(high) else None,
        len(group),
        clustered_mean([s.error for s in group], [s.clip_id for s in group]) if group else None,
        clustered_mean([b for b, _ in bias], [clip for _, clip in bias]) if bias else None,
    )
