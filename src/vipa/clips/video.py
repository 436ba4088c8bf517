"""Frames of a video file, of image files or of an array, decoded lazily (PyAV, PIL).

Every kind reads by frame index in presentation order; a broken file is a ValueError that names it.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import av
import numpy as np
from PIL import Image

from vipa.clips.clip import Frames
from vipa.geometry import Intrinsics
from vipa.geometry.distortion import Lens, Undistorter


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
class VideoFrames:
    """Frames of a video file. Opening reads its index only; `read` seeks to key frames and decodes what it must.

    ValueError where the file is missing, truncated or not a video. Frames come upright (rotation in the file's
    metadata is applied) and exactly: the i-th in presentation order, whatever the key-frame distance.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        self.index  # noqa: B018  # a broken file is reported where it is opened

    @property
    def index(self) -> "VideoIndex":
        try:
            stat = self.path.stat()
        except OSError:
            raise ValueError(f"{self.path}: the video is missing") from None
        return _index(self.path, stat.st_size, stat.st_mtime_ns)

    def __len__(self) -> int:
        return len(self.index.pts)

    @property
    def timestamps(self) -> np.ndarray:
        """(frames,) seconds since the first frame."""
        pts = np.array(self.index.pts, dtype=np.float64)
        return (pts - pts[0]) * self.index.time_base

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, as `read` gives them."""
        return self.index.size

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return decode(self.path, self.index, indices, "rgb24")


@dataclass(frozen=True)
class VideoIndex:
    """When each frame is shown and where decoding can start. Times in units of time_base seconds."""

    pts: tuple[int, ...]
    keys: tuple[int, ...]
    time_base: float
    size: tuple[int, int]
    rotation: int  # degrees counter-clockwise that make the picture upright
    exact: bool  # packets carry the time their frame is shown; AVI's do not: frames are counted from the start


@lru_cache(maxsize=512)
def _index(path: Path, size_bytes: int, modified: int) -> VideoIndex:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path}: no video in this file")
            stream = container.streams.video[0]
            assert stream.time_base is not None
            pts, keys, exact = _table(container, stream, size_bytes) or _scan(container, stream)
            promised = stream.frames
            if not pts or (promised and len(pts) < promised):
                raise ValueError(
                    f"{path}: the video is truncated (holds {len(pts)} frames, its header promises {promised})"
                )
            container.seek(pts[0], stream=stream)
            first = next(container.decode(stream), None)
            if first is None:
                raise ValueError(f"{path}: the video's first frame cannot be decoded")
            width, height, rotation = first.width, first.height, round(first.rotation) % 360
            if rotation in (90, 270):
                width, height = height, width
            return VideoIndex(tuple(pts), tuple(keys), float(stream.time_base), (width, height), rotation, exact)
    except av.FFmpegError as error:
        raise ValueError(f"{path}: truncated or not a video ({error.strerror})") from None


def _table(
    container: av.container.InputContainer, stream: av.VideoStream, size_bytes: int
) -> tuple[list[int], list[int], bool] | None:
    """(pts, key pts, exact) from an MP4's own sample table, without reading the rest of an hour-long file.

    Only where the rate is constant, since the table gives decoding times: shown times are then the same grid.
    """
    entries = stream.index_entries
    if "mov" not in container.format.name or len(entries) != stream.frames or len(entries) < 2:
        return None
    table = [(e.timestamp, e.pos + e.size, e.is_keyframe) for e in entries]
    dts = np.array([row[0] for row in table])
    steps = np.diff(dts)
    if (steps != steps[0]).any() or stream.start_time is None:
        return None
    inside = [end <= size_bytes for _, end, _ in table]
    if not all(inside):
        raise ValueError(
            f"{container.name}: the video is truncated "
            f"(holds {sum(inside)} frames, its header promises {len(table)})"
        )
    shown = [int(t) for t in dts - dts[0] + stream.start_time]
    # A key frame is shown where it is decoded (a closed group of pictures) or later; `decode` copes with later.
    return shown, [t for t, row in zip(shown, table) if row[2]], True


def _scan(container: av.container.InputContainer, stream: av.VideoStream) -> tuple[list[int], list[int], bool]:
    """(pts, key pts, exact) from every packet, without decoding where the packets can be believed."""
    whole = [p for p in container.demux(stream) if p.size]
    packets = [(p.pts if p.pts is not None else p.dts, p.is_keyframe) for p in whole]
    times = sorted(t for t, _ in packets if t is not None)
    believable = container.format.name != "avi" or all(p.is_keyframe and p.pts in (None, p.dts) for p in whole)
    if times and not believable:
        with av.open(container.name) as again:  # seeking is as unsure as the times: decode from the start
            shown = list(range(sum(1 for _ in again.decode(video=0))))
        return shown, shown[:1], False
    return times, sorted(t for t, key in packets if key and t is not None), True


def decode(path: Path, index: VideoIndex, indices: Sequence[int], pixels: str) -> np.ndarray:
    """These frames (n, height, width[, 3]) in the order asked for. pixels: PyAV's format, rgb24 or gray16le.

    Frames that nothing refers to are not decoded unless asked for.
    """
    count = len(index.pts)
    bad = [i for i in indices if not -count <= i < count]
    if bad:
        raise IndexError(f"{path}: frame {bad[0]} of a video of {count} frames")
    groups: dict[int, set[int]] = {}  # where decoding starts -> the times wanted from there
    for i in indices:
        groups.setdefault(_key_before(index, index.pts[i]), set()).add(index.pts[i])
    images: dict[int, np.ndarray] = {}
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for start, wanted in sorted(groups.items()):
                while left := wanted - images.keys():
                    images |= _decode_run(container, stream, start, left, index, pixels)
                    if wanted <= images.keys():
                        break
                    if start == index.pts[0]:
                        frame = index.pts.index(min(wanted - images.keys()))
                        raise ValueError(f"{path}: frame {frame} cannot be decoded, the video is broken")
                    start = _key_before(index, start - 1)  # seeking overshot, or the frame leans on this group
    except av.FFmpegError as error:
        raise ValueError(f"{path}: the video is broken ({error.strerror})") from None
    return np.stack([images[index.pts[i]] for i in indices])


def _key_before(index: VideoIndex, pts: int) -> int:
    before = bisect_right(index.keys, pts)
    return index.keys[before - 1] if before else index.pts[0]


def _decode_run(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    start: int,
    wanted: set[int],
    index: VideoIndex,
    pixels: str,
) -> dict[int, np.ndarray]:
    """The wanted frames that decoding from the key frame at `start` gives, by their time."""
    if index.exact:
        container.seek(start, stream=stream)
    found: dict[int, np.ndarray] = {}
    count = 0
    for packet in container.demux(stream):
        # Frames that nothing refers to are skipped unless wanted: a third of the work in usual videos.
        needed = packet.pts is None or packet.pts in wanted or not packet.size or not index.exact
        stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
        for frame in packet.decode():
            shown = frame.pts if index.exact else count
            count += 1
            if shown in wanted:
                image = frame.to_ndarray(format=pixels)
                found[shown] = np.ascontiguousarray(np.rot90(image, index.rotation // 90))
            if shown is not None and shown >= max(wanted):
                return found
    return found


def read_image(path: Path) -> np.ndarray:
    """(height, width, 3) uint8 RGB. ValueError naming a missing or damaged file."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise ValueError(f"{path}: the image is missing") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: damaged image ({error})") from None
