"""Depth images read lazily: z in metres along the optical axis, NaN where the sensor saw nothing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from vipa.clips.clip import DepthFrames
from vipa.clips.video import VideoFrames, VideoIndex, decode
from vipa.geometry import Intrinsics, invert, project, transform, unproject_depth

_JUMP = 0.03
"""Neighbouring depths that differ by more than this share of them belong to different surfaces."""


_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
"""Pillow's names of one channel of whole numbers that hold 16 bits; older versions read such a PNG as "I"."""


def _metres(raw: np.ndarray, metres_per_unit: float) -> np.ndarray:
    depth = raw.astype(np.float32) * np.float32(metres_per_unit)
    depth[raw == 0] = np.nan
    return depth


@dataclass(frozen=True)
class ArrayDepth:
    """Depth in memory, (frames, height, width) float32 metres, NaN where unknown."""

    depth: np.ndarray

    def __len__(self) -> int:
        return len(self.depth)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return self.depth[list(indices)]


@dataclass(frozen=True)
class DepthImages:
    """One 16-bit image per frame; 0 is unknown. A missing file (None or not there) is a frame of NaN."""

    paths: tuple[Path | None, ...]
    metres_per_unit: float
    size: tuple[int, int]  # (width, height) of the frames

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return np.stack([self._one(self.paths[i]) for i in indices])

    def _one(self, path: Path | None) -> np.ndarray:
        if path is None or not path.is_file():
            return np.full(self.size[::-1], np.nan, dtype=np.float32)
        try:
            with Image.open(path) as image:
                if fault := _fault(image, self.size):
                    raise ValueError(f"{path}: {fault}")
                raw = np.asarray(image)
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{path}: damaged depth image ({error})") from None
        return _metres(raw, self.metres_per_unit)


def _fault(image: Image.Image, size: tuple[int, int]) -> str | None:
    if image.mode not in _SIXTEEN_BIT:
        return (
            f"depth must be 16-bit grey, this picture's type is {image.mode} (8 bits a channel, colour or other)"
        )
    if image.size != size:
        return f"depth has {image.size} pixels, the frames have {size}"
    return None


@dataclass(frozen=True)
class DepthVideo:
    """A 16-bit grey video (FFV1 or the like); 0 is unknown. ValueError where it is read and has other pixels."""

    path: Path
    metres_per_unit: float

    @property
    def _index(self) -> VideoIndex:
        return VideoFrames(self.path).index

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), pixels."""
        return self._index.size

    def __len__(self) -> int:
        return len(self._index.pts)

    @property
    def pixels(self) -> str:
        """FFmpeg's name of the stored pixel format."""
        with av.open(str(self.path)) as container:
            return str(container.streams.video[0].format.name)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        if fault := self.type_fault():
            raise ValueError(fault)
        return _metres(decode(Path(self.path), self._index, indices, "gray16le"), self.metres_per_unit)

    def type_fault(self) -> str | None:
        pixels = self.pixels
        if pixels in ("gray16le", "gray16be"):
            return None
        return f"{self.path}: depth must be 16-bit grey, this video's pixels are {pixels}"


@dataclass(frozen=True)
class PaddedDepth:
    """Depth that ends before the frames do, or after them: NaN beyond its end. count: frames of the clip."""

    depth: DepthFrames
    count: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> np.ndarray:
        out = np.full((len(indices), *self.size[::-1]), np.nan, dtype=np.float32)
        there = [k for k, i in enumerate(indices) if i < len(self.depth)]
        if there:
            out[there] = self.depth.read([indices[k] for k in there])
        return out


def depth_images(
    paths: Sequence[Path | None], metres_per_unit: float, size: tuple[int, int], notes: dict[str, str]
) -> DepthImages | None:
    """Depth as a part that a clip can do without: only the heads of the files are read here.

    Files that are damaged or of another size are unknown frames, and `notes["depth"]` names the first; None where
    no usable file is left. ValueError where every picture has another type than 16-bit grey: a wrong writer, whose
    numbers are no depth.
    """
    kept: list[Path | None] = []
    faults: list[str] = []
    kinds: Counter[str] = Counter()
    for path in paths:
        fault = None
        if path is not None and path.is_file():
            try:
                with Image.open(path) as image:
                    fault = _fault(image, size)
                    kinds[image.mode] += 1
            except (OSError, SyntaxError, UnidentifiedImageError):
                fault = "damaged depth image"
            if fault:
                faults.append(f"{path}: {fault}")
        kept.append(None if fault or path is None or not path.is_file() else path)
    if kinds and not any(kinds[mode] for mode in _SIXTEEN_BIT):
        raise ValueError(faults[0])
    if faults:
        notes["depth"] = f"unknown in {len(faults)} of {len(kept)} frames: {faults[0]}"
    return DepthImages(tuple(kept), metres_per_unit, size) if any(kept) else None


def depth_video(
    path: Path, metres_per_unit: float, size: tuple[int, int], count: int, notes: dict[str, str]
) -> DepthFrames | None:
    """Depth as a part that a clip of `count` frames can do without: None where there is none or it cannot be used,
    NaN beyond its end; `notes["depth"]` says so. ValueError where its pixels are not 16-bit grey."""
    if not path.is_file():
        return None
    video = DepthVideo(path, metres_per_unit)
    try:
        length, own = len(video), video.size
        fault = video.type_fault()
    except (ValueError, av.FFmpegError) as error:
        notes["depth"] = f"left out: {error}"
        return None
    if fault:
        raise ValueError(fault)
    if own != size:
        notes["depth"] = f"left out: {path.name} has {own[0]} x {own[1]} pixels, the frames {size[0]} x {size[1]}"
        return None
    if length == count:
        return video
    notes["depth"] = f"{path.name} has {length} frames, the video {count}: paired from the first frame on"
    return PaddedDepth(video, count, size)


@dataclass(frozen=True)
class RegisteredDepth:
    """Depth of one camera seen from another: every depth pixel is carried over and drawn as a small square, which
    decides what is in front; then each pixel's ray is met with the surface between the sensor's pixels.

    Planes are exact; beside an edge, and where the sensor has holes, the square's depth stays.
    depth: of the sensor, whose pinhole is `sensor`. T_camera_sensor: (4, 4). camera: the frames' pinhole.
    """

    depth: DepthFrames
    sensor: Intrinsics
    T_camera_sensor: np.ndarray
    camera: Intrinsics

    def __len__(self) -> int:
        return len(self.depth)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return np.stack([self._one(image) for image in self.depth.read(indices)])

    def _one(self, depth: np.ndarray) -> np.ndarray:
        points = unproject_depth(depth.astype(np.float64), self.sensor.matrix).reshape(-1, 3)
        points = transform(self.T_camera_sensor, points[np.isfinite(points[:, 2])])
        points = points[points[:, 2] > 0]
        u, v = np.rint(project(points, self.camera.matrix)).astype(np.int64).T
        z = points[:, 2].astype(np.float32)
        out = np.full((self.camera.height, self.camera.width), np.inf, dtype=np.float32)
        reach = int(np.ceil(self.camera.fx / self.sensor.fx / 2))
        for dv in range(-reach, reach + 1):
            for du in range(-reach, reach + 1):
                x, y = u + du, v + dv
                inside = (x >= 0) & (x < self.camera.width) & (y >= 0) & (y < self.camera.height)
                np.minimum.at(out, (y[inside], x[inside]), z[inside])
        out[np.isinf(out)] = np.nan
        return self._on_surface(out, depth)

    def _on_surface(self, drawn: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Where the rays of `drawn` meet the sensor's surface: two steps, each 20 times nearer at half a metre."""
        v, u = np.nonzero(np.isfinite(drawn))
        rays = np.stack([(u - self.camera.cx) / self.camera.fx, (v - self.camera.cy) / self.camera.fy], -1)
        rays = np.concatenate([rays, np.ones((len(u), 1))], -1)
        T = invert(self.T_camera_sensor)
        turned = rays @ T[:3, :3].T
        start = drawn[v, u].astype(np.float64)
        z = start
        for _ in range(2):
            pixels = project(turned * z[:, None] + T[:3, 3], self.sensor.matrix)
            z = (_between(depth, pixels) - T[2, 3]) / turned[:, 2]
            z = np.where(np.abs(z - start) < _JUMP * start, z, start)  # also where it is NaN
        out = drawn.copy()
        out[v, u] = z
        return out


def _between(depth: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """z (n,) of the surface at pixels (n, 2) between four of `depth`: 1 / z is linear on a plane. NaN at a jump."""
    height, width = depth.shape
    corner = np.floor(pixels)
    inside = ((corner >= 0) & (corner < [width - 1, height - 1])).all(-1)
    x, y = np.where(inside[:, None], corner, 0).astype(np.int64).T
    a, b = (pixels - corner).T
    four = np.stack([depth[y, x], depth[y, x + 1], depth[y + 1, x], depth[y + 1, x + 1]]).astype(np.float64)
    near, far = four.min(0), four.max(0)
    weights = np.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b])
    return np.where(inside & (far - near < _JUMP * near), 1 / (weights / four).sum(0), np.nan)
