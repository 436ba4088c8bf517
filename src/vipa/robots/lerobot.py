"""Reader of robot data sets in the LeRobot layout, versions 2.0 and 2.1 (one Parquet and one mp4 an episode)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vipa.clips.video import VideoFrames
from vipa.robots.contract import ActionContract
from vipa.robots.episodes import Episode, EpisodeSet

STATE, ACTION = "observation.state", "action"
KNOWN_VERSIONS = ("v2.0", "v2.1")


@dataclass(frozen=True)
class LeRobotInfo:
    """What meta/ says. features: per column dtype, shape and names, as the file has it."""

    root: Path
    rate: float
    features: dict[str, Any]
    data_path: str
    video_path: str | None
    chunk_size: int
    episodes: dict[int, dict[str, Any]]
    tasks: dict[int, str]

    @property
    def views(self) -> tuple[str, ...]:
        """Camera features for which the first episode has a video (a data set may declare others)."""
        first = min(self.episodes)
        names = [k for k, f in self.features.items() if f["dtype"] == "video"]
        return tuple(name for name in names if self.video(name, first).is_file())

    def data(self, episode: int) -> Path:
        return self.root / self.data_path.format(episode_chunk=episode // self.chunk_size, episode_index=episode)

    def video(self, view: str, episode: int) -> Path:
        if self.video_path is None:
            raise ValueError(f"{self.root}: meta/info.json gives no video_path")
        return self.root / self.video_path.format(
            episode_chunk=episode // self.chunk_size, episode_index=episode, video_key=view
        )

    def dimension_names(self, column: str) -> list[str]:
        names = self.features[column].get("names")
        if isinstance(names, dict):  # {"motors": [...]} in some data sets
            names = next(iter(names.values()))
        width = self.features[column]["shape"][0]
        return [str(n) for n in names] if names else [f"{column}_{i}" for i in range(width)]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def read_info(root: Path) -> LeRobotInfo:
    """Reads meta/. FileNotFoundError where it is missing, ValueError for another version or missing columns."""
    root = Path(root)
    info = json.loads((root / "meta" / "info.json").read_text())
    version = info.get("codebase_version")
    if version not in KNOWN_VERSIONS:
        raise ValueError(
            f"{root}: LeRobot {version} is not read here, only {', '.join(KNOWN_VERSIONS)}; convert it with "
            "LeRobot's own converter"
        )
    for column in (STATE, ACTION):
        if column not in info["features"]:
            raise ValueError(f"{root}: the data set has no column {column!r}")
    return LeRobotInfo(
        root=root,
        rate=float(info["fps"]),
        features=info["features"],
        data_path=info["data_path"],
        video_path=info.get("video_path"),
        chunk_size=int(info["chunks_size"]),
        episodes={e["episode_index"]: e for e in _lines(root / "meta" / "episodes.jsonl")},
        tasks={t["task_index"]: t["task"] for t in _lines(root / "meta" / "tasks.jsonl")},
    )


@dataclass(frozen=True)
class UnopenedVideo:
    """A video file that is opened when a frame is read; its length is that of the episode's table."""

    path: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """RGB images (n, height, width, 3). ValueError where the file is broken or has another length."""
        video = VideoFrames(self.path)
        if len(video) != self.count:
            raise ValueError(f"{self.path}: the video has {len(video)} frames, its episode {self.count} rows")
        return video.read(indices)


def read_lerobot_episode(path: Path, info: LeRobotInfo, text_column: str, views: tuple[str, ...]) -> Episode:
    """One episode; `path` is its Parquet file. ValueError naming the file where it is broken."""
    index = int(Path(path).stem.rsplit("_", 1)[1])
    try:
        table = pq.read_table(path, columns=[STATE, ACTION, text_column])
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    task = table[text_column][0].as_py()
    return Episode(
        id=Path(path).stem,
        views={view: UnopenedVideo(info.video(view, index), len(table)) for view in views},
        state=np.array(table[STATE].to_pylist(), dtype=np.float64),
        action=np.array(table[ACTION].to_pylist(), dtype=np.float64),
        text=info.tasks[task],
        rate=info.rate,
    )


def read_lerobot(root: Path, contract: ActionContract, text_column: str = "task_index") -> EpisodeSet:
    """Episodes of a LeRobot v2.0 or v2.1 data set, opened when indexed.

    contract: what the numbers mean; the files do not say, so it is yours to state. Its rate, widths and views
    are checked against the data set (ValueError). text_column: the integer column that indexes tasks.jsonl;
    some data sets keep the instruction in another one (GR00T: "annotation.human.action.task_description").
    """
    info = read_info(root)
    wrong = [
        f"{name}: {mine} in the contract, {theirs} in the data"
        for name, mine, theirs in (
            ("rate", contract.rate, info.rate),
            ("state dimensions", len(contract.state), info.features[STATE]["shape"][0]),
            ("action dimensions", len(contract.action), info.features[ACTION]["shape"][0]),
        )
        if mine != theirs
    ]
    wrong += [f"view {v!r} is not among {', '.join(info.views)}" for v in contract.views if v not in info.views]
    if wrong:
        raise ValueError(f"{root}: " + "; ".join(wrong))
    paths = tuple(info.data(i) for i in sorted(info.episodes))
    if missing := [p for p in paths if not p.is_file()]:
        raise FileNotFoundError(f"{missing[0]}: listed in meta/episodes.jsonl but not there")
    opener = partial(read_lerobot_episode, info=info, text_column=text_column, views=contract.views)
    return EpisodeSet(contract, paths, opener)
