"""Robot episodes written as LeRobot v3: recorded one by one, or taken over from another form of them."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vipa.clips.clip import Frames
from vipa.clips.lerobot_frames import UnopenedVideo, episode_frames
from vipa.io.frame_times import VideoPart
from vipa.io.lerobot_layout import LeRobotSet, column_names, numbers, read_set
from vipa.io.lerobot_writer import INDEX, PICTURES, LeRobotWriter, numbers_feature, picture_feature
from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.episodes import Episode
from vipa.robots.lerobot_data import ACTION, CONTRACT_FILE, SAID, STATE

Pictures = Literal["video", "image"]
EXACT = 1e-4
"""Seconds that a frame may be off its row's time: LeRobot's own tolerance."""


class EpisodeWriter:
    """Appends episodes of one contract to a LeRobot v3 folder, which it makes or goes on with.

    pictures: `video` (H.264) or `image` (PNG in the tables, exact and larger). ids: of the episodes that are there.
    ValueError where the folder holds another data set or another contract's episodes.
    """

    def __init__(self, root: Path, contract: ActionContract, pictures: Pictures = "video"):
        self.root, self.contract, self.pictures = Path(root), contract, pictures
        self.ids: list[str] = []
        self._writer: LeRobotWriter | None = None
        if (self.root / "meta" / "info.json").is_file():
            if (self.root / CONTRACT_FILE).is_file():
                contract.check(ActionContract.load(self.root / CONTRACT_FILE))
            there = read_features(self.root)
            self._open({view: there[name]["shape"][:2] for view, name in self._views.items() if name in there})

    @property
    def _views(self) -> dict[str, str]:
        return {v: v if v.startswith("observation.") else f"observation.images.{v}" for v in self.contract.views}

    def _open(self, sizes: dict[str, Any]) -> LeRobotWriter:
        """sizes: (height, width) by view."""
        features = {
            STATE: numbers_feature([d.name for d in self.contract.state]),
            ACTION: numbers_feature([d.name for d in self.contract.action]),
            **{
                name: picture_feature(sizes[view][0], sizes[view][1], self.pictures)
                for view, name in self._views.items()
            },
        }
        writer = LeRobotWriter(self.root, rate=self.contract.rate, features=features, robot=self.contract.robot)
        self.contract.save(self.root / CONTRACT_FILE)
        if any(not entry.get(SAID) for entry in writer.entries):
            raise ValueError(f"{self.root}: holds episodes that were not recorded here; choose another folder")
        self.ids = [json.loads(entry[SAID])["id"] for entry in writer.entries]
        self._writer = writer
        return writer

    def add(self, episode: Episode) -> None:
        """Writes an episode; one whose id is there is left as it is. ValueError where it does not fit."""
        if episode.id in self.ids:
            return
        if abs(episode.rate / self.contract.rate - 1) > 1e-6:
            raise ValueError(
                f"episode {episode.id!r} is at {episode.rate} Hz, the contract at {self.contract.rate}"
            )
        writer = self._writer or self._open({v: f.read([0]).shape[1:3] for v, f in episode.views.items()})
        said = {name: getattr(episode, name) for name in ("id", "success", "task", "seed", "notes")}
        writer.add(
            {STATE: episode.state, ACTION: episode.action},
            {name: one_by_one(episode.views[view]) for view, name in self._views.items()},
            episode.text,
            said={SAID: json.dumps(said)},
        )
        self.ids.append(episode.id)

    def finish(self) -> None:
        """Completes the statistics of the whole set."""
        if self._writer is not None:
            self._writer.finish()


def write_episode(root: Path, episode: Episode) -> None:
    """Adds one episode to a set of which nobody has said yet what its numbers mean: its contract.json numbers them, and
    is to be replaced."""
    state, action = (
        tuple(Dimension(str(i), "none", "absolute") for i in range(rows.shape[1]))
        for rows in (episode.state, episode.action)
    )
    contract = ActionContract(
        "unknown", action, state, "unknown", "none", "none", episode.rate, 1, tuple(episode.views)
    )
    writer = EpisodeWriter(root, contract)
    writer.add(episode)
    writer.finish()


def export_episodes(
    root: Path,
    out: Path,
    pictures: Pictures | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Writes a LeRobot set of version 2.0, 2.1 or 3 as LeRobot v3; returns the number of episodes. One that was stopped
    goes on.

    pictures: how they are kept; None: as they are. Videos are taken over bit by bit where their frames stand at the
    rows' times, and encoded anew otherwise. contract.json comes along. progress(done, total). ValueError naming what is
    wrong with rows or videos.
    """
    data, out = read_set(Path(root)), Path(out)
    first = min(data.episodes)
    there, views = column_names(data.data(first)), data.views
    features = {}
    for name, feature in data.features.items():
        if name in views:
            image = episode_frames(data, name, first, *_times(data, first)).read([0])[0]
            features[name] = picture_feature(image.shape[0], image.shape[1], pictures or data.kept_as(name))
        elif name in there and name not in INDEX and data.kept_as(name) not in PICTURES:
            features[name] = {"dtype": data.kept_as(name), "shape": [data.width(name) or 1], "names": None}
            features[name] |= {key: feature[key] for key in ("names",) if key in feature}
    words = [data.tasks.get(i) or f"(task {i})" for i in range(max(data.tasks, default=-1) + 1)]
    writer = LeRobotWriter(out, rate=data.rate, features=features, robot=data.robot, tasks=words)
    for name in (CONTRACT_FILE, "meta/vipa.json"):
        if (data.root / name).is_file():
            shutil.copyfile(data.root / name, out / name)
    for done, index in enumerate(data.episodes, 1):
        if done > len(writer):
            _export_episode(data, index, writer, words)
        progress(done, len(data.episodes))
    writer.finish()
    return len(writer)


def _times(data: LeRobotSet, episode: int) -> tuple[np.ndarray, range]:
    """Seconds of an episode's rows, on the set's clock, and all of them."""
    clock = [name for name in ("timestamp", "task_index") if name in column_names(data.data(episode))]
    table = data.rows(episode, clock)
    return data.times(table), range(len(table))


def _export_episode(data: LeRobotSet, index: int, writer: LeRobotWriter, words: list[str]) -> None:
    path, (times, rows) = data.data(index), _times(data, index)
    off = np.abs(times - times[0] - np.arange(len(times)) / data.rate)
    if off.max() > 0.25 / data.rate:
        row = int(off.argmax())
        raise ValueError(f"{path}: row {row} is {off[row]:.3f} s off its time at {data.rate:g} rows a second")
    columns, pictures, copies = {}, {}, {}
    for name, feature in writer.features.items():
        if feature["dtype"] in PICTURES:
            frames = episode_frames(data, name, index, times, rows)
            pictures[name] = one_by_one(frames)
            if feature["dtype"] == "video" and isinstance(frames, UnopenedVideo):
                part = _exact_part(frames, data.rate)
                copies |= {name: part} if part else {}
        elif feature["dtype"] == "string":
            columns[name] = data.rows(index, [name])[name].to_pylist()
        else:
            columns[name] = numbers(data.rows(index, [name]), name, path)
    tasks = [words[0] if words else ""] * len(rows)
    if "task_index" in column_names(path):
        found = numbers(data.rows(index, ["task_index"]), "task_index", path)[:, 0].astype(int)
        if unknown := sorted({int(i) for i in found if not 0 <= i < len(words)}):
            raise ValueError(f"{path}: task_index is {unknown[0]}, which has no words in {data.root / 'meta'}")
        tasks = [words[i] for i in found]
    said = {SAID: str(text)} if (text := data.episodes[index].get(SAID)) else None
    writer.add(columns, pictures, tasks, copies=copies, said=said)


def _exact_part(frames: UnopenedVideo, rate: float) -> VideoPart | None:
    """The part of the file whose frames stand at 0, 1 / rate ... seconds after its start; None where they do not."""
    video, at = frames.opened
    shown = video.start + video.timestamps[at]
    exact = np.abs(shown - shown[0] - np.arange(len(at)) / rate).max() < EXACT
    return VideoPart(frames.part.path, float(shown[0]), float(shown[0] + len(at) / rate)) if exact else None


def one_by_one(frames: Frames) -> Iterator[np.ndarray]:
    """The images of a video in order, read a few at a time."""
    for start in range(0, len(frames), 64):
        yield from frames.read(range(start, min(start + 64, len(frames))))


def read_features(root: Path) -> dict[str, Any]:
    """By column what a LeRobot folder's info.json says, also where it has no episode yet."""
    return json.loads((root / "meta" / "info.json").read_text())["features"]
