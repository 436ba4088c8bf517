"""Human-hand data sets in LeRobot form (v2.x and v3), such as UniHand's: parquet rows, videos, tasks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from vipa.clips.clip import Clip, ClipError, Hand, Text
from vipa.clips.lerobot_frames import EncodedFrames, episode_frames
from vipa.clips.raw_video import camera_of
from vipa.clips.reading import chunks, existing_root, make_hand, read_each, rows
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import FrameSubset, VideoFrames
from vipa.hands.skeleton import SIDES, Side
from vipa.io.frame_times import end_of, paired
from vipa.io.json_files import read_json
from vipa.io.lerobot_layout import LeRobotSet, column_names, numbers, read_set, task_runs

OPTIONS = ("fov_degrees", "seconds")
LICENCE = "the data set's own"
DOWNLOAD = "huggingface.co: any data set in LeRobot form whose columns hold hands"
LAYOUT = """\
ROOT/
  meta/info.json  and  episodes.jsonl, tasks.jsonl (v2) or episodes/, tasks.parquet (v3)
  meta/vipa.json             which columns are what, and the camera:
                             {"video": "observation.images.ego",  (a video or a column of images)
                              "left_joints_camera": "observation.left_joints", "right_joints_camera": "...",
                              "T_world_camera": "observation.camera_pose",
                              "intrinsics": {"fx": ..., "fy": ..., "cx": ..., "cy": ..., "width": ..., "height": ...}}
                             joints: 63 numbers, metres, camera frame (or left_joints_world with T_world_camera);
                             T_world_camera: 16 numbers, row by row, camera to world
  data/chunk-000/episode_000000.parquet (v2) or file-000.parquet (v3)
  videos/chunk-000/<video>/episode_000000.mp4 (v2) or videos/<video>/chunk-000/file-000.mp4 (v3)
Rows and frames meet by their times; each row needs a frame within half a frame of it.
"""


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = existing_root(root)
    if not (root / "meta" / "info.json").is_file():
        raise ValueError(f"{root}: nothing of source 'lerobot' here; expected\n{LAYOUT.rstrip()}")
    mapping = root / "meta" / "vipa.json"
    if not mapping.is_file():
        features = read_json(root / "meta" / "info.json").get("features", {})
        raise ValueError(
            f"{mapping} is missing: say which columns hold the hands and what the camera is; columns are "
            f"{', '.join(sorted(features))}. Its form:\n{LAYOUT.rstrip()}"
        )
    columns = read_json(mapping)
    if "video" not in columns:
        raise ValueError(f"{mapping}: no entry 'video', which names the camera")
    data = read_set(root)
    found = [(f"{root.resolve().name}_{index:06d}", index) for index in data.episodes]
    return read_each(
        "lerobot", root, LAYOUT, found, lambda name, index: _read(name, data, columns, index, options)
    )


def _read(
    name: str, data: LeRobotSet, columns: dict, index: int, options: SourceOptions
) -> Iterator[Clip | ClipError]:
    wanted = [columns[key] for key in _COLUMNS if key in columns]
    path = data.data(index)
    wanted += [c for c in ("timestamp", "task_index") if c in column_names(path)]
    table = data.rows(index, wanted)
    n, times = len(table), data.times(table)
    pictures = episode_frames(data, columns["video"], index, times, range(n))
    if isinstance(pictures, EncodedFrames):
        video, frames, beyond = pictures, pictures, None
    else:
        video = VideoFrames(pictures.part.path)
        at, beyond = paired(times, video, pictures.part, data.rate)
        frames = FrameSubset(video, tuple(at.tolist()))
    T_world_camera = None
    if "T_world_camera" in columns:
        T_world_camera = rows(_column(data, table, columns["T_world_camera"]), n, "T_world_camera", (4, 4))
    hands = [_hand(side, data, table, columns, T_world_camera) for side in SIDES]
    texts, unknown = _texts(data, table, times - times[0])
    notes = {k: v for k, v in (("video", beyond), ("texts", unknown)) if v}
    intrinsics, view = camera_of(video, columns, options, notes)
    clip = Clip(
        id=name,
        source="lerobot",
        source_video=name,
        frames=frames,
        timestamps=times - times[0],
        intrinsics=intrinsics,
        field_of_view=view,
        T_world_camera=T_world_camera,
        hands=tuple(h for h in hands if h is not None),
        texts=texts,
        licence=str(columns.get("licence", "unknown")),
        notes=notes,
    )
    if not clip.hands:
        raise ValueError("no hand is known in this episode (columns of meta/vipa.json)")
    yield from chunks(clip, options.seconds)


_COLUMNS = ("T_world_camera", *(f"{side}_joints_{frame}" for side in SIDES for frame in ("camera", "world")))
"""Entries of meta/vipa.json that name a column."""


def _hand(
    side: Side, data: LeRobotSet, table: pa.Table, columns: dict, T_world_camera: np.ndarray | None
) -> Hand | None:
    n = len(table)
    if f"{side}_joints_camera" in columns:
        joints = _column(data, table, columns[f"{side}_joints_camera"])
        return make_hand(side, rows(joints, n, f"{side} joints", (21, 3)))
    if f"{side}_joints_world" in columns:
        if T_world_camera is None:
            raise ValueError(f"meta/vipa.json: {side}_joints_world needs T_world_camera")
        world = rows(_column(data, table, columns[f"{side}_joints_world"]), n, f"{side} joints", (21, 3))
        return make_hand(side, (world - T_world_camera[:, None, :3, 3]) @ T_world_camera[:, :3, :3])
    return None


def _column(data: LeRobotSet, table: pa.Table, name: str) -> np.ndarray:
    values = numbers(table, name, "the table")
    if (said := data.width(name)) not in (None, values.shape[1]):
        raise ValueError(f"column {name!r} has {values.shape[1]} numbers a row, meta/info.json says {said}")
    return values


def _texts(data: LeRobotSet, table: pa.Table, times: np.ndarray) -> tuple[tuple[Text, ...], str | None]:
    """One text for each stretch of rows of one task, and a note where a task has no words."""
    if "task_index" not in table.column_names:
        return (), None
    ends = [*times[1:], end_of(times)]
    found = task_runs(numbers(table, "task_index", "the table")[:, 0])
    texts = tuple(
        Text(data.tasks[task], float(times[start]), float(ends[stop - 1]))
        for start, stop, task in found
        if data.tasks.get(task)
    )
    silent = sorted({task for _, _, task in found if not data.tasks.get(task)})
    return texts, f"meta/ has no words for task {', '.join(map(str, silent))}" if silent else None
