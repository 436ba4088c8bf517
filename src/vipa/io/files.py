"""Files that are complete or absent."""

import contextlib
import os
from pathlib import Path


class OutputError(ValueError):
    """A result that cannot be written; unlike a bad clip this ends the run."""


def atomic_write(path: Path, data: bytes) -> None:
    """All of `data` at `path`, or what was there before. Names the path where it cannot be written."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(data)
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error
