"""What a video file says of the camera that made it: make, model, lens; read from its head, nothing decoded.

QuickTime keys of the movie and of its tracks (phones keep the lens in the video track's own, where FFmpeg does not
look), Android's and plain tags, and GoPro's settings block.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import av

from vipa.io.file_facts import fact

VERSION = f"camera-1-av-{av.__version__}"
"""The number is raised when metadata are read otherwise."""

LARGEST = 64 * 2**20
"""Bytes of a file's table of contents that are read; longer ones are of hours of video, and left."""

GOPRO_LENSES = {"W": "wide", "S": "superview", "L": "linear", "M": "medium", "N": "narrow", "H": "hyperview"}
GOPRO_KEEPS = ("DEVC", "STRM")


@dataclass(frozen=True)
class CameraMetadata:
    """None where the file says nothing. focal_35mm: equivalent, millimetres. diagonal_degrees: the camera's own word of
    its field of view. lens_mode: linear, wide ... front: it looks at who holds it."""

    make: str | None = None
    model: str | None = None
    focal_35mm: float | None = None
    diagonal_degrees: float | None = None
    lens_mode: str | None = None
    front: bool = False


def camera_metadata(path: Path) -> CameraMetadata:
    """Of a video file; empty where it says nothing or is none. Read once while the file is unchanged."""
    return CameraMetadata(**fact(VERSION, path, lambda: asdict(read_camera_metadata(path))))


def read_camera_metadata(path: Path) -> CameraMetadata:
    """As `camera_metadata`, from the file."""
    tags = _container_tags(path)
    settings: dict[str, str | float] = {}
    with path.open("rb") as file:
        for kind, payload in _boxes_of_interest(file):
            if kind == "keys":
                tags = payload | tags if isinstance(payload, dict) else tags
            elif isinstance(payload, bytes):
                settings = gopro_settings(payload)
    model = _first(tags, "com.apple.quicktime.model", "com.android.model", "model") or settings.get("MINF")
    lens = _first(tags, "com.apple.quicktime.camera.lens_model", "lens_model", "lens") or ""
    firmware = _first(tags, "firmware") or ""
    comment = re.search(r"device=([^&]+)", _first(tags, "comment", "com.apple.quicktime.comment") or "")
    make = _first(tags, "com.apple.quicktime.make", "com.android.manufacturer", "make")
    if model is None and comment:
        model = comment[1].strip()
    if make is None and (settings or re.match(r"(HD|H\d\d)\d?\.\d\d\.", firmware)):
        make = "GoPro"
    degrees = settings.get("ZFOV")
    mode = settings.get("VFOV")
    return CameraMetadata(
        make=make,
        model=None if model is None else str(model),
        focal_35mm=_number(
            _first(tags, "com.apple.quicktime.camera.focal_length.35mm_equivalent", "focal_length_in_35mm_format")
        ),
        diagonal_degrees=float(degrees) if isinstance(degrees, float) and 5 < degrees < 170 else None,
        lens_mode=None if mode is None else GOPRO_LENSES.get(str(mode)[:1], str(mode)),
        front="front" in lens.lower(),
    )


def gopro_settings(data: bytes) -> dict[str, str | float]:
    """Fields of GoPro's settings: key (four letters), type, size of a value, count, and the values, padded to four
    bytes; a type of zero holds more fields. Damaged ends are left."""
    out: dict[str, str | float] = {}
    at = 0
    while at + 8 <= len(data):
        key, kind = data[at : at + 4].decode("latin-1"), data[at + 4]
        length = data[at + 5] * int.from_bytes(data[at + 6 : at + 8], "big")
        value = data[at + 8 : at + 8 + length]
        at += 8 + (length + 3) // 4 * 4
        if kind == 0:
            out |= gopro_settings(value)
        elif kind in b"cF" and value:
            out.setdefault(key, value.split(b"\0")[0].decode("latin-1").strip())
        elif kind == ord("f") and len(value) >= 4:
            out.setdefault(key, float(struct.unpack(">f", value[:4])[0]))
    return out


def _container_tags(path: Path) -> dict[str, str]:
    try:
        with av.open(str(path)) as container:
            tags = dict(container.metadata)
            for stream in container.streams.video:
                tags = dict(stream.metadata) | tags
    except (av.FFmpegError, OSError):
        return {}
    return {key.lower(): value for key, value in tags.items()}


def _boxes_of_interest(file: BinaryIO) -> Iterator[tuple[str, dict[str, str] | bytes]]:
    """("keys", names and values) of QuickTime metadata and ("GPMF", bytes) of GoPro's settings."""
    file.seek(0)
    while len(head := file.read(8)) == 8:
        size, kind, used = int.from_bytes(head[:4], "big"), head[4:], 8
        if size == 1:
            size, used = int.from_bytes(file.read(8), "big"), 16
        if kind == b"moov" and used <= size <= LARGEST:
            yield from _inside(file.read(size - used))
            return
        if size < used or not kind.isalnum():
            return  # to the end of the file, or no MP4
        file.seek(size - used, 1)


def _inside(data: bytes) -> Iterator[tuple[str, dict[str, str] | bytes]]:
    for kind, body in _boxes(data):
        if kind in (b"trak", b"udta"):
            yield from _inside(body)
        elif kind == b"GPMF":
            yield "GPMF", body
        elif kind == b"meta":
            for parts in (dict(_boxes(body)), dict(_boxes(body[4:]))):  # QuickTime's, and MP4's with its version
                if b"keys" in parts and b"ilst" in parts:
                    yield "keys", _items(parts[b"keys"], parts[b"ilst"])


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8 or at + size > len(data):
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def _items(keys: bytes, items: bytes) -> dict[str, str]:
    """Names are listed in `keys`; boxes of `items` are named by their number and hold a typed value."""
    names = [body.decode("utf-8", "replace").lower() for _, body in _boxes(keys[8:])]
    out = {}
    for number, body in _boxes(items):
        at = int.from_bytes(number, "big") - 1
        for kind, value in _boxes(body):
            if kind == b"data" and 0 <= at < len(names):
                out[names[at]] = _value(int.from_bytes(value[:4], "big"), value[8:])
    return out


def _value(kind: int, data: bytes) -> str:
    if kind in (21, 22) and data:
        return str(int.from_bytes(data, "big", signed=kind == 21))
    if kind == 23 and len(data) == 4:
        return str(struct.unpack(">f", data)[0])
    if kind == 24 and len(data) == 8:
        return str(struct.unpack(">d", data)[0])
    return data.decode("utf-8", "replace")


def _first(tags: dict[str, str], *names: str) -> str | None:
    return next((tags[name] for name in names if tags.get(name)), None)


def _number(text: str | None) -> float | None:
    found = re.match(r"\s*(\d+(?:\.\d+)?)", text or "")
    value = float(found[1]) if found else 0.0
    return value if 5 <= value <= 1000 else None
