"""Clips as a LeRobot v3 data set whose embodiment is the human hand."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vipa.clips.clip import Clip, ClipError
from vipa.clips.sources import NO_OPTIONS, load_source
from vipa.hand3d.config import HandsConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.measure.motion import wrists_in_camera
from vipa.hand3d.measure.wrists import wrist_path
from vipa.hands.skeleton import SIDES
from vipa.io.lerobot_writer import LeRobotWriter, numbers_feature, picture_feature

IMAGE = "observation.images.ego"
NAMES = [f"{side}_wrist_{axis}" for side in SIDES for axis in "xyz"] + [f"{side}_known" for side in SIDES]


def export_lerobot(clips: Iterable[Clip | ClipError], out: str | Path, rate: float = 10.0) -> dict[str, int]:
    """Writes the clips, one episode each, at `rate` frames per second; returns counts of episodes, frames, refused.

    observation.state: both wrists in metres in this frame's camera (OpenCV), then for each hand 1 where it is known
    (its numbers are 0 where not). action: the same of the next frame, in this frame's camera. Images are kept in the
    tables (dtype image). The task is the clip's longest text. Clips without camera poses or texts are refused.
    A folder in which an export was stopped is gone on with. ValueError where images have several sizes.
    """
    writer, refused = None, 0
    for clip in clips:
        if isinstance(clip, ClipError) or clip.T_world_camera is None or not clip.texts:
            refused += 1
            continue
        frames, state, action = hand_states(clip, rate)
        if len(frames) == 0:
            refused += 1
            continue
        size = (clip.intrinsics.height, clip.intrinsics.width)
        features = {
            IMAGE: picture_feature(*size, "image"),
            "observation.state": numbers_feature(NAMES),
            "action": numbers_feature(NAMES),
        }
        writer = writer or LeRobotWriter(Path(out), rate=rate, features=features, robot="human_hand")
        if features[IMAGE] != writer.features[IMAGE]:
            first = writer.features[IMAGE]["shape"]
            raise ValueError(
                f"clip {clip.id!r} has images of {size[1]} x {size[0]}, the first one {first[1]} x {first[0]}"
            )
        said = {"vipa": json.dumps({"clip": clip.id})}
        if any(entry["vipa"] == said["vipa"] for entry in writer.entries):
            continue  # of a run that was stopped
        writer.add(
            {"observation.state": state, "action": action},
            {IMAGE: (clip.frames.read([frame])[0] for frame in frames.tolist())},
            max(clip.texts, key=lambda text: text.end - text.start).text,
            said=said,
        )
    if writer is None:
        raise ValueError("no clip could be exported: camera poses and texts are needed")
    writer.finish()
    total = writer.entries[-1]["dataset_to_index"]
    return {"episodes": len(writer), "frames": total, "refused": refused}


def source_clips(data: str | Path, root: Path) -> Iterator[Clip | ClipError]:
    """The clips of a Hand3D folder as their source gives them. root: folder of the source's files.

    ValueError where the folder has clips of several sources, or where one of them is not found below `root`.
    """
    wanted = {clip.id for clip in Hand3D(data).clips()}
    sources = {name.partition("/")[0] for name in wanted}
    if len(sources) != 1:
        raise ValueError(f"{data}: clips of {', '.join(sorted(sources)) or 'no source'}; --root is of one source")
    for clip in load_source(sources.pop()).read_clips(Path(root), NO_OPTIONS):
        if not isinstance(clip, ClipError) and f"{clip.source}/{clip.id}" in wanted:
            wanted.remove(f"{clip.source}/{clip.id}")
            yield clip
    if wanted:
        raise ValueError(f"{root}: {len(wanted)} clips of {data} are not here, such as {min(wanted)!r}")


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
