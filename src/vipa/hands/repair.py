"""One left and one right hand out of what a tracker saw: sides put right, gaps bridged, one size, smoothed.

Hands are followed and told apart by what the picture shows of them: directions from the camera and sizes against the
hand's own. Metres, which hang on a guessed field of view and jitter, decide nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.linalg import solveh_banded

from vipa.hands.skeleton import SIDES, TIPS, Side
from vipa.hands.trackers import SeenHand

# Lengths are shares of a hand's size in the picture, the spread of its joints: some 5 cm
_SPEED = 25.0  # a second, of a hand in the picture
_SLACK = 1.0  # of its place, size and direction together, whatever the time between
_FARTHEST = 3.0  # across a gap of any length
_SAME = 0.5  # two hands nearer than this are one, reported twice
_TURN = (
    1.2  # of 2 that a hand alone can say: mean votes, before and after, of a path that went over to the other hand
)
_BENT = 0.5  # from here on the bend is plain
_ORDER = 0.5  # a frame's vote by which hand is left of the other


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
    depth_cutoff: float | None = None,
    *,
    max_gap: float = 0.3,
    cutoff: float = 6.0,
) -> Repair:
    """At most one left and one right hand of a tracker's report.

    seen: the hands of every frame, in any order. timestamps: seconds, increasing.
    1. Hands are followed from frame to frame in the picture (place, direction, size), whatever side they are called.
    2. A path has one side. Each frame votes: the label, the bend of the fingers, and, where two hands are seen, what
       the other one is and which is left of which. A path is cut where its votes turn. Of two paths at one time that
       claim a side, the weaker gets the other; what is left of it in the end is dropped.
    3. The hands have one size over the clip. Gaps of at most `max_gap` seconds inside a path are bridged, others stay
       NaN; motion above `cutoff` Hz is smoothed away (no delay), and above `depth_cutoff` of the distance from the
       camera; frames of low confidence more than others.
    ValueError where the lengths differ.
    """
    times = np.asarray(timestamps, dtype=np.float64)
    if len(seen) != len(times):
        raise ValueError(f"repair_hands: {len(seen)} frames of hands, but {len(times)} timestamps")
    changes: dict[str, int] = dict.fromkeys(("relabelled", "dropped", "bridged"), 0)
    views = [_distinct([v for hand in hands if (v := _view(hand)) is not None]) for hands in seen]
    changes["dropped"] += sum(map(len, seen)) - sum(map(len, views))
    ballot = _votes(views)
    paths = [part for path in _follow(views, times, max_gap) for part in _cut(path, ballot, times)]
    sided = _sides(paths, ballot, changes)
    sizes = _sizes(sided)
    tracks = []
    for side in SIDES:
        joints = np.full((len(times), 21, 3), np.nan)
        confidence = np.zeros((len(times), 21))
        for path, sure in sided[side]:
            part = slice(path[0][0], path[-1][0] + 1)
            joints[part], trust, bridged = _settle(
                path, times[part], max_gap, cutoff, depth_cutoff or cutoff, sizes.get(side)
            )
            confidence[part] = sure * trust
            changes["bridged"] += bridged
        if np.isfinite(joints).any():
            tracks.append(HandTrack(side, joints, confidence))
    return Repair(tuple(tracks), changes)


@dataclass(frozen=True, eq=False)
class _View:
    """A hand as the picture shows it. flat: joints over their depth. centre, size and direction (unit) of flat."""

    hand: SeenHand
    flat: Float[np.ndarray, "21 2"]
    centre: Float[np.ndarray, "2"]
    size: float
    direction: Float[np.ndarray, "2"]


Path = list[tuple[int, _View]]
Ballot = dict[_View, float]


def _view(hand: SeenHand) -> _View | None:
    """None for less than four joints in front of the camera."""
    joints = hand.joints_camera
    known = np.isfinite(joints).all(-1) & (np.nan_to_num(joints[:, 2]) > 1e-6)
    if known.sum() < 4:
        return None
    flat = np.where(known[:, None], joints[:, :2] / np.where(known, joints[:, 2], 1.0)[:, None], np.nan)
    centre = np.nanmean(flat, axis=0)
    size = float(np.sqrt(np.nanmean(((flat - centre) ** 2).sum(-1))))
    ahead = np.nan_to_num(flat[9] - flat[0])
    return _View(hand, flat, centre, max(size, 1e-6), ahead / max(float(np.linalg.norm(ahead)), 1e-9))


def _distance(a: _View, b: _View, moved: np.ndarray | float = 0.0) -> float:
    """Mean distance of the joints of b from those of a, which moved, in sizes of the hand."""
    apart = np.linalg.norm(a.flat + moved - b.flat, axis=-1)
    return float(np.nanmean(apart) / np.sqrt(a.size * b.size)) if np.isfinite(apart).any() else np.inf


def _distinct(views: list[_View]) -> list[_View]:
    """Without second reports of the same hand: the surer one stays."""
    kept: list[_View] = []
    for view in sorted(views, key=lambda v: -float(v.hand.confidence.mean()) * v.hand.side_confidence):
        if all(_distance(view, other) > _SAME for other in kept):
            kept.append(view)
    return kept


def _votes(views: list[list[_View]]) -> Ballot:
    """Above 0: right. The label by how sure it is and the bend by how plain: at most 2, twice that for two hands."""
    out: Ballot = {}
    for hands in views:
        own = [_vote(view.hand) for view in hands]
        for i, view in enumerate(hands):
            out[view] = own[i]
            if len(hands) == 2:  # each also says what the other is not
                out[view] += _ORDER * np.sign(view.centre[0] - hands[1 - i].centre[0]) - own[1 - i]
    return out


def _vote(hand: SeenHand) -> float:
    label = (1.0 if hand.side == "right" else -1.0) * (2 * hand.side_confidence - 1)
    bend = hand.bend if hand.bend is not None else float(chirality(hand.joints_camera))
    return label + (float(np.clip(bend / _BENT, -1, 1)) if np.isfinite(bend) else 0.0)


def _follow(views: list[list[_View]], times: np.ndarray, max_gap: float) -> list[Path]:
    """Paths of hands that move in the picture as a hand can, by the least change from frame to frame."""
    from scipy.optimize import linear_sum_assignment  # here: whoever only reads hands that were kept needs it not

    live: list[Path] = []
    done: list[Path] = []
    for frame, hands in enumerate(views):
        done += [p for p in live if times[frame] - times[p[-1][0]] > max_gap]
        live = [p for p in live if times[frame] - times[p[-1][0]] <= max_gap]
        cost = np.full((len(live), len(hands)), 1e3)
        for i, path in enumerate(live):
            last, dt = path[-1][1], times[frame] - times[path[-1][0]]
            moved = _moved(path, times[frame], times)
            for j, view in enumerate(hands):
                change = _distance(last, view, moved) + abs(np.log(view.size / last.size))
                change += 0.5 * (1 - float(last.direction @ view.direction))
                if change <= min(_SLACK + _SPEED * dt, _FARTHEST):
                    cost[i, j] = change + (0.0 if last.hand.side == view.hand.side else 0.1)
        matched = set()
        for i, j in zip(*linear_sum_assignment(cost)):
            if cost[i, j] < 1e3:
                live[i].append((frame, hands[j]))
                matched.add(j)
        live += [[(frame, view)] for j, view in enumerate(hands) if j not in matched]
    return done + live


def _moved(path: Path, time: float, times: np.ndarray) -> np.ndarray:
    """How far the hand goes in the picture until `time` if it keeps its speed, for no longer than 0.1 s."""
    if len(path) < 2:
        return np.zeros(2)
    (before, earlier), (frame, last) = path[-2:]
    return (last.centre - earlier.centre) * min(time - times[frame], 0.1) / (times[frame] - times[before])


def _cut(path: Path, ballot: Ballot, times: np.ndarray) -> list[Path]:
    """The path in parts, where what is said before and after a frame is plain and opposite: it went over to the other
    hand there. Single wrong labels and doubtful ones cut nothing."""
    votes = np.array([ballot[view] for _, view in path])
    n = np.arange(1, len(votes))
    before = np.cumsum(votes)[:-1]
    after = votes.sum() - before
    plain = np.minimum(np.abs(before) / n, np.abs(after) / (len(votes) - n)) >= _TURN
    clock = times[[frame for frame, _ in path]]
    long = np.minimum(clock[1:] - clock[0], clock[-1] - clock[:-1]) >= 0.2
    gain = np.where(plain & long & (before * after < 0), np.minimum(np.abs(before), np.abs(after)), 0.0)
    if not gain.any():
        return [path]
    at = int(gain.argmax()) + 1
    return _cut(path[:at], ballot, times) + _cut(path[at:], ballot, times)


def _sides(paths: list[Path], ballot: Ballot, changes: dict[str, int]) -> dict[Side, list[tuple[Path, float]]]:
    """Each path's side and how sure that is (0.2 ... 1), so that no frame has two hands of one side; the surest
    choose first. A frame in which a side is taken counts against it like four votes: a hand beside a right one is left.
    """
    taken: dict[Side, set[int]] = {"left": set(), "right": set()}
    out: dict[Side, list[tuple[Path, float]]] = {"left": [], "right": []}
    totals = [sum(ballot[view] for _, view in path) for path in paths]
    for i in sorted(range(len(paths)), key=lambda i: -abs(totals[i])):
        path = paths[i]
        free: dict[Side, Path] = {side: [p for p in path if p[0] not in taken[side]] for side in SIDES}
        side: Side = "right" if totals[i] + 4 * (len(free["right"]) - len(free["left"])) > 0 else "left"
        mean = totals[i] / len(path) * (1 if side == "right" else -1)
        for part in _around(free[side], taken[side]):
            out[side].append((part, float(np.clip(2 * mean, 0.2, 1))))
            changes["relabelled"] += sum(view.hand.side != side for _, view in part)
        changes["dropped"] += len(path) - len(free[side])
        taken[side] |= {f for part, _ in out[side] for f in range(part[0][0], part[-1][0] + 1)}
    return out


def _around(path: Path, taken: set[int]) -> list[Path]:
    """The path in parts that have no taken frame inside."""
    parts: list[Path] = []
    for frame, view in path:
        if parts and not taken & set(range(parts[-1][-1][0], frame)):
            parts[-1].append((frame, view))
        else:
            parts.append([(frame, view)])
    return parts


def palm_size(joints: Float[np.ndarray, "*b 21 3"]) -> Float[np.ndarray, "*b"]:
    """Metres around (wrist, index base, little base), which no finger bends; NaN where one is not known."""
    return np.linalg.norm(joints[..., [0, 0, 5], :] - joints[..., [5, 17, 17], :], axis=-1).sum(-1)


def _palms(path: Path) -> Float[np.ndarray, "n"]:
    """Of each frame where the tracker says it, else the path's median; NaN where neither is known."""
    said = np.array([np.nan if view.hand.palm is None else view.hand.palm for _, view in path])
    seen = palm_size(np.stack([view.hand.joints_camera for _, view in path]))
    own = np.median(seen[np.isfinite(seen)]) if np.isfinite(seen).any() else np.nan
    return np.where(np.isfinite(said), said, own)


def _sizes(sided: dict[Side, list[tuple[Path, float]]]) -> dict[Side, float]:
    """The palm of each hand over the clip: one for both, but where they differ by more than the tracker varies."""
    palms: dict[Side, np.ndarray] = {}
    for side in SIDES:
        said = np.concatenate([np.zeros(0), *(_palms(path) for path, _ in sided[side])])
        palms[side] = said[np.isfinite(said)]
    own: dict[Side, float] = {side: float(np.median(p)) for side, p in palms.items() if len(p)}
    if not own:
        return {}
    spread = np.median(np.concatenate([np.abs(palms[side] - own[side]) for side in own]))
    both = float(np.median(np.concatenate(list(palms.values()))))
    return {side: both if abs(size - both) <= 2 * spread else size for side, size in own.items()}


def _settle(
    path: Path, times: np.ndarray, max_gap: float, cutoff: float, depth_cutoff: float, palm: float | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Joints and confidence of a path's frames, smooth in the picture and in distance, and how many were bridged.

    palm: metres. Hands of another size are moved along their rays: the picture stays.
    """
    look, confidence = np.full((len(times), 21, 3), np.nan), np.zeros((len(times), 21))
    distance = np.zeros((len(times), 1, 1))
    grown = np.nan_to_num(np.log(palm / _palms(path))) if palm else np.zeros(len(path))
    for (frame, view), more in zip(path, grown):
        i, known = frame - path[0][0], np.isfinite(view.flat[:, 0])
        confidence[i] = np.where(known, view.hand.confidence, 0.0)
        depth = np.log(np.where(known, view.hand.joints_camera[:, 2], 1.0))
        distance[i] = depth[known].mean() + more
        look[i] = np.concatenate([view.flat, (depth - depth[known].mean())[:, None]], -1)
    look, sure, bridged = _smooth(look, confidence, times, max_gap, cutoff)
    distance, _, _ = _smooth(distance, confidence.mean(-1, keepdims=True), times, max_gap, depth_cutoff)
    z = np.exp(look[..., 2:] + distance)
    return np.concatenate([look[..., :2] * z, z], -1), sure, bridged


def _smooth(
    joints: np.ndarray, confidence: np.ndarray, times: np.ndarray, max_gap: float, cutoff: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Whittaker smoothing of (frames, joints, n), weighted by confidence, of each joint's runs without long gaps.

    Minimises the integral of w (x - y)^2 + s (second derivative)^2, whose gain is one half at the cutoff.
    """
    out, sure, bridged = np.full_like(joints, np.nan), np.zeros_like(confidence), 0
    for joint in range(joints.shape[1]):
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
