"""Depth images read lazily: z in metres along the optical axis, NaN where the sensor saw nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vipa.clips.clip import DepthFrames
from vipa.clips.video import VideoFrames, VideoIndex, decode
from vipa.geometry import Intrinsics, invert, project, transform, unproject_depth

_JUMP = 0.03
"""Neighbouring depths that differ by more than this share of them belong to different surfaces."""


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
                raw = np.asarray(image)
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{path}: damaged depth image ({error})") from None
        if raw.shape != self.size[::-1]:
            raise ValueError(f"{path}: depth has {raw.shape[::-1]} pixels, the frames have {self.size}")
        return _metres(raw, self.metres_per_unit)


@dataclass(frozen=True)
class DepthVideo:
    """A 16-bit grey video (FFV1 or the like); 0 is unknown."""

    path: Path
    metres_per_unit: float

    @property
    def _index(self) -> VideoIndex:
        return VideoFrames(self.path).index

    def __len__(self) -> int:
        return len(self._index.pts)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return _metres(decode(Path(self.path), self._index, indices, "gray16le"), self.metres_per_unit)


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
