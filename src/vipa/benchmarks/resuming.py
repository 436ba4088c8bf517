"""Answers of a long evaluation, kept as they come, so that a run that was stopped continues."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from vipa.io.files import atomic_write
from vipa.io.json_log import JsonLog


class Asked(Protocol):
    """A record that can be answered."""

    @property
    def id(self) -> str: ...


Record = TypeVar("Record", bound=Asked)


class AnswerLog:
    """`<path>`: one JSON line with the protocol, then one line {"id", "answer"} per record.

    Answers already there are reused when their protocol is the same; otherwise the file is begun anew.
    """

    def __init__(self, path: Path, protocol: dict):
        self.log = JsonLog(path, {"protocol": protocol}, anew=True)
        self.answers: dict[str, str] = {row["id"]: row["answer"] for row in self.log.rows}

    def answer(
        self,
        records: Sequence[Record],
        answerer: Callable[[Sequence[Record]], Sequence[str]],
        batch_size: int,
        progress: Callable[[int, int], None],
    ) -> list[str]:
        """The answers of all records, in their order; those that are missing are asked for batch by batch."""
        todo = [record for record in records if record.id not in self.answers]
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            answers = {record.id: answer for record, answer in zip(batch, answerer(batch), strict=True)}
            self.log.add(*({"id": i, "answer": answer} for i, answer in answers.items()))
            self.answers.update(answers)
            progress(len(self.answers), len(records))
        return [self.answers[record.id] for record in records]

    def finish(self, result_path: Path, result: dict, lines: Sequence[dict]) -> None:
        """Writes the result, and the log once more with the score of each record on its line."""
        self.log.rewrite(lines)
        atomic_write(result_path, json.dumps(result, indent=1) + "\n")
