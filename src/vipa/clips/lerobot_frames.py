"""The pictures of a LeRobot episode's rows, from a video by time or from a column of images."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from PIL import Image

from vipa.clips.video import VideoFrames
from vipa.io.frame_times import VideoPart, paired
from vipa.io.lerobot_layout import LeRobotSet


@dataclass(frozen=True)
class EncodedFrames:
    """PNG or JPEG images, read and decoded when asked for. load: gives the list of files' bytes."""

    count: int
    load: Callable[[], list[bytes]]

    def __len__(self) -> int:
        return self.count

    @cached_property
    def _encoded(self) -> list[bytes]:
        return self.load()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels of the first image."""
        return Image.open(io.BytesIO(self._encoded[0])).size

    def read(self, indices: Sequence[int]) -> np.ndarray:
        encoded = self._encoded
        return np.stack([np.asarray(Image.open(io.BytesIO(encoded[i])).convert("RGB")) for i in indices])


@dataclass(frozen=True)
class UnopenedVideo:
    """The frames of an episode's rows, found by time; the file is opened when a frame is read."""

    part: VideoPart
    times: tuple[float, ...]  # of the episode's rows
    rate: float
    rows: range  # of the episode's rows those that are read

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """RGB images (n, height, width, 3). ValueError where the file is broken, shorter or longer than its rows."""
        video, frames = self.opened
        return video.read([int(frames[self.rows[i]]) for i in indices])

    @cached_property
    def opened(self) -> tuple[VideoFrames, np.ndarray]:
        """The video, and the frame of each row of the episode. ValueError as `read`."""
        video = VideoFrames(self.part.path, stay_open=True)
        frames, beyond = paired(np.array(self.times), video, self.part, self.rate)
        if beyond:
            raise ValueError(f"{self.part.path}: {beyond}: rows and video do not belong together")
        return video, frames


def episode_frames(
    data: LeRobotSet, view: str, episode: int, times: np.ndarray, rows: range
) -> EncodedFrames | UnopenedVideo:
    """The pictures of these rows of an episode; times: of all its rows, seconds on any clock."""
    if data.kept_as(view) == "image":
        return EncodedFrames(len(rows), partial(_images, data, view, episode, rows))
    return UnopenedVideo(data.video(view, episode), tuple(times.tolist()), data.rate, rows)


def _images(data: LeRobotSet, view: str, episode: int, rows: range) -> list[bytes]:
    return data.images(view, episode)[rows.start : rows.stop]
