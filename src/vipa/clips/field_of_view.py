"""The field of view of a video, how well it is known, and from where: given, its file's metadata, or a guess."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vipa.clips.camera_metadata import CameraMetadata
from vipa.geometry import Intrinsics
from vipa.geometry.cameras import IntrinsicsOrigin

TABLE = Path(__file__).with_name("cameras.toml")
HALF_DIAGONAL = 43.27 / 2
"""Millimetres, of the 36 x 24 mm picture that equivalent focal lengths are of."""


@dataclass(frozen=True)
class FieldOfView:
    """Horizontal, degrees, of the pictures as shown; low ... high holds it with 95 %. origin: where it is from, in
    words for records: "given", "metadata: iPhone 13, 26 mm", "guessed"."""

    degrees: float
    low: float
    high: float
    origin: str

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.degrees <= self.high < 180:
            raise ValueError(
                f"field of view: {self.low:g} <= {self.degrees:g} <= {self.high:g} degrees are needed"
            )

    @property
    def focal_error(self) -> float:
        """Relative standard deviation of the focal length."""
        return float(np.log(_tan(self.high) / _tan(self.low)) / (2 * 1.96))

    def intrinsics(self, width: int, height: int) -> Intrinsics:
        """Square pixels, the principal point in the middle."""
        start = self.origin.split(":")[0]
        kind: IntrinsicsOrigin = start if start in ("metadata", "guessed") else "estimated"
        return Intrinsics.from_fov(np.radians(self.degrees), width, height, kind)

    def __str__(self) -> str:
        return f"{self.degrees:.1f} degrees ({self.low:.0f} to {self.high:.0f}), {self.origin}"

    @classmethod
    def from_focal(cls, focal: float, error: float, width: int, origin: str) -> "FieldOfView":
        """focal: pixels of a picture `width` pixels wide; error: its relative standard deviation."""
        far = np.exp(1.96 * error)
        low, degrees, high = (2 * np.degrees(np.arctan(width / 2 / focal * k)) for k in (1 / far, 1.0, far))
        return cls(float(degrees), float(low), float(high), origin)


def given(degrees: float) -> FieldOfView:
    """As a user gives it: data sheets and readers of calibrations round, and lenses are no pinholes: 2 % of the focal
    length."""
    return _spread(degrees, 0.02, "given")


def guessed(size: tuple[int, int]) -> FieldOfView:
    """Of a camera that nothing is known of. Most are between a phone's stabilised 45 degrees along the longer side and
    a head camera's 115."""
    return _along(75.0, 45.0, 115.0, size, "guessed")


def from_metadata(metadata: CameraMetadata, size: tuple[int, int]) -> FieldOfView | None:
    """What a video's own metadata tell, by the table of cameras; None where they tell nothing.

    size: (width, height) of the pictures as shown. An equivalent focal length of the file's own counts before the
    table's, and the camera's own field of view (GoPro's) before both.
    """
    row = next((row for row in cameras() if _matches(row, metadata)), None)
    name = metadata.model or (row or {}).get("name", "camera")
    if metadata.diagonal_degrees is not None:
        lens = metadata.lens_mode or "lens"
        rectilinear = metadata.lens_mode in (None, "linear")
        error = 0.03 if rectilinear else 0.2  # a fisheye is no pinhole: its middle and its edges differ
        return _spread(_from_diagonal(metadata.diagonal_degrees, size), error, f"metadata: {name}, {lens}")
    if metadata.focal_35mm is not None:
        width = 36.0 if row is not None and row.get("native") == "3:2" else 0.8 * 2 * HALF_DIAGONAL
        return _from_equivalent(metadata.focal_35mm, width, (1.0, 1.08), size, f"metadata: {name}, {{:g}} mm")
    if row is None:
        return None
    if "degrees" in row:
        low, middle, high = row["degrees"]
        return _along(middle, low, high, size, f"metadata: {row.get('name', name)}")
    lens = "front" if metadata.front and "front" in row else "main"
    return _from_equivalent(
        row[lens], 0.8 * 2 * HALF_DIAGONAL, (1.0, row.get("crop", 1.25)), size, f"metadata: {name}, {lens} camera"
    )


def from_points(points: Float[np.ndarray, "frames height width 3"], width: int, origin: str) -> FieldOfView:
    """Of the pictures from point maps that a network made of them (each in its frame's own camera, any unit): their
    common focal length, its interval from how far the frames disagree, and 3 % that no number of frames tells.
    ValueError where no point lies in front of the camera."""
    import torch

    from vipa.models.cut3r.readout import estimate_focal

    focal = estimate_focal(torch.from_numpy(np.ascontiguousarray(points))).double().numpy()
    middle = float(np.median(focal))
    spread = 1.4826 * float(np.median(np.abs(np.log(focal / middle))))
    return FieldOfView.from_focal(middle * width / points.shape[2], float(np.hypot(spread, 0.03)), width, origin)


@cache
def cameras() -> tuple[dict, ...]:
    """The rows of the table, in order: the first that matches counts."""
    return tuple(tomllib.loads(TABLE.read_text(encoding="utf-8"))["camera"])


def _matches(row: dict, metadata: CameraMetadata) -> bool:
    def holds(words: list[str], text: str | None) -> bool:
        return any(word.lower() in (text or "").lower() for word in words)

    return ("model" in row and holds(row["model"], metadata.model)) or (
        "model" not in row and holds(row["make"], metadata.make)
    )


def _from_equivalent(
    focal: float, width: float, crop: tuple[float, float], size: tuple[int, int], origin: str
) -> FieldOfView:
    """focal: millimetres; width: of the picture, along its longer side, that the focal length is of; crop: least and
    largest factor by which the video shows less than that (its stabiliser's margin)."""
    tangents = (width / 2 / focal / k for k in (crop[1] * 1.05, np.sqrt(crop[0] * crop[1]), crop[0] / 1.05))
    low, middle, high = (float(2 * np.degrees(np.arctan(t))) for t in tangents)
    return _along(middle, low, high, size, origin.format(focal))


def _along(degrees: float, low: float, high: float, size: tuple[int, int], origin: str) -> FieldOfView:
    """From angles along the picture's longer side."""
    share = size[0] / max(size)
    out = (float(2 * np.degrees(np.arctan(_tan(d) * share))) for d in (degrees, low, high))
    return FieldOfView(*out, origin)


def _from_diagonal(degrees: float, size: tuple[int, int]) -> float:
    return float(2 * np.degrees(np.arctan(_tan(degrees) * size[0] / np.hypot(*size))))


def _spread(degrees: float, error: float, origin: str) -> FieldOfView:
    return FieldOfView.from_focal(1 / (2 * _tan(degrees)), error, 1, origin)


def _tan(degrees: float) -> float:
    return float(np.tan(np.radians(degrees) / 2))
