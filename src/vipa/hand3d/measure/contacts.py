"""Which hand holds or pushes which object and when, from the poses of both, where a clip has no contacts of its own.

How near a joint is to a surface tells little: joints lie inside the flesh, meshes are millimetres off, and a hand
that hovers is as near as one that touches. What is held moves with the hand that holds it. So a hand touches an
object around each stretch in which the two move together, from when the fingers came to where they hold it until they
leave; a hand that is near and never moves with the object may touch it or not: that is not known.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import KDTree

from vipa.clips.clip import Clip, Hand, ObjectTrack
from vipa.geometry import invert, transform
from vipa.hand3d.config import ContactsConfig
from vipa.hand3d.measure.paths import bridged, smoothed, speeds, true_runs
from vipa.hands.skeleton import Side

Contacts = dict[tuple[Side, str], Float[np.ndarray, "frames"]]
"""By hand and object: 1 touches, 0 does not, NaN not known."""

HOLDING = 3
"""Of a hand's finger joints, those nearest to the object tell how it moves against it."""


def contacts_from_geometry(clip: Clip, config: ContactsConfig) -> Contacts | None:
    """Of every hand with every object that has poses and a shape; None where no such pair is there."""
    if clip.T_world_camera is None:
        return None
    found: Contacts = {}
    for track in clip.objects or ():
        if track.T_world_object is None or (track.surface is None and track.extent is None):
            continue
        for hand in clip.hands:
            touch = np.stack([touches(clip, hand, part, config) for part in rigid_parts(track)])
            unknown = np.isnan(touch).any(0) & ~(touch == 1).any(0)
            found[hand.side, track.name] = np.where(unknown, np.nan, (touch == 1).any(0))
    return found or None


def rigid_parts(track: ObjectTrack) -> tuple[ObjectTrack, ...]:
    """What of an object moves as one: all of it, or the two sides of its hinge, each with its own poses."""
    if track.surface is None or track.moving is None or track.T_object_moving is None:
        return (track,)
    assert track.T_world_object is not None
    turned = track.T_world_object @ track.T_object_moving
    return (
        replace(track, surface=track.surface[~track.moving]),
        replace(track, surface=track.surface[track.moving], T_world_object=turned),
    )


def touches(clip: Clip, hand: Hand, track: ObjectTrack, config: ContactsConfig) -> Float[np.ndarray, "frames"]:
    """1 where the hand holds or pushes the object, 0 where it does not, NaN where that is not known."""
    assert clip.T_world_camera is not None
    assert track.T_world_object is not None
    joints = np.where(hand.confidence[..., None] > config.joint_confidence, hand.joints_camera, np.nan)[:, 1:]
    times = clip.timestamps
    world = bridged(transform(clip.T_world_camera, joints), times, config.gap)
    local = bridged(transform(invert(track.T_world_object), world), times, config.gap)
    known = np.isfinite(local).all(-1)
    distance = np.where(known, surface_distance(np.nan_to_num(local), track), np.inf)
    settled = smoothed(local, times, config.smoothing)
    nearest = np.argsort(distance, axis=1)[:, :HOLDING]
    in_world, against = (
        np.take_along_axis(speeds(path, times, config.smoothing), nearest, 1).mean(1) for path in (world, local)
    )
    near, gone = distance.min(1) < config.near, distance.min(1) >= config.far
    together = near & (in_world > config.moving) & (against < config.slip * in_world)
    touch = np.where(known.any(-1), 0.0, np.nan)
    for start, stop in _stays(near, gone):
        inside = slice(start, stop)
        moves = start + np.flatnonzero(together[inside])
        if len(moves) < 2 or times[moves[-1]] - times[moves[0]] < config.shortest:
            touch[inside] = np.where(near[inside], np.nan, touch[inside])
            continue
        first = _held_from(settled, distance, int(moves[0]), start - 1, config)
        last = _held_from(settled, distance, int(moves[-1]), stop, config)
        unsure = (times < times[first] - config.closing) | (times > times[last] + config.closing)
        touch[inside] = np.where(near[inside] & unsure[inside], np.nan, touch[inside])
        touch[first : last + 1] = 1.0
    return touch


def surface_distance(points: Float[np.ndarray, "*b 3"], track: ObjectTrack) -> Float[np.ndarray, "*b"]:
    """Metres from points in the object's frame to its surface; without one to the box of its extent, 0 inside."""
    if track.surface is not None:
        return KDTree(track.surface).query(points)[0]
    assert track.extent is not None
    centre = 0.0 if track.centre is None else track.centre
    return np.linalg.norm(np.maximum(np.abs(points - centre) - track.extent / 2, 0.0), axis=-1)


def _stays(near: Bool[np.ndarray, "frames"], gone: Bool[np.ndarray, "frames"]) -> Iterator[tuple[int, int]]:
    """(start, stop) of each stretch that is near somewhere and nowhere gone."""
    for start, stop in true_runs(~gone):
        inside = start + np.flatnonzero(near[start:stop])
        if len(inside):
            yield int(inside[0]), int(inside[-1]) + 1


def _held_from(
    local: Float[np.ndarray, "frames joints 3"], distance: np.ndarray, frame: int, end: int, config: ContactsConfig
) -> int:
    """The frame furthest from `frame` towards `end` (left out) up to which the fingers hold as they do at `frame`."""
    holding = np.argsort(distance[frame])[:HOLDING]
    step = 1 if end > frame else -1
    for k in range(frame + step, end, step):
        moved = np.linalg.norm(local[k, holding] - local[frame, holding], axis=-1).mean()
        if not moved < config.settled:
            return k - step
    return end - step
