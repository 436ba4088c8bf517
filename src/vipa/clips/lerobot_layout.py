"""The LeRobot layout, v2.0, v2.1 and v3: what meta/ says, an episode's rows, and the frames that belong to them."""

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
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vipa.clips.clip import end_of
from vipa.clips.video import VideoFrames
from vipa.io.json_files import read_json, read_json_lines


@dataclass(frozen=True)
class VideoPart:
    """Where an episode's pictures are. start, end: seconds on the file's clock; end None: to the file's end."""

    path: Path
    start: float = 0.0
    end: float | None = None


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

    @property
    def views(self) -> tuple[str, ...]:
        """Camera features for which the first episode has a video (a data set may declare others)."""
        first = min(self.episodes)
        names = [k for k, f in self.features.items() if f.get("dtype") == "video"]
        return tuple(name for name in names if self._has_video(name, first))

    def _has_video(self, view: str, episode: int) -> bool:
        try:
            return self.video(view, episode).path.is_file()
        except ValueError:
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
            mine = table.filter(pc.equal(table["episode_index"], episode))
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
    """Reads meta/. FileNotFoundError where it is missing, ValueError for another version or a damaged file."""
    root = Path(root)
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
    return pq.read_table(path, columns=None if columns is None else list(columns), partitioning=None)


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


def paired(times: np.ndarray, video: VideoFrames, part: VideoPart, rate: float) -> tuple[np.ndarray, str | None]:
    """(the frame of each row, how far the video goes beyond the rows in words, or None).

    times: of the rows, seconds, on whatever clock: they are looked for on the file's own clock, from its first frame
    on, and from the first row on, and the first that fits all rows counts. ValueError where none does within half a
    frame, or where a row lies beyond the episode's part of the file.
    """
    steps = np.diff(times)
    if not (np.isfinite(times).all() and (steps > 0).all()):
        raise ValueError("the rows' timestamps must be finite and increase")
    step = float(np.median(steps)) if len(steps) else 1 / rate
    frames = video.timestamps
    frame_step = float(np.median(np.diff(frames))) if len(frames) > 1 else step
    half = 0.5 * min(step, frame_step)
    fits = []
    for rows, origin in ((times, video.start), (times, 0.0), (times - times[0], 0.0)):
        wanted = part.start + rows - origin
        nearest = _nearest(frames, wanted)
        off = np.abs(frames[nearest] - wanted)
        fits.append((float(off.max()), int(off.argmax()), nearest, wanted, origin))
    worst, row, nearest, wanted, origin = next(
        (fit for fit in fits if fit[0] <= 1.001 * half + 1e-4), min(fits, key=lambda fit: fit[0])
    )
    if worst > 1.001 * half + 1e-4:
        raise ValueError(
            f"row {row} at {times[row]:.3f} s has no frame in {video.path}: the nearest is {worst:.3f} s away "
            f"(the video lasts {end_of(frames):.3f} s, the rows {times[-1] - times[0] + step:.3f} s)"
        )
    end = end_of(frames) if part.end is None else part.end - origin
    if part.end is not None and wanted[-1] > end - step / 4:
        raise ValueError(
            f"row {len(times) - 1} at {times[-1]:.3f} s lies beyond the episode's part of {video.path} "
            f"({part.start:.3f} to {part.end:.3f} s)"
        )
    beyond = {
        "after the last row": end - wanted[-1] - step,
        "before the first row": wanted[0] - part.start + origin,
    }
    notes = [f"{over:.2f} s {where}" for where, over in beyond.items() if over > 0.75 * step]
    return nearest, f"the video goes on {' and '.join(notes)}" if notes else None


def _nearest(sorted_times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if len(sorted_times) == 1:
        return np.zeros(len(wanted), int)
    after = np.searchsorted(sorted_times, wanted).clip(1, len(sorted_times) - 1)
    nearer = wanted - sorted_times[after - 1] <= sorted_times[after] - wanted
    return np.where(nearer, after - 1, after)


def task_runs(indices: np.ndarray) -> list[tuple[int, int, int]]:
    """(start, stop, task) of each stretch of rows of one task."""
    values = np.asarray(indices, dtype=np.float64).astype(np.int64)
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(a, b, int(values[a])) for a, b in pairwise(edges)]
