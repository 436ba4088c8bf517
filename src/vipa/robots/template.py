"""A first file of a robot, made from what a LeRobot data set says of itself: `vipa robots template`."""

import json
import re
from pathlib import Path

from vipa.io.lerobot_layout import LeRobotSet
from vipa.robots.contract import Dimension
from vipa.robots.lerobot_data import ACTION, STATE, read_info

TEMPLATE = '''"""{robot}: a first version, made from {root}.

Not stated by the data set, so check and correct: units and modes of the numbers, frame, rotation and gripper forms.
"""

from pathlib import Path

from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.episodes import EpisodeSet
from vipa.robots.lerobot_data import Columns, read_lerobot

COLUMNS = Columns(text={text!r}, views={views!r})
# name, unit (metre, radian or none), mode (absolute or delta), and what 1.0 stands for in that unit
STATE = (
{state}
)
ACTION = (
{action}
)


def contract() -> ActionContract:
    return ActionContract(
        robot={robot!r},
        action=ACTION,
        state=STATE,
        frame="joints",  # TODO: of positions and rotations, in words
        rotation="none",  # or axis_angle, euler_xyz, quaternion_wxyz, matrix_6d
        gripper="none",  # or "0 closed, 1 open" and so on; see vipa.robots.contract
        rate={rate!r},
        horizon={horizon},
        views={names!r},
        # transforms=as_data(DeltaFromState(((0, 0),)))  of vipa.robots.transforms
    )


def read(root: Path) -> EpisodeSet:
    return read_lerobot(root, contract(), COLUMNS)
'''


def template(root: Path, horizon: int = 16) -> str:
    """The file's text. horizon: actions in a chunk. FileNotFoundError or ValueError where `root` is no LeRobot set with
    state and actions, or has no pictures."""
    info = read_info(root)
    if not info.views:
        raise ValueError(f"{root}: no camera feature has pictures")
    views = {name.removeprefix("observation.images."): name for name in info.views}
    return TEMPLATE.format(
        robot=(info.robot or Path(root).resolve().name),
        root=Path(root).resolve().name,
        text=text_column(info),
        views=views,
        names=tuple(views),
        state=_dimensions(info, STATE),
        action=_dimensions(info, ACTION),
        rate=info.rate,
        horizon=horizon,
    )


def file_name(root: Path) -> str:
    """A module's name for the robot of a data set."""
    robot = read_info(root).robot or Path(root).resolve().name
    name = re.sub(r"[^a-z0-9]+", "_", robot.lower()).strip("_") or "robot"
    return f"{name}.py" if name[0].isalpha() else f"robot_{name}.py"


def text_column(info: LeRobotSet) -> str:
    """GR00T's sets keep the instruction in a column of their own, and `task_index` may then say something else."""
    own = [name for name in info.features if name.startswith("annotation.") and name.endswith("task_description")]
    return own[0] if own else "task_index"


def _dimensions(info: LeRobotSet, column: str) -> str:
    names = _part_names(info, column)
    return "\n".join(f"    {_source(Dimension(name, 'radian', 'absolute'))}," for name in names)


def _source(d: Dimension) -> str:
    return f'Dimension("{d.name}", "{d.unit}", "{d.mode}")'


def _part_names(info: LeRobotSet, column: str) -> list[str]:
    """Names of the data set; where its meta/modality.json (GR00T's) names stretches of them, those with a number."""
    names = [re.sub(r'["\\\n]', "_", name) for name in info.dimension_names(column)]
    path = info.root / "meta" / "modality.json"
    if not path.is_file():
        return names
    parts = json.loads(path.read_text()).get({STATE: "state", ACTION: "action"}[column], {})
    for part, place in parts.items():
        for i in range(int(place["start"]), min(int(place["end"]), len(names))):
            names[i] = f"{part}_{i - int(place['start'])}"
    return names
