"""Stage `objects`: camera poses, objects and hands at the sampled frames, in metres."""

from dataclasses import replace

import numpy as np

from vipa.hand3d.measure.localise import locate_objects
from vipa.hand3d.measure.positions import LocatedObject, from_poses
from vipa.hand3d.measure.relating import ClipGeometry
from vipa.hand3d.measure.visibility import Sight
from vipa.hand3d.measure.wrists import LocatedHand, locate_hands, wrist_path
from vipa.hand3d.pipeline.draft import Draft
from vipa.hand3d.pipeline.stage_camera import disagrees
from vipa.io.store import StageOutput

MAP_ERROR = 0.05
"""Relative error of a network's depth, beyond that of its unit, that hides nothing."""


def make(draft: Draft) -> StageOutput:
    """name, method and extent of each object; arrays of objects by number, of hands by side; poses, where known."""
    (poses, error), sight = camera_poses(draft), sight_of(draft)
    objects = located_objects(draft, poses, sight)
    arrays: dict[str, np.ndarray] = {} if poses is None else {"poses": poses}
    arrays |= {} if error is None else {"turn_error": error}
    for i, thing in enumerate(objects):
        arrays |= {f"{i}_centres": thing.centres, f"{i}_boxes": thing.boxes, f"{i}_confidence": thing.confidence}
    for hand in locate_hands(draft.clip, sight, draft.config.hands):
        of_hand = {"wrists": hand.wrists, "confidence": hand.confidence, "reasons": hand.reasons}
        arrays |= {f"{hand.side}_{name}": array for name, array in of_hand.items()}
    extents = [None if o.extent is None else list(map(float, o.extent)) for o in objects]
    values = [{"name": o.name, "method": o.method, "extent": extent} for o, extent in zip(objects, extents)]
    return StageOutput(values, arrays)


def take(draft: Draft, output: StageOutput | None) -> None:
    """The clip's geometry; the believed wrists of all frames are found again from the clip."""
    assert output is not None
    a, clip = output.arrays, draft.clip
    objects = tuple(
        LocatedObject(
            v["name"],
            a[f"{i}_centres"],
            a[f"{i}_boxes"],
            a[f"{i}_confidence"],
            None if v["extent"] is None else np.array(v["extent"]),
            v["method"],
        )
        for i, v in enumerate(output.values)
    )
    hands = tuple(
        LocatedHand(
            hand.side,
            a[f"{hand.side}_wrists"],
            a[f"{hand.side}_confidence"],
            a[f"{hand.side}_reasons"],
            wrist_path(clip, hand, draft.config.hands),
        )
        for hand in clip.hands
    )
    draft.geometry = ClipGeometry(
        draft.frames, a.get("poses"), objects, hands, a.get("turn_error"), draft.distance_error
    )
    if why := refused_poses(draft):
        draft.clip = replace(clip, notes=clip.notes | {"camera poses": why})


def camera_poses(draft: Draft) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(poses at the sampled frames, errors of the turns between them, where the pictures say them): the clip's, else
    those that came with the point map, in metres, else turns alone, as the pictures show them."""
    if draft.clip.T_world_camera is not None:
        return draft.clip.T_world_camera[draft.frames], None
    maps = draft.maps()
    if maps is not None and maps.T_world_camera is not None and not refused_poses(draft):
        assert draft.scale is not None
        poses = maps.T_world_camera.copy()
        poses[:, :3, 3] *= draft.scale.scale
        return poses, None
    camera = draft.camera
    if camera is None or not camera.moving:
        return None, None
    rows = np.searchsorted(camera.frames, draft.frames)
    return camera.poses(draft.frames.tolist()), camera.error[np.ix_(rows, rows)]


def refused_poses(draft: Draft) -> str | None:
    """Why the poses that came with the point map are not used: the pictures show that the camera turned otherwise."""
    if draft.camera is None or draft.clip.T_world_camera is not None or not draft.estimators.points.cached:
        return None
    maps = draft.maps()
    return None if maps is None or maps.T_world_camera is None else disagrees(draft, maps.T_world_camera)


def sight_of(draft: Draft) -> Sight:
    """With the depth that the clip has in metres, or that of a calibrated map where one was needed anyway."""
    clip, frames, scale = draft.clip, draft.frames.tolist(), draft.scale
    maps = draft.maps() if draft.needs_points else None
    if maps is None or scale is None or (clip.depth is not None and clip.depth_is_metric):
        return Sight(clip, frames)
    width = 0.0 if scale.low is None or scale.high is None else scale.high - scale.low
    unsure = MAP_ERROR + width / 2 / scale.scale
    return Sight(clip, frames, lambda i: maps.depth[i] * scale.scale, unsure)


def located_objects(draft: Draft, poses: np.ndarray | None, sight: Sight) -> tuple[LocatedObject, ...]:
    """Those whose poses the clip has, then those found in their boxes of the point map."""
    clip, config, names = draft.clip, draft.config.objects, draft.unplaced
    found = [] if config.positions == "points" else from_poses(clip, sight, config.confidence)
    maps = draft.maps() if names else None
    if maps is not None and draft.scale is not None:
        boxes, scores = draft.estimators.boxes(clip, draft.frames.tolist(), names)
        found += locate_objects(clip, maps, draft.scale, names, boxes, scores, poses, config.confidence)
    return tuple(found)
