"""Frames of a video file, of image files or of an array, decoded lazily (PyAV, PIL).

Every kind reads by frame index in presentation order; a broken file is a ValueError that names it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from vipa.clips.clip import Frames
from vipa.clips.decoding import decode, decode_in_order
from vipa.clips.video_index import INDEX_VERSION, VideoIndex, read_index
from vipa.geometry import Intrinsics
from vipa.geometry.distortion import Lens, Undistorter
from vipa.io.file_facts import fact


@dataclass(frozen=True)
class ArrayFrames:
    """Frames that are in memory already. images: (frames, height, width, 3) uint8."""

    images: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return self.images[list(indices)]


@dataclass(frozen=True)
class ImageFrames:
    """One image file per frame (JPEG, PNG, ...), in the order given."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return np.stack([read_image(self.paths[i]) for i in indices])


@dataclass(frozen=True)
class FrameSubset:
    """Some frames of another video: a cut, a lower rate, the rows that have annotations."""

    frames: Frames
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return self.frames.read([self.indices[i] for i in indices])

    def in_order(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        return in_order(self.frames, [self.indices[i] for i in indices])


@dataclass(frozen=True)
class AbsentFrames:
    """A clip whose pictures are not on this machine; everything but `read` works, and `read` says what to do."""

    count: int
    reason: str

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> np.ndarray:
        raise ValueError(self.reason)


@dataclass(frozen=True)
class UndistortedFrames:
    """Frames of a lens as a pinhole at the same place sees them; black where the lens saw nothing.

    lens: at `size` (width, height), the distorted frames' size. pinhole: the camera to be had.
    """

    frames: Frames
    lens: Lens
    size: tuple[int, int]
    pinhole: Intrinsics

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def _undistort(self) -> Undistorter:
        return Undistorter(self.lens, self.size, self.pinhole)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return self._undistort(self.frames.read(indices))


@dataclass(frozen=True)
class UndistortedEach:
    """`UndistortedFrames` of a camera that was calibrated again and again: each frame has its own of `lenses`."""

    frames: Frames
    lenses: tuple[Lens, ...]
    size: tuple[int, int]
    pinhole: Intrinsics

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        pictures = self.frames.read(indices)
        undistorters = [_undistorter(self.lenses[i], self.size, self.pinhole) for i in indices]
        return np.stack([undistort(picture[None])[0] for undistort, picture in zip(undistorters, pictures)])


@lru_cache(maxsize=4)
def _undistorter(lens: Lens, size: tuple[int, int], pinhole: Intrinsics) -> Undistorter:
    return Undistorter(lens, size, pinhole)


@dataclass(frozen=True)
class VideoFrames:
    """Frames of a video file as players show them. Opening reads its index only; `read` seeks to key frames and decodes
    what it must.

    Frames are counted and timed as shown: in presentation order, without what an edit list leaves out. Pictures are
    turned and mirrored as the file's display matrix says, with square pixels. Whatever belongs to the pictures
    (intrinsics, hands and their sides, depth, words) is meant of the shown ones: in a mirrored video a right hand is
    what looks like one. Interlaced frames keep both fields, high dynamic range is not tone-mapped.
    ValueError where the file is missing, truncated, damaged or not a video.
    stay_open: for frames that are read in any order, between reads (`decoding.STAY_OPEN`).
    """

    path: Path
    stay_open: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        self.index  # noqa: B018  # a broken file is reported where it is opened

    @property
    def index(self) -> VideoIndex:
        try:
            stat = self.path.stat()
        except OSError:
            raise ValueError(f"{self.path}: the video is missing") from None
        return _index(self.path, stat.st_size, stat.st_mtime_ns)

    def __len__(self) -> int:
        return len(self.index.pts)

    @property
    def start(self) -> float:
        """When the first frame is shown, seconds on the file's own clock: more than 0 after a delay."""
        return self.index.pts[0] * self.index.time_base

    @property
    def timestamps(self) -> np.ndarray:
        """(frames,) seconds since the first frame."""
        return self.index.seconds

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, as `read` gives them."""
        return self.index.size

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return decode(self.path, self.index, indices, "rgb24", self.stay_open)

    def in_order(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        return decode_in_order(self.path, self.index, indices, "rgb24")


def in_order(frames: Frames, indices: Sequence[int], at_once: int = 16) -> Iterator[np.ndarray]:
    """The pictures of `frames.read`, one after another, in its order; of a video's increasing frames in less time."""
    if isinstance(frames, VideoFrames | FrameSubset):
        yield from frames.in_order(indices)
    else:
        for start in range(0, len(indices), at_once):
            yield from frames.read(indices[start : start + at_once])


@lru_cache(maxsize=512)
def _index(path: Path, size_bytes: int, modified: int) -> VideoIndex:
    known = fact(INDEX_VERSION, path, lambda: asdict(read_index(path, size_bytes)))
    return VideoIndex(**{name: tuple(v) if isinstance(v, list) else v for name, v in known.items()})


def read_image(path: Path) -> np.ndarray:
    """(height, width, 3) uint8 RGB. ValueError naming a missing or damaged file."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise ValueError(f"{path}: the image is missing") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: damaged image ({error})") from None
