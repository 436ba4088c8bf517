"""Changes of pictures that leave what is said about them true: colour, noise, compression, a small crop.

A crop is another field of view of the same camera: intrinsics change with it (`Change.intrinsics`), positions in the
camera's frame, and so words, distances and motion tokens, do not. Nothing is mirrored: left would be right.
"""

import io
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance

from vipa.geometry import Intrinsics

CROP = 0.1
"""Largest share of a picture's width and height that is cut away, at full strength."""
COLOUR = 0.3
"""Largest relative change of brightness, contrast and saturation."""
NOISE = 6.0
"""Largest standard deviation, of 255."""
QUALITY = 60
"""Worst JPEG."""


@dataclass(frozen=True)
class Change:
    """One draw, for all pictures of a clip or all views of an instant. crop: shares of width and height that are kept
    (the same of both), and of what is cut what lies left and above. colour: factors of brightness, contrast and
    saturation. noise: standard deviation, of 255. quality: of a JPEG. seed: of the noise."""

    keep: float
    left: float
    top: float
    colour: tuple[float, float, float]
    noise: float
    quality: int
    seed: int

    @classmethod
    def drawn(cls, strength: float, rng: np.random.Generator) -> "Change":
        """strength: 0 leaves everything as it is, 1 is the most."""
        colour = 1 + strength * COLOUR * rng.uniform(-1, 1, 3)
        return cls(
            keep=1 - strength * CROP * rng.random(),
            left=rng.random(),
            top=rng.random(),
            colour=(float(colour[0]), float(colour[1]), float(colour[2])),
            noise=strength * NOISE * rng.random(),
            quality=round(100 - strength * (100 - QUALITY) * rng.random()),
            seed=int(rng.integers(2**31)),
        )

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the crop, in whole pixels."""
        w, h = round(width * self.keep), round(height * self.keep)
        left, top = round((width - w) * self.left), round((height - h) * self.top)
        return left, top, left + w, top + h

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
        """The changed picture, as large as its crop."""
        picture = Image.fromarray(image)
        picture = picture.crop(self.box(*picture.size))
        for kind, factor in zip((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), self.colour):
            picture = kind(picture).enhance(factor)
        pixels = np.asarray(picture, np.float32)
        noise = np.random.default_rng(self.seed).normal(size=pixels.shape).astype(np.float32)
        picture = Image.fromarray(np.clip(pixels + self.noise * noise, 0, 255).round().astype(np.uint8))
        if self.quality < 100:
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=self.quality)
            picture = Image.open(file)
        return np.asarray(picture.convert("RGB"))

    def intrinsics(self, camera: Intrinsics) -> Intrinsics:
        """Of the changed picture."""
        left, top, right, bottom = self.box(camera.width, camera.height)
        return replace(camera, cx=camera.cx - left, cy=camera.cy - top, width=right - left, height=bottom - top)
