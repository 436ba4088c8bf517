"""What the benchmarks of answers share: whom to ask, about which records, and how answers become a saved result."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from tyro.conf import Positional

from vipa.benchmarks.resuming import AnswerLog, Asked
from vipa.benchmarks.timing import Timed
from vipa.hand3d.dataset.reader import Hand3D
from vipa.io.provenance import provenance

T = TypeVar("T")
Record = TypeVar("Record", bound=Asked)
Asks = TypeVar("Asks", contravariant=True)
Scored = TypeVar("Scored")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]


Spatial = Literal["real", "zeroed", "shuffled", "none"]
"""The 3D tokens that a model answers with; all but the real ones are controls of what they bring."""

Pictures = Literal["shown", "covered", "none"]
"""What a model sees of the pictures: `covered`: mid-grey ones; `none`: the question's text alone. What is right all the
same needs no eyes."""


def covered(image: np.ndarray) -> np.ndarray:
    """As the policy with its camera covered sees it (`robots.policy.BlankImages`)."""
    return np.full_like(image, 127)


class Answerer(Protocol[Asks]):
    """Anything that answers records in text: a model, or a baseline."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> dict[str, Any]:
        """What makes the answers: saved as part of the protocol, and answers are reused only while it is the same."""
        ...

    def __call__(self, records: Sequence[Asks]) -> list[str]: ...


@dataclass(frozen=True)
class Asking:
    """The options of every benchmark of answers."""

    model: Positional[str]
    """A folder with a model, a shipped one (nano:STAGE), or a baseline."""
    data: Path
    """Folder of the Hand3D data set."""
    out: Path
    """JSON file of the result; the answers are written beside it, and a run that was stopped continues."""
    split: Literal["train", "validation", "test"] = "test"
    """Whose records are asked; baselines are fitted on `train`."""
    limit: int | None = None
    """So many records of a fixed shuffle."""
    batch: int = 32
    """Records asked at once."""

    def asked(self, count: Callable[..., None]) -> dict[str, Any]:
        """What `ask` needs besides the answerer. count: of `io.progress.counter`."""
        return {
            "hand3d": self.data,
            "out": self.out,
            "split": self.split,
            "limit": self.limit,
            "batch_size": self.batch,
            "progress": lambda done, total: count(done=done, total=total),
        }


@dataclass(frozen=True)
class Exam(Generic[Record, Scored, Result]):
    """A benchmark of answers: what is asked, and how answers are scored and summed up.

    records: of a data set and a split. score: every record with the score of its answer, as a dataclass. summarise:
    (name of the answerer, protocol, scored records) -> a dataclass with a field `made`; ValueError for no records.
    """

    name: str
    table: Literal["visual", "action"]
    records: Callable[[Hand3D, str], Iterable[Record]]
    score: Callable[[Hand3D, Sequence[Record], Sequence[str]], Sequence[Scored]]
    summarise: Callable[[str, dict[str, Any], Sequence[Scored]], Result]

    def ask(
        self,
        answerer: Answerer[Record],
        hand3d: Path,
        out: Path,
        *,
        split: str = "test",
        limit: int | None = None,
        batch_size: int = 32,
        progress: Progress = lambda done, total: None,
    ) -> Result:
        """Answers, scores and saves `out` (JSON) with the answers beside it (`<out's stem>_answers.jsonl`).

        limit: the first so many records of a fixed shuffle of the split, so that every run asks the same questions.
        A run that was stopped continues after its last whole batch when answerer and data are the same.
        """
        data = Hand3D(hand3d)
        records = select(list(self.records(data, split)), limit)
        protocol = {
            "benchmark": self.name,
            "hand3d": data_identity(data, self.table, split),
            "split": split,
            "records": len(records),
            "answerer": answerer.identity,
        }
        log = AnswerLog(out.with_name(f"{out.stem}_answers.jsonl"), protocol)
        timed = Timed(answerer)
        scored = self.score(data, records, log.answer(records, timed, batch_size, progress))
        result: Any = self.summarise(answerer.name, protocol, scored)
        result = replace(result, made=provenance() | {"latency": timed.latency})
        log.finish(out, asdict(result), [asdict(s) for s in scored])  # type: ignore[call-overload]
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
