"""A small clip with known truth, made in no time."""

import numpy as np

from vipa.clips.clip import Clip, Hand, ObjectTrack, Text
from vipa.clips.video import ArrayFrames
from vipa.geometry import Intrinsics, invert, matrix_from_axis_angle, rigid, transform

GRASP = np.array([0.03, -0.05, -0.09])  # metres from what is held to the wrist


def example_clip(number: int = 0, seconds: float = 6.0, rate: float = 10.0, **changes) -> Clip:
    """For tests: a right hand that goes to a cup and carries it to a plate, seen by a camera that moves; no rendering.

    number: two in a row share a source video. changes: fields of the Clip to replace.
    """
    rng = np.random.default_rng(number)
    n = int(seconds * rate)
    t = np.arange(n) / rate
    T_world_camera = rigid(
        matrix_from_axis_angle(np.stack([0.02 * t, 0.05 * t, 0.01 * t], -1)),
        np.stack([0.03 * t, 0 * t, 0 * t], -1),
    )
    cup = np.array([0.1, 0.1, 0.6]) + rng.normal(size=3) * 0.03
    plate = np.array([-0.15, 0.12, 0.7]) + rng.normal(size=3) * 0.03
    start = np.array([0.0, 0.2, 0.35])
    reach, carry = np.clip(t / 2, 0, 1)[:, None], np.clip((t - 3) / 2, 0, 1)[:, None]
    wrist = start * (1 - reach) + (cup + GRASP) * reach + (plate - cup) * carry
    bones = np.concatenate([np.zeros((1, 3)), rng.normal(size=(20, 3)) * 0.03])
    T_camera_world = invert(T_world_camera)
    joints = transform(T_camera_world, wrist[:, None] + bones)
    cups = rigid(np.eye(3), cup + (plate - cup) * carry)
    plates = rigid(np.eye(3), np.repeat(plate[None], n, 0))
    fields = {
        "id": f"made_{number}",
        "source": "made",
        "source_video": f"video_{number // 2}",
        "frames": ArrayFrames(rng.integers(0, 255, (n, 48, 64, 3), dtype=np.uint8)),
        "timestamps": t + 3.0,
        "intrinsics": Intrinsics(40.0, 40.0, 31.5, 23.5, 64, 48, "calibrated"),
        "T_world_camera": T_world_camera,
        "hands": (Hand("right", joints, np.ones((n, 21))),),
        "objects": (ObjectTrack("red cup", cups), ObjectTrack("plate", plates)),
        "contacts": {("right", "red cup"): (t >= 2) & (t <= 5), ("right", "plate"): np.zeros(n, bool)},
        "texts": (Text("Put the red cup on the plate.", 0.0, float(t[-1]), "right"),),
    }
    return Clip(**{**fields, **changes})
