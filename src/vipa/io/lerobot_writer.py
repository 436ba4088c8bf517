"""Writing LeRobot v3 episode by episode, so that a recording that was stopped goes on.

    root/
      data/chunk-000/file-000.parquet             the rows of episode 0, and so on
      videos/<view>/chunk-000/file-000.mp4        its pictures, where they are kept as videos
      meta/episodes/chunk-000/file-000.parquet    what is known of the first hundred episodes: tasks, places, statistics
      meta/{info.json, stats.json, tasks.parquet}

An episode counts once meta/episodes names it; what a killed recording left of the next one is cleared when the folder
is opened again. One file an episode keeps each of them whole or absent; LeRobot's own tools join files where a set of
many thousands wants it. Written here and not by the lerobot package, which brings torchvision and a hundred others.
"""

import io
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vipa.io.files import atomic_write, remove, whole_file
from vipa.io.frame_times import VideoPart
from vipa.io.json_files import read_json
from vipa.io.json_log import differences
from vipa.io.lerobot_layout import DATA_PATH, VIDEO_PATH
from vipa.io.lerobot_statistics import (
    ColumnStatistics,
    PictureCounts,
    as_entry,
    column_statistics,
    combined,
    from_entry,
)
from vipa.io.video_writer import write_video

CHUNK, EPISODES_A_FILE = 1000, 100
PICTURES = ("video", "image")
INDEX = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64",
         "task_index": "int64"}  # fmt: skip
"""Columns that the writer fills in, with what they are made of."""
ENCODER = {"crf": "18", "g": "2", "preset": "medium"}
"""Every second frame can be read without those before it, as in LeRobot's own videos."""


def numbers_feature(names: Sequence[str], dtype: str = "float32") -> dict[str, Any]:
    """A column of as many numbers as names."""
    return {"dtype": dtype, "shape": [len(names)], "names": list(names)}


def picture_feature(height: int, width: int, kept_as: str = "video") -> dict[str, Any]:
    """A camera. kept_as: `video` (H.264, small) or `image` (PNG in the table, exact)."""
    return {"dtype": kept_as, "shape": [height, width, 3], "names": ["height", "width", "channels"]}


class LeRobotWriter:
    """Makes or goes on with a data set. ValueError where the folder holds another one.

    rate: rows a second. features: by column `numbers_feature` or `picture_feature`, or as another set's info.json has
    them; without those of `INDEX`. robot: its type. tasks: words that have the first task indices.
    """

    def __init__(
        self, root: Path, *, rate: float, features: dict[str, Any], robot: str | None, tasks: Sequence[str] = ()
    ):
        self.root, self.rate, self.features = Path(root), float(rate), dict(features)
        for name, feature in self.features.items():
            if len(feature.get("shape") or ()) != (3 if feature.get("dtype") in PICTURES else 1):
                raise ValueError(
                    f"column {name!r}: LeRobot features need dtype and shape, here they are {feature}"
                )
        self.robot, self.tasks = robot, list(tasks)
        self._copied: dict[tuple[str, Path], dict[str, int]] = {}  # a file of several episodes is taken over once
        self.entries: list[dict[str, Any]] = []
        self.statistics: dict[str, ColumnStatistics] = {}
        if (self.root / "meta" / "info.json").is_file():
            self._resume()
        else:
            if self.root.exists() and any(path.name != "meta" for path in self.root.iterdir()):
                raise ValueError(f"{self.root}: holds something else; choose an empty folder")
            self._write_tasks()
        for unfinished in self.root.rglob(".*.tmp"):  # of a writer that was killed
            remove(unfinished)
        self._write_info()

    def __len__(self) -> int:
        """Episodes that are written."""
        return len(self.entries)

    def add(
        self,
        columns: dict[str, Any],
        pictures: dict[str, Iterable[np.ndarray]],
        tasks: str | Sequence[str],
        *,
        copies: dict[str, VideoPart] | None = None,
        said: dict[str, str] | None = None,
    ) -> int:
        """Appends an episode and returns its index.

        columns: (n, d) numbers, or n strings, per feature that is no camera. pictures: per camera n images (height,
        width, 3) uint8, taken one by one. tasks: in words, one, or one a row. copies: cameras whose video file is
        taken over as it is (its pictures are looked at for statistics alone). said: further text columns of
        meta/episodes, the same ones in every episode. ValueError where a column is missing, unknown, of another length
        or width, or not finite.
        """
        views = [name for name, feature in self.features.items() if feature["dtype"] in PICTURES]
        numbers = [name for name in self.features if name not in views]
        if wrong := sorted({*columns} ^ {*numbers} | {*pictures} ^ {*views}):
            raise ValueError(f"{self.root}: an episode has other columns than the data set: {', '.join(wrong)}")
        values = {name: self._checked(name, columns[name]) for name in numbers}
        n = len(next(iter(values.values()))) if values else 0
        if not n or {len(v) for v in values.values()} != {n}:
            raise ValueError(f"{self.root}: columns of {[len(v) for v in values.values()]} rows in one episode")
        words = [tasks] * n if isinstance(tasks, str) else list(tasks)
        if len(words) != n:
            raise ValueError(f"{self.root}: {len(words)} tasks for {n} rows")
        episode, first = len(self), self.entries[-1]["dataset_to_index"] if self.entries else 0
        place = {"chunk_index": episode // CHUNK, "file_index": episode % CHUNK}
        arrays, entry, statistics = {}, {}, {}
        for view in views:
            counts = PictureCounts()
            images = self._counted(view, pictures[view], counts, n)
            if self.features[view]["dtype"] == "image":
                arrays[view] = pa.array([_png(image, i) for i, image in enumerate(images)])
            else:
                entry |= self._video(view, place, images, n, (copies or {}).get(view))
            statistics[view] = counts.statistics()
        arrays |= {name: _array(v, self.features[name]) for name, v in values.items()}
        statistics |= {name: column_statistics(v) for name, v in values.items() if v.dtype.kind != "U"}
        new = [word for word in dict.fromkeys(words) if word not in self.tasks]
        self.tasks += new
        index = {
            "timestamp": np.arange(n) / self.rate,
            "frame_index": np.arange(n),
            "episode_index": np.full(n, episode),
            "index": first + np.arange(n),
            "task_index": np.array([self.tasks.index(word) for word in words]),
        }
        arrays |= {name: pa.array(index[name].astype(dtype)) for name, dtype in INDEX.items()}
        with whole_file(self._path("data", place, "parquet")) as beside:
            pq.write_table(pa.table(arrays), beside)
        if new:
            self._write_tasks()
        self.entries.append(
            {
                "episode_index": episode,
                "tasks": list(dict.fromkeys(words)),
                "length": n,
                **{f"data/{key}": value for key, value in place.items()},
                **entry,
                "dataset_from_index": first,
                "dataset_to_index": first + n,
                "meta/episodes/chunk_index": episode // EPISODES_A_FILE // CHUNK,
                "meta/episodes/file_index": episode // EPISODES_A_FILE % CHUNK,
                **(said or {}),
                **as_entry(statistics),
            }
        )
        self._write_entries()
        self.statistics = combined([self.statistics, statistics] if episode else [statistics])
        self._write_info()
        return episode

    def finish(self) -> None:
        """Puts quantiles of all rows into stats.json; images have them per episode only. More may be added later."""
        self.statistics = combined([from_entry(entry) for entry in self.entries])
        for name, feature in self.features.items():
            if feature["dtype"] not in (*PICTURES, "string") and self.entries:
                rows = [self._numbers(name, entry) for entry in self.entries]
                self.statistics[name] = column_statistics(np.concatenate(rows))
        self._write_info()

    # -- inside -------------------------------------------------------------------------------------------------

    def _numbers(self, name: str, entry: dict[str, Any]) -> np.ndarray:
        place = {key: entry[f"data/{key}"] for key in ("chunk_index", "file_index")}
        with pq.ParquetFile(self._path("data", place, "parquet")) as file:
            values = file.read(columns=[name])[name].combine_chunks()
        if isinstance(values, pa.FixedSizeListArray):
            values = values.flatten()
        return values.to_numpy(zero_copy_only=False).reshape(entry["length"], -1)

    def _checked(self, name: str, given: Any) -> np.ndarray:
        feature = self.features[name]
        if feature["dtype"] == "string":
            return np.array([str(value) for value in given])
        values = np.asarray(given, feature["dtype"])
        values = values.reshape(len(values), -1)
        if values.shape[1] != feature["shape"][0]:
            raise ValueError(
                f"column {name!r} has {values.shape[1]} numbers a row, its feature {feature['shape'][0]}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"column {name!r} holds values that are not finite")
        return values

    def _counted(
        self, view: str, images: Iterable[np.ndarray], counts: PictureCounts, n: int
    ) -> Iterator[np.ndarray]:
        for image in images:
            if list(image.shape) != list(self.features[view]["shape"]):
                raise ValueError(
                    f"{view!r}: an image is {image.shape}, its feature {self.features[view]['shape']}"
                )
            counts.add(image)
            yield image
        if counts.frames != n:
            raise ValueError(f"{view!r} has {counts.frames} images for {n} rows")

    def _path(self, folder: str, place: dict[str, int], ending: str) -> Path:
        return (
            self.root / folder / f"chunk-{place['chunk_index']:03d}" / f"file-{place['file_index']:03d}.{ending}"
        )

    def _video(
        self, view: str, place: dict[str, int], images: Iterator[np.ndarray], n: int, copy: VideoPart | None
    ) -> dict[str, Any]:
        path, start = self._path(f"videos/{view}", place, "mp4"), 0.0
        if copy is None:
            write_video(path, images, self.rate, ENCODER)
        else:
            start = copy.start
            if (view, copy.path) not in self._copied:
                with whole_file(path) as beside:
                    shutil.copyfile(copy.path, beside)
                self._copied[view, copy.path] = place
            place = self._copied[view, copy.path]
            for _ in images:
                pass
        if "info" not in self.features[view]:
            self.features[view] = {**self.features[view], "info": _video_info(path)}
        where = {**place, "from_timestamp": start, "to_timestamp": start + n / self.rate}
        return {f"videos/{view}/{key}": value for key, value in where.items()}

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": "v3.0",
            "robot_type": self.robot,
            "fps": int(self.rate) if self.rate.is_integer() else self.rate,
            "features": {
                **self.features,
                **{name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in INDEX.items()},
            },
        }

    def _write_info(self) -> None:
        films = any(feature["dtype"] == "video" for feature in self.features.values())
        numbers = {
            "total_episodes": len(self),
            "total_frames": self.entries[-1]["dataset_to_index"] if self.entries else 0,
            "total_tasks": len(self.tasks),
            "chunks_size": CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "splits": {"train": f"0:{len(self)}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if films else None,
        }
        if self.entries:
            text = {column: {name: v.tolist() for name, v in of.items()} for column, of in self.statistics.items()}
            atomic_write(self.root / "meta" / "stats.json", json.dumps(text, indent=1))
        atomic_write(self.root / "meta" / "info.json", json.dumps(self._info() | numbers, indent=1))

    def _write_tasks(self) -> None:
        table = pd.DataFrame({"task_index": range(len(self.tasks))}, index=pd.Index(self.tasks, name="task"))
        with whole_file(self.root / "meta" / "tasks.parquet") as beside:
            table.to_parquet(beside)

    def _write_entries(self) -> None:
        """The file of meta/episodes that the last episode belongs to; then it counts."""
        last = self.entries[-1]
        place = {key: last[f"meta/episodes/{key}"] for key in ("chunk_index", "file_index")}
        rows = self.entries[len(self) - 1 - last["episode_index"] % EPISODES_A_FILE :]
        with whole_file(self._path("meta/episodes", place, "parquet")) as beside:
            pq.write_table(pa.Table.from_pylist(rows), beside)

    def _resume(self) -> None:
        there = read_json(self.root / "meta" / "info.json")
        mine = self._info()
        for name, feature in there.get("features", {}).items():  # what only a first video says
            if name in self.features and "info" in feature:
                self.features[name] = {**self.features[name], "info": feature["info"]}
                mine["features"][name] = self.features[name]
        if lines := list(differences({key: there.get(key) for key in mine}, json.loads(json.dumps(mine)))):
            raise ValueError(f"{self.root}: holds another data set: {'; '.join(lines)}; choose another folder")
        for path in sorted((self.root / "meta" / "episodes").glob("*/*.parquet")):
            with pq.ParquetFile(path) as file:
                self.entries += file.read().to_pylist()
        if [entry["episode_index"] for entry in self.entries] != list(range(len(self.entries))):
            raise ValueError(f"{self.root}: meta/episodes skips an episode; this set was not written here")
        self.statistics = combined([from_entry(entry) for entry in self.entries])
        tasks = pd.read_parquet(self.root / "meta" / "tasks.parquet").sort_values("task_index")
        written = [str(word) for word in tasks.index]
        if written[: len(self.tasks)] != self.tasks:
            raise ValueError(
                f"{self.root}: holds another data set: its first tasks are {written[: len(self.tasks)]}"
            )
        self.tasks = written
        for folder in ("data", "videos"):  # what a killed recording left of the next episode
            for path in (self.root / folder).rglob("*file-*"):
                number = int(path.parent.name[6:]) * CHUNK + int(path.stem.partition("file-")[2][:3])
                if number >= len(self):
                    remove(path)


def _array(values: np.ndarray, feature: dict[str, Any]) -> pa.Array:
    """A column of single numbers or words, or of lists of one length, as LeRobot has it."""
    if values.dtype.kind == "U" or feature["shape"][0] == 1:
        return pa.array(values.ravel().tolist() if values.dtype.kind == "U" else values[:, 0])
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _png(image: np.ndarray, row: int) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)  # quick rather than small
    return {"bytes": file.getvalue(), "path": f"frame-{row:06d}.png"}


def _video_info(path: Path) -> dict[str, Any]:
    """What LeRobot's info.json says of a camera's videos, from the first of them."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return {
            "video.height": stream.height,
            "video.width": stream.width,
            "video.codec": stream.codec_context.name,
            "video.pix_fmt": stream.pix_fmt,
            "video.is_depth_map": False,
            "video.fps": float(stream.average_rate or 0),
            "video.channels": 3,
            "has_audio": bool(container.streams.audio),
        }
