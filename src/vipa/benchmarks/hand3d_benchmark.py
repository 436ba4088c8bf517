"""Hand3D-test: questions about metric space, answered in words (section 5, Fig. 8).

Distance error: |said - true| in metres. Direction score: one point for each of the three axes whose sign is right,
where "not named" is a sign too; 3 is best. An answer that does not parse is counted and scored worst: no points,
and the largest error that any answer within the split's range of distances could make. Intervals are bootstrapped
over clips, since the records of one clip are not independent.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vipa.benchmarks.answering import ModelAnswerer, Questions, Spatial
from vipa.benchmarks.asking import Asking, Exam
from vipa.benchmarks.results import Hand3DResult, KindScores
from vipa.benchmarks.statistics import clustered_mean
from vipa.geometry.directions import DIRECTION_WORDS
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import VisualRecord
from vipa.hand3d.measure.relations import TURN_WORDS
from vipa.hand3d.words.questions import STILL, parse_answer, question_kind
from vipa.io.progress import counter

WORDS = {"camera_rotation": TURN_WORDS}
"""(negative, positive) words per axis of a kind of question; of the others DIRECTION_WORDS."""


@dataclass(frozen=True)
class Scored:
    """One record with its answer. error is in metres, or in degrees for camera rotations."""

    id: str
    clip_id: str
    kind: str
    truth: str
    answer: str
    parsed: bool
    error: float
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
        amount, top = _amount(record, kind), largest[kind]
        error, points, parsed = max(amount, top - amount), 0, False
        try:
            said = parse_answer(answer)
            number = said.degrees if kind == "camera_rotation" else said.distance
            if number is not None:
                error, parsed = abs(number - amount), True
                pairs = zip(signs(said.directions, kind), signs(record.relation.directions, kind))
                points = sum(a == b for a, b in pairs)
        except ValueError:
            pass  # scored worst, above
        scored.append(Scored(record.id, record.clip_id, kind, record.answer, answer, parsed, error, points))
    return scored


def summarise(name: str, protocol: dict, scored: Sequence[Scored]) -> Hand3DResult:
    """Means, intervals and histograms of scored records. ValueError for none."""
    if not scored:
        raise ValueError("Hand3D-test: there are no records to score in this split")
    metric = [s for s in scored if s.kind != "camera_rotation"]
    by_kind: dict[str, list[Scored]] = defaultdict(list)
    for s in scored:
        by_kind[s.kind].append(s)
    rows = [_kind_scores("all", scored, metric or scored)]
    rows += [_kind_scores(kind, group, group) for kind, group in sorted(by_kind.items())]
    counts = Counter(s.direction_score for s in scored)
    edges = np.linspace(0.0, 0.5, 26)
    histogram, _ = np.histogram(np.clip([s.error for s in metric], 0, 0.4999), edges)
    return Hand3DResult(
        name,
        protocol,
        tuple(rows),
        (counts[0], counts[1], counts[2], counts[3]),
        tuple(edges.tolist()),
        tuple(histogram.tolist()),
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

    Baseline: `constant`, the median distance and majority direction per kind of question, of the train split.
    """

    spatial: Spatial = "real"
    """Controls of what the 3D tokens bring: `zeroed`, `shuffled` (each question gets the tokens of another clip's
    frames), or `none` (answered without the fusion)."""


def run(settings: Settings) -> Hand3DResult:
    """Asks the model or the baseline."""
    if settings.model == ConstantAnswerer.name:
        if settings.spatial != "real":
            raise ValueError(f"--spatial {settings.spatial}: the baseline `constant` has no 3D tokens")
        answerer = ConstantAnswerer(list(Hand3D(settings.data).visual("train")))
    else:
        answerer = Questions(ModelAnswerer(settings.model, settings.data, spatial=settings.spatial))
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


def _kind_scores(kind: str, scored: Sequence[Scored], measured: Sequence[Scored]) -> KindScores:
    return KindScores(
        kind,
        len(scored),
        sum(not s.parsed for s in scored),
        clustered_mean([s.error for s in measured], [s.clip_id for s in measured]),
        clustered_mean([s.direction_score for s in scored], [s.clip_id for s in scored]),
    )
