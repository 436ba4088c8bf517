"""RoboCasa's Panda on a mobile base (simulated), its 24 atomic tasks: the arm and the gripper; the base stands still.

As vla-eval's adapter of RoboCasa sends and takes it (its code was read, and tried with made-up observations; neither
simulator nor demonstrations were seen here): seven numbers of robosuite's OSC_POSE at 20 Hz as LIBERO's, and a state of
the tool's position and quaternion (scalar last) in the base's frame and two fingers. From documentation: scales (0.05 m
and 0.5 rad for 1.0). The model sees the rotation as 6D. Demonstrations with the base's numbers, and RoboCasa365, have
twelve actions and another state: they want a contract of their own.
"""

from pathlib import Path

from vipa.robots.contract import ActionContract
from vipa.robots.episodes import EpisodeSet
from vipa.robots.known import dimensions
from vipa.robots.lerobot_data import read_lerobot
from vipa.robots.number_transforms import Subset
from vipa.robots.rotation_forms import ChangeRotation
from vipa.robots.transforms import as_data

SCALAR_FIRST = (0, 1, 2, 6, 3, 4, 5, 7, 8)


def contract() -> ActionContract:
    return ActionContract(
        robot="robocasa panda",
        action=(
            *dimensions("delta_x delta_y delta_z", "metre", "delta", 0.05),
            *dimensions("delta_rotation_x delta_rotation_y delta_rotation_z", "radian", "delta", 0.5),
            *dimensions("gripper", "none"),
        ),
        state=(
            *dimensions("x y z", "metre"),
            *dimensions("rotation_x rotation_y rotation_z rotation_w", "none"),
            *dimensions("finger_left finger_right", "metre"),
        ),
        frame="robot base: x forward, y left, z up",
        rotation="axis_angle",
        gripper="-1 open, +1 closed",
        rate=20.0,
        horizon=16,
        views=("left", "right", "wrist"),
        transforms=as_data(Subset(state=SCALAR_FIRST), ChangeRotation("state", 3, "quaternion_wxyz", "matrix_6d")),
    )


def read(root: Path) -> EpisodeSet:
    return read_lerobot(root, contract())
