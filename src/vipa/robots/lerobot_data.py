"""Robot episodes in the LeRobot layout, versions 2.0, 2.1 and 3."""

import json
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

import numpy as np

from vipa.clips.lerobot_frames import episode_frames
from vipa.io.hub_data import local_folder
from vipa.io.json_files import read_json
from vipa.io.lerobot_layout import LeRobotSet, column_names, numbers, read_set, task_runs
from vipa.robots.contract import ActionContract
from vipa.robots.episodes import Episode, EpisodeSet

CONTRACT_FILE = "contract.json"
STATE, ACTION = "observation.state", "action"
SAID = "vipa"
"""Column of meta/episodes in which this project's writer keeps what the layout has no place for, as JSON: an episode's
own id, success, task, seed and notes."""


@dataclass(frozen=True)
class Columns:
    """Where a data set keeps what a contract names. text: the column that indexes its instructions. views: a view's
    camera feature; one that is not here is the feature of its own name, or `observation.images.` before it."""

    state: str = STATE
    action: str = ACTION
    text: str = "task_index"
    views: dict[str, str] = field(default_factory=dict)


def read_info(root: Path, columns: Columns = Columns()) -> LeRobotSet:
    """Reads meta/. FileNotFoundError where it is missing, ValueError for another version or missing columns."""
    info = read_set(root)
    for column in (columns.state, columns.action):
        if column not in info.features:
            raise ValueError(f"{root}: the data set has no column {column!r}")
    return info


@dataclass(frozen=True)
class LeRobotEpisode:
    """The rows of one episode that have one task. rows: None: all."""

    index: int
    rows: range | None = None

    @property
    def id(self) -> str:
        return f"episode_{self.index:06d}" + (f"_{self.rows.start:06d}" if self.rows is not None else "")


def read_lerobot_episode(
    place: LeRobotEpisode, info: LeRobotSet, contract: ActionContract, columns: Columns
) -> Episode:
    """ValueError naming the file where it is broken, or has other widths than the contract."""
    path = info.data(place.index)
    clock = ["timestamp"] if "timestamp" in column_names(path) else []
    table = info.rows(place.index, [columns.state, columns.action, columns.text, *clock])
    rows = range(len(table)) if place.rows is None else place.rows
    values = {}
    for column, dimensions in ((columns.state, contract.state), (columns.action, contract.action)):
        values[column] = numbers(table, column, path)[rows.start : rows.stop]
        if values[column].shape[1] != len(dimensions):
            raise ValueError(
                f"{path}: column {column!r} has {values[column].shape[1]} numbers a row, meta/info.json and the "
                f"contract {len(dimensions)}"
            )
    times = info.times(table)
    if len(times) > 1 and abs(np.median(np.diff(times)) * info.rate - 1) > 0.05:
        step = float(np.median(np.diff(times)))
        raise ValueError(f"{path}: its rows are {step:.4f} s apart, meta/info.json says {info.rate:g} a second")
    task = int(numbers(table, columns.text, path)[rows.start, 0])
    if task not in info.tasks:
        raise ValueError(f"{path}: {columns.text} is {task}, which has no words in {info.root / 'meta'}")
    said = json.loads(info.episodes[place.index].get(SAID) or "{}")
    part = place.id if place.rows is not None else said.get("id", place.id)
    return Episode(
        id=part,
        views={
            view: episode_frames(info, view_feature(info, view, columns), place.index, times, rows)
            for view in contract.views
        },
        state=values[columns.state],
        action=values[columns.action],
        text=info.tasks[task],
        rate=info.rate,
        **{name: said.get(name) for name in ("success", "task", "seed")},
        notes=said.get("notes", {}),
    )


def view_feature(info: LeRobotSet, view: str, columns: Columns = Columns()) -> str:
    """The camera feature of a contract's view: as `columns` says, of this name, or of LeRobot's usual longer one."""
    if view in columns.views:
        return columns.views[view]
    return view if view in info.features else f"observation.images.{view}"


def open_robot_data(root: Path) -> EpisodeSet:
    """A LeRobot data set with a contract.json beside its meta/.

    meta/vipa.json may have the fields of `Columns` ({"text": "task_index"} where there is none).
    FileNotFoundError where it is none, or where nobody says what its numbers mean. ValueError for a folder in the
    form that this project had before.
    """
    root = local_folder(root)
    if not (root / "meta" / "info.json").is_file():
        if any((root / "episodes").glob("*.parquet")):
            raise ValueError(
                f"{root}: robot episodes in an old form (episodes/*.parquet), which is read no more; record them again "
                "(vipa record) as a LeRobot set"
            )
        raise FileNotFoundError(f"{root}: no meta/info.json; expected a LeRobot data set (v2.0, v2.1 or v3)")
    if not (root / CONTRACT_FILE).is_file():
        raise FileNotFoundError(
            f"{root / CONTRACT_FILE} is missing: a LeRobot data set does not say what its numbers mean; write its "
            "ActionContract there (docs/robots.md)"
        )
    path = root / "meta" / "vipa.json"
    said = read_json(path) if path.is_file() else {}
    try:
        columns = Columns(**said)
    except TypeError:
        known = ", ".join(f.name for f in fields(Columns))
        raise ValueError(f"{path}: holds {', '.join(said)}; known: {known}") from None
    return read_lerobot(root, ActionContract.load(root / CONTRACT_FILE), columns)


def read_lerobot(root: Path, contract: ActionContract, columns: str | Columns = "task_index") -> EpisodeSet:
    """Episodes of a LeRobot data set, opened when indexed; one whose task changes becomes one for each task.

    contract: what the numbers mean; the files do not say, so it is yours to state. Its rate, widths and views
    are checked against the data set (ValueError). columns: where they are; of a word, the integer column that indexes
    the tasks: some data sets keep the instruction in another one (GR00T: "annotation.human.action.task_description").
    """
    columns = Columns(text=columns) if isinstance(columns, str) else columns
    info = read_info(root, columns)
    wrong = [
        f"{name}: {mine} in the contract, {theirs} in the data"
        for name, mine, theirs in (
            ("rate", contract.rate, info.rate),
            ("state dimensions", len(contract.state), info.width(columns.state)),
            ("action dimensions", len(contract.action), info.width(columns.action)),
        )
        if theirs is not None and mine != theirs
    ]
    views = info.views
    unknown = [view for view in contract.views if view_feature(info, view, columns) not in views]
    wrong += [f"view {view!r} is not among {', '.join(views)}" for view in unknown]
    if wrong:
        raise ValueError(f"{root}: " + "; ".join(wrong))
    if missing := [p for p in map(info.data, info.episodes) if not p.is_file()]:
        raise FileNotFoundError(f"{missing[0]}: listed in meta/ but not there")
    places = tuple(place for index in info.episodes for place in _by_task(info, index, columns.text))
    opener = partial(read_lerobot_episode, info=info, contract=contract, columns=columns)
    return EpisodeSet(contract, places, opener)


def _by_task(info: LeRobotSet, index: int, text_column: str) -> list[LeRobotEpisode]:
    if text_column == "task_index" and len(info.episodes[index].get("tasks") or ()) == 1:
        return [LeRobotEpisode(index)]
    found = task_runs(numbers(info.rows(index, [text_column]), text_column, info.data(index))[:, 0])
    if len(found) == 1:
        return [LeRobotEpisode(index)]
    return [LeRobotEpisode(index, range(start, stop)) for start, stop, _ in found]
