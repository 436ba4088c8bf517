"""Answers of a long evaluation, kept as they come, so that a run that was stopped continues."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar


class Asked(Protocol):
    """A record that can be answered."""

    @property
    def id(self) -> str: ...


Record = TypeVar("Record", bound=Asked)


class AnswerLog:
    """`<path>`: one JSON line with the protocol, then one line {"id", "answer"} per record.

    Answers already there are reused when their protocol is the same; otherwise the file is begun anew. A line that
    was cut off by a crash is dropped.
    """

    def __init__(self, path: Path, protocol: dict):
        self.path, self.protocol = path, json.loads(json.dumps(protocol))
        self.answers: dict[str, str] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._read()
        lines = [{"protocol": self.protocol}, *({"id": i, "answer": a} for i, a in self.answers.items())]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines))

    def _read(self) -> None:
        lines = []
        for text in self.path.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break
        if lines and lines[0].get("protocol") == self.protocol:
            self.answers = {line["id"]: line["answer"] for line in lines[1:]}

    def add(self, answers: dict[str, str]) -> None:
        """Appends a batch of answers and puts them on the disk."""
        self.answers.update(answers)
        with self.path.open("a") as file:
            file.writelines(json.dumps({"id": i, "answer": a}) + "\n" for i, a in answers.items())
            file.flush()
            os.fsync(file.fileno())

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
            self.add({record.id: answer for record, answer in zip(batch, answerer(batch), strict=True)})
            progress(len(self.answers), len(records))
        return [self.answers[record.id] for record in records]

    def finish(self, result_path: Path, result: dict, lines: Sequence[dict]) -> None:
        """Writes the result, and the log once more with the score of each record on its line."""
        rows = [{"protocol": self.protocol}, *lines]
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        write_atomically(result_path, json.dumps(result, indent=1) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Writes beside the path and renames, so that nobody ever reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
