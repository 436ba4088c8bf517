"""Robot episodes in the LeRobot layout, versions 2.0, 2.1 and 3."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vipa.clips.lerobot_layout import LeRobotSet, VideoPart, column_names, numbers, paired, read_set, task_runs
from vipa.clips.video import VideoFrames
from vipa.robots.contract import ActionContract
from vipa.robots.episodes import Episode, EpisodeSet

STATE, ACTION = "observation.state", "action"


def read_info(root: Path) -> LeRobotSet:
    """Reads meta/. FileNotFoundError where it is missing, ValueError for another version or missing columns."""
    info = read_set(root)
    for column in (STATE, ACTION):
        if column not in info.features:
            raise ValueError(f"{root}: the data set has no column {column!r}")
    return info


@dataclass(frozen=True)
class UnopenedVideo:
    """The frames of an episode's rows, found by time; the file is opened when a frame is read."""

    part: VideoPart
    times: tuple[float, ...]  # of the episode's rows
    rate: float
    rows: range  # of the episode's rows those that are read

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """RGB images (n, height, width, 3). ValueError where the file is broken, shorter or longer than its rows."""
        video = VideoFrames(self.part.path)
        frames, beyond = paired(np.array(self.times), video, self.part, self.rate)
        if beyond:
            raise ValueError(f"{self.part.path}: {beyond}: rows and video do not belong together")
        return video.read([int(frames[self.rows[i]]) for i in indices])


@dataclass(frozen=True)
class LeRobotEpisode:
    """The rows of one episode that have one task. rows: None: all."""

    index: int
    rows: range | None = None

    @property
    def id(self) -> str:
        return f"episode_{self.index:06d}" + (f"_{self.rows.start:06d}" if self.rows is not None else "")


def read_lerobot_episode(
    place: LeRobotEpisode, info: LeRobotSet, contract: ActionContract, text_column: str
) -> Episode:
    """ValueError naming the file where it is broken, or has other widths than the contract."""
    path = info.data(place.index)
    clock = ["timestamp"] if "timestamp" in column_names(path) else []
    table = info.rows(place.index, [STATE, ACTION, text_column, *clock])
    rows = range(len(table)) if place.rows is None else place.rows
    values = {}
    for column, dimensions in ((STATE, contract.state), (ACTION, contract.action)):
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
    task = int(numbers(table, text_column, path)[rows.start, 0])
    if task not in info.tasks:
        raise ValueError(f"{path}: {text_column} is {task}, which has no words in {info.root / 'meta'}")
    return Episode(
        id=place.id,
        views={
            view: UnopenedVideo(info.video(view, place.index), tuple(times.tolist()), info.rate, rows)
            for view in contract.views
        },
        state=values[STATE],
        action=values[ACTION],
        text=info.tasks[task],
        rate=info.rate,
    )


def read_lerobot(root: Path, contract: ActionContract, text_column: str = "task_index") -> EpisodeSet:
    """Episodes of a LeRobot data set, opened when indexed; one whose task changes becomes one for each task.

    contract: what the numbers mean; the files do not say, so it is yours to state. Its rate, widths and views
    are checked against the data set (ValueError). text_column: the integer column that indexes the tasks;
    some data sets keep the instruction in another one (GR00T: "annotation.human.action.task_description").
    """
    info = read_info(root)
    wrong = [
        f"{name}: {mine} in the contract, {theirs} in the data"
        for name, mine, theirs in (
            ("rate", contract.rate, info.rate),
            ("state dimensions", len(contract.state), info.width(STATE)),
            ("action dimensions", len(contract.action), info.width(ACTION)),
        )
        if theirs is not None and mine != theirs
    ]
    wrong += [f"view {v!r} is not among {', '.join(info.views)}" for v in contract.views if v not in info.views]
    if wrong:
        raise ValueError(f"{root}: " + "; ".join(wrong))
    if missing := [p for p in map(info.data, info.episodes) if not p.is_file()]:
        raise FileNotFoundError(f"{missing[0]}: listed in meta/ but not there")
    places = tuple(place for index in info.episodes for place in _by_task(info, index, text_column))
    opener = partial(read_lerobot_episode, info=info, contract=contract, text_column=text_column)
    return EpisodeSet(contract, places, opener)


def _by_task(info: LeRobotSet, index: int, text_column: str) -> list[LeRobotEpisode]:
    if text_column == "task_index" and len(info.episodes[index].get("tasks") or ()) == 1:
        return [LeRobotEpisode(index)]
    found = task_runs(numbers(info.rows(index, [text_column]), text_column, info.data(index))[:, 0])
    if len(found) == 1:
        return [LeRobotEpisode(index)]
    return [LeRobotEpisode(index, range(start, stop)) for start, stop, _ in found]
