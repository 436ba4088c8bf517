"""Franka with a parallel gripper: absolute tool poses in the robot's base frame, at 15 Hz.

A layout to begin with, not that of a data set that was looked at: position, quaternion (scalar first) and gripper,
state and action alike. The model sees positions as differences, rotations as 6D turns from the state's, in the tool's
frame.
"""

from pathlib import Path

from vipa.robots.contract import ActionContract
from vipa.robots.episodes import EpisodeSet
from vipa.robots.known import dimensions
from vipa.robots.lerobot_data import read_lerobot
from vipa.robots.rotation_forms import ChangeRotation, RotationFromState
from vipa.robots.transforms import DeltaFromState, as_data


def contract() -> ActionContract:
    numbers = (
        *dimensions("x y z", "metre"),
        *dimensions("rotation_w rotation_x rotation_y rotation_z", "none"),
        *dimensions("gripper", "none"),
    )
    return ActionContract(
        robot="franka gripper",
        action=numbers,
        state=numbers,
        frame="robot base: x forward, y left, z up",
        rotation="quaternion_wxyz",
        gripper="0 closed, 1 open",
        rate=15.0,
        horizon=16,
        views=("left", "right", "wrist"),
        transforms=as_data(
            DeltaFromState(((0, 0), (1, 1), (2, 2))),
            RotationFromState(action=3, state=3, form="quaternion_wxyz"),
            ChangeRotation("state", 3, "quaternion_wxyz", "matrix_6d"),
            ChangeRotation("action", 3, "quaternion_wxyz", "matrix_6d"),
        ),
    )


def read(root: Path) -> EpisodeSet:
    return read_lerobot(root, contract())
