"""Decoding any frames of a video exactly (PyAV)."""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter

from vipa.clips.video_index import VideoIndex

AT_ONCE = 16
"""Pictures that are decoded together where that is not done one by one."""

KEYS_BACK = 4
"""How many key frames back decoding is tried, where a frame cannot be had from its own, before the file's start is."""

STAY_OPEN = 64
"""Files that stay open in a process, of those that are to be read in any order: opening one takes as long as a few
frames of it."""
ALONE = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
"""For PyAV's conversion of colours, which otherwise starts a thread a processor: of pictures read one by one, beside
other processes that read, that takes longer than the conversion. Before 17 it knew no threads."""
_idle: OrderedDict[Path, "_Decoder"] = OrderedDict()  # the last one used at the end
_of_parent: list["_Decoder"] = []


def _forked() -> None:
    """A forked process shares the files' positions, and has not the decoders' threads: it opens its own, and frees
    none."""
    _of_parent.extend(_idle.values())
    _idle.clear()


os.register_at_fork(after_in_child=_forked)


def decode(
    path: Path, index: VideoIndex, indices: Sequence[int], pixels: str, stay_open: bool = False
) -> np.ndarray:
    """These frames (n, height, width[, 3]) in the order asked for. pixels: PyAV's format, rgb24 or gray16le.
    stay_open: the file, for the next frames.

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
    decoder, images = _decoder(path, index, pixels, stay_open), {}
    try:
        for key, wanted in sorted(groups.items()):
            for start in _starts(index, key):
                if left := wanted - images.keys():
                    images |= decoder.frames(start, left)
            if left := wanted - images.keys():
                frame = index.pts.index(min(left))
                raise ValueError(f"{path}: frame {frame} cannot be decoded, the video is damaged")
    except av.FFmpegError as error:
        decoder.close()
        raise ValueError(f"{path}: the video is damaged ({error.strerror})") from None
    finally:
        _put_away(decoder)
    return np.stack([images[index.pts[i]] for i in indices])


def _decoder(path: Path, index: VideoIndex, pixels: str, stay_open: bool) -> "_Decoder":
    """Out of those that are idle, so that no other thread reads the same file at its place."""
    found = _idle.pop(path, None) if stay_open else None
    if found is not None and found.index is index and found.pixels == pixels:
        return found
    if found is not None:  # of what the file was before
        found.close()
    return _Decoder(path, index, pixels, stay_open)


def _put_away(decoder: "_Decoder") -> None:
    if not decoder.stay_open:
        decoder.close()
        return
    if other := _idle.pop(decoder.path, None):  # another thread's
        other.close()
    _idle[decoder.path] = decoder
    while len(_idle) > STAY_OPEN:
        _idle.popitem(last=False)[1].close()


def decode_in_order(path: Path, index: VideoIndex, indices: Sequence[int], pixels: str) -> Iterator[np.ndarray]:
    """`decode` of increasing frames one after another, in a third of its time: each is given away as it is decoded, in
    memory that the next one can have. Where anything is odd, `decode` says what, from that frame on."""
    given = 0
    if index.exact and all(0 <= a < b for a, b in pairwise([0, *(i + 1 for i in indices)])):
        with suppress(av.FFmpegError):
            for picture in islice(_straight(path, index, indices, pixels), len(indices)):
                if picture is None:
                    break
                yield picture
                given += 1
    for start in range(given, len(indices), AT_ONCE):
        yield from decode(path, index, indices[start : start + AT_ONCE], pixels)


def _straight(path: Path, index: VideoIndex, indices: Sequence[int], pixels: str) -> Iterator[np.ndarray | None]:
    """The pictures of increasing frames as they come; None, and the end, where one is damaged or does not come."""
    decoder, wanted = _Decoder(path, index, pixels), [index.pts[i] for i in indices]
    groups = [bisect_right(index.keys, time) - 1 for time in wanted]
    try:
        k = 0
        while k < len(wanted):
            if groups[k] < 0:
                return
            far = next((m for m in range(k + 1, len(wanted)) if groups[m] > groups[m - 1] + 1), len(wanted))
            for frame in decoder.shown(index.keys[groups[k]], set(wanted[k:far])):
                if frame is None or (frame.pts is not None and frame.pts > wanted[k]):
                    yield None
                    return
                if frame.pts == wanted[k]:
                    yield decoder.picture(frame)
                    k += 1
                    if k == far:
                        break
            if k < far:
                yield None
                return
    finally:
        decoder.close()


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

    def __init__(self, path: Path, index: VideoIndex, pixels: str, stay_open: bool = False):
        self.path, self.index, self.pixels, self.stay_open = path, index, pixels, stay_open
        self.container: InputContainer | None = None
        self._reformatter = VideoReformatter()

    def close(self) -> None:
        if self.container is not None:
            self.container.close()
        self.container = None

    def shown(self, start: int, wanted: set[int]) -> Iterator[av.VideoFrame | None]:
        """All frames from the key frame `start` on, but some that are not wanted; None where one is damaged."""
        stream = self.open(start)
        for packet in self.container.demux(stream):
            if (
                packet.size
                and packet.pts not in (None, *wanted)
                and nothing_refers_to(packet, stream.codec_context)
            ):
                continue
            for frame in packet.decode():
                leads = frame.pts is not None and frame.pts < start  # it may lean on what was before
                yield None if frame.is_corrupt and not leads else frame

    def open(self, start: int | None) -> av.VideoStream:
        """The stream, to be decoded from `start` on."""
        if self.container is None or start is None:
            self.close()
            self.container = av.open(str(self.path))
        stream = self.container.streams[self.index.stream]
        assert isinstance(stream, av.VideoStream)
        if (
            not stream.codec_context.is_open
        ):  # with a thread a frame, some are given out before their damage is found
            stream.thread_type = "SLICE"
            if self.stay_open:  # many are open at once, and others read beside this process
                stream.codec_context.thread_count = 1
        if start is not None:
            self.container.seek(start, stream=stream)
        return stream

    def frames(self, start: int | None, wanted: set[int]) -> dict[int, np.ndarray]:
        """The wanted frames that decoding from `start` (None: the beginning) gives undamaged, by their time.

        Until all is found, and what was decoded before the last of it is seen to be whole: a damaged frame spoils
        those that follow it in the file up to the next key frame.
        """
        stream = self.open(start)
        assert self.container is not None
        context, index, found = stream.codec_context, self.index, {}
        order: list[int | None] = []  # times of the packets so far
        keys: list[int] = []  # where in `order` the key frames are
        damaged: list[int] = []  # and the damaged ones
        last, left, count = max(wanted), set(wanted), 0

        def leads(time: int | None) -> bool:  # shown before the key frame, it may lean on what was before
            return None not in (start, time) and time < start

        def take(packet: av.Packet | None) -> bool:
            """Frames out of the decoder (None: those it holds back to give them in order); whether the last is past."""
            nonlocal count
            frames, past = [], False
            try:
                frames = context.decode(packet)
            except av.FFmpegError:
                if packet is None or not leads(packet.pts):
                    damaged.append(len(order) - 1)
            for frame in frames:
                shown = frame.pts if index.exact else index.pts[count] if count < len(index.pts) else None
                count += 1
                if frame.is_corrupt and not leads(shown):
                    damaged.append(order.index(shown) if shown in order else max(0, len(order) - 1))
                if shown in wanted and not frame.is_corrupt and (index.exact or not damaged):
                    found[shown] = self.picture(frame)
                past |= shown is not None and shown >= last
            return past

        for packet in self.container.demux(stream):
            if packet.is_keyframe and packet.size:
                keys.append(len(order))
            order.append(packet.pts if index.exact else None)
            left.discard(packet.pts)
            unasked = index.exact and packet.size and packet.pts not in (None, *wanted)
            if unasked and nothing_refers_to(packet, context):
                continue
            if take(packet) or (index.exact and not left):
                if packet.size:  # else it was the last, and gave all
                    take(None)
                break
        return _undamaged(found, order, keys, damaged)

    def picture(self, frame: av.VideoFrame) -> np.ndarray:
        index = self.index
        if (frame.width, frame.height) != index.stored:
            raise ValueError(
                f"{self.path}: the picture's size changes from {index.stored[0]} x {index.stored[1]} to "
                f"{frame.width} x {frame.height}: encode it anew with one size"
            )
        if index.square != index.stored:
            way = "POINT" if self.pixels == "gray16le" else "BICUBIC"  # depths are not mixed
            frame = frame.reformat(*index.square, self.pixels, interpolation=way)
        alone = ALONE if self.stay_open else {}
        pixels = self._reformatter.reformat(frame, format=self.pixels, **alone).to_ndarray()
        image = np.rot90(pixels, index.rotation // 90)
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
