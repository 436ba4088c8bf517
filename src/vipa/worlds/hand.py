"""A human-like hand: 21 joints by forward kinematics, and the capsules of flesh around them.

Hand frame of the right hand: origin at the wrist, y along the fingers, z out of the back of the hand, x towards
the little finger. The left hand is its mirror image (x -> -x). Metres, radians.
"""

from dataclasses import dataclass

import numpy as np

from vipa.geometry import matrix_from_axis_angle, rigid, transform
from vipa.hands.skeleton import BONES, Side, mirror_joints
from vipa.worlds.rendering import Capsule

HAND_IDS = {"left": -1, "right": -2}
"""What a segmentation says where it sees a hand (with its forearm)."""

ELBOWS = {"left": np.array([-0.30, -0.60, 0.06]), "right": np.array([0.30, -0.60, 0.06])}
"""Where the forearms come from, world metres."""

SKINS: tuple[tuple[float, float, float], ...] = (
    (0.95, 0.78, 0.66), (0.88, 0.67, 0.53), (0.77, 0.55, 0.41), (0.60, 0.41, 0.29), (0.43, 0.28, 0.20),
)  # fmt: skip

# Right hand, adult. The first joint of thumb, index, middle, ring, little, and the lengths of the bones after it.
_ROOTS = np.array(
    [[-0.027, 0.024, -0.012], [-0.026, 0.091, 0.0], [-0.003, 0.094, 0.004], [0.018, 0.087, 0.002],
     [0.037, 0.077, -0.004]]
)  # fmt: skip
_LENGTHS = np.array(
    [[0.044, 0.033, 0.027], [0.043, 0.026, 0.021], [0.047, 0.030, 0.022], [0.043, 0.028, 0.022],
     [0.034, 0.020, 0.019]]
)  # fmt: skip
_SPREAD = np.array([0.0, -0.12, 0.0, 0.10, 0.22])  # sideways angle of the straight fingers
_RADII = np.array(
    [[0.0115, 0.0105, 0.0095], [0.0095, 0.0085, 0.0075], [0.0095, 0.0085, 0.0075], [0.009, 0.008, 0.0072],
     [0.008, 0.007, 0.0065]]
)  # fmt: skip
_THUMB_OPEN, _THUMB_OPPOSED = np.array([-0.78, 0.60, -0.16]), np.array([-0.30, 0.68, -0.67])


@dataclass(frozen=True, eq=False)
class HandLook:
    """What a person's hand keeps: its size (1 is an adult's mean), skin and sleeve."""

    scale: float
    skin: tuple[float, float, float]
    sleeve: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class HandPose:
    """Where a hand is and how it is bent.

    T_world_hand (4, 4): the hand frame above (of the side's own hand). closure (5,): 0 straight ... 1 fist, thumb
    to little; the thumb's also brings it opposite the fingers. spread: 0 together ... 1 fanned.
    """

    side: Side
    T_world_hand: np.ndarray
    closure: np.ndarray
    spread: float = 0.5


def sample_look(rng: np.random.Generator) -> HandLook:
    tone = np.clip(np.array(SKINS[int(rng.integers(len(SKINS)))]) + rng.uniform(-0.03, 0.03, 3), 0.05, 0.98)
    sleeve = rng.uniform(0.1, 0.8, 3)
    return HandLook(float(rng.uniform(0.9, 1.08)), (*map(float, tone),), (*map(float, sleeve),))  # type: ignore


def hand_joints(closure: np.ndarray, spread: float = 0.5, scale: float = 1.0, side: Side = "right") -> np.ndarray:
    """The 21 joints (21, 3) in the hand frame, metres; bone lengths depend on `scale` alone."""
    joints = np.zeros((21, 3))
    for finger in range(5):
        bend = float(closure[finger])
        if finger == 0:
            t = min(1.0, 1.4 * bend)
            along = (1 - t) * _THUMB_OPEN + t * _THUMB_OPPOSED
            along /= np.linalg.norm(along)
            down = np.array([0.75, 0.25, -0.6])
            down -= along * (down @ along)
            angles = np.cumsum([0.0, 0.15 + 0.45 * bend, 0.10 + 0.75 * bend])
        else:
            fan = _SPREAD[finger] * (0.2 + 1.6 * spread) * (1 - 0.7 * bend)
            along = np.array([np.sin(fan), np.cos(fan), 0.0])
            down = np.array([0.0, 0.0, -1.0])
            angles = np.cumsum([0.12 + 1.25 * bend, 0.12 + 1.5 * bend, 0.08 + 0.85 * bend])
        down = down / np.linalg.norm(down)
        first = 1 + 4 * finger
        joints[first] = _ROOTS[finger]
        for k, angle in enumerate(angles):
            bone = np.cos(angle) * along + np.sin(angle) * down
            joints[first + k + 1] = joints[first + k] + _LENGTHS[finger, k] * bone
    joints *= scale
    return joints if side == "right" else mirror_joints(joints)


def joints_world(pose: HandPose, look: HandLook) -> np.ndarray:
    """The 21 joints (21, 3), world, metres."""
    return transform(pose.T_world_hand, hand_joints(pose.closure, pose.spread, look.scale, pose.side))


def pinch_closure(aperture: float, scale: float = 1.0) -> np.ndarray:
    """The closure (5,) at which thumb tip and index tip are nearest `aperture` metres apart."""
    return np.full(5, np.interp(aperture / scale, _APERTURES[::-1], _CLOSURES[::-1]))


def grip_point(closure: np.ndarray, scale: float = 1.0, side: Side = "right") -> np.ndarray:
    """(3,) in the hand frame: where a held thing is, between the thumb's tip and the index' and middle's."""
    joints = hand_joints(closure, 0.5, scale, side)
    return 0.5 * joints[4] + 0.3 * joints[8] + 0.2 * joints[12]


_CLOSURES = np.linspace(0.0, 0.75, 31)
_GAPS = np.array([np.linalg.norm(np.subtract(*hand_joints(np.full(5, c))[[4, 8]])) for c in _CLOSURES])
_APERTURES = np.minimum.accumulate(_GAPS) - 1e-6 * np.arange(len(_GAPS))


def capsules(pose: HandPose, look: HandLook) -> list[Capsule]:
    """The flesh of one hand and forearm around its joints, world, ids HAND_IDS[side]."""
    joints, s, id_ = joints_world(pose, look), look.scale, HAND_IDS[pose.side]
    flesh = [
        Capsule(joints[a], joints[b], s * float(_RADII[(b - 1) // 4, (b - 1) % 4 - 1]), look.skin, id_)
        for a, b in BONES
        if a != 0
    ]
    palm, back = 0.0125 * s, pose.T_world_hand[:3, 2] * 0.002
    wrist = joints[0]
    for knuckle in (5, 9, 13, 17):
        flesh.append(Capsule(0.75 * wrist + 0.25 * joints[knuckle] - back, joints[knuckle], palm, look.skin, id_))
    flesh.append(Capsule(wrist, joints[1], 0.015 * s, look.skin, id_))
    flesh.append(Capsule(joints[1], 0.6 * joints[2] + 0.4 * joints[5], 0.013 * s, look.skin, id_))
    arm = ELBOWS[pose.side] - wrist
    arm /= np.linalg.norm(arm)
    hand_axis = -pose.T_world_hand[:3, 1]
    across = pose.T_world_hand[:3, 0] * 0.011 * s
    bent = wrist + 0.035 * s * (hand_axis + arm) / 2  # the wrist bends over a few centimetres
    for sign in (-1, 1):
        flesh.append(Capsule(wrist + sign * across, bent + sign * across, 0.016 * s, look.skin, id_))
        flesh.append(Capsule(bent + sign * across, bent + 0.07 * s * arm, 0.018 * s, look.skin, id_))
    cuff = bent + 0.08 * s * arm
    flesh.append(Capsule(cuff, cuff + 0.10 * s * arm, 0.030 * s, look.sleeve, id_))
    flesh.append(Capsule(cuff + 0.10 * s * arm, cuff + 0.45 * s * arm, 0.036 * s, look.sleeve, id_))
    return flesh


def reaching_pose(
    side: Side, target: np.ndarray, closure: np.ndarray, look: HandLook, rng: np.random.Generator
) -> HandPose:
    """A hand whose grip point is at `target` (3,), its forearm coming from the side's elbow."""
    lateral = 1.0 if side == "right" else -1.0
    R = hand_rotation(
        side,
        target,
        turn=lateral * rng.uniform(0.0, 0.35),
        pitch=rng.uniform(0.25, 0.75),
        roll=rng.uniform(0.1, 0.8),
    )
    wrist = target - R @ grip_point(closure, look.scale, side)
    return HandPose(side, rigid(R, wrist), closure, float(rng.uniform(0.2, 0.8)))


def hand_rotation(side: Side, target: np.ndarray, *, turn: float, pitch: float, roll: float) -> np.ndarray:
    """R_world_hand (3, 3) of a hand that comes from its elbow to `target` (3,), radians.

    turn: about world z, added to the forearm's heading. pitch: fingers down. roll: thumb up, 0 palm down.
    """
    arm = target - ELBOWS[side]
    roll = -roll if side == "left" else roll
    heading = np.arctan2(-arm[0], arm[1]) + turn
    return matrix_from_axis_angle(np.array([0.0, 0.0, heading])) @ (
        matrix_from_axis_angle(np.array([-pitch, 0.0, 0.0])) @ matrix_from_axis_angle(np.array([0.0, roll, 0.0]))
    )
