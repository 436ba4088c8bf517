"""LIBERO's Panda with a gripper (simulated), as its demonstrations are in the LeRobot layout.

Seven numbers of robosuite's OSC_POSE at 20 Hz, and a state of eight. Looked at in the simulator (hf-libero 0.1.4) and
in one published observation of it: the state's source and frame, and pictures turned by 180 degrees, as they reach a
policy. From documentation: scales (0.05 m and 0.5 rad for 1.0), and the columns `image`, `wrist_image`, `state` and
`actions` (the usual copies on the hub; others have LeRobot's own names). The state's axis-angle comes from quaternions
of either sign, near half a turn about x at rest, so a rotation may stand there as two different rows of numbers; the
transform takes the one nearer to the rest. Rows without movement are left out (`no_noops`).
"""

import math
from pathlib import Path

from vipa.io.lerobot_layout import read_set
from vipa.robots.contract import ActionContract
from vipa.robots.episodes import EpisodeSet
from vipa.robots.known import dimensions
from vipa.robots.lerobot_data import Columns, read_lerobot
from vipa.robots.libero_hdf5 import read_hdf5
from vipa.robots.rotation_forms import ChangeRotation
from vipa.robots.transforms import as_data

REST = (math.pi, 0.0, 0.0)


def contract() -> ActionContract:
    return ActionContract(
        robot="libero panda",
        action=(
            *dimensions("delta_x delta_y delta_z", "metre", "delta", 0.05),
            *dimensions("delta_rotation_x delta_rotation_y delta_rotation_z", "radian", "delta", 0.5),
            *dimensions("gripper", "none"),
        ),
        state=(
            *dimensions("x y z", "metre"),
            *dimensions("rotation_x rotation_y rotation_z", "radian"),
            *dimensions("finger_left finger_right", "metre"),
        ),
        frame="world: x away from the robot, y to its left, z up",
        rotation="axis_angle",
        gripper="-1 open, +1 closed",
        rate=20.0,
        horizon=16,
        views=("agentview", "wrist"),
        transforms=as_data(ChangeRotation("state", 3, "axis_angle", "axis_angle", near=REST, source_near=REST)),
        keys={"agentview": "observation/image", "wrist": "observation/wrist_image"},  # openpi's clients of LIBERO
    )


def read(root: Path) -> EpisodeSet:
    """A LeRobot set, or the authors' HDF5 files (`libero_hdf5`), which `vipa robots convert libero` makes one of."""
    if root.suffix == ".hdf5" or (not (root / "meta").exists() and any(root.rglob("*.hdf5"))):
        return read_hdf5(root, contract())
    there = read_set(root).features
    if "actions" in there:
        columns = Columns("state", "actions", views={"agentview": "image", "wrist": "wrist_image"})
    else:
        names = {"agentview": "observation.images.image", "wrist": "observation.images.wrist_image"}
        columns = Columns(views={view: name for view, name in names.items() if name in there})
    return read_lerobot(root, contract(), columns)
