"""Results of VITRA's hand reconstruction (its `data/tools`): one .npy a video, a pickled dict.

    {"left": {frame: hand, ...}, "right": {frame: hand, ...}, "fov_x": degrees}

frame counts the video's frames from 0; a hand has beta (10,), hand_pose (15, 3, 3), global_orient (3, 3) and transl
(3,), where its wrist is in the camera, metres. fov_x is the horizontal field of view that it was placed with.
Surprising: left hands are posed on the right MANO model and mirrored; only global_orient is of the left hand itself.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vipa.geometry import Intrinsics
from vipa.hands.mano import ManoLayer, mano_joints
from vipa.hands.mano_files import load_mano, mano_folder
from vipa.hands.skeleton import SIDES, Side, mirror_rotation
from vipa.hands.trackers import Images, SeenHand, require_intrinsics, with_true_camera
from vipa.io.hashing import content_of
from vipa.io.safe_pickle import load_npy

_FIELDS = {"hand_pose": (15, 3, 3), "global_orient": (3, 3), "transl": (3,), "beta": (10,)}


@dataclass(frozen=True)
class VitraResults:
    path: Path
    mano_folder: Path | None = None

    def __call__(
        self, images: Images, timestamps: np.ndarray, intrinsics: Intrinsics
    ) -> list[tuple[SeenHand, ...]]:
        """ValueError naming the file and what it lacks; FileNotFoundError where MANO was not imported."""
        intrinsics = require_intrinsics(intrinsics, str(self.path))
        content = load_npy(self.path)
        if not isinstance(content, dict) or not {*SIDES, "fov_x"} <= set(content):
            raise ValueError(f"{self.path}: not VITRA's hand reconstruction (a dict of left, right and fov_x)")
        if not any(content[side] for side in SIDES):
            raise ValueError(f"{self.path}: no hands in it")
        fov = float(content["fov_x"])
        focal = intrinsics.width / 2 / np.tan(np.radians(fov / 2))
        centre = (intrinsics.width / 2, intrinsics.height / 2)
        seen: list[list[SeenHand]] = [[] for _ in timestamps]
        right = load_mano("right", self.mano_folder)
        for side in SIDES:
            layer = ManoLayer(right if side == "right" else right.mirrored())
            for frame, joints in self._joints(side, content[side], layer):
                if not 0 <= frame < len(seen):
                    raise ValueError(f"{self.path}: frame {frame}, but the video has {len(seen)} frames")
                placed = with_true_camera(joints, focal, centre, intrinsics)
                seen[frame].append(SeenHand(side, 0.9, placed, np.ones(21)))
        return [tuple(hands) for hands in seen]

    def _joints(self, side: Side, hands: dict[Any, Any], layer: ManoLayer) -> list[tuple[int, np.ndarray]]:
        if not hands:
            return []
        try:
            pose, orient, wrist, beta = (
                np.stack([np.asarray(hand[key], dtype=np.float64).reshape(shape) for hand in hands.values()])
                for key, shape in _FIELDS.items()
            )
            frames = [int(frame) for frame in hands]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path}: a {side} hand needs {', '.join(_FIELDS)} ({error})") from None
        pose = mirror_rotation(pose) if side == "left" else pose
        return list(zip(frames, mano_joints(layer, orient, pose, beta, wrist, tips="smplx")))


def version() -> str:
    """Of the MANO models that its parameters are posed with."""
    return content_of(mano_folder())


def open_tracker(path: Path) -> VitraResults:
    return VitraResults(path)
