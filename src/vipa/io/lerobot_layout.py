"""The LeRobot layout, v2.0, v2.1 and v3: what meta/ says, an episode's rows, where its pictures are, its statistics."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vipa.io.frame_times import VideoPart
from vipa.io.hub_data import local_folder
from vipa.io.json_files import read_json, read_json_lines
from vipa.io.lerobot_statistics import STATISTICS, ColumnStatistics, combined, from_entry

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
"""Where version 3 keeps rows and videos."""


@dataclass(frozen=True)
class LeRobotSet:
    """What meta/ says. features: per column dtype, shape and names, as the file has it. rate: rows a second."""

    root: Path
    third: bool  # v3: a file holds many episodes
    rate: float
    features: dict[str, Any]
    data_path: str
    video_path: str | None
    chunk_size: int
    episodes: dict[int, dict[str, Any]]
    tasks: dict[int, str]
    robot: str | None = None  # its type, as info.json says it

    @property
    def views(self) -> tuple[str, ...]:
        """Camera features that the first episode has as a video or as a column of images (a data set may declare
        others)."""
        return tuple(name for name in self.features if self._has_pictures(name, min(self.episodes)))

    def kept_as(self, view: str) -> str:
        """`video` or `image` for a camera feature, else what the feature's numbers are."""
        return str(self.features.get(view, {}).get("dtype"))

    def _has_pictures(self, name: str, episode: int) -> bool:
        try:
            if self.kept_as(name) == "image":
                return name in column_names(self.data(episode))
            return self.kept_as(name) == "video" and self.video(name, episode).path.is_file()
        except (ValueError, FileNotFoundError):
            return False

    def width(self, column: str) -> int | None:
        """Numbers a row, as info.json says; None where it does not."""
        shape = self.features.get(column, {}).get("shape")
        return None if shape is None else int(np.prod(shape))

    def dimension_names(self, column: str) -> list[str]:
        """One name a number; numbered where info.json has none, or another count of them."""
        names = [str(n) for n in _flat_names(self.features.get(column, {}).get("names"))]
        width = self.width(column)
        count = len(names) if width is None else width
        return names if len(set(names)) == count else [f"{column}_{i}" for i in range(count)]

    def data(self, episode: int) -> Path:
        """The file of an episode's rows."""
        return self.root / self._place(self.data_path, "data", episode)

    def rows(self, episode: int, columns: Iterable[str]) -> pa.Table:
        """An episode's rows in order. ValueError naming the file that has none, others, or no such column."""
        path = self.data(episode)
        columns = list(dict.fromkeys(columns))
        there = column_names(path)
        keys = [name for name in ("episode_index",) if name in there]
        if missing := [c for c in columns if c not in there]:
            raise ValueError(f"{path} has no column {missing[0]!r}; it has {', '.join(sorted(there))}")
        table = _columns(path, tuple(dict.fromkeys([*columns, *keys])))
        if keys:
            mine = table.filter(pa.array(table["episode_index"].to_numpy() == episode))
            if not len(mine):
                raise ValueError(f"episode {episode} has no rows in {path}")
            if len(mine) < len(table) and not self.third:
                raise ValueError(f"{path}: {len(table) - len(mine)} rows are not of episode {episode}")
            table = mine
        length = self.episodes[episode].get("length")
        if not len(table) or (length is not None and int(length) != len(table)):
            raise ValueError(f"{path}: {len(table)} rows of episode {episode}, meta/ says {length}")
        return table.select(columns)

    def times(self, table: pa.Table) -> np.ndarray:
        """(rows,) seconds on the data set's own clock, which may be the time of day."""
        if "timestamp" in table.column_names:
            return numbers(table, "timestamp", "the table")[:, 0]
        return np.arange(len(table)) / self.rate

    def images(self, view: str, episode: int) -> list[bytes]:
        """The image files (PNG, JPEG) of an episode's rows. ValueError where a row has none."""
        out = []
        for i, value in enumerate(self.rows(episode, [view])[view].to_pylist()):
            data, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
            if data is None and name and (self.root / name).is_file():
                data = (self.root / name).read_bytes()
            if not isinstance(data, bytes):
                raise ValueError(f"{self.data(episode)}: column {view!r} has no image in row {i}")
            out.append(data)
        return out

    def statistics(self, episode: int | None = None) -> dict[str, ColumnStatistics]:
        """By column, of an episode (v2.1 and v3) or of the whole set, as meta/ says them; {} where it does not."""
        if episode is None:
            path = self.root / "meta" / "stats.json"
            if path.is_file():
                return {name: _arrays(values) for name, values in read_json(path).items()}
            return combined([self.statistics(index) for index in self.episodes])
        if not self.third:
            return {
                name: _arrays(values) for name, values in _episode_statistics(self.root).get(episode, {}).items()
            }
        return from_entry(self.episodes[episode])

    def video(self, view: str, episode: int) -> VideoPart:
        """ValueError where meta/ does not say where it is."""
        if self.video_path is None:
            raise ValueError(f"{self.root}: meta/info.json gives no video_path")
        path = self.root / self._place(self.video_path, f"videos/{view}", episode, view)
        if not self.third:
            return VideoPart(path)
        entry = self.episodes[episode]
        start, end = (entry.get(f"videos/{view}/{name}_timestamp") for name in ("from", "to"))
        if start is None:
            raise ValueError(f"{self.root}: meta/episodes gives no from_timestamp of {view} in episode {episode}")
        return VideoPart(path, float(start), None if end is None else float(end))

    def _place(self, template: str, prefix: str, episode: int, view: str = "") -> str:
        entry, known = self.episodes[episode], {"episode_index": episode, "video_key": view}
        if self.third:
            for name in ("chunk_index", "file_index"):
                if entry.get(f"{prefix}/{name}") is None:
                    raise ValueError(f"{self.root}: meta/episodes gives no {prefix}/{name} of episode {episode}")
                known[name] = int(entry[f"{prefix}/{name}"])
        else:
            known["episode_chunk"] = episode // self.chunk_size
        try:
            return template.format(**known)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{self.root}: meta/info.json: the path {template!r} needs {error}") from None


def read_set(root: Path) -> LeRobotSet:
    """Reads meta/ of a folder, or of a data set on the hub. FileNotFoundError where it is missing, ValueError for
    another version or a damaged file."""
    root = local_folder(root)
    path = root / "meta" / "info.json"
    info = read_json(path)
    version = str(info.get("codebase_version", "v2.0"))
    if not version.startswith(("v2.", "v3.")):
        raise ValueError(
            f"{root}: LeRobot {version} is not read here, only v2.0, v2.1 and v3; convert it with LeRobot's own "
            "converter"
        )
    if missing := [name for name in ("fps", "features", "data_path") if name not in info]:
        raise ValueError(f"{path}: no {', '.join(missing)}")
    third = version.startswith("v3.")
    episodes = _keyed(_episodes(root, third), "episode_index", root / "meta" / "episodes")
    if not episodes:
        raise ValueError(f"{root}: meta/ names no episodes")
    lengths = [int(entry["length"]) for entry in episodes.values() if entry.get("length") is not None]
    if third and len(lengths) == len(episodes) and info.get("total_frames", sum(lengths)) != sum(lengths):
        raise ValueError(f"{path}: total_frames is {info['total_frames']}, the episodes have {sum(lengths)} rows")
    tasks = _keyed(_tasks(root), "task_index", root / "meta" / "tasks")
    return LeRobotSet(
        root=root,
        third=third,
        rate=float(info["fps"]),
        features=info["features"],
        data_path=info["data_path"],
        video_path=info.get("video_path"),
        chunk_size=int(info.get("chunks_size", 1000)),
        episodes=episodes,
        robot=info.get("robot_type"),
        # v3 keeps the words in the table's index
        tasks={i: str(t.get("task") or t.get("__index_level_0__") or "") for i, t in tasks.items()},
    )


def _episodes(root: Path, third: bool) -> list[dict[str, Any]]:
    if not third:
        return read_json_lines(root / "meta" / "episodes.jsonl")
    paths = sorted((root / "meta" / "episodes").glob("**/*.parquet"))
    return [row for path in paths for row in _columns(path, None).to_pylist()]


def _tasks(root: Path) -> list[dict[str, Any]]:
    if (path := root / "meta" / "tasks.parquet").is_file():
        return _columns(path, None).to_pylist()
    return read_json_lines(path) if (path := root / "meta" / "tasks.jsonl").is_file() else []


@lru_cache(maxsize=4)
def _episode_statistics(root: Path) -> dict[int, dict[str, Any]]:
    """v2.1."""
    path = root / "meta" / "episodes_stats.jsonl"
    entries = _keyed(read_json_lines(path), "episode_index", path) if path.is_file() else {}
    return {index: entry.get("stats", {}) for index, entry in entries.items()}


def _arrays(values: dict[str, Any]) -> ColumnStatistics:
    return {name: np.asarray(values[name]) for name in STATISTICS if values.get(name) is not None}


def _keyed(entries: list[dict[str, Any]], key: str, place: Path) -> dict[int, dict[str, Any]]:
    out: dict[int, dict[str, Any]] = {}
    for entry in entries:
        if not isinstance(entry.get(key), int):
            raise ValueError(f"{place}: an entry has no whole number {key!r}: {str(entry)[:80]}")
        if entry[key] in out:
            raise ValueError(f"{place}: {key} {entry[key]} stands there twice")
        out[entry[key]] = entry
    return dict(sorted(out.items()))


def _flat_names(names: Any) -> list[Any]:
    """Of a list, nested lists, {"motors": [...]}, {"motors": {name: place}} or null."""
    if isinstance(names, dict):
        if names and all(isinstance(v, int) for v in names.values()):
            return sorted(names, key=lambda name: names[name])
        several = len(names) > 1
        return [f"{k}.{n}" if several else n for k, v in names.items() for n in _flat_names(v)]
    if isinstance(names, (list, tuple)):
        return [flat for name in names for flat in _flat_names(name)]
    return [] if names is None else [names]


def column_names(path: Path) -> list[str]:
    """Of a Parquet file. FileNotFoundError, or ValueError where it is damaged, naming it."""
    with _named(path):
        return pq.read_schema(path).names


def _columns(path: Path, columns: tuple[str, ...] | None) -> pa.Table:
    with _named(path):
        return _read_table(path, path.stat().st_mtime_ns, columns)


@lru_cache(maxsize=2)
def _read_table(path: Path, modified: int, columns: tuple[str, ...] | None) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(columns=None if columns is None else list(columns))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def numbers(table: pa.Table, column: str, origin: object) -> np.ndarray:
    """(rows, width) float64 of a column of numbers or of lists of them, nested or not; a row of null is NaN.

    A column of plain numbers has width 1. ValueError naming `origin`, the column and the row of another width.
    """
    rows: list[np.ndarray] = []
    for i, value in enumerate(table[column].to_pylist()):
        try:
            rows.append(np.asarray([] if value is None else value, dtype=np.float64).ravel())
        except (TypeError, ValueError):
            raise ValueError(f"{origin}: column {column!r} holds no list of numbers in row {i}") from None
    widths = Counter(len(row) for row in rows if len(row))
    if not widths:
        raise ValueError(f"{origin}: column {column!r} is empty")
    width = widths.most_common(1)[0][0]
    for i, row in enumerate(rows):
        if len(row) not in (0, width):
            raise ValueError(f"{origin}: column {column!r} has {len(row)} numbers in row {i}, {width} in others")
    return np.stack([row if len(row) else np.full(width, np.nan) for row in rows])


def task_runs(indices: np.ndarray) -> list[tuple[int, int, int]]:
    """(start, stop, task) of each stretch of rows of one task."""
    values = np.asarray(indices, dtype=np.float64).astype(np.int64)
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(a, b, int(values[a])) for a, b in pairwise(edges)]
