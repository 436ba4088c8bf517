"""Pictures for people: hands, boxes, depth and trajectories drawn on enlarged frames; short videos.

Images are (height, width, 3) uint8 RGB; pixel coordinates are those of the frame before it is enlarged.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vipa.geometry import Intrinsics, project
from vipa.hands.skeleton import BONES, FINGERS
from vipa.io.files import whole_file
from vipa.io.video_writer import write_video

FINGER_COLOURS = dict(zip(FINGERS, ["#ff5a4f", "#ffb02e", "#3ecf6a", "#2fa8ff", "#b07bff"]))
SIDE_COLOURS = {"left": "#2fa8ff", "right": "#ff8a3d"}
TRUTH_COLOUR = "#2bd38a"
BOX_COLOURS = ["#ffd23f", "#4fd6ff", "#ff7ac8", "#9dff6b", "#ffa15c", "#c2a8ff"]
FAR = 1e5
"""Pixels from the corner beyond which nothing is drawn: a point beside the lens is thrown anywhere."""


class Canvas:
    """An enlarged frame to draw on.

    image: (height, width, 3) uint8. scale: how many times larger the picture is (whole pixels are kept). intrinsics:
    of the frame, needed where points in metres are drawn.
    """

    def __init__(self, image: np.ndarray, scale: float = 4, intrinsics: Intrinsics | None = None):
        height, width = image.shape[:2]
        self.scale, self.intrinsics = scale, intrinsics
        size = max(1, round(width * scale)), max(1, round(height * scale))
        self.picture = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
        self._draw = ImageDraw.Draw(self.picture, "RGBA")
        self._line = max(2, round(self.picture.width / 130))

    def at(self, pixels: np.ndarray) -> list[tuple[float, float]]:
        """Where (n, 2) pixels of the frame are in the picture."""
        moved = (np.asarray(pixels, dtype=float).reshape(-1, 2) + 0.5) * self.scale - 0.5
        return [(float(u), float(v)) for u, v in moved]

    def seen_from(self, points_camera: np.ndarray) -> list[tuple[float, float] | None]:
        """Where (n, 3) points in metres, camera frame, are in the picture; None for one that is unknown or not in
        front of the camera."""
        assert self.intrinsics is not None, "points in metres need intrinsics"
        points = np.asarray(points_camera, dtype=float).reshape(-1, 3)
        seen = np.isfinite(points).all(-1) & (points[:, 2] > 1e-3)
        spots = self.at(project(np.where(seen[:, None], points, [0.0, 0.0, 1.0]), self.intrinsics.matrix))
        return [spot if known and np.abs(spot).max() < FAR else None for spot, known in zip(spots, seen)]

    def hand(self, joints_camera: np.ndarray, colour: str | None = None) -> "Canvas":
        """What is known of the 21 joints (21, 3), metres, camera frame; a colour per finger where none is given."""
        spots, line = self.seen_from(joints_camera), self._line
        colours = [
            colour or "#ffffff",
            *(colour or FINGER_COLOURS[finger] for finger in FINGERS for _ in range(4)),
        ]
        for parent, child in BONES:
            self._line_between(spots[parent], spots[child], colours[child])
        for i, spot in enumerate(spots):
            self._dot(spot, line * (1.2 if i == 0 else 0.8), colours[i])
        return self

    def boxes(self, named: Iterable[tuple[str, np.ndarray]]) -> "Canvas":
        """Boxes (left, top, right, bottom) in pixels with their names; NaN boxes are left out."""
        letters = font(max(10, self.picture.width // 34))
        for i, (name, box) in enumerate(named):
            if not np.isfinite(box).all():
                continue
            colour = BOX_COLOURS[i % len(BOX_COLOURS)]
            (left, top), (right, bottom) = self.at(np.asarray(box).reshape(2, 2))
            self._draw.rectangle([left, top, right, bottom], outline=colour, width=max(2, self._line - 1))
            text = self._draw.textbbox((0, 0), name, font=letters)
            width, height = text[2] + 6, text[3] + 4
            x = min(max(left, 0), self.picture.width - width)
            y = top - height if top - height >= 0 else min(bottom, self.picture.height - height)
            self._draw.rectangle([x, y, x + width, y + height], fill=colour)
            self._draw.text((x + 3, y + 1), name, fill="#111111", font=letters)
        return self

    def path(self, points_camera: np.ndarray, colour: str, dashed: bool = False) -> "Canvas":
        """A trajectory (n, 3), metres, camera frame, from a small dot to a large one."""
        spots = self.seen_from(points_camera)
        line = self._line
        for i, (a, b) in enumerate(pairwise(spots)):
            if not dashed or i % 2 == 0:
                self._line_between(a, b, colour)
        for i, spot in enumerate(spots):
            self._dot(spot, line * (0.9 if i < len(spots) - 1 else 1.7), colour)
        return self

    def arrow(self, start_camera: np.ndarray, end_camera: np.ndarray, colour: str = "#ffffff") -> "Canvas":
        """From one point (3,) to another, metres, camera frame."""
        start, end = self.seen_from(np.stack([start_camera, end_camera]))
        if start is not None and end is not None:
            self._line_between(start, end, colour)
            (x1, y1), (x2, y2) = start, end
            angle, size = np.arctan2(y2 - y1, x2 - x1), 5.0 * self._line
            wings = [(x2 - size * np.cos(angle + t), y2 - size * np.sin(angle + t)) for t in (-0.45, 0.45)]
            self._draw.polygon([(x2, y2), *wings], fill=colour)
        return self

    def label(self, text: str) -> "Canvas":
        """Words in the lower left corner."""
        letters = font(max(12, self.picture.width // 26))
        box = self._draw.textbbox((0, 0), text, font=letters)
        height = self.picture.height
        self._draw.rectangle([0, height - box[3] - 8, box[2] + 10, height], fill=(0, 0, 0, 150))
        self._draw.text((5, height - box[3] - 5), text, fill="#ffffff", font=letters)
        return self

    @property
    def array(self) -> np.ndarray:
        return np.asarray(self.picture.convert("RGB"))

    def _line_between(self, a: tuple[float, float] | None, b: tuple[float, float] | None, colour: str) -> None:
        if a is not None and b is not None:
            self._draw.line([a, b], fill=colour, width=self._line)

    def _dot(self, spot: tuple[float, float] | None, radius: float, colour: str) -> None:
        if spot is None:
            return
        x, y = spot
        box = [x - radius, y - radius, x + radius, y + radius]
        self._draw.ellipse(box, fill=colour, outline="#00000080")


def depth_colours(depth: np.ndarray, near: float | None = None, far: float | None = None) -> np.ndarray:
    """(H, W) metres -> (H, W, 3) uint8: near is bright, far is dark, unknown (NaN) is grey.

    near, far: metres at the ends of the colours; by default the 2nd and 98th percentile.
    """
    import matplotlib

    known = depth[np.isfinite(depth)]
    if known.size == 0:
        return np.full((*depth.shape, 3), 90, np.uint8)
    near = float(np.quantile(known, 0.02)) if near is None else near
    far = float(np.quantile(known, 0.98)) if far is None else far
    share = np.clip((depth - near) / max(far - near, 1e-6), 0, 1)
    colours = (matplotlib.colormaps["turbo"](1 - np.nan_to_num(share))[..., :3] * 255).astype(np.uint8)
    colours[~np.isfinite(depth)] = 90
    return colours


def side_by_side(pictures: Sequence[np.ndarray], gap: int = 6) -> np.ndarray:
    """Pictures of equal height in one row, white between them."""
    height = pictures[0].shape[0]
    space = np.full((height, gap, 3), 255, np.uint8)
    return np.concatenate([part for p in pictures for part in (space, p)][1:], axis=1)


def save_image(image: np.ndarray, path: Path) -> Path:
    """JPEG or PNG by the path's ending, whole or not at all."""
    with whole_file(path) as beside:
        Image.fromarray(image).save(beside, Image.registered_extensions()[path.suffix.lower()], quality=88)
    return path


def save_video(images: Iterable[np.ndarray], path: Path, rate: float) -> Path:
    """H.264 mp4 that browsers play (yuv420p, index in front). Sizes must be even and equal."""
    return write_video(path, images, rate, {"crf": "24", "preset": "veryfast"}, index=True)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """matplotlib's bold sans serif, which is there wherever this package is."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf"), size)
