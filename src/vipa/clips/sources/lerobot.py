"""Human-hand data sets in LeRobot form (v2.x and v3), such as UniHand's: parquet rows, videos, tasks."""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from vipa.clips.clip import Clip, ClipError, Hand, Side, Text
from vipa.clips.raw_video import intrinsics_of
from vipa.clips.reading import chunks, existing_root, make_hand, read_each, rows
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import FrameSubset, VideoFrames
from vipa.hands.skeleton import SIDES

OPTIONS = ("fov_degrees", "seconds")
LICENCE = "the data set's own"
DOWNLOAD = "huggingface.co: any data set in LeRobot form whose columns hold hands"
LAYOUT = """\
ROOT/
  meta/info.json  and  episodes.jsonl, tasks.jsonl (v2) or episodes/, tasks.parquet (v3)
  meta/vipa.json             which columns are what, and the camera:
                             {"video": "observation.images.ego",
                              "left_joints_camera": "observation.left_joints", "right_joints_camera": "...",
                              "T_world_camera": "observation.camera_pose",
                              "intrinsics": {"fx": ..., "fy": ..., "cx": ..., "cy": ..., "width": ..., "height": ...}}
                             joints: 63 numbers, metres, camera frame (or left_joints_world with T_world_camera);
                             T_world_camera: 16 numbers, row by row, camera to world
  data/chunk-000/episode_000000.parquet (v2) or file-000.parquet (v3)
  videos/chunk-000/<video>/episode_000000.mp4 (v2) or videos/<video>/chunk-000/file-000.mp4 (v3)
"""


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = existing_root(root)
    if not (root / "meta" / "info.json").is_file():
        raise ValueError(f"{root}: nothing of source 'lerobot' here; expected\n{LAYOUT.rstrip()}")
    info = _json(root / "meta" / "info.json")
    mapping = root / "meta" / "vipa.json"
    if not mapping.is_file():
        raise ValueError(
            f"{mapping} is missing: say which columns hold the hands and what the camera is; columns are "
            f"{', '.join(sorted(info.get('features', {})))}. Its form:\n{LAYOUT.rstrip()}"
        )
    columns = _json(mapping)
    third = str(info.get("codebase_version", "v2")).lstrip("v").startswith("3")
    episodes = _episodes_v3(root) if third else _episodes_v2(root)
    tasks = _tasks(root)
    found = [(f"{root.resolve().name}_{int(e['episode_index']):06d}", e) for e in episodes]
    read = _files_v3 if third else _files_v2
    return read_each(
        "lerobot",
        root,
        LAYOUT,
        found,
        lambda name, episode: _read(
            name, root, info, columns, tasks, *read(root, info, columns, episode), options
        ),
    )


def _read(
    name: str,
    root: Path,
    info: dict,
    columns: dict,
    tasks: dict[int, str],
    table: dict[str, list],
    video: VideoFrames,
    first: int,
    options: SourceOptions,
) -> Iterator[Clip | ClipError]:
    """first: the video's frame that is the episode's first."""
    n = len(table["timestamp"])
    if first + n > len(video):
        raise ValueError(f"{n} rows from video frame {first} on, {video.path.name} has {len(video)} frames")
    intrinsics = intrinsics_of(video, columns, options)
    T_world_camera = None
    if "T_world_camera" in columns:
        T_world_camera = rows(_column(table, columns["T_world_camera"]), n, "T_world_camera", (4, 4))
    hands = [_hand(side, table, columns, n, T_world_camera) for side in SIDES]
    times = rows(_column(table, "timestamp"), n, "timestamp", ())
    clip = Clip(
        id=name,
        source="lerobot",
        source_video=name,
        frames=FrameSubset(video, tuple(range(first, first + n))),
        timestamps=times - times[0],
        intrinsics=intrinsics,
        T_world_camera=T_world_camera,
        hands=tuple(h for h in hands if h is not None),
        texts=_texts(table, tasks, times - times[0], float(info.get("fps", 30))),
        licence=str(columns.get("licence", "unknown")),
    )
    if not clip.hands:
        raise ValueError("no hand is known in this episode (columns of meta/vipa.json)")
    yield from chunks(clip, options.seconds)


def _hand(
    side: Side, table: dict[str, list], columns: dict, n: int, T_world_camera: np.ndarray | None
) -> Hand | None:
    if f"{side}_joints_camera" in columns:
        return make_hand(
            side, rows(_column(table, columns[f"{side}_joints_camera"]), n, f"{side} joints", (21, 3))
        )
    if f"{side}_joints_world" in columns:
        if T_world_camera is None:
            raise ValueError(f"meta/vipa.json: {side}_joints_world needs T_world_camera")
        world = rows(_column(table, columns[f"{side}_joints_world"]), n, f"{side} joints", (21, 3))
        return make_hand(side, (world - T_world_camera[:, None, :3, 3]) @ T_world_camera[:, :3, :3])
    return None


def _column(table: dict[str, list], name: str) -> np.ndarray:
    if name not in table:
        raise ValueError(f"the table has no column {name!r}; it has {', '.join(sorted(table))}")
    return np.stack([np.asarray(value, dtype=np.float64).ravel() for value in table[name]])


def _texts(table: dict[str, list], tasks: dict[int, str], times: np.ndarray, fps: float) -> tuple[Text, ...]:
    if "task_index" not in table:
        return ()
    task = tasks.get(int(table["task_index"][0]))
    return (Text(task, 0.0, float(times[-1]) + 1 / fps),) if task else ()


def _episodes_v2(root: Path) -> list[dict]:
    path = root / "meta" / "episodes.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _episodes_v3(root: Path) -> list[dict]:
    paths = sorted((root / "meta" / "episodes").glob("**/*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def _files_v2(root: Path, info: dict, columns: dict, episode: dict) -> tuple[dict[str, list], VideoFrames, int]:
    index = int(episode["episode_index"])
    place = {"episode_chunk": index // int(info.get("chunks_size", 1000)), "episode_index": index}
    data = root / info["data_path"].format(**place)
    if not data.is_file():
        raise FileNotFoundError(f"{data} is missing")
    video = root / info["video_path"].format(**place, video_key=columns["video"])
    return pq.read_table(data).to_pydict(), VideoFrames(video), 0


def _files_v3(root: Path, info: dict, columns: dict, episode: dict) -> tuple[dict[str, list], VideoFrames, int]:
    """Files hold many episodes: rows are chosen by episode_index, frames by the episode's first timestamp."""
    key, index = columns["video"], int(episode["episode_index"])
    data = root / info["data_path"].format(
        chunk_index=episode["data/chunk_index"], file_index=episode["data/file_index"]
    )
    table = _table(data)
    mine = np.flatnonzero(np.asarray(table["episode_index"]) == index)
    video = VideoFrames(
        root
        / info["video_path"].format(
            video_key=key,
            chunk_index=episode[f"videos/{key}/chunk_index"],
            file_index=episode[f"videos/{key}/file_index"],
        )
    )
    first = int(np.abs(video.timestamps - float(episode[f"videos/{key}/from_timestamp"])).argmin())
    return {name: [values[i] for i in mine] for name, values in table.items()}, video, first


@lru_cache(maxsize=2)
def _table(path: Path) -> dict[str, list]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    return pq.read_table(path).to_pydict()


def _tasks(root: Path) -> dict[int, str]:
    path = root / "meta" / "tasks.parquet"
    if path.is_file():
        entries: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    else:
        paths = sorted((root / "meta").glob("tasks*.jsonl"))
        lines = [line for p in paths[:1] for line in p.read_text(encoding="utf-8").splitlines()]
        entries = [json.loads(line) for line in lines if line.strip()]
    return {
        int(e["task_index"]): str(e.get("task") or e.get("__index_level_0__") or "") for e in entries
    }  # v3 keeps the words in the table's index


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
