"""Hand3D-test: questions about metric space, answered in words (section 5, Fig. 8).

Distance error: |said - true| in metres. Direction score: one point for each of the three axes whose sign is right,
where "not named" is a sign too; 3 is best. An answer that does not parse is counted and scored worst: no points,
and the largest error that any answer within the split's range of distances could make. Intervals are bootstrapped
over clips, since the records of one clip are not independent.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from vipa.benchmarks.results import Hand3DResult, KindScores, Mean
from vipa.benchmarks.resuming import AnswerLog
from vipa.benchmarks.statistics import clustered_interval
from vipa.geometry.directions import DIRECTION_WORDS
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import VisualRecord
from vipa.hand3d.measure.relations import TURN_WORDS
from vipa.hand3d.words.questions import STILL, parse_answer, question_kind

T = TypeVar("T")
WORDS = {"camera_rotation": TURN_WORDS}
"""(negative, positive) words per axis of a kind of question; of the others DIRECTION_WORDS."""


class Answerer(Protocol):
    """Anything that answers questions about images: a model, or a baseline."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> dict:
        """What makes the answers: saved as part of the protocol, and answers are reused only while it is the same."""
        ...

    def __call__(self, records: Sequence[VisualRecord]) -> list[str]: ...


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


def evaluate_hand3d(
    answerer: Answerer,
    hand3d: Path,
    out: Path,
    *,
    split: str = "test",
    limit: int | None = None,
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Hand3DResult:
    """Answers, scores and saves `out` (JSON) with the answers beside it (`<out's stem>_answers.jsonl`).

    limit: the first so many records of a fixed shuffle of the split, so that every run asks the same questions.
    A run that was stopped continues after its last whole batch when answerer and data are the same.
    """
    data = Hand3D(hand3d)
    records = select(list(data.visual(split)), limit)
    protocol = {
        "benchmark": "hand3d",
        "hand3d": data_identity(data, "visual", split),
        "split": split,
        "records": len(records),
        "answerer": answerer.identity,
    }
    log = AnswerLog(out.with_name(f"{out.stem}_answers.jsonl"), protocol)
    scored = score(records, log.answer(records, answerer, batch_size, progress))
    result = summarise(answerer.name, protocol, scored)
    log.finish(out, asdict(result), [asdict(s) for s in scored])
    return result


def data_identity(data: Hand3D, table: str, split: str) -> dict[str, Any]:
    """What tells one data set from another in a protocol: by the content of what is asked."""
    return {
        "content": data.content_hash((table, "frames"), split),
        "config": data.manifest["config_hash"],
        "version": data.manifest["version"],
        "tables": data.manifest["tables"],
    }


def select(records: Sequence[T], limit: int | None, seed: int = 0) -> list[T]:
    """The first `limit` of a fixed shuffle, in the data set's order again; all of them for None."""
    if limit is None or limit >= len(records):
        return list(records)
    chosen = np.random.default_rng(seed).permutation(len(records))[:limit]
    return [records[int(i)] for i in np.sort(chosen)]


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
        _mean([s.error for s in measured], [s.clip_id for s in measured]),
        _mean([s.direction_score for s in scored], [s.clip_id for s in scored]),
    )


def _mean(values: Sequence[float], clusters: Sequence[str]) -> Mean:
    low, high = clustered_interval(values, clusters)
    return Mean(float(np.mean(values)), low, high)
