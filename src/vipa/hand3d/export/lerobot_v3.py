"""Clips as a LeRobot v3 data set whose embodiment is the human hand."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vipa.clips.clip import Clip, ClipError
from vipa.hand3d.config import HandsConfig
from vipa.hand3d.measure.motion import wrists_in_camera
from vipa.hand3d.measure.wrists import wrist_path
from vipa.hands.skeleton import SIDES
from vipa.io.files import atomic_write

IMAGE = "observation.images.ego"
NAMES = [f"{side}_wrist_{axis}" for side in SIDES for axis in "xyz"] + [f"{side}_known" for side in SIDES]


def export_lerobot(clips: Iterable[Clip | ClipError], out: str | Path, rate: float = 10.0) -> dict[str, int]:
    """Writes the clips, one episode each, at `rate` frames per second; returns counts of episodes, frames, refused.

    observation.state: both wrists in metres in this frame's camera (OpenCV), then for each hand 1 where it is known
    (its numbers are 0 where not). action: the same of the next frame, in this frame's camera. Images are kept in the
    tables (dtype image). The task is the clip's longest text. Clips without camera poses or texts are refused.
    stats.json has images per channel, 0 ... 1, of every fourth row and column: LeRobot's training asks for them.
    All images must have one size: ValueError otherwise.
    """
    out, tasks = Path(out), {}
    episodes: list[dict[str, Any]] = []
    sums = {k: _Sums() for k in ("observation.state", "action", IMAGE)}
    total, refused, shape = 0, 0, None
    for clip in clips:
        if isinstance(clip, ClipError) or clip.T_world_camera is None or not clip.texts:
            refused += 1
            continue
        size = (clip.intrinsics.height, clip.intrinsics.width, 3)
        shape = shape or size
        if size != shape:
            raise ValueError(
                f"clip {clip.id!r} has images of {size[1]} x {size[0]}, the first one {shape[1]} x {shape[0]}"
            )
        task = max(clip.texts, key=lambda text: text.end - text.start).text
        task_index = tasks.setdefault(task, len(tasks))
        frames, state, action = hand_states(clip, rate)
        if len(frames) == 0:
            refused += 1
            continue
        episode = len(episodes)
        rows = []
        for i, frame in enumerate(frames.tolist()):
            image = clip.frames.read([frame])[0]
            sums[IMAGE].add(image[::4, ::4].reshape(-1, 3) / 255.0)
            rows.append(
                {
                    IMAGE: {"bytes": _png(image), "path": f"frame-{i:06d}.png"},
                    "observation.state": state[i].tolist(),
                    "action": action[i].tolist(),
                    "timestamp": i / rate,
                    "frame_index": i,
                    "episode_index": episode,
                    "index": total + i,
                    "task_index": task_index,
                }
            )
        sums["observation.state"].add(state)
        sums["action"].add(action)
        file = out / f"data/chunk-{episode // 1000:03d}/file-{episode % 1000:03d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), file)
        episodes.append(
            {
                "episode_index": episode,
                "tasks": [task],
                "length": len(rows),
                "data/chunk_index": episode // 1000,
                "data/file_index": episode % 1000,
                "dataset_from_index": total,
                "dataset_to_index": total + len(rows),
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )
        total += len(rows)
    if shape is None:
        raise ValueError("no clip could be exported: camera poses and texts are needed")
    _write_meta(out, rate, shape, episodes, tasks, total, sums)
    return {"episodes": len(episodes), "frames": total, "refused": refused}


def hand_states(clip: Clip, rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(frame of the clip, state, action) at 0, 1/rate ... seconds; (n,), (n, 8), (n, 8) as `export_lerobot` says."""
    clock = clip.timestamps - clip.timestamps[0]
    steps = np.arange(0.0, clock[-1] - 1.0 / rate + 1e-6, 1.0 / rate)
    frames = np.abs(clock[None] - steps[:, None]).argmin(1) if len(steps) else np.zeros(0, int)
    values = np.zeros((2, len(frames), 8), np.float32)
    paths = {hand.side: wrist_path(clip, hand, HandsConfig()) for hand in clip.hands}
    for i, (frame, time) in enumerate(zip(frames, steps)):
        for side, believed in paths.items():
            at = SIDES.index(side)
            path = wrists_in_camera(clip, believed, np.array([time, time + 1.0 / rate]), int(frame))
            for row, point in zip(values[:, i], path):
                if np.isfinite(point).all():
                    row[3 * at : 3 * at + 3], row[6 + at] = point, 1.0
    return frames, values[0], values[1]


class _Sums:
    """Running minimum, maximum, mean and standard deviation per column."""

    def __init__(self) -> None:
        self.count, self.low, self.high, self.sum, self.squares = 0, np.inf, -np.inf, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        values = values.astype(np.float64)
        self.count += len(values)
        self.low, self.high = np.minimum(self.low, values.min(0)), np.maximum(self.high, values.max(0))
        self.sum, self.squares = self.sum + values.sum(0), self.squares + (values**2).sum(0)

    def as_json(self, shape: tuple[int, ...], count: int) -> dict[str, Any]:
        """shape: of each column's numbers. count: of frames."""
        mean = self.sum / self.count
        std = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0.0))
        columns = {"min": self.low, "max": self.high, "mean": mean, "std": std}
        return {**{k: np.asarray(v).reshape(shape).tolist() for k, v in columns.items()}, "count": [count]}


def _schema() -> pa.Schema:
    numbers = pa.list_(pa.float32(), len(NAMES))
    return pa.schema(
        [
            (IMAGE, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            ("observation.state", numbers),
            ("action", numbers),
            ("timestamp", pa.float32()),
            *((name, pa.int64()) for name in ("frame_index", "episode_index", "index", "task_index")),
        ]
    )


def _write_meta(
    out: Path,
    rate: float,
    shape: tuple[int, int, int],
    episodes: list[dict[str, Any]],
    tasks: dict[str, int],
    total: int,
    sums: dict[str, _Sums],
) -> None:
    one = {name: {"dtype": "int64", "shape": [1], "names": None} for name in
           ("frame_index", "episode_index", "index", "task_index")}  # fmt: skip
    info = {
        "codebase_version": "v3.0",
        "robot_type": "human_hand",
        "total_episodes": len(episodes),
        "total_frames": total,
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": int(rate) if float(rate).is_integer() else rate,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": {
            IMAGE: {"dtype": "image", "shape": list(shape), "names": ["height", "width", "channels"]},
            **{k: {"dtype": "float32", "shape": [len(NAMES)], "names": NAMES} for k in sums if k != IMAGE},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **one,
        },
    }
    meta = out / "meta"
    (meta / "episodes/chunk-000").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(episodes), meta / "episodes/chunk-000/file-000.parquet")
    import pandas

    pandas.DataFrame({"task_index": list(tasks.values())}, index=list(tasks)).to_parquet(meta / "tasks.parquet")
    stats = {k: v.as_json((3, 1, 1) if k == IMAGE else (-1,), total) for k, v in sums.items()}
    atomic_write(meta / "stats.json", json.dumps(stats, indent=1))
    atomic_write(meta / "info.json", json.dumps(info, indent=1))


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
