"""Stage `frames`: the images that questions and motions show, encoded, and what is known of each."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vipa.clips.clip import Clip
from vipa.geometry import Intrinsics
from vipa.hand3d.config import FramesConfig
from vipa.hand3d.dataset.image_store import pack_images
from vipa.hand3d.dataset.records import FrameRecord, make_row
from vipa.hand3d.pipeline.draft import Draft
from vipa.hands.skeleton import Side
from vipa.io.store import StageOutput

AT_ONCE = 16
"""Images decoded together: a video's key frames are then gone back to less often."""


def make(draft: Draft) -> StageOutput:
    """Rows of the table `frames` (all but split) and the encoded images, of the sampled and the observation frames."""
    clip, config = draft.clip, draft.config.frames
    observed = {int(row["frame_id"].rsplit("/", 1)[1]) for row in draft.motions["rows"]}
    sampled = {int(frame): i for i, frame in enumerate(draft.frames)}
    stored = clip.intrinsics.resized(*(config.size or (clip.intrinsics.width, clip.intrinsics.height)))
    rows, images = [], []
    for frame, pixels in read(clip, sorted(sampled.keys() | observed)):
        images.append(encode(pixels, (stored.width, stored.height), config))
        rows.append(make_row(FrameRecord, Shown(draft, frame, sampled.get(frame), stored)))
    return pack_images(rows, images)


def take(draft: Draft, output: StageOutput | None) -> None:
    """Nothing is built on it: the tables read its file."""


def read(clip: Clip, frames: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(frame, its image)."""
    for start in range(0, len(frames), AT_ONCE):
        yield from zip(frames[start : start + AT_ONCE], clip.frames.read(frames[start : start + AT_ONCE]))


def encode(pixels: np.ndarray, size: tuple[int, int], config: FramesConfig) -> bytes:
    """RGB (height, width, 3) as an image file of (width, height)."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    if image.size != size:
        image = image.resize(size, Image.Resampling.BOX, reducing_gap=None)
    image.save(file, config.format, **({"quality": config.quality} if config.format == "jpeg" else {}))
    return file.getvalue()


@dataclass(frozen=True)
class Shown:
    """What a `FrameRecord` is made from. i: the sample that the frame is, if any; stored: of the stored image."""

    draft: Draft
    frame: int
    i: int | None
    stored: Intrinsics

    @property
    def id(self) -> str:
        return self.draft.frame_id(self.frame)

    @property
    def time(self) -> float:
        times = self.draft.clip.timestamps
        return float(times[self.frame] - times[0])

    @property
    def intrinsics(self) -> list[float]:
        c = self.stored
        return [c.fx, c.fy, c.cx, c.cy, c.width, c.height]

    @property
    def pose(self) -> np.ndarray | None:
        """(16,) camera to world."""
        poses, row = self.draft.placed.T_world_camera, self.i
        if self.draft.clip.T_world_camera is not None:
            poses, row = self.draft.clip.T_world_camera, self.frame
        if poses is None or row is None or not np.isfinite(poses[row]).all():
            return None  # also where only the turn is known
        return poses[row].ravel()

    def joints(self, side: Side) -> np.ndarray | None:
        """(63,) of the hand of this side."""
        hand = self.draft.clip.hand(side)
        return None if hand is None else hand.joints_camera[self.frame].ravel()

    @property
    def objects(self) -> list[dict[str, Any]]:
        camera, i = self.draft.clip.intrinsics, self.i
        if i is None:
            return []
        factor = np.array([self.stored.width / camera.width, self.stored.height / camera.height] * 2)
        return [
            {
                "name": o.name,
                "centre": o.centres[i].tolist(),
                "box": ((o.boxes[i] + 0.5) * factor - 0.5).tolist(),
                "confidence": float(o.confidence[i]),
            }
            for o in self.draft.placed.objects
        ]
