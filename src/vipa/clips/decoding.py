"""Where a video file's frames are, and decoding any of them exactly (PyAV)."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

KEYS_BACK = 4
"""How many key frames back decoding is tried, where a frame cannot be had from its own, before the file's start is."""

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
            table = _table(container, stream, size_bytes) or _scan(container, stream)
            if not table.pts:
                raise ValueError(f"{path}: the video holds no frames")
            first = _first_frame(container.name, stream.index)
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


def nothing_refers_to(packet: av.Packet, context: av.VideoCodecContext) -> bool:
    """Whether no other frame is predicted from this one (H.264, HEVC; False where that is not known).

    Surprising: the decoders' own skip_frame hides damage, and some (dav1d) read it once, when they are opened.
    """
    if context.name not in ("h264", "hevc"):
        return False
    data, extra = memoryview(packet), context.extradata or b""
    place = (
        4 if context.name == "h264" else 21
    )  # of the size of lengths in avcC and hvcC, which have no start codes
    lengths = len(extra) > place and extra[0] == 1
    size = (extra[place] & 3) + 1 if lengths else 0
    at = 0
    while at + max(size, 3) < len(data):
        if lengths:
            unit, length = at + size, int.from_bytes(data[at : at + size], "big")
            at = unit + length
        else:
            start = bytes(data[at : at + 4096]).find(b"\0\0\1")
            if start < 0:
                return False
            unit = at = at + start + 3
        if unit >= len(data):
            return False
        head = data[unit]
        if context.name == "h264" and 1 <= head & 31 <= 5:  # a slice
            return head >> 5 & 3 == 0
        if context.name == "hevc" and (kind := head >> 1 & 63) < 32:
            return kind < 16 and kind % 2 == 0
    return False


@dataclass
class _Table:
    """What the file says before anything is decoded. grid: only the distances of pts are known, not the first."""

    pts: list[int]
    keys: list[int]
    exact: bool = True
    grid: bool = False
    time_base: float | None = None  # None: the stream's

    def shown_from(self, path: Path, first: av.VideoFrame) -> tuple[int, ...]:
        """pts from the first frame that the decoder gives; what leans on frames before the file's start is left out.

        ValueError where that frame is not the first for another reason.
        """
        if not self.exact:
            return tuple(self.pts)
        begin = first.pts if first.pts is not None else first.dts
        assert begin is not None
        if self.grid:
            begin -= self.pts[0]
            self.keys = [key + begin for key in self.keys]
            return tuple(t + begin for t in self.pts)
        if any(self.pts[0] <= key < begin for key in self.keys):
            raise ValueError(f"{path}: the video's first frame cannot be decoded")
        return tuple(t for t in self.pts if t >= begin)


def _table(container: InputContainer, stream: av.VideoStream, size_bytes: int) -> _Table | None:
    """From an MP4's own sample table, without reading the rest of an hour-long file.

    Only where the rate is constant, since the table gives decoding times: shown times are then the same grid; and
    where an edit list leaves out nothing.
    """
    if "mov" not in container.format.name:
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
    # A key frame is shown where it is decoded (a closed group of pictures) or later; `decode` copes with later.
    return _Table(dts.tolist(), [row[0] for row in entries if row[2]], grid=True)


def _scan(container: InputContainer, stream: av.VideoStream) -> _Table:
    """From every packet, without decoding where the packets can be believed."""
    packets = [p for p in container.demux(stream) if p.size or p.dts is not None]
    whole = [p for p in packets if p.size and not p.is_corrupt]
    promised = stream.frames if "mov" not in container.format.name else len(stream.index_entries)
    missing = _missing_seconds(container, stream, packets)
    if len(packets) < promised or len(whole) < len([p for p in packets if p.size]) or missing:
        held = f"holds {len(whole)} frames, its header promises " + (f"{missing} s" if missing else f"{promised}")
        raise ValueError(f"{container.name}: the video is truncated ({held})")
    first_key = next((i for i, p in enumerate(whole) if p.is_keyframe), 0)
    decodable = whole[first_key:]
    times = sorted(p.pts for p in decodable if p.pts is not None and not p.is_discard and _visible(p, stream))
    keys = sorted({p.pts for p in decodable if p.is_keyframe and p.pts is not None})
    timed = all(p.pts is not None for p in decodable)
    if container.format.name == "avi":
        timed = all(p.is_keyframe and p.pts == p.dts for p in decodable)
    if timed:
        for i, (a, b) in enumerate(pairwise(times)):
            if a == b:
                raise ValueError(f"{container.name}: frames {i} and {i + 1} are shown at the same time")
        return _Table(times, keys)
    return _counted(container.name, stream)


def _missing_seconds(container: InputContainer, stream: av.VideoStream, packets: list[av.Packet]) -> str:
    """ "held of promised" where a Matroska file ends long before the duration in its head; "" else, or where it has
    none."""
    if "matroska" not in container.format.name or not packets:
        return ""
    promised = None
    tag = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), "")
    try:
        hours, minutes, seconds = tag.strip("\0").split(":")
        promised = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        if len(container.streams) == 1 and container.duration:
            promised = container.duration / av.time_base
    assert stream.time_base is not None
    ends = [((p.pts or p.dts or 0) + (p.duration or 0)) * float(stream.time_base) for p in packets]
    if promised is None or max(ends) > promised - max(0.2, 2 * promised / (len(packets) + 1)):
        return ""
    return f"{promised:.2f} s after {max(ends):.2f}"


def _visible(packet: av.Packet, stream: av.VideoStream) -> bool:
    """Whether the packet's frame is shown: VP8 stores some frames only to predict others from."""
    return stream.codec_context.name not in ("vp8", "libvpx") or bool(bytes(packet)[0] >> 4 & 1)


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
    """The first that a player shows."""
    with av.open(name) as container:
        return next((f for f in container.decode(container.streams[stream]) if isinstance(f, av.VideoFrame)), None)


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


def decode(path: Path, index: VideoIndex, indices: Sequence[int], pixels: str) -> np.ndarray:
    """These frames (n, height, width[, 3]) in the order asked for. pixels: PyAV's format, rgb24 or gray16le.

    Frames that nothing refers to are not decoded unless asked for. ValueError where one is damaged, or leans on a
    damaged one: decoders fill holes with something like a picture.
    """
    count = len(index.pts)
    bad = [i for i in indices if not -count <= i < count]
    if bad:
        raise IndexError(f"{path}: frame {bad[0]} of a video of {count} frames")
    groups: dict[int, set[int]] = {}  # number of the key frame -> the times wanted from there
    for i in indices:
        groups.setdefault(bisect_right(index.keys, index.pts[i]) - 1, set()).add(index.pts[i])
    decoder, images = _Decoder(path, index, pixels), {}
    try:
        for key, wanted in sorted(groups.items()):
            for start in _starts(index, key):
                if left := wanted - images.keys():
                    images |= decoder.frames(start, left)
            if left := wanted - images.keys():
                frame = index.pts.index(min(left))
                raise ValueError(f"{path}: frame {frame} cannot be decoded, the video is damaged")
    except av.FFmpegError as error:
        raise ValueError(f"{path}: the video is damaged ({error.strerror})") from None
    finally:
        decoder.close()
    return np.stack([images[index.pts[i]] for i in indices])


def _starts(index: VideoIndex, key: int) -> Iterator[int | None]:
    """Where decoding is tried for the frames after this key frame; None: the file's beginning.

    Further back where seeking overshot, where a frame leans on an earlier group (open groups of pictures, a refresh
    in stripes), and where an edit list shows a part twice.
    """
    if index.exact:
        yield from index.keys[max(0, key - KEYS_BACK + 1) : key + 1][::-1] if key >= 0 else ()
    yield None


class _Decoder:
    """One open file, decoded from a key frame on until the wanted times are had."""

    def __init__(self, path: Path, index: VideoIndex, pixels: str):
        self.path, self.index, self.pixels = path, index, pixels
        self.container: InputContainer | None = None

    def close(self) -> None:
        if self.container is not None:
            self.container.close()
        self.container = None

    def frames(self, start: int | None, wanted: set[int]) -> dict[int, np.ndarray]:
        """The wanted frames that decoding from `start` (None: the beginning) gives undamaged, by their time.

        Until all is found, and what was decoded before the last of it is seen to be whole: a damaged frame spoils
        those that follow it in the file up to the next key frame.
        """
        if self.container is None or start is None:
            self.close()
            self.container = av.open(str(self.path))
        stream = self.container.streams[self.index.stream]
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        if not context.is_open:  # with a thread a frame, some are given out before the damage in them is found
            stream.thread_type = "SLICE"
        if start is not None:
            self.container.seek(start, stream=stream)
        index, found = self.index, {}
        order: list[int | None] = []  # times of the packets so far
        keys: list[int] = []  # where in `order` the key frames are
        damaged: list[int] = []  # and the damaged ones
        last, until, count = max(wanted), None, 0

        def leads(time: int | None) -> bool:  # shown before the key frame, it may lean on what was before
            return None not in (start, time) and time < start

        for packet in self.container.demux(stream):
            if packet.is_keyframe and packet.size:
                keys.append(len(order))
            order.append(packet.pts if index.exact else None)
            if index.exact and packet.pts == last:
                until = max(t for t in order if t is not None)
            unasked = index.exact and packet.size and packet.pts not in (None, *wanted)
            if unasked and nothing_refers_to(packet, context):
                continue
            frames: list[av.VideoFrame] = []
            try:
                frames = packet.decode()  # type: ignore[assignment]
            except av.FFmpegError:
                if not leads(packet.pts):
                    damaged.append(len(order) - 1)
            for frame in frames:
                shown = frame.pts if index.exact else index.pts[count] if count < len(index.pts) else None
                count += 1
                if frame.is_corrupt and not leads(shown):
                    damaged.append(order.index(shown) if shown in order else max(0, len(order) - 1))
                if shown in wanted and not frame.is_corrupt and (index.exact or not damaged):
                    found[shown] = self._picture(frame)
                if shown is not None and shown >= (last if until is None else until):
                    return _undamaged(found, order, keys, damaged)
        return _undamaged(found, order, keys, damaged)

    def _picture(self, frame: av.VideoFrame) -> np.ndarray:
        index = self.index
        if (frame.width, frame.height) != index.stored:
            raise ValueError(
                f"{self.path}: the picture's size changes from {index.stored[0]} x {index.stored[1]} to "
                f"{frame.width} x {frame.height}: encode it anew with one size"
            )
        if index.square != index.stored:
            way = "POINT" if self.pixels == "gray16le" else "BICUBIC"  # depths are not mixed
            frame = frame.reformat(*index.square, self.pixels, interpolation=way)
        image = np.rot90(frame.to_ndarray(format=self.pixels), index.rotation // 90)
        return np.ascontiguousarray(image[:, ::-1] if index.mirrored else image)


def _undamaged(
    found: dict[int, np.ndarray], order: list[int | None], keys: list[int], damaged: list[int]
) -> dict[int, np.ndarray]:
    for position in damaged:
        after = bisect_right(keys, position)
        for time in order[position : keys[after] if after < len(keys) else None]:
            if time is not None:
                found.pop(time, None)
    return found
