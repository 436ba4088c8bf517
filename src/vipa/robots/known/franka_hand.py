"""Franka Research 3 with a hand of six degrees of freedom (Inspire), as the paper's real robot.

The paper names the robot, the hand and two cameras (RealSense L515), and no layout; this one is a proposal: seven
joint angles, then six finger positions from 0 (open) to 1 (closed), targets, at 20 Hz. Not checked against real data.
"""

from pathlib import Path

from vipa.robots.contract import ActionContract
from vipa.robots.episodes import EpisodeSet
from vipa.robots.known import dimensions
from vipa.robots.lerobot_data import read_lerobot
from vipa.robots.transforms import DeltaFromState, as_data

FINGERS = "little ring middle index thumb_bend thumb_turn"


def contract() -> ActionContract:
    numbers = (*dimensions(" ".join(f"joint_{i}" for i in range(1, 8)), "radian"), *dimensions(FINGERS, "none"))
    return ActionContract(
        robot="franka hand",
        action=numbers,
        state=numbers,
        frame="joints",
        rotation="none",
        gripper="none",
        rate=20.0,
        horizon=16,
        views=("left", "right"),
        transforms=as_data(DeltaFromState(tuple((i, i) for i in range(7)))),
    )


def read(root: Path) -> EpisodeSet:
    return read_lerobot(root, contract())
