"""Stage `camera`: whether the camera of your own video moves, how it turns, and its field of view (docs/camera.md)."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec

import numpy as np

from vipa.clips.camera_motion import CameraMotion, check_poses, measure_motion
from vipa.clips.clip import Clip, ClipError, Hand
from vipa.clips.field_of_view import FieldOfView
from vipa.clips.focal_from_poses import view_from_poses
from vipa.clips.raw_video import TRACKED
from vipa.clips.sources import is_own_video
from vipa.hand3d.pipeline.draft import Draft, Measured
from vipa.io.store import StageOutput
from vipa.io.workers import WorkerEnded, Workers

NO_OPENCV = (
    "not measured: OpenCV is missing; install it with `pip install opencv-contrib-python` (the extra `video`)"
)
CALIBRATED = 0.005
"""Relative error of a calibrated focal length."""


def installed() -> bool:
    """Whether OpenCV is."""
    return find_spec("cv2") is not None


def unknown(clip: Clip) -> bool:
    """Whether nothing says how the camera moves, or through which field of view: of a user's own video."""
    return (clip.T_world_camera is None or is_guessed(clip)) and is_own_video(clip.source)


def is_guessed(clip: Clip) -> bool:
    """Whether its field of view is."""
    return clip.field_of_view is not None and clip.field_of_view.origin == "guessed"


def begin(clip: Clip, frames: Sequence[int], workers: Workers) -> Measured:
    """`measure` in a worker, before other tasks: who reads the clips ahead has seen this one."""
    return workers.submit(_timed, clip, frames, urgent=True)


def make(draft: Draft) -> StageOutput:
    """`measure`, here, or what a worker has measured."""
    if draft.measured is None:
        return measure(draft.clip, draft.frames.tolist())
    try:
        output, seconds = draft.measured.result()
    except WorkerEnded:
        raise ClipError(draft.clip.id, "the process that measured its camera ended (out of memory?)") from None
    draft.worker_seconds += seconds
    return output


def _timed(clip: Clip, frames: Sequence[int]) -> tuple[StageOutput, float]:
    start = time.process_time()
    return measure(clip, frames), time.process_time() - start


def measure(clip: Clip, frames: Sequence[int]) -> StageOutput:
    """The motion, with the sampled frames among its key frames, or of a clip with poses the field of view alone; no
    values without OpenCV."""
    if not installed():
        return StageOutput(None)
    if clip.T_world_camera is not None:
        fitted = view_from_poses(clip)
        return StageOutput({"field_of_view": None if fitted is None else asdict(fitted)})
    view = clip.field_of_view or FieldOfView.from_focal(
        clip.intrinsics.fx, CALIBRATED, clip.intrinsics.width, "calibrated"
    )
    motion = measure_motion(clip, view, frames)
    arrays = {name: value for name, value in vars(motion).items() if isinstance(value, np.ndarray)}
    seen = None if motion.field_of_view is None else asdict(motion.field_of_view)
    return StageOutput({"moving": motion.moving, "field_of_view": seen}, arrays)


def take(draft: Draft, output: StageOutput | None) -> None:
    """A still camera gives the clip poses; the turns of a moving one are kept beside it. A guessed field of view is
    replaced by what the pictures tell of it."""
    if output is None:
        return
    clip = draft.clip
    if output.values is None:
        if clip.T_world_camera is None:
            draft.clip = replace(clip, notes=clip.notes | {"camera": NO_OPENCV})
        return
    seen = output.values["field_of_view"]
    view = None if seen is None else FieldOfView(**seen)
    if clip.T_world_camera is not None:
        draft.clip = clip if view is None else with_view(clip, view)
        return
    motion = CameraMotion(
        moving=output.values["moving"],
        field_of_view=view,
        **{name: np.asarray(array) for name, array in output.arrays.items()},
    )
    clip = replace(clip, notes=clip.notes | {"camera": str(motion)})
    if motion.moving is False:
        clip = replace(clip, T_world_camera=np.repeat(np.eye(4)[None], len(clip), 0))
    elif view is not None and is_guessed(clip):
        clip = with_view(clip, view)
    draft.clip, draft.camera = clip, motion


def with_view(clip: Clip, view: FieldOfView) -> Clip:
    """Seen through another field of view. Hands that a tracker placed by their size in the picture stay on their
    pixels and are as much farther away as the focal length is longer; hands given in metres stay where they are."""
    camera = view.intrinsics(clip.intrinsics.width, clip.intrinsics.height)
    longer = camera.fx / clip.intrinsics.fx
    tracked = clip.notes.get("hands", "").startswith(TRACKED)
    hands = tuple(replace(h, joints_camera=farther(h, longer)) for h in clip.hands) if tracked else clip.hands
    notes = clip.notes | {"field of view": str(view)}
    return replace(clip, intrinsics=camera, field_of_view=view, hands=hands, notes=notes)


def farther(hand: Hand, factor: float) -> np.ndarray:
    """(frames, 21, 3) joints of the same pixels under a focal length longer by `factor`: the wrist's distance is
    multiplied by it, the hand's own depth stays."""
    joints = hand.joints_camera
    depth = joints[..., 2:]
    moved = depth + (factor - 1) * depth[:, :1]
    return np.concatenate([joints[..., :2] * moved / (factor * depth), moved], -1)


def disagrees(draft: Draft, T_world_camera: np.ndarray) -> str | None:
    """Why the poses (n, 4, 4) of a network at the sampled frames are refused: they turn otherwise than the pictures."""
    if draft.camera is None:
        return None
    poses = np.full((len(draft.clip), 4, 4), np.nan)
    poses[draft.frames] = T_world_camera
    try:
        check_poses(draft.clip.id, poses, draft.camera)
    except ClipError as error:
        return error.reason
    return None
