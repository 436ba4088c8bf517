"""SO-101, LeRobot's five-joint arm with a gripper: degrees as recorded by LeRobot, targets of position.

From documentation only: six numbers, state and action alike, in LeRobot's own order, joints in degrees (newer
recordings may be in -100 ... 100: `vipa robots check` shows the ranges), gripper 0 (closed) ... 100 (open), which is
why it is a joint here and of no gripper form; 30 Hz; cameras `front` and `wrist`. The model sees joints as
differences from the state.
"""

import math
from pathlib import Path

from vipa.robots.contract import ActionContract
from vipa.robots.episodes import EpisodeSet
from vipa.robots.known import dimensions
from vipa.robots.lerobot_data import read_lerobot
from vipa.robots.transforms import DeltaFromState, as_data

JOINTS = "shoulder_pan shoulder_lift elbow_flex wrist_flex wrist_roll"


def contract() -> ActionContract:
    numbers = (*dimensions(JOINTS, "radian", scale=math.pi / 180), *dimensions("gripper", "none"))
    return ActionContract(
        robot="so101",
        action=numbers,
        state=numbers,
        frame="joints",
        rotation="none",
        gripper="none",
        rate=30.0,
        horizon=16,
        views=("front", "wrist"),
        transforms=as_data(DeltaFromState(tuple((i, i) for i in range(5)))),
    )


def read(root: Path) -> EpisodeSet:
    return read_lerobot(root, contract())
