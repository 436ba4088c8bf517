"""Where a video file's frames are: what a player shows and when, read without decoding where that can be believed."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer

INDEX_VERSION = f"index-1-av-{av.__version__}"
"""The number is raised when an index is made otherwise: those that were kept are then out of date."""

SQUARE = 0.01
"""A sample aspect ratio this near to 1 is rounding of an encoder's sizes, not another shape of pixels."""


@dataclass(frozen=True)
class VideoIndex:
    """What a player shows: when each frame begins, and how its picture is turned. Times in units of time_base seconds.

    Edit lists are applied: frames that are stored and not shown are not counted. The picture as shown is
    `np.rot90(stored, rotation // 90)`, after that, where mirrored, flipped left to right.
    """

    pts: tuple[int, ...]
    keys: tuple[int, ...]  # where decoding can start; may lie before the first frame shown
    time_base: float
    stream: int  # its place among the file's streams
    stored: tuple[int, int]  # (width, height) of the decoded picture
    square: tuple[int, int]  # the same once its pixels are square
    rotation: int  # degrees counter-clockwise: 0, 90, 180 or 270
    mirrored: bool
    exact: bool  # packets carry the time their frame is shown; AVI's do not: frames are counted from the start

    @cached_property
    def seconds(self) -> np.ndarray:
        """(frames,) since the first frame."""
        pts = np.array(self.pts, dtype=np.float64)
        return (pts - pts[0]) * self.time_base

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures as shown."""
        width, height = self.square
        return (height, width) if self.rotation in (90, 270) else (width, height)


def read_index(path: Path, size_bytes: int) -> VideoIndex:
    """ValueError where the file is truncated, no video, or shows its pictures at an angle that is no quarter turn."""
    try:
        with av.open(str(path)) as container:
            stream = _shown_stream(container)
            assert stream.time_base is not None
            first = _first_frame(container.name, stream.index)
            table = _table(container, stream, size_bytes, first) or _scan(container, stream)
            if not table.pts:
                raise ValueError(f"{path}: the video holds no frames")
            if first is None:
                raise ValueError(f"{path}: the video's first frame cannot be decoded")
            rotation, mirrored = _turn(path, first)
            aspect = float(stream.sample_aspect_ratio or 1)
            wide = first.width if abs(aspect - 1) < SQUARE else max(1, round(first.width * aspect))
            return VideoIndex(
                table.shown_from(path, first),
                tuple(table.keys),
                table.time_base or float(stream.time_base),
                stream.index,
                (first.width, first.height),
                (wide, first.height),
                rotation,
                mirrored,
                table.exact,
            )
    except av.FFmpegError as error:
        raise ValueError(f"{path}: truncated or not a video ({error.strerror})") from None


def _shown_stream(container: InputContainer) -> av.VideoStream:
    """The first video; a cover picture is none."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise ValueError(f"{container.name}: no video in this file")


@dataclass
class _Table:
    """What the file says of its frames, before they are decoded."""

    pts: list[int]
    keys: list[int]
    exact: bool = True
    time_base: float | None = None  # None: the stream's

    def shown_from(self, path: Path, first: av.VideoFrame) -> tuple[int, ...]:
        """pts from the first frame that the decoder gives; what leans on frames before the file's start is left out.

        ValueError where that frame is not the first for another reason.
        """
        if not self.exact:
            return tuple(self.pts)
        begin = first.pts if first.pts is not None else first.dts
        assert begin is not None
        if any(self.pts[0] <= key < begin for key in self.keys):
            raise ValueError(f"{path}: the video's first frame cannot be decoded")
        return tuple(t for t in self.pts if t >= begin)


def _table(
    container: InputContainer, stream: av.VideoStream, size_bytes: int, first: av.VideoFrame | None
) -> _Table | None:
    """From an MP4's own sample table, without reading the rest of an hour-long file.

    Only where the rate is constant, since the table gives decoding times: shown times are then the same grid; and
    where an edit list leaves out nothing. first: the first frame shown; where it is damaged, packets tell more.
    """
    if "mov" not in container.format.name or not hasattr(stream, "index_entries"):  # PyAV 15, which LeRobot wants
        return None
    entries = [(e.timestamp, e.pos + e.size, e.is_keyframe, e.is_discard) for e in stream.index_entries]
    inside = sum(end <= size_bytes for _, end, _, _ in entries)
    if inside < len(entries):
        raise ValueError(
            f"{container.name}: the video is truncated (holds {inside} frames, its header promises {len(entries)})"
        )
    if len(entries) != stream.frames or len(entries) < 2 or any(discard for *_, discard in entries):
        return None
    dts = np.array([row[0] for row in entries])
    steps = np.diff(dts)
    if steps[0] <= 0 or (steps != steps[0]).any():
        return None
    if first is None or first.pts is None or first.pts != stream.start_time:
        return None
    shown = (dts - dts[0] + first.pts).tolist()
    # A key frame is shown where it is decoded (a closed group of pictures) or later; `decode` copes with later.
    return _Table(shown, [time for time, entry in zip(shown, entries) if entry[2]])


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    end: int
    key: bool
    shown: bool  # not left out by an edit list, nor (VP8) stored only to predict others from
    empty: bool  # the picture before stays (AVI)
    corrupt: bool

    @classmethod
    def of(cls, packet: av.Packet, codec: str) -> "_Packet":
        hidden = codec in ("vp8", "libvpx") and packet.size > 0 and not memoryview(packet)[0] >> 4 & 1
        pts = packet.pts if packet.pts is not None else packet.dts
        return cls(
            packet.pts,
            packet.dts,
            (pts or 0) + (packet.duration or 0),
            packet.is_keyframe,
            not (packet.is_discard or hidden),
            packet.size == 0,
            packet.is_corrupt,
        )


def _scan(container: InputContainer, stream: av.VideoStream) -> _Table:
    """From every packet, without decoding where the packets can be believed."""
    codec, name = stream.codec_context.name, container.name
    packets = [_Packet.of(p, codec) for p in container.demux(stream) if p.size or p.dts is not None]
    listed = "mov" in container.format.name and hasattr(stream, "index_entries")
    promised = len(stream.index_entries) if listed else stream.frames
    torn = bool(packets) and packets[-1].corrupt and container.format.name != "mpegts"
    if len(packets) - torn < promised:
        held = len(packets) - torn
        raise ValueError(f"{name}: the video is truncated (holds {held} frames, its header promises {promised})")
    if torn:
        raise ValueError(f"{name}: the video is truncated (its frame {len(packets) - 1} is not whole)")
    _check_length(container, stream, packets)
    whole = [p for p in packets if not p.empty]
    decodable = whole[next((i for i, p in enumerate(whole) if p.key), 0) :]
    times = sorted(p.pts for p in decodable if p.pts is not None and p.shown)
    timed = all(p.pts is not None for p in decodable)
    if container.format.name == "avi":
        timed = all(p.key and p.pts == p.dts for p in decodable)
    if not timed:
        return _counted(name, stream)
    for i, (a, b) in enumerate(pairwise(times)):
        if a == b:
            raise ValueError(f"{name}: frames {i} and {i + 1} are shown at the same time: encode the video anew")
    return _Table(times, sorted({p.pts for p in decodable if p.key and p.pts is not None}))


def _check_length(container: InputContainer, stream: av.VideoStream, packets: list[_Packet]) -> None:
    """ValueError where a Matroska file ends long before the duration that its head promises, if it has one."""
    if "matroska" not in container.format.name or not packets:
        return
    promised = 0.0
    tag = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), "")
    try:
        hours, minutes, seconds = tag.strip("\0").split(":")
        promised = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        if len(container.streams) == 1 and container.duration:
            promised = container.duration / av.time_base
    assert stream.time_base is not None
    held = max(p.end for p in packets) * float(stream.time_base)
    if held < promised - max(0.2, 2 * promised / len(packets)):
        raise ValueError(
            f"{container.name}: the video is truncated (holds {held:.2f} s, its header promises {promised:.2f})"
        )


def _counted(name: str, stream: av.VideoStream) -> _Table:
    """Where seeking is as unsure as the packets' times: every frame is decoded and counted from the start."""
    with av.open(name) as again:
        frames = [f.pts if f.pts is not None else f.dts for f in again.decode(again.streams[stream.index])]
    times = [t for t in frames if t is not None]
    if len(times) < len(frames) or any(b <= a for a, b in pairwise(times)):
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise ValueError(f"{name}: nothing says when the frames are shown")
        return _Table(list(range(len(frames))), [0], exact=False, time_base=float(1 / rate))
    return _Table(times, times[:1], exact=False)


def _first_frame(name: str, stream: int) -> av.VideoFrame | None:
    """The first that a player shows; None where decoding fails before that."""
    try:
        with av.open(name) as container:
            frames = container.decode(container.streams[stream])
            return next((frame for frame in frames if isinstance(frame, av.VideoFrame)), None)
    except av.FFmpegError:
        return None


def _turn(path: Path, frame: av.VideoFrame) -> tuple[int, bool]:
    """(rotation, mirrored) of the display matrix a b u / c d v / x y w: x' = a x + c y, y' = b x + d y."""
    data = next((d for d in frame.side_data if d.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].astype(np.float64)
    if not (a or b or c or d):
        return 0, False  # says nothing
    scale = np.array([[np.hypot(a, b)], [np.hypot(c, d)]])
    unit = np.array([[a, b], [c, d]]) / np.maximum(scale, 1e-9)
    sides = np.rint(unit).astype(int)
    if np.abs(unit - sides).max() > 0.03 or abs(np.linalg.det(sides)) < 0.5:
        angle = np.degrees(np.arctan2(b, a))
        raise ValueError(
            f"{path}: players show this video turned by {angle:.0f} degrees (its display matrix); only quarter turns "
            "and mirrors are read: turn its pictures and encode it anew"
        )
    mirrored = bool(np.linalg.det(sides) < 0)
    (a, b), _ = sides * [-1, 1] if mirrored else sides
    return {(1, 0): 0, (0, -1): 90, (-1, 0): 180, (0, 1): 270}[int(a), int(b)], mirrored
