"""What a landmark tracker sees in videos: in pieces, side by side in worker processes, kept by the videos' content.

What is kept depends on no camera: another field of view finds it there. A run that is interrupted loses the pieces that
were being looked at.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import numpy as np

from vipa.clips.video import FrameSubset, VideoFrames
from vipa.hands.skeleton import Side
from vipa.hands.trackers import open_tracker, tracker_version
from vipa.hands.trackers.mediapipe import Landmarks, LandmarkTracker
from vipa.io.child_process import cores
from vipa.io.hashing import content_of
from vipa.io.store import ClipStore, StageOutput
from vipa.io.workers import WorkerEnded, Workers, shared_workers

VERSION = 1
PIECE = 300
"""Frames that a worker looks at in one go."""
WARM = 15
"""Frames before them that it sees too: a tracker in video mode knows a hand better after some frames."""
AHEAD = 3
"""Videos for each worker that are looked at before they are asked for."""

Seen = list[tuple[Landmarks, ...]]


class LandmarkFinder:
    """Finds the landmarks of videos, those that come next while the first are read.

    tracker: its name. model: its file. cache: folder for what is found. videos: all that will be asked for, in order.
    workers: processes; by default one a core. A single short video is looked at in this process.
    """

    def __init__(
        self,
        tracker: str,
        model: Path,
        cache: Path | None = None,
        videos: Sequence[Path] = (),
        workers: int | None = None,
    ):
        self.tracker, self.model, self.cache = tracker, model, cache
        self.videos = list(videos)
        self.workers = workers or cores()
        self.jobs: dict[Path, list[Future[StageOutput] | StageOutput]] = {}
        self.pool: Workers | None = None

    def __call__(self, path: Path) -> Seen:
        """The hands in every frame of a video. ValueError where it, or the model, cannot be read."""
        if path in self.videos:
            self.videos = self.videos[self.videos.index(path) + 1 :]
        try:
            pieces = self.jobs.pop(path, None) or self._begin(path, alone=not self.videos)
            self.jobs = {video: job for video, job in self.jobs.items() if video in self.videos}
            for ahead in self.videos[: AHEAD * self.workers] if self.workers > 1 else ():
                if ahead not in self.jobs:
                    with suppress(ValueError, OSError):  # said when it is asked for
                        self.jobs[ahead] = self._begin(ahead, alone=False)
            found = [piece if isinstance(piece, StageOutput) else piece.result() for piece in pieces]
        except WorkerEnded:
            raise ValueError(f"{path}: the process that looked for hands ended (out of memory?)") from None
        except KeyboardInterrupt:
            if self.pool is not None:
                self.pool.close()
                self.pool, self.jobs = None, {}
            raise
        return [hands for piece in found for hands in _unpack(piece)]

    def _begin(self, path: Path, alone: bool) -> list[Future[StageOutput] | StageOutput]:
        """Its pieces: found before, or on their way."""
        count = len(VideoFrames(path))
        starts = range(0, count, PIECE)
        here = self.workers == 1 or (alone and len(starts) == 1)
        folder = None if self.cache is None else Path(self.cache) / self.tracker / "seen" / content_of(path)
        kind = [VERSION, self.tracker, tracker_version(self.tracker), PIECE, WARM]
        key = content_of(kind) + content_of(self.model) + content_of(path)
        pieces: list[Future[StageOutput] | StageOutput] = []
        for start in starts:
            words = (self.tracker, self.model, path, start, min(start + PIECE, count), folder, key)
            kept = None if folder is None else ClipStore(folder).read(f"{start:08d}", key)
            pieces.append(kept or (_look(*words) if here else self._workers().submit(_look, *words)))
        return pieces

    def _workers(self) -> Workers:
        self.pool = shared_workers(self.workers)
        return self.pool


def _look(
    tracker: str, model: Path, path: Path, start: int, stop: int, folder: Path | None, key: str
) -> StageOutput:
    """What is seen in frames start ... stop, also written where it is kept."""
    opened, video = open_tracker(tracker, model), VideoFrames(path)
    assert isinstance(opened, LandmarkTracker)
    first = max(0, start - WARM)
    frames = range(first, stop)
    seen = opened.detect(FrameSubset(video, tuple(frames)), video.timestamps[first:stop])
    out = _pack(seen[start - first :])
    if folder is not None:
        ClipStore(folder).write(f"{start:08d}", key, out)
    return out


def _pack(seen: Seen) -> StageOutput:
    found = [(frame, hand) for frame, hands in enumerate(seen) for hand in hands]
    depths = [np.full(21, np.nan) if hand.depth is None else hand.depth for _, hand in found]
    arrays = {
        "frame": np.array([frame for frame, _ in found], np.int32),
        "right": np.array([hand.side == "right" for _, hand in found], np.bool_),
        "score": np.array([hand.side_confidence for _, hand in found], np.float32),
        "pixels": np.array([hand.pixels for _, hand in found], np.float32).reshape(-1, 21, 2),
        "metres": np.array([hand.metres for _, hand in found], np.float32).reshape(-1, 21, 3),
        "depth": np.array(depths, np.float32).reshape(-1, 21),
    }
    return StageOutput(len(seen), arrays)


def _unpack(piece: StageOutput) -> Seen:
    out: list[list[Landmarks]] = [[] for _ in range(piece.values)]
    a = {name: array.astype(np.float64) for name, array in piece.arrays.items()}
    for frame, right, score, pixels, metres, depth in zip(
        piece.arrays["frame"], a["right"], a["score"], a["pixels"], a["metres"], a["depth"]
    ):
        side: Side = "right" if right else "left"
        known = depth if np.isfinite(depth).all() else None
        out[frame].append(Landmarks(side, float(score), pixels, metres, known))
    return [tuple(hands) for hands in out]
