"""Two arms of six joints and a gripper each, side by side (as ALOHA's), at 50 Hz: absolute joint targets.

From documentation only: left arm first, radians, gripper 0 (closed) ... 1 (open), which is a number of each arm and
so of no gripper form here; cameras `top`, `left_wrist`, `right_wrist`.
"""

from pathlib import Path

from vipa.robots.contract import ActionContract
from vipa.robots.episodes import EpisodeSet
from vipa.robots.known import dimensions
from vipa.robots.lerobot_data import read_lerobot
from vipa.robots.transforms import DeltaFromState, as_data

JOINTS = "waist shoulder elbow forearm_roll wrist_angle wrist_rotate"


def contract() -> ActionContract:
    numbers = tuple(
        number
        for side in ("left", "right")
        for number in (
            *dimensions(" ".join(f"{side}_{name}" for name in JOINTS.split()), "radian"),
            *dimensions(f"{side}_gripper", "none"),
        )
    )
    return ActionContract(
        robot="bimanual joints",
        action=numbers,
        state=numbers,
        frame="joints",
        rotation="none",
        gripper="none",
        rate=50.0,
        horizon=16,
        views=("top", "left_wrist", "right_wrist"),
        transforms=as_data(DeltaFromState(tuple((i, i) for i in range(14) if i % 7 != 6))),
    )


def read(root: Path) -> EpisodeSet:
    return read_lerobot(root, contract())
