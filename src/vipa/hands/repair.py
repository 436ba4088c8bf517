"""One left and one right hand out of what a tracker saw: swaps put right, outliers dropped, gaps bridged, smoothed."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.linalg import solveh_banded
from scipy.optimize import linear_sum_assignment

from vipa.hands.skeleton import BONES, TIPS, Side
from vipa.hands.trackers import SeenHand

_MAX_SPEED = 4.0  # m/s, of a wrist
_SLACK = 0.03  # m, a tracker's noise between two frames
_ODD_SIZE = np.log(1.6)  # of a bone's length against its median over the clip
_SIDES: tuple[Side, ...] = ("left", "right")


@dataclass(frozen=True)
class HandTrack:
    """One hand over a video, what `clips.Hand` holds."""

    side: Side
    joints_camera: Float[np.ndarray, "frames 21 3"]  # metres; NaN where unknown
    confidence: Float[np.ndarray, "frames 21"]  # 0: unknown; below the seen ones' where a gap was bridged


@dataclass(frozen=True)
class Repair:
    """The tracks (none, one or two) and how many frames of each side were changed, by kind."""

    tracks: tuple[HandTrack, ...]
    changes: dict[str, int] = field(default_factory=dict)


def chirality(joints: Float[np.ndarray, "*b 21 3"]) -> Float[np.ndarray, "*b"]:
    """Above 0: bent like a right hand, below: like a left one; about 0: flat, or it cannot be told.

    Fingers bend towards the palm only, and which side of (wrist, index base, little base) the palm is on
    tells the hand. The mean height of the four tips over that plane as a share of the finger's length.
    """
    wrist, index, little = joints[..., 0, :], joints[..., 5, :], joints[..., 17, :]
    normal = np.cross(index - wrist, little - wrist)
    normal = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    tips, bases = joints[..., TIPS[1:], :], joints[..., (5, 9, 13, 17), :]
    fingers = joints[..., 5:, :].reshape(*joints.shape[:-2], 4, 4, 3)
    length = np.linalg.norm(np.diff(fingers, axis=-2), axis=-1).sum(-1)
    height = ((tips - bases) * normal[..., None, :]).sum(-1)
    return (height / np.maximum(length, 1e-9)).mean(-1)


def repair_hands(
    seen: Sequence[Sequence[SeenHand]],
    timestamps: Float[np.ndarray, "frames"],
    *,
    max_gap: float = 0.4,
    cutoff: float = 6.0,
) -> Repair:
    """At most one left and one right hand of a tracker's report.

    seen: the hands of every frame, in any order. timestamps: seconds, increasing.
    1. Hands are followed from frame to frame by where they are, whatever side they are called.
    2. Each path gets one side: the labels' votes, and how its fingers bend. Of two paths at one time that claim
       a side, the weaker gets the other or is dropped.
    3. Frames in which the wrist jumps away and back, or bones are far from their own length, are unknown.
    4. Gaps of at most `max_gap` seconds are bridged, longer ones stay NaN; motion above `cutoff` Hz is smoothed
       away (no delay), frames of low confidence more than others.
    ValueError where the lengths differ.
    """
    times = np.asarray(timestamps, dtype=np.float64)
    if len(seen) != len(times):
        raise ValueError(f"repair_hands: {len(seen)} frames of hands, but {len(times)} timestamps")
    changes: dict[str, int] = dict.fromkeys(("relabelled", "dropped", "outliers", "bridged"), 0)
    paths = _follow(seen, times, max_gap)
    sided = _sides(paths, changes)
    tracks = []
    for side in _SIDES:
        joints = np.full((len(times), 21, 3), np.nan)
        confidence = np.zeros((len(times), 21))
        for path in sided[side]:
            for frame, hand in path:
                known = np.isfinite(hand.joints_camera).all(-1)
                joints[frame], confidence[frame] = hand.joints_camera, np.where(known, hand.confidence, 0.0)
        bad = _outliers(joints, times)
        changes["outliers"] += int(bad.sum())
        joints[bad], confidence[bad] = np.nan, 0.0
        if not np.isfinite(joints).any():
            continue
        joints, confidence, bridged = _smooth(joints, confidence, times, max_gap, cutoff)
        changes["bridged"] += bridged
        tracks.append(HandTrack(side, joints, confidence))
    return Repair(tuple(tracks), changes)


Path = list[tuple[int, SeenHand]]


def _follow(seen: Sequence[Sequence[SeenHand]], times: np.ndarray, max_gap: float) -> list[Path]:
    """Paths of hands that move as a hand can, by the least total joint distance from frame to frame."""
    live: list[Path] = []
    done: list[Path] = []
    for frame, hands in enumerate(seen):
        hands = [h for h in hands if np.isfinite(h.joints_camera).all(-1).sum() >= 4]
        still = [p for p in live if times[frame] - times[p[-1][0]] <= max_gap]
        done += [p for p in live if times[frame] - times[p[-1][0]] > max_gap]
        live = still
        cost = np.full((len(live), len(hands)), 1e3)
        for i, path in enumerate(live):
            dt = times[frame] - times[path[-1][0]]
            for j, hand in enumerate(hands):
                distance = _distance(_expected(path, times[frame], times), hand.joints_camera)
                if distance <= _MAX_SPEED * dt + _SLACK:
                    cost[i, j] = distance + (0.0 if path[-1][1].side == hand.side else 0.01)
        matched = set()
        for i, j in zip(*linear_sum_assignment(cost)):
            if cost[i, j] < 1e3:
                live[i].append((frame, hands[j]))
                matched.add(j)
        live += [[(frame, hand)] for j, hand in enumerate(hands) if j not in matched]
    return done + live


def _expected(path: Path, time: float, times: np.ndarray) -> np.ndarray:
    """Joints at `time` if the hand keeps its speed, for no longer than 0.1 s."""
    frame, last = path[-1]
    if len(path) < 2:
        return last.joints_camera
    before, earlier = path[-2]
    ahead = min(time - times[frame], 0.1) / (times[frame] - times[before])
    moved = np.nanmean(last.joints_camera - earlier.joints_camera, axis=0)
    return last.joints_camera + ahead * moved


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        d = np.linalg.norm(a - b, axis=-1)
    return float(np.nanmean(d)) if np.isfinite(d).any() else np.inf


def _sides(paths: list[Path], changes: dict[str, int]) -> dict[Side, list[Path]]:
    """Each path's side, so that no frame has two hands of one side."""
    votes = [_vote(path) for path in paths]
    taken: dict[Side, set[int]] = {"left": set(), "right": set()}
    out: dict[Side, list[Path]] = {"left": [], "right": []}
    for i in sorted(range(len(paths)), key=lambda i: -abs(votes[i])):  # the surest first
        first: Side = "right" if votes[i] > 0 else "left"
        second: Side = "left" if votes[i] > 0 else "right"
        frames = {frame for frame, _ in paths[i]}
        # a short path against its own votes is a second report of the same hand, not another hand
        sure = abs(votes[i]) > 0.6 * len(paths[i])
        for side in (first, second) if not sure or len(paths[i]) > 5 else (first,):
            if not frames & taken[side]:
                taken[side] |= frames
                out[side].append(paths[i])
                changes["relabelled"] += sum(hand.side != side for _, hand in paths[i])
                break
        else:
            changes["dropped"] += len(paths[i])
    return out


def _vote(path: Path) -> float:
    """Above 0: right. Labels weigh by their confidence, the fingers' bend by how plain it is."""
    total = 0.0
    for _, hand in path:
        sign = 1.0 if hand.side == "right" else -1.0
        total += sign * (2 * hand.side_confidence - 1)
        bend = chirality(hand.joints_camera)
        total += 0.5 * float(np.clip(bend / 0.3, -1, 1)) if np.isfinite(bend) else 0.0
    return total


def _outliers(joints: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Frames (F,) whose wrist jumps from both neighbours' line, or whose bones are far from their median."""
    bad = np.zeros(len(joints), dtype=bool)
    known = np.flatnonzero(np.isfinite(joints[:, 0]).all(-1))
    if len(known) < 3:
        return bad
    joints = joints[known]
    bones = np.stack([np.linalg.norm(joints[:, a] - joints[:, b], axis=-1) for a, b in BONES], -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a joint that is never seen has no median
        off = np.abs(np.log(bones / np.nanmedian(bones, axis=0)))
        odd = np.nanmedian(off, axis=-1) > _ODD_SIZE
        centre = np.nanmedian(joints, axis=1)
    bad[known] = odd | ((off > 2 * _ODD_SIZE).sum(-1) >= 3)
    centre[bad[known]] = np.nan
    for i, frame in enumerate(known):
        around = [k for k in range(max(0, i - 2), min(len(known), i + 3)) if k != i and not bad[known[k]]]
        if bad[frame] or len(around) < 2:
            continue
        middle = np.median(centre[around], axis=0)
        reach = np.median(np.linalg.norm(centre[around] - middle, axis=-1))
        span = times[known[around[-1]]] - times[known[around[0]]]
        allowed = _SLACK + 3 * reach + 0.25 * _MAX_SPEED * min(span, 0.2)
        bad[frame] = bool(np.linalg.norm(centre[i] - middle) > allowed)
    return bad


def _smooth(
    joints: np.ndarray, confidence: np.ndarray, times: np.ndarray, max_gap: float, cutoff: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Whittaker smoothing, weighted by confidence, of each joint's runs without long gaps.

    Minimises the integral of w (x - y)^2 + s (second derivative)^2, whose gain is one half at the cutoff.
    """
    out, sure, bridged = np.full_like(joints, np.nan), np.zeros_like(confidence), 0
    for joint in range(21):
        known = np.flatnonzero(confidence[:, joint] > 0)
        if not len(known):
            continue
        for run in np.split(known, np.flatnonzero(np.diff(times[known]) > max_gap) + 1):
            part = slice(run[0], run[-1] + 1)
            weight = confidence[part, joint]
            out[part, joint] = _whittaker(np.nan_to_num(joints[part, joint]), weight, times[part], cutoff)
            missing = np.flatnonzero(weight == 0)
            sure[part, joint] = weight
            if len(missing):
                here = times[run[0] : run[-1] + 1]
                before, after = (np.searchsorted(run, missing + run[0]) + k for k in (-1, 0))
                nearest = np.minimum(here[missing] - times[run[before]], times[run[after]] - here[missing])
                ends = np.minimum(confidence[run[before], joint], confidence[run[after], joint])
                sure[missing + run[0], joint] = 0.8 * ends * (1 - nearest / max_gap)
                bridged += len(missing) if joint == 0 else 0
    return out, sure, bridged


def _whittaker(values: np.ndarray, weight: np.ndarray, times: np.ndarray, cutoff: float) -> np.ndarray:
    """Smoothed (n, 3) of values (n, 3) with weights (n,) at times (n,), which need not be evenly spaced."""
    n = len(values)
    if n < 3:
        return values
    steps = np.diff(times)
    before, after = steps[:-1], steps[1:]
    spacing = (before + after) / 2
    strength = (2 * np.sin(np.pi * np.minimum(cutoff * spacing, 0.5))) ** -4.0 * spacing
    a, c = spacing / before, spacing / after  # second difference: a x0 - (a + c) x1 + c x2
    b = -(a + c)
    band = np.zeros((3, n))  # upper form of W + D'SD
    band[2, 2:] += strength * c**2
    band[2, 1:-1] += strength * b**2
    band[2, :-2] += strength * a**2
    band[1, 2:] += strength * b * c
    band[1, 1:-1] += strength * a * b
    band[0, 2:] += strength * a * c
    each = np.maximum(weight, 1e-9) * np.convolve(steps, [0.5, 0.5])  # a frame counts for the time around it
    each[[0, -1]] *= 2
    band[2] += each
    return solveh_banded(band, each[:, None] * values)
