"""RoboCasa's Panda on a mobile base (simulated), arm and gripper, as twelve numbers in the LeRobot layout.

From documentation only, at 20 Hz: 7 numbers of the arm's OSC_POSE (as LIBERO's), 4 of the base, 1 that says which of
the two is moved; the state is the base-frame tool position, its quaternion (scalar last in robosuite, first here:
check with `vipa robots check`), and two fingers. The model sees the rotation as 6D.
"""

from pathlib import Path

from vipa.robots.contract import ActionContract
from vipa.robots.episodes import EpisodeSet
from vipa.robots.known import dimensions
from vipa.robots.lerobot_data import read_lerobot
from vipa.robots.rotation_forms import ChangeRotation
from vipa.robots.transforms import as_data


def contract() -> ActionContract:
    return ActionContract(
        robot="robocasa panda",
        action=(
            *dimensions("delta_x delta_y delta_z", "metre", "delta", 0.05),
            *dimensions("delta_rotation_x delta_rotation_y delta_rotation_z", "radian", "delta", 0.5),
            *dimensions("gripper base_x base_y base_turn torso base_mode", "none"),
        ),
        state=(
            *dimensions("x y z", "metre"),
            *dimensions("rotation_w rotation_x rotation_y rotation_z", "none"),
            *dimensions("finger_left finger_right", "metre"),
        ),
        frame="robot base: x forward, y left, z up",
        rotation="axis_angle",
        gripper="-1 open, +1 closed",
        rate=20.0,
        horizon=16,
        views=("left", "right", "wrist"),
        transforms=as_data(ChangeRotation("state", 3, "quaternion_wxyz", "matrix_6d")),
    )


def read(root: Path) -> EpisodeSet:
    return read_lerobot(root, contract())
