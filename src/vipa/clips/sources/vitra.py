"""VITRA-1M: episodes of egocentric videos with reconstructed cameras and hands (microsoft/VITRA, data/data.md)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vipa.clips.clip import Clip, ClipError, Hand, Mano, Text
from vipa.clips.reading import files_below, make_hand, read_each, rows
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import FrameSubset, VideoFrames
from vipa.geometry import Intrinsics, invert
from vipa.hands.skeleton import SIDES, Side, mirror_rotation
from vipa.io.frame_times import end_of
from vipa.io.safe_pickle import load_npy

LICENCE = (
    "annotations MIT; videos under their own agreements (Ego4D, EPIC-KITCHENS, Ego-Exo4D, Something-Something)"
)
DOWNLOAD = "annotations: huggingface.co/datasets/VITRA-VLA/VITRA-1M; videos: from the four data sets' own sites"
LAYOUT = """\
ROOT/                              (any folders below it)
  {dataset}_{video}_ep_{number}.npy   episodes
  {video}.mp4 | .MP4 | .webm          videos, undistorted where VITRA undistorts them
"""

_VIDEO_SUFFIXES = {".mp4", ".webm", ".mkv", ".mov"}


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root, files = files_below(root, {".npy"})
    videos = {p.stem: p for p in files_below(root, _VIDEO_SUFFIXES)[1]}
    episodes = [(p.stem, p) for p in files if "_ep_" in p.stem]
    return read_each("vitra", root, LAYOUT, episodes, lambda clip_id, path: _read(clip_id, path, videos))


def _read(clip_id: str, path: Path, videos: dict[str, Path]) -> Clip:
    episode = load_npy(path)
    if not isinstance(episode, dict):
        raise ValueError(f"{path.name} holds no episode (a dict), but a {type(episode).__name__}")
    name = str(episode["video_name"])
    if name not in videos:
        raise ValueError(f"its video {name}.mp4 is not below the root; download it and put it there")
    video = VideoFrames(videos[name])
    shown = tuple(int(i) for i in episode["video_decode_frame"])
    n = len(shown)
    if n == 0:
        raise ValueError("the episode has no frames")
    if min(shown) < 0 or max(shown) >= len(video):
        raise ValueError(f"video_decode_frame names frame {max(shown)}, {videos[name].name} has {len(video)}")
    T_camera_world = rows(episode["extrinsics"], n, "extrinsics", (4, 4))
    intrinsics, note = scaled_intrinsics(
        np.asarray(episode["intrinsics"], dtype=np.float64), video.read(shown[:1])[0]
    )
    hands = [h for side in SIDES if (h := _hand(side, episode[side], n)) is not None]
    if not hands:
        raise ValueError("no hand is ever visible (kept_frames is 0 throughout)")
    timestamps = video.timestamps[list(shown)]
    return Clip(
        id=clip_id,
        source="vitra",
        source_video=name,
        frames=FrameSubset(video, shown),
        timestamps=timestamps - timestamps[0],
        intrinsics=intrinsics,
        T_world_camera=invert(T_camera_world),
        hands=tuple(hands),
        texts=_texts(episode.get("text", {}), timestamps - timestamps[0]),
        licence=LICENCE,
        notes=note,
    )


def scaled_intrinsics(K: np.ndarray, image: np.ndarray) -> tuple[Intrinsics, dict[str, str]]:
    """VITRA's K for the video as it is: K belongs to an image of 2 cx x 2 cy, as in VITRA's own code.

    image: any frame (height, width, 3). Surprising: the video may be smaller, with its height brought to a
    multiple of 16 (480 x 360 in 368 rows). Encoders do that by padding below or by stretching the picture; the
    rows themselves tell which, and the note says what was found. (On the public example it is stretching: its
    known camera motion explains feature matches to 0.19 px so, to 0.27 px as padding.)
    ValueError for any other shape, or for numbers that are no camera.
    """
    height, width = image.shape[:2]
    Intrinsics.from_matrix(K, 1, 1, "estimated")  # its errors: zero, negative, not finite
    if not (K[0, 2] > 0 and K[1, 2] > 0):
        raise ValueError(f"intrinsics: the principal point must be positive, got {K[0, 2]}, {K[1, 2]}")
    scale = width / (2 * K[0, 2])
    picture = round(2 * K[1, 2] * scale)
    if abs(height - picture) > 1 and height != -(-picture // 16) * 16:
        raise ValueError(
            f"intrinsics are for {2 * K[0, 2]:g} x {2 * K[1, 2]:g} pixels, the video has {width} x {height}: "
            "another shape"
        )
    padded = height > picture and image[picture:].std(axis=(0, 1)).max() < 2
    rows_scale = scale if padded else height / (2 * K[1, 2])
    note = {"intrinsics": f"scaled by {scale:.4g}"} if scale != 1 else {}
    if padded:
        note["padding"] = f"rows {picture} to {height - 1} are padding"
    elif height != picture:
        note["padding"] = f"none: {picture} rows of picture are stretched over {height}"
    return Intrinsics.from_matrix(np.diag([scale, rows_scale, 1.0]) @ K, width, height, "estimated"), note


def _hand(side: Side, data: dict, n: int) -> Hand | None:
    kept = rows(data["kept_frames"], n, f"{side} kept_frames", ()) > 0
    joints = rows(data["joints_camspace"], n, f"{side} joints_camspace", (21, 3))
    joints = np.where(kept[:, None, None], joints, np.nan)
    pose = rows(data["hand_pose"], n, f"{side} hand_pose", (15, 3, 3))
    mano = Mano(
        global_orientation_camera=rows(
            data["global_orient_camspace"], n, f"{side} global_orient_camspace", (3, 3)
        ),
        pose=mirror_rotation(pose) if side == "left" else pose,  # left hands are given on the right model
        betas=np.asarray(data["beta"], dtype=np.float64).reshape(10),
        wrist_camera=joints[:, 0],  # transl_camspace is not the wrist
    )
    return make_hand(side, joints, kept.astype(np.float64), mano)


def _texts(text: dict, times: np.ndarray) -> tuple[Text, ...]:
    ends = [*times[1:], end_of(times)]  # of each frame
    out = []
    for side in SIDES:
        for sentence, (start, end) in text.get(side, ()):
            start, end = int(start), min(int(end), len(times))
            if 0 <= start < end:  # an empty interval: nothing in this episode
                out.append(Text(str(sentence), float(times[start]), float(ends[end - 1]), side))
    return tuple(out)
