"""Sources of human video: one file each, found by its name; nothing here lists them.

A source is a module `vipa.clips.sources.<name>`, or one that another package registers under the entry-point
group `vipa.sources`, with the attributes of `Source`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from vipa.clips.clip import Clip, ClipError
from vipa.hands.trackers import TRACKERS, own_model
from vipa.io.cache import cache_folder
from vipa.io.plugins import Plugins

SOURCES = Plugins("source", __name__, "vipa.sources")


@dataclass(frozen=True)
class SourceOptions:
    """What only the user can give; a source that needs a field which is None says so in its ClipError.

    ValueError for a value that no source could use; FileNotFoundError for `hands` that are not there.
    """

    mano: Path | None = None  # folder with MANO model files, for sources that give MANO parameters only
    tracker: str | None = None  # name of a hand tracker (`vipa.hands.trackers`), for sources without hands
    hands: Path | None = (
        None  # its results, one file or folder a clip, or its model file where it has none of its own
    )
    fov_degrees: float | None = None  # horizontal field of view, for videos without intrinsics
    view: str | None = None  # which camera, where a source has several; None: the source's own choice
    seconds: float = 10.0  # recordings without segments of their own are cut into chunks of this length
    cache: Path | None = None  # folder for the hands that a tracker found, so that no video is tracked twice

    def __post_init__(self) -> None:
        if self.fov_degrees is not None:
            check_fov(self.fov_degrees)
        if not self.seconds > 0:
            raise ValueError(f"seconds: must be positive, it is {self.seconds:g}")
        if self.tracker is not None:
            TRACKERS.check(self.tracker)
        alone = self.hands is None and self.tracker is not None and own_model(self.tracker) is not None
        if (self.tracker is None) != (self.hands is None) and not alone:
            given, missing = ("tracker", "hands") if self.hands is None else ("hands", "tracker")
            what = {
                "hands": "where its results or its model file are: --hands PATH",
                "tracker": f"which tracker they are of: --tracker NAME, one of {', '.join(TRACKERS.names())}",
            }[missing]
            raise ValueError(f"--{given} {getattr(self, given)} needs {what}")
        if self.hands is not None and not Path(self.hands).exists():
            raise FileNotFoundError(f"--hands {self.hands}: no such file or folder")

    def given(self) -> list[str]:
        """Names of the fields that are not as they are by default."""
        return [f.name for f in fields(self) if getattr(self, f.name) != f.default]


def check_fov(degrees: float) -> float:
    """A horizontal field of view. ValueError unless it is between 0 and 180 degrees; and for one that must be meant in
    radians, for no camera that films hands has one below 4 degrees."""
    if not 0 < degrees < 180:
        raise ValueError(f"field of view: must be between 0 and 180 degrees, it is {degrees:g}")
    if degrees < 4:
        raise ValueError(f"field of view: {degrees:g} degrees is no camera's; is it in radians? Give degrees")
    return degrees


NO_OPTIONS = SourceOptions()


@runtime_checkable
class Source(Protocol):
    """What a source module provides.

    LICENCE: of the data. DOWNLOAD: what to get and where from. LAYOUT: the expected folder, as a tree. A source that
    reads options has also OPTIONS, the names of the fields of `SourceOptions` that it reads; one of a user's own videos
    has OWN_VIDEO = True: where a clip comes without poses, or its field of view is guessed, its pictures are measured.
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
    """Names of all sources, sorted."""
    return SOURCES.names()


def load_source(name: str) -> Source:
    """The module of a source. ValueError naming the known ones."""
    return SOURCES.load(name)


def is_own_video(name: str) -> bool:
    """Whether a source's clips are a user's own videos, of whose cameras nothing is known: it says so by OWN_VIDEO."""
    return name in source_names() and bool(getattr(load_source(name), "OWN_VIDEO", False))


def options_of(source: Source) -> tuple[str, ...]:
    """The names of the options that it reads."""
    return tuple(getattr(source, "OPTIONS", ()))


def with_cache(name: str, options: SourceOptions) -> SourceOptions:
    """Options of a source that looks for hands itself, with the folder that all commands share where they name none."""
    if options.cache is not None or "cache" not in options_of(load_source(name)):
        return options
    return replace(options, cache=cache_folder("tracked"))


def read_source(name: str, root: str | Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    """Every clip of a source below `root`, as `Source.read_clips`. ValueError for an option that it would not read."""
    source = load_source(name)
    reads = options_of(source)
    if unread := [option for option in options.given() if option not in reads]:
        flags = ", ".join(map(_flag, unread))
        known = f"it reads {', '.join(map(_flag, reads))}" if reads else "it reads no options"
        raise ValueError(f"source {name!r} does not read {flags}; {known}")
    return source.read_clips(Path(root), options)


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
