"""From the geometry of a clip at its sampled frames to relations: what could be asked, all of it structured."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from vipa.clips.clip import Clip
from vipa.geometry import transform
from vipa.hand3d.config import RelationsConfig
from vipa.hand3d.measure.goals import TaskGoals
from vipa.hand3d.measure.positions import LocatedObject
from vipa.hand3d.measure.relations import AnyRelation, CameraMovement, Relation
from vipa.hand3d.measure.wrists import REASONS, LocatedHand
from vipa.hands.skeleton import Side
from vipa.io.hashing import digest

LEAD = 0.5
"""Seconds before a text begins at which its task can be asked about already."""


@dataclass(frozen=True)
class ClipGeometry:
    """Where everything is that the sampled frames show.

    T_world_camera: metres; None where camera poses are unknown; places are NaN where only rotations are known.
    distance_error: share of a hand's distance from which on its movements are believed (`trackers.distance_error`).
    turn_error: radians that the turn between two samples is off by at most, in 95 % of all cases; None where poses
    are believed as they are.
    """

    frames: Int[np.ndarray, "n"]
    T_world_camera: Float[np.ndarray, "n 4 4"] | None
    objects: tuple[LocatedObject, ...]
    hands: tuple[LocatedHand, ...]
    turn_error: Float[np.ndarray, "n n"] | None = None
    distance_error: float = 0.0

    def turned(self, start: int, end: int) -> bool:
        """Whether the turn between two samples is known."""
        return self.T_world_camera is not None and bool(
            np.isfinite(self.T_world_camera[[start, end], :3, :3]).all()
        )


@dataclass(frozen=True)
class Found:
    """A relation, the frames it is asked on (indices into the clip, in order), and its confidences."""

    relation: AnyRelation
    frames: tuple[int, ...]
    hand_confidence: float | None
    object_confidence: float | None


def find_relations(clip: Clip, geometry: ClipGeometry, config: RelationsConfig) -> list[Found]:
    """Every relation of the four categories that the clip supports, in a fixed order."""
    return [
        *spatial_relations(clip, geometry, config),
        *task_completions(clip, geometry, config),
        *hand_movements(clip, geometry, config),
        *camera_movements(clip, geometry, config),
    ]


def left_out(geometry: ClipGeometry) -> dict[str, int]:
    """Frames in which a hand or an object is not asked about, over all hands and objects, by reason."""
    counts: Counter[str] = Counter()
    for hand in geometry.hands:
        counts.update(f"hand {REASONS[reason]}" for reason in hand.reasons if reason)
        counts["hand lost between two frames"] += max(int(hand.path.stretch.max()), 0)
    for thing in geometry.objects:
        unseen = ~np.isfinite(thing.centres).all(-1)
        counts["object hidden or partly outside"] += int((unseen & (thing.confidence > 0)).sum())
        counts["object not seen"] += int((unseen & (thing.confidence == 0)).sum())
    return {reason: count for reason, count in counts.items() if count}


def spatial_relations(clip: Clip, geometry: ClipGeometry, config: RelationsConfig) -> list[Found]:
    """Each object from each hand in the last frame of a window; every frame of it shows both."""
    found = []
    for hand in geometry.hands:
        wrists = hand.wrists
        for thing in geometry.objects:
            seen = np.asarray(np.isfinite(wrists).all(-1) & np.isfinite(thing.centres).all(-1))
            for end in np.flatnonzero(seen):
                start = _window_start(clip, geometry, config, int(end), f"spatial {hand.side} {thing.name}", seen)
                frame = int(geometry.frames[end])
                displacement = _to_first(geometry, start, int(end)) @ (thing.centres[end] - wrists[end])
                relation = Relation(
                    "spatial_relation",
                    displacement,
                    hand.side,
                    thing.name,
                    contact=contact_at(clip, hand.side, thing.name, frame),
                    gamma=config.gamma,
                )
                found.append(
                    Found(
                        relation,
                        _frames(geometry, start, int(end)),
                        float(hand.confidence[end]),
                        float(thing.confidence[end]),
                    )
                )
    return found


def task_completions(clip: Clip, geometry: ClipGeometry, config: RelationsConfig) -> list[Found]:
    """Where a hand went from a window's last frame for its task (see `goals`). Every frame shows the hand, and one of
    them what it is to reach, where the goal names that and its place is known."""
    if clip.T_world_camera is None or geometry.T_world_camera is None:
        return []
    names = [thing.name for thing in geometry.objects]
    paths: dict[Side, np.ndarray] = {hand.side: hand.path.points for hand in geometry.hands}
    found, goals = [], TaskGoals(clip, names, paths, config.goals)
    for hand in geometry.hands:
        wrists, stretch, wrist_world = hand.wrists, hand.path.stretch, goals.wrists[hand.side]
        seen = np.asarray(np.isfinite(wrists).all(-1))
        for text in filter(lambda text: text.text, clip.texts):  # without words there is no task to ask about
            for end in np.flatnonzero(seen):
                frame = int(geometry.frames[end])
                if not text.start - LEAD <= clip.timestamps[frame] - clip.timestamps[0] < text.end:
                    continue
                goal = goals.goal(hand.side, text, frame)
                if goal is None or not np.isfinite(wrist_world[[frame, goal.frame]]).all():
                    continue
                if len({s for s in stretch[frame : goal.frame + 1] if s >= 0}) > 1:
                    continue  # the tracker lost it on the way
                start = _window_start(clip, geometry, config, int(end), f"task {hand.side} {text.text}", seen)
                if goal.object is not None and not _shown(geometry, goal.object, start, int(end)):
                    continue
                R_first_world = geometry.T_world_camera[start, :3, :3].T
                displacement = R_first_world @ (wrist_world[goal.frame] - wrist_world[frame])
                if np.linalg.norm(displacement) < max(config.goals.away, geometry.distance_error * wrists[end, 2]):
                    continue
                relation = Relation(
                    "task_completion",
                    displacement,
                    hand.side,
                    goal.object,
                    task=text.text,
                    gamma=config.gamma,
                    goal=goal.kind,
                )
                frames, confidence = _frames(geometry, start, int(end)), float(hand.confidence[end])
                found.append(Found(relation, frames, confidence, None))
    return found


def hand_movements(clip: Clip, geometry: ClipGeometry, config: RelationsConfig) -> list[Found]:
    """From the wrist in one frame to the wrist one to window-1 samples later, the hand seen in both, and not lost by
    its tracker in between."""
    if geometry.T_world_camera is None:
        return []
    found = []
    for hand in geometry.hands:
        wrists = hand.wrists
        world = transform(geometry.T_world_camera, wrists[:, None])[:, 0]
        for end in range(1, len(wrists)):
            start = end - _draw(clip, end, f"hand {hand.side}", min(config.window - 1, end))
            displacement = geometry.T_world_camera[start, :3, :3].T @ (world[end] - world[start])
            first, last = int(geometry.frames[start]), int(geometry.frames[end])
            if not np.isfinite(displacement).all() or hand.path.stretch[first] != hand.path.stretch[last]:
                continue
            least = max(config.least_hand_movement, geometry.distance_error * wrists[[start, end], 2].max())
            if np.linalg.norm(displacement) < least:
                continue
            relation = Relation("hand_movement", displacement, hand.side, gamma=config.gamma)
            confidence = float(min(hand.confidence[start], hand.confidence[end]))
            found.append(Found(relation, (first, last), confidence, None))
    return found


def camera_movements(clip: Clip, geometry: ClipGeometry, config: RelationsConfig) -> list[Found]:
    """How the camera turned and moved from one sample to one to window-1 samples later."""
    if geometry.T_world_camera is None:
        return []
    found = []
    for end in range(1, len(geometry.frames)):
        start = end - _draw(clip, end, "camera", min(config.window - 1, end))
        poses = geometry.T_world_camera[start], geometry.T_world_camera[end]
        if not geometry.turned(start, end):
            continue  # of their places, NaN where only rotations were measured, no movement is asked
        least = config.least_camera_rotation
        if geometry.turn_error is not None:
            least = max(least, 2 * float(geometry.turn_error[start, end]))
        frames = int(geometry.frames[start]), int(geometry.frames[end])
        turn = CameraMovement.between(*poses, "rotation", config.gamma)
        if np.radians(turn.degrees) >= least:
            found.append(Found(turn, frames, None, None))
        if turn.distance >= config.least_camera_movement:
            move = CameraMovement.between(*poses, "translation", config.gamma)
            found.append(Found(move, frames, None, None))
    return found


def contact_at(clip: Clip, side: Side, name: str, frame: int) -> bool | None:
    """None where it is not known."""
    touch = (clip.contacts or {}).get((side, name))
    return None if touch is None or np.isnan(touch[frame]) else bool(touch[frame])


def _shown(geometry: ClipGeometry, name: str, start: int, end: int) -> bool:
    """Whether one of the frames from sample `start` to `end` shows the object."""
    things = [thing for thing in geometry.objects if thing.name == name]
    return any(np.isfinite(thing.centres[start : end + 1]).all(-1).any() for thing in things)


def _draw(clip: Clip, end: int, what: str, most: int) -> int:
    """1 ... most, decided by what is asked about and not by the order of asking."""
    seed = int(digest(f"{clip.source} {clip.id} {end} {what}"), 16)
    return 1 + int(np.random.default_rng(seed).integers(most))


def _window_start(
    clip: Clip, geometry: ClipGeometry, config: RelationsConfig, end: int, what: str, seen: Bool[np.ndarray, "n"]
) -> int:
    """The first sample of a window that ends at `end`: drawn, then brought forward until all of it is `seen`."""
    if geometry.T_world_camera is None or config.window < 2:
        return end  # without camera poses only the frame itself is in its own camera
    start = end + 1 - _draw(clip, end, f"{config.seed} {what}", min(config.window, end + 1))
    turned = np.array([geometry.turned(i, end) for i in range(start, end)], bool)
    unseen = np.flatnonzero(~(seen[start:end] & turned))
    return start if not len(unseen) else start + int(unseen[-1]) + 1


def _to_first(geometry: ClipGeometry, start: int, end: int) -> np.ndarray:
    """Rotation of directions from the camera at sample `end` to that at `start`."""
    if start == end or geometry.T_world_camera is None:
        return np.eye(3)
    return geometry.T_world_camera[start, :3, :3].T @ geometry.T_world_camera[end, :3, :3]


def _frames(geometry: ClipGeometry, start: int, end: int) -> tuple[int, ...]:
    return tuple(int(f) for f in geometry.frames[start : end + 1])
