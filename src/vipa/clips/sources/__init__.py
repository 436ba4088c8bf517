"""Sources of human video: one file each, found by its name; nothing here lists them.

A source is a module `vipa.clips.sources.<name>`, or one that another package registers under the entry-point
group `vipa.sources`, with the attributes of `Source`.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from vipa.clips.clip import Clip, ClipError


@dataclass(frozen=True)
class SourceOptions:
    """What only the user can give; a source that needs a field which is None says so in its ClipError."""

    mano: Path | None = None  # folder with MANO model files, for sources that give MANO parameters only
    tracker: str | None = None  # name of a hand tracker (`vipa.hands.trackers`), for sources without hands
    hands: Path | None = None  # its results, one file or folder a clip, or its model file
    fov: float | None = None  # horizontal field of view in radians, for videos without intrinsics
    view: str | None = None  # which camera, where a source has several; None: the source's own choice
    seconds: float = 10.0  # recordings without segments of their own are cut into chunks of this length


NO_OPTIONS = SourceOptions()


@runtime_checkable
class Source(Protocol):
    """What a source module provides.

    LICENCE: of the data. DOWNLOAD: what to get and where from. LAYOUT: the expected folder, as a tree.
    """

    LICENCE: str
    DOWNLOAD: str
    LAYOUT: str

    @staticmethod
    def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator["Clip | ClipError"]:
        """Every clip below `root`, in a stable order, cheap until frames are read. A clip that cannot be
        used is yielded as its ClipError, so that the others are still read. FileNotFoundError for a root
        that is not there, ValueError for one that holds nothing of this source."""
        ...


def source_names() -> list[str]:
    own = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]
    return sorted({*own, *(e.name for e in entry_points(group="vipa.sources"))})


def load_source(name: str) -> Source:
    """The module of a source. ValueError naming the known ones."""
    for entry in entry_points(group="vipa.sources"):
        if entry.name == name:
            return entry.load()
    if name.startswith("_") or name not in source_names():
        raise ValueError(f"source {name!r} is unknown; known: {', '.join(source_names())}")
    return cast(Source, importlib.import_module(f"{__name__}.{name}"))
