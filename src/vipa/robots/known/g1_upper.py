"""Unitree G1, upper body: two arms of seven joints and two hands of seven, at 30 Hz.

From documentation only (arms of 7 joints, three-fingered hands of 7): names and order as here are a proposal; change
them to those of your recording. Angles in radian, targets of position.
"""

from pathlib import Path

from vipa.robots.contract import ActionContract
from vipa.robots.episodes import EpisodeSet
from vipa.robots.known import dimensions
from vipa.robots.lerobot_data import read_lerobot
from vipa.robots.transforms import DeltaFromState, as_data

ARM = "shoulder_pitch shoulder_roll shoulder_yaw elbow wrist_roll wrist_pitch wrist_yaw"
HAND = "thumb_0 thumb_1 thumb_2 middle_0 middle_1 index_0 index_1"
NAMES = [f"{side}_{name}" for part in (ARM, HAND) for side in ("left", "right") for name in part.split()]


def contract() -> ActionContract:
    numbers = dimensions(" ".join(NAMES), "radian")
    return ActionContract(
        robot="g1 upper",
        action=numbers,
        state=numbers,
        frame="joints",
        rotation="none",
        gripper="none",
        rate=30.0,
        horizon=16,
        views=("head",),
        transforms=as_data(DeltaFromState(tuple((i, i) for i in range(28)))),
    )


def read(root: Path) -> EpisodeSet:
    return read_lerobot(root, contract())
