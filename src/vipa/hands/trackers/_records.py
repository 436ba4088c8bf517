"""Per-frame records of HaMeR-like networks: what WiLoR's and HaMeR's users save, read from several files."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vipa.geometry import Intrinsics
from vipa.hands.repair import chirality
from vipa.hands.skeleton import mirror_joints
from vipa.hands.trackers import Images, SeenHand, require_intrinsics, with_true_camera
from vipa.io.safe_pickle import load_npy, load_pickle

_JOINTS = ("pred_keypoints_3d", "keypoints_3d", "joints_3d", "joints")
_PLACE = ("pred_cam_t_full", "cam_t_full", "pred_cam_t", "cam_t", "camera_translation", "transl")
_FOCAL = ("scaled_focal_length", "focal_length", "img_focal")
_RIGHT = ("is_right", "right", "handedness")
_SCORE = ("score", "confidence", "det_score", "hand_conf")
_ENDINGS = (".pkl", ".pickle", ".npy", ".npz", ".json")


@dataclass(frozen=True)
class FrameRecords:
    """Results of a HaMeR-like network, one record a hand.

    path: one file with all frames (a list, or a dict from frame number to records), or a folder with one file
    a frame whose name ends in the frame number (counted from the first). A record, or several stacked ones,
    has joints (21, 3) around the hand's origin, the hand's place in the camera, the focal length assumed for
    it, and which side it is. network: its name, for errors.

    Surprising: left hands are computed as right hands in a mirrored image, and only some savers mirror them
    back. Which one a file did is found from how the fingers bend, over all left hands at once.
    """

    network: str
    path: Path

    def __call__(
        self, images: Images, timestamps: np.ndarray, intrinsics: Intrinsics
    ) -> list[tuple[SeenHand, ...]]:
        """ValueError naming the file and what it lacks."""
        intrinsics = require_intrinsics(intrinsics, str(self.path))
        found = [(f, *hand) for f, record in self._frames() for hand in self._hands(record)]
        if not found:
            raise ValueError(f"{self.path}: no hands of {self.network} in it")
        frames, right, joints, place, focal, score = (np.array(x) for x in zip(*found))
        left = ~right
        if left.any() and np.median(chirality(joints[left])) > 0:
            joints[left] = mirror_joints(joints[left])
        centre = (intrinsics.width / 2, intrinsics.height / 2)
        placed = joints + place[:, None]
        placed = np.stack([with_true_camera(j, f, centre, intrinsics) for j, f in zip(placed, focal)])
        out: list[list[SeenHand]] = [[] for _ in range(len(timestamps))]
        for i, frame in enumerate(frames):
            if not 0 <= frame < len(out):
                raise ValueError(f"{self.path}: frame {frame}, but the video has {len(out)} frames")
            side = "right" if right[i] else "left"
            out[frame].append(SeenHand(side, 0.8, placed[i], np.full(21, score[i])))
        return [tuple(hands) for hands in out]

    def _frames(self) -> Iterator[tuple[int, Any]]:
        """(frame number, its records in any nesting)."""
        if self.path.is_dir():
            files = sorted(p for p in self.path.iterdir() if p.suffix in _ENDINGS)
            numbers = [n for p in files if (n := _number(p.stem)) is not None]
            if not files or len(numbers) < len(files):
                raise ValueError(f"{self.path}: expected one file a frame, named by its number ({_ENDINGS})")
            yield from ((n - min(numbers), _load(p)) for n, p in zip(numbers, files))
            return
        content = _load(self.path)
        if isinstance(content, dict) and not _has(content, _JOINTS):
            numbered: dict[int, Any] = {}
            for key, value in content.items():
                number = _number(str(key))
                if number is None:
                    raise ValueError(f"{self.path}: keys are not frame numbers: {sorted(map(str, content))[:4]}")
                numbered[number] = value
            yield from numbered.items()
        elif isinstance(content, (list, tuple, np.ndarray)):
            yield from enumerate(content)
        else:
            yield 0, content

    def _hands(self, record: Any) -> Iterator[tuple[bool, np.ndarray, np.ndarray, float, float]]:
        """Right, joints (21, 3), place (3,), focal length, score of every hand in a frame's records."""
        if record is None:
            return
        if isinstance(record, np.ndarray) and record.dtype == object:
            record = record.tolist()
        if isinstance(record, (list, tuple)):
            for part in record:
                yield from self._hands(part)
            return
        if not isinstance(record, dict):
            raise ValueError(f"{self.path}: a hand's record is a {type(record).__name__}, not a dict")
        nested = next((v for v in record.values() if isinstance(v, dict) and _has(v, _JOINTS)), None)
        record = {**record, **(nested or {})}
        if not _has(record, _JOINTS):
            return  # a frame or a detection without a hand
        joints = np.asarray(self._value(record, _JOINTS), dtype=np.float64)
        if joints.ndim < 2 or joints.shape[-2:] != (21, 3):
            raise ValueError(f"{self.path}: {self.network} joints have shape {joints.shape}, not (..., 21, 3)")
        joints = joints.reshape(-1, 21, 3)
        n = len(joints)
        place = np.asarray(self._value(record, _PLACE), dtype=np.float64).reshape(n, 3)
        right = np.broadcast_to(np.asarray(self._value(record, _RIGHT)).reshape(-1), n)
        focal = np.asarray(self._value(record, _FOCAL), dtype=np.float64).reshape(-1)
        focal = np.broadcast_to(focal if len(focal) in (1, n) else focal[:1], n)
        scores = np.asarray(next((record[k] for k in _SCORE if k in record), 1.0), dtype=np.float64)
        scores = np.broadcast_to(scores.reshape(-1), n).clip(0, 1)
        sides = [str(r).lower() == "right" if isinstance(r, str) else float(r) > 0.5 for r in right]
        yield from zip(sides, joints, place, focal.tolist(), scores.tolist())

    def _value(self, record: dict[str, Any], names: tuple[str, ...]) -> Any:
        for name in names:
            if name in record:
                return record[name]
        raise ValueError(
            f"{self.path}: a hand has none of {', '.join(names)} (it has {', '.join(sorted(map(str, record)))})"
        )


def _has(record: dict[str, Any], names: tuple[str, ...]) -> bool:
    return any(name in record for name in names)


def _number(name: str) -> int | None:
    digits = re.findall(r"\d+", Path(name).stem)
    return int(digits[-1]) if digits else None


def _load(path: Path) -> Any:
    if path.suffix in (".pkl", ".pickle"):
        return load_pickle(path)
    if path.suffix == ".npy":
        return load_npy(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as data:
                return dict(data)
        if path.suffix == ".json":
            return json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: damaged, or not arrays ({error})") from None
    raise ValueError(f"{path}: unknown kind of file; known: {', '.join(_ENDINGS)}")
