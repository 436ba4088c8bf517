"""What a stage made of a clip, on disk: one file per (clip, stage), written beside its place and renamed."""

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vipa.io.files import atomic_write


@dataclass(frozen=True)
class StageOutput:
    """values: anything JSON can say; arrays: by name. No pickles either way."""

    values: Any = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


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
        atomic_write(self.folder / f"{stage}.npz", buffer.getvalue(), sync=False)
