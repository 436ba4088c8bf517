"""HaWoR's result folder: hands in the camera frame, and the camera's own path.

    VIDEO_NAME/                            (made beside the video by HaWoR's demo)
      est_focal.txt                        the focal length it used, pixels; or give it with --img_focal
      cam_space/{0,1}/{first}_{last}.json  0 left, 1 right; frames inclusive
      SLAM/hawor_slam_w_scale_*.npz        the camera's path

Each JSON holds init_root_orient (1, T, 3, 3), init_hand_pose (1, T, 15, 3, 3), init_trans (1, T, 3; smplx-like)
and init_betas (1, T, 10) of the official left and right MANO models, the left with its shape sign repaired.
Surprising: HaWoR resamples every video to 30 frames a second, and its frame numbers count those.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vipa.geometry import Intrinsics, matrix_from_quaternion_wxyz, rigid
from vipa.hands.mano import ManoLayer
from vipa.hands.mano_files import load_mano, mano_folder
from vipa.hands.skeleton import Side
from vipa.hands.trackers import Images, SeenHand, require_intrinsics, with_true_camera
from vipa.io.hashing import content_of

RATE = 30.0
_SIDES: tuple[Side, ...] = ("left", "right")


@dataclass(frozen=True)
class HaworResults:
    folder: Path
    mano_folder: Path | None = None

    def __call__(
        self, images: Images, timestamps: np.ndarray, intrinsics: Intrinsics
    ) -> list[tuple[SeenHand, ...]]:
        """ValueError naming the file that is broken; FileNotFoundError where MANO was not imported."""
        intrinsics = require_intrinsics(intrinsics, str(self.folder))
        frames = np.rint(np.asarray(timestamps) * RATE).astype(int)
        seen: dict[int, list[SeenHand]] = {}
        for index, side in enumerate(_SIDES):
            files = sorted((self.folder / "cam_space" / str(index)).glob("*_*.json"))
            if not files:
                continue
            layer = ManoLayer(load_mano(side, self.mano_folder))
            for file in files:
                first, joints = self._joints(file, layer)
                focal = self._focal(intrinsics)
                centre = (intrinsics.width / 2, intrinsics.height / 2)
                for i, hand in enumerate(with_true_camera(joints, focal, centre, intrinsics)):
                    seen.setdefault(first + i, []).append(SeenHand(side, 0.9, hand, np.ones(21)))
        if not seen:
            raise ValueError(f"{self.folder}: no hands in cam_space/0 or cam_space/1: not a HaWoR result folder")
        return [tuple(seen.get(int(f), ())) for f in frames]

    def _focal(self, intrinsics: Intrinsics) -> float:
        """What HaWoR used; the video's own where it was given to HaWoR and so not estimated."""
        path = self.folder / "est_focal.txt"
        try:
            return float(path.read_text()) if path.exists() else intrinsics.fx
        except ValueError:
            raise ValueError(f"{path}: not a focal length") from None

    @staticmethod
    def _joints(file: Path, layer: ManoLayer) -> tuple[int, np.ndarray]:
        """First frame and joints (T, 21, 3) of one file."""
        try:
            first, last = (int(x) for x in file.stem.split("_"))
            raw = json.loads(file.read_text())
            n = last - first + 1
            shapes = {"root_orient": (3, 3), "hand_pose": (15, 3, 3), "betas": (10,), "trans": (3,)}
            values = [
                torch.tensor(np.array(raw[f"init_{key}"], dtype=np.float64)[0].reshape(n, *shape))
                for key, shape in shapes.items()
            ]
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise ValueError(f"{file}: not a HaWoR camera-space result ({error})") from None
        with torch.no_grad():
            joints = layer.joints(*values[:3], translation=values[3], tips="smplx")
        return first, joints.numpy()


def version() -> str:
    """Of the MANO models that its parameters are posed with."""
    return content_of(mano_folder())


def open_tracker(path: Path) -> HaworResults:
    return HaworResults(path)


def camera_path(folder: str | Path, timestamps: np.ndarray) -> np.ndarray:
    """T_world_camera (frames, 4, 4), metres, of HaWoR's SLAM at these times (seconds from the first frame).

    FileNotFoundError where there is none; ValueError where it is shorter than the video.
    """
    files = sorted(Path(folder).glob("SLAM/hawor_slam_w_scale_*.npz"))
    if not files:
        raise FileNotFoundError(f"{folder}: no SLAM/hawor_slam_w_scale_*.npz in it")
    try:
        with np.load(files[0], allow_pickle=False) as data:
            path, scale = np.asarray(data["traj"], dtype=np.float64), float(data["scale"])
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{files[0]}: not a HaWoR camera path ({error})") from None
    index = np.rint(np.asarray(timestamps) * RATE).astype(int)
    if path.ndim != 2 or path.shape[1] != 7 or index.max(initial=0) > len(path):
        raise ValueError(f"{files[0]}: a path of shape {path.shape} does not reach frame {index.max()}")
    row = path[np.minimum(index, len(path) - 1)]
    return rigid(matrix_from_quaternion_wxyz(row[:, [6, 3, 4, 5]]), row[:, :3] * scale)
