"""Lenses that are not pinholes: OpenCV's 8-parameter rational model and FISHEYE624, and images freed of them.

`project` maps points in the OpenCV camera frame (x right, y down, z forward) to pixels of the distorted image,
`unproject` maps pixels back to unit rays; pixels have their origin at the centre of the top-left pixel.
Undistorting an image keeps the camera where it is, so that joints in the camera frame stay on the hand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from vipa.geometry.cameras import Intrinsics

_NEWTON_STEPS = 20
_STEP = 1e-30  # complex step: derivatives of rational functions to the last bit


class Lens(Protocol):
    """A calibrated camera with lens distortion."""

    def project(self, points_camera: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of points (..., 3) in metres; NaN where the model does not reach."""
        ...

    def unproject(self, pixels: np.ndarray) -> np.ndarray:
        """Unit rays (..., 3) in the camera frame of pixels (..., 2); NaN where there is none."""
        ...


@dataclass(frozen=True)
class RationalLens:
    """OpenCV's rational model (ARCTIC's head camera).

    fx, fy, cx, cy: pixels. coefficients: k1, k2, p1, p2, then optionally k3, then k4, k5, k6, OpenCV's order.
    Surprising: the polynomial turns back far outside the picture, where points off the image would land on it;
    `project` gives NaN from there on.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.coefficients) not in (4, 5, 8) or not np.isfinite(self.coefficients).all():
            raise ValueError(
                f"lens: the rational model has 4, 5 or 8 finite coefficients, got {list(self.coefficients)}"
            )

    def project(self, points_camera: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 2"]:
        points = np.asarray(points_camera, dtype=np.float64)
        z = np.where(points[..., 2:] > 1e-9, points[..., 2:], np.nan)
        flat = points[..., :2] / z
        flat = np.where(np.linalg.norm(flat, axis=-1, keepdims=True) < self._reach(), flat, np.nan)
        return _to_pixels(self, self._distort(flat))

    def unproject(self, pixels: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 3"]:
        flat = _invert(self._distort, _from_pixels(self, pixels), self._reach())
        rays = np.concatenate([flat, np.ones_like(flat[..., :1])], -1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    def _radial(self, r2: np.ndarray) -> np.ndarray:
        k1, k2, _, _, k3, k4, k5, k6 = (*self.coefficients, *[0.0] * (8 - len(self.coefficients)))
        return (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))

    def _distort(self, flat: np.ndarray) -> np.ndarray:
        p1, p2 = self.coefficients[2:4]
        x, y = flat[..., 0], flat[..., 1]
        r2 = x * x + y * y
        radial = self._radial(r2)
        return np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y),
            ],
            -1,
        )

    def _reach(self) -> float:
        return _turning_point(lambda r: r * self._radial(r * r), 10.0)


@dataclass(frozen=True)
class Fisheye624:
    """FISHEYE624 (Project Aria, Quest 3; HOT3D): angle from the axis, 6 radial, 2 tangential, 4 thin-prism terms.

    With (a, b) the direction of a ray times its angle from the axis and t = a^2 + b^2:
    (u, v) = (a, b) (1 + k0 t + ... + k5 t^6); with s = u^2 + v^2,
    x = u + p0 (s + 2 u^2) + 2 p1 u v + s0 s + s1 s^2, and y = v + p1 (s + 2 v^2) + 2 p0 u v + s2 s + s3 s^2.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    radial: tuple[float, ...]
    tangential: tuple[float, ...]
    thin_prism: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = len(self.radial), len(self.tangential), len(self.thin_prism)
        if sizes != (6, 2, 4):
            raise ValueError(f"lens: FISHEYE624 has 6 + 2 + 4 coefficients, got {sizes}")

    @classmethod
    def from_params(cls, params: Sequence[float]) -> "Fisheye624":
        """From projectionParams: 16 numbers (fx, fy, cx, cy, ...) or 15 (f, cx, cy, ...). ValueError otherwise."""
        p = [float(x) for x in params]
        if len(p) == 15:
            p = [p[0], *p]
        if len(p) != 16 or not np.isfinite(p).all():
            raise ValueError(f"lens: FISHEYE624 needs 15 or 16 finite parameters, got {len(p)}")
        fx, fy, cx, cy, *rest = p
        return cls(fx, fy, cx, cy, tuple(rest[:6]), tuple(rest[6:8]), tuple(rest[8:]))

    def project(self, points_camera: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 2"]:
        points = np.asarray(points_camera, dtype=np.float64)
        side = np.linalg.norm(points[..., :2], axis=-1)
        angle = np.arctan2(side, points[..., 2])
        scale = np.where(side > 0, angle / np.where(side > 0, side, 1.0), 0.0)
        scale = np.where(angle < self._reach(), scale, np.nan)
        return _to_pixels(self, self._distort(points[..., :2] * scale[..., None]))

    def unproject(self, pixels: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 3"]:
        flat = _invert(self._distort, _from_pixels(self, pixels), self._reach())
        angle = np.linalg.norm(flat, axis=-1, keepdims=True)
        return np.concatenate([flat * np.sinc(angle / np.pi), np.cos(angle)], -1)

    def _radial(self, t: np.ndarray) -> np.ndarray:
        out = np.zeros_like(t)
        for k in reversed(self.radial):
            out = (out + k) * t
        return 1 + out

    def _distort(self, flat: np.ndarray) -> np.ndarray:
        (p0, p1), (s0, s1, s2, s3) = self.tangential, self.thin_prism
        uv = flat * self._radial((flat * flat).sum(-1, keepdims=True))
        u, v = uv[..., 0], uv[..., 1]
        s = u * u + v * v
        return np.stack(
            [
                u + p0 * (s + 2 * u * u) + 2 * p1 * u * v + s * (s0 + s * s1),
                v + p1 * (s + 2 * v * v) + 2 * p0 * u * v + s * (s2 + s * s3),
            ],
            -1,
        )

    def _reach(self) -> float:
        return _turning_point(lambda a: a * self._radial(a * a), np.pi)


class Undistorter:
    """Images of a lens, resampled to what a pinhole at the same place would have seen.

    The sampling map is made once; `images` are then resampled bilinearly. Pixels that the lens does not see
    are black and False in `seen`.
    """

    def __init__(self, lens: Lens, size: tuple[int, int], pinhole: Intrinsics):
        """size: (width, height) of the distorted images. pinhole: the camera to be had."""
        u, v = np.meshgrid(np.arange(pinhole.width), np.arange(pinhole.height))
        rays = np.stack([(u - pinhole.cx) / pinhole.fx, (v - pinhole.cy) / pinhole.fy, np.ones(u.shape)], -1)
        width, height = self.size = size
        source = lens.project(rays)
        with np.errstate(invalid="ignore"):
            inside = (source >= -0.5) & (source <= np.array([width, height]) - 0.5)
        self.seen = np.asarray(inside.all(-1))
        source = np.where(self.seen[..., None], source, 0.0).clip(0, [width - 1, height - 1])
        corner = np.minimum(source.astype(np.int64), [max(width - 2, 0), max(height - 2, 0)])
        self._weight = (source - corner).astype(np.float32)
        self._corner = corner[..., 1] * width + corner[..., 0]

    def __call__(self, images: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n height width c"]:
        """ValueError where the images do not have the lens' size."""
        width, height = self.size
        if images.shape[1:3] != (height, width):
            raise ValueError(f"undistort: the lens is for {width} x {height} images, got {images.shape[1:3]}")
        flat = images.reshape(len(images), height * width, -1)
        right, down = int(width > 1), width * int(height > 1)
        a, b = self._weight[..., :1], self._weight[..., 1:]
        out = np.empty((len(images), *self.seen.shape, flat.shape[-1]), dtype=images.dtype)
        for i, pixels in enumerate(flat):
            top = pixels[self._corner] * (1 - a) + pixels[self._corner + right] * a
            bottom = pixels[self._corner + down] * (1 - a) + pixels[self._corner + down + right] * a
            value = top * (1 - b) + bottom * b
            if np.issubdtype(images.dtype, np.integer):
                value = np.rint(value)
            out[i] = np.where(self.seen[..., None], value, 0)
        return out


def _to_pixels(lens: RationalLens | Fisheye624, flat: np.ndarray) -> np.ndarray:
    return flat * [lens.fx, lens.fy] + [lens.cx, lens.cy]


def _from_pixels(lens: RationalLens | Fisheye624, pixels: np.ndarray) -> np.ndarray:
    return (np.asarray(pixels, dtype=np.float64) - [lens.cx, lens.cy]) / [lens.fx, lens.fy]


def _turning_point(radius: Callable[[np.ndarray], np.ndarray], end: float) -> float:
    """The first r <= end where radius(r) stops growing (end if it grows all the way)."""
    r = np.linspace(0, end, 4001)
    grows = np.diff(radius(r)) > 0
    return float(r[-1] if grows.all() else r[np.argmin(grows)])


def _invert(distort: Callable[[np.ndarray], np.ndarray], target: np.ndarray, reach: float) -> np.ndarray:
    """x with distort(x) = target, by Newton's method; NaN where it is not found below `reach`."""
    x = np.array(target)
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    x *= np.minimum(1.0, 0.9 * reach / np.maximum(length, 1e-12))
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            wrong = target - distort(x)
            du = np.imag(distort(x + np.array([1j * _STEP, 0.0]))) / _STEP
            dv = np.imag(distort(x + np.array([0.0, 1j * _STEP]))) / _STEP
            det = du[..., 0] * dv[..., 1] - du[..., 1] * dv[..., 0]
            step = (
                np.stack(
                    [
                        wrong[..., 0] * dv[..., 1] - wrong[..., 1] * dv[..., 0],
                        wrong[..., 1] * du[..., 0] - wrong[..., 0] * du[..., 1],
                    ],
                    -1,
                )
                / det[..., None]
            )
            size = np.linalg.norm(step, axis=-1, keepdims=True)
            x = x + step * np.minimum(1.0, 0.3 / np.maximum(size, 1e-12))
            if np.nanmax(size, initial=0.0) < 1e-14:
                break
        wrong = np.linalg.norm(target - distort(x), axis=-1)
        found = (wrong < 1e-9) & (np.linalg.norm(x, axis=-1) < reach)
    return np.where(found[..., None], x, np.nan)
