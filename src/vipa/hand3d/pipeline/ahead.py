"""Cameras of the clips that come next, measured in worker processes while earlier clips are annotated."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vipa.clips.clip import Clip, ClipError
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.estimators.base import Estimators, sample_frames
from vipa.hand3d.pipeline import stage_camera
from vipa.hand3d.pipeline.draft import Measured
from vipa.hand3d.pipeline.table import stage_keys
from vipa.hand3d.pipeline.work import clip_folder
from vipa.io.child_process import cores
from vipa.io.store import ClipStore
from vipa.io.workers import shared_workers

AHEAD = 2
"""Clips for each core that are read before they are asked for, where their cameras are to be measured."""


@dataclass
class _Read:
    clip: Clip | ClipError
    wanted: bool  # its camera
    camera: Measured | None = None


def with_cameras(
    clips: Iterable[Clip | ClipError], out: Path, config: AnnotateConfig, estimators: Estimators
) -> Iterator[tuple[Clip | ClipError, Measured | None]]:
    """Each clip, and its camera where a worker measures it: not on one core, and not of a clip that comes alone. Where
    a camera need not be measured, the next clip is not read before it is asked for."""
    source, size, workers = iter(clips), cores(), None
    read: deque[_Read] = deque()
    try:
        while True:
            while not read or (size > 1 and read[-1].wanted and len(read) < AHEAD * size):
                if (clip := next(source, None)) is None:
                    break
                read.append(_Read(clip, size > 1 and _is_wanted(clip, out, config, estimators)))
                if len(read) > 1 and workers is None:
                    workers = shared_workers(size)
                for each in read:
                    if workers is not None and each.wanted and each.camera is None:
                        assert isinstance(each.clip, Clip)
                        frames = sample_frames(each.clip, config.frames.rate)
                        each.camera = stage_camera.begin(each.clip, frames.tolist(), workers)
            if not read:
                return
            first = read.popleft()
            yield first.clip, first.camera
    finally:
        for each in read:
            if each.camera is not None:
                each.camera.cancel()


def _is_wanted(clip: Clip | ClipError, out: Path, config: AnnotateConfig, estimators: Estimators) -> bool:
    """Whether no earlier run has measured it. What is wrong with the clip is said when it is annotated."""
    if isinstance(clip, ClipError) or not (stage_camera.unknown(clip) and stage_camera.installed()):
        return False
    try:
        key = stage_keys(clip, config, estimators, "camera")["camera"]
    except Exception:
        return False
    return ClipStore(clip_folder(out, clip)).read("camera", key) is None
