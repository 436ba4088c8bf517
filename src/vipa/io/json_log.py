"""A log that outlives the run that writes it: one JSON object a line."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vipa.io.files import atomic_write, output_errors


class JsonLog:
    """Rows appended to a file, each on the disk before `add` returns; a run that was stopped finds them in `rows`.

    head: what run it is; the file's first line. ValueError naming what differs where the file is another run's, or,
    with `anew`, a new beginning. keep: of the rows that are there, which ones stay (a run that goes on from a save
    repeats the steps after it). A last line that was cut off is dropped; another line that is no JSON object is a
    ValueError.
    """

    def __init__(
        self,
        path: Path,
        head: dict[str, Any] | None = None,
        *,
        anew: bool = False,
        keep: Callable[[dict[str, Any]], bool] = lambda row: True,
    ):
        self.path, self.head = path, None if head is None else json.loads(json.dumps(head))
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        rows = _rows(path, text[: text.rfind("\n") + 1])
        if self.head is not None and rows:
            if lines := list(differences(rows[0], self.head)):
                if not anew:
                    raise ValueError(
                        f"{path}: another run's: {'; '.join(lines)}; choose another --out or delete it"
                    )
                rows = []
            rows = rows[1:]
        self.rows = [row for row in rows if keep(row)]
        if _text(self._all()) != text or not path.exists():
            self.rewrite(self.rows)

    def _all(self) -> list[dict[str, Any]]:
        return ([] if self.head is None else [self.head]) + self.rows

    def add(self, *rows: dict[str, Any]) -> None:
        """Appends rows. OutputError where the disk refuses."""
        self.rows += rows
        with output_errors(self.path), self.path.open("a") as file:
            file.write(_text(rows))
            file.flush()
            os.fsync(file.fileno())

    def rewrite(self, rows: Iterable[dict[str, Any]]) -> None:
        """Other rows in place of those that are there, under the same head."""
        self.rows = list(rows)
        atomic_write(self.path, _text(self._all()))


def differences(there: Any, here: Any, name: str = "") -> Iterable[str]:
    """One phrase per field of nested JSON values that has another value."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*there, *here]):
            yield from differences(there.get(key), here.get(key), f"{name}.{key}" if name else key)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for number, (a, b) in enumerate(zip(there, here)):
            yield from differences(a, b, f"{name}[{number}]")
    elif there != here:
        about = {"start": "other weights", "content": "the data changed"}.get(name.rpartition(".")[2], "")
        yield f"{name} was {there}, is {here}" + (f" ({about})" if about else "")


def _text(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _rows(path: Path, text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            rows.append(None)
        if not isinstance(rows[-1], dict):
            raise ValueError(f"{path}, line {number}: not a row of this log; delete that line")
    return rows
