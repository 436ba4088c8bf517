"""What a stage made of a clip, on disk: one file per (clip, stage), written beside its place and renamed."""

import contextlib
import io
import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class StageOutput:
    """values: anything JSON can say; arrays: by name. No pickles either way."""

    values: Any = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


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


class ClipStore:
    """The stage files of one clip. A file counts only with the key it was asked for: else it is out of date."""

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, stage: str, key: str) -> StageOutput | None:
        """What was written under this key; None where nothing was, or something else."""
        try:
            with np.load(self.folder / f"{stage}.npz", allow_pickle=False) as file:
                head = json.loads(file["_"].tobytes())
                if head["key"] != key:
                    return None
                return StageOutput(head["values"], {k: file[k] for k in file.files if k != "_"})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def write(self, stage: str, key: str, output: StageOutput) -> None:
        head = json.dumps({"key": key, "values": output.values}, sort_keys=True).encode()
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {"_": np.frombuffer(head, np.uint8), **output.arrays}
        np.savez(buffer, **arrays)
        atomic_write(self.folder / f"{stage}.npz", buffer.getvalue())
