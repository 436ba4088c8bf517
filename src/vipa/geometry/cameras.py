"""Pinhole cameras: intrinsics with their origin, projection and its inverse."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

Array = Any  # numpy array or torch tensor
IntrinsicsOrigin = Literal["calibrated", "metadata", "estimated", "guessed"]

SAME_SHAPE = (1.0, 0.005)
"""Pixels, or share of a side, by which a picture may miss its camera's shape and still be the same one made smaller:
encoders round sides to whole, even numbers. 360 rows in 368 are another shape: stretched or padded, we cannot tell."""

CENTRED = 0.1
"""Share of the picture's sides within which a camera's principal point lies about the middle."""


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera at one resolution; there is no default: a wrong focal length ruins every metre.

    fx, fy, cx, cy: pixels; (0, 0) is the centre of the top-left pixel. origin: where the numbers come from.
    Raises ValueError for sizes or focal lengths that are not positive and finite.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    origin: IntrinsicsOrigin

    def __post_init__(self) -> None:
        if not (np.isfinite([self.fx, self.fy, self.cx, self.cy]).all() and self.fx > 0 and self.fy > 0):
            raise ValueError(
                f"intrinsics: focal lengths must be positive and all values finite, got fx={self.fx}, "
                f"fy={self.fy}, cx={self.cx}, cy={self.cy}"
            )
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"intrinsics: image size must be positive, got {self.width} x {self.height}")

    @classmethod
    def from_matrix(cls, K: Array, width: int, height: int, origin: IntrinsicsOrigin) -> "Intrinsics":
        """From a 3x3 matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; ValueError on skew or another shape."""
        K = np.asarray(K, dtype=np.float64)
        if K.shape != (3, 3) or not np.allclose([K[0, 1], *K[1, ::2][:1], *K[2]], [0, 0, 0, 0, 1], atol=1e-6):
            raise ValueError(f"intrinsics: expected a 3x3 pinhole matrix without skew, got {K.tolist()}")
        fx, fy, cx, cy = (float(x) for x in (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
        return cls(fx, fy, cx, cy, width, height, origin)

    @classmethod
    def from_fov(cls, fov_horizontal: float, width: int, height: int, origin: IntrinsicsOrigin) -> "Intrinsics":
        """Square pixels, centred principal point, horizontal field of view in radians."""
        f = width / (2 * np.tan(fov_horizontal / 2))
        return cls(f, f, (width - 1) / 2, (height - 1) / 2, width, height, origin)

    @classmethod
    def from_recorded(
        cls, K: Array, recorded: tuple[int, int], size: tuple[int, int], origin: IntrinsicsOrigin
    ) -> "Intrinsics":
        """For pictures of `size` from a matrix that does not say its own: that is `recorded`, the data set's
        (width, height), or `size` itself where somebody scaled the matrix too; the principal point, which lies about
        the middle, tells. ValueError where it is in the middle of neither, or the shape is another one."""
        camera = min((cls.from_matrix(K, w, h, origin) for w, h in (size, recorded)), key=lambda c: c.off_centre)
        if camera.off_centre > CENTRED:
            raise ValueError(
                f"intrinsics: the principal point ({K[0][2]:g}, {K[1][2]:g}) is far from the middle of the pictures "
                f"({size[0]} x {size[1]}) and of the data set's ({recorded[0]} x {recorded[1]}): made for another "
                "size or turned"
            )
        return camera.for_size(*size)

    @property
    def off_centre(self) -> float:
        """How far the principal point lies from the picture's middle, as a share of its sides; the larger of both."""
        return max(abs((self.cx + 0.5) / self.width - 0.5), abs((self.cy + 0.5) / self.height - 0.5))

    @property
    def matrix(self) -> np.ndarray:
        """3x3, pixels, float64."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, width: int, height: int) -> "Intrinsics":
        """The same camera after the image is resized, stretched where the shape is another one (`for_size` refuses
        that); pixel areas scale, so centres shift by half pixels."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(
            self.fx * sx,
            self.fy * sy,
            (self.cx + 0.5) * sx - 0.5,
            (self.cy + 0.5) * sy - 0.5,
            width,
            height,
            self.origin,
        )

    def for_size(self, width: int, height: int) -> "Intrinsics":
        """The same camera for its picture made smaller or larger as a whole. ValueError where the shape is another
        one (turned, cropped, padded, stretched; SAME_SHAPE says how much is rounding): what was done is not known."""
        if not self.has_shape(width, height):
            raise ValueError(
                f"intrinsics are for {self.width} x {self.height} pixels, the pictures have {width} x {height}: "
                "another shape. Give the intrinsics of the pictures as they are"
            )
        return self if (width, height) == (self.width, self.height) else self.resized(width, height)

    def has_shape(self, width: int, height: int) -> bool:
        """Whether pictures of this size are the camera's own made smaller or larger as a whole."""
        pixels, share = SAME_SHAPE
        wide, high = self.width * height / self.height, self.height * width / self.width
        return abs(width - wide) <= max(pixels, share * width) or abs(height - high) <= max(pixels, share * height)

    def turned(self, rotation: int, mirrored: bool = False) -> "Intrinsics":
        """The camera of pictures turned by `rotation` degrees counter-clockwise (a multiple of 90), then, where
        `mirrored`, flipped left to right: as `np.fliplr(np.rot90(picture, rotation // 90))`."""
        out = self
        for _ in range(rotation // 90 % 4):
            out = Intrinsics(out.fy, out.fx, out.cy, out.width - 1 - out.cx, out.height, out.width, out.origin)
        return replace(out, cx=out.width - 1 - out.cx) if mirrored else out

    def cropped(self, left: int, top: int, width: int, height: int) -> "Intrinsics":
        """The same camera after cutting (left, top, width, height) out; negative left or top is padding."""
        return replace(self, cx=self.cx - left, cy=self.cy - top, width=width, height=height)

    def contains(self, pixels: Array) -> Array:
        """Which of (..., 2) pixels fall on the image."""
        u, v = pixels[..., 0], pixels[..., 1]
        return (u >= -0.5) & (u < self.width - 0.5) & (v >= -0.5) & (v < self.height - 0.5)


def project(points_camera: Array, K: Array) -> Array:
    """Pixels (..., n, 2) of points (..., n, 3), metres, OpenCV camera frame, z > 0; K (..., 3, 3) pixels."""
    uvw = points_camera @ K.mT
    return uvw[..., :2] / uvw[..., 2:]


def unproject(pixels: np.ndarray, depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Points (..., n, 3) in the camera frame from pixels (..., n, 2) and depth z (..., n) in metres."""
    x = (pixels[..., 0] - K[..., 0, 2, None]) / K[..., 0, 0, None]
    y = (pixels[..., 1] - K[..., 1, 2, None]) / K[..., 1, 1, None]
    return np.stack([x * depth, y * depth, depth], -1)


def unproject_depth(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """The point map (..., H, W, 3) of a depth image (..., H, W): z in metres; K (3, 3) pixels."""
    height, width = depth.shape[-2:]
    u, v = np.arange(width, dtype=depth.dtype), np.arange(height, dtype=depth.dtype)[:, None]
    x, y = (u - K[0, 2]) / K[0, 0] * depth, (v - K[1, 2]) / K[1, 1] * depth
    return np.stack([x, y, depth], -1).astype(depth.dtype)
