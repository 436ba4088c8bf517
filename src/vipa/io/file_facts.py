"""What was found out about a file, kept in the user's cache for as long as the file is as it was."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vipa.io.cache import cache_folder
from vipa.io.files import OutputError, atomic_write

SETTLED = 2.0
"""Seconds: of a file that changed less long ago nothing is kept, for it could change again and have the same times."""


def fact(kind: str, path: Path, find: Callable[[], Any]) -> Any:
    """What `find` says of a file, or said of it before: a JSON value. kind: what that is; it changes with how it is
    found. The file is as it was where its size, its number on the disk and both its times of change are: that of the
    content can be set by hand, that of its entry cannot. OSError where it is not there; what `find` raises is not kept.
    """
    state = _state(path)
    name = hashlib.sha256(os.path.abspath(path).encode()).hexdigest()[:32]
    place = cache_folder("files", kind, f"{name}.json")
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(place.read_bytes())
        if kept["state"] == state:
            return kept["value"]
    value = find()
    if time.time() - max(state[2:]) / 1e9 > SETTLED and _state(path) == state:
        with suppress(OutputError):
            atomic_write(place, json.dumps({"state": state, "value": value}), sync=False)
    return value


def _state(path: Path) -> list[int]:
    s = os.stat(path)
    return [s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns]
