"""Hands of sources that give MANO parameters, from their conventions to a clip's `Hand`."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from vipa.clips.clip import Hand, Mano, Side
from vipa.clips.reading import make_hand
from vipa.geometry import transform
from vipa.hands.mano import ManoLayer, PoseForm
from vipa.hands.mano_files import Convention, load_mano


@lru_cache(maxsize=8)
def mano_layer(side: Side, folder: Path | None, as_distributed: bool) -> ManoLayer:
    """FileNotFoundError, with what to do, where the user has not imported MANO.

    as_distributed: the left model with the sign fault of some official files, where a data set was made with it.
    """
    model = load_mano(side, folder)
    return ManoLayer(model.as_distributed() if as_distributed else model)


def have_mano(folder: Path | None) -> bool:
    """Whether both models can be loaded, for sources that only gain by them."""
    try:
        return all(mano_layer(side, folder, True) is not None for side in ("left", "right"))
    except FileNotFoundError:
        return False


def mano_hand(
    layer: ManoLayer,
    *,
    orientation: np.ndarray,
    pose: np.ndarray,
    form: PoseForm,
    add_mean: bool,
    betas: np.ndarray,
    tips: Convention,
    translation: np.ndarray | None = None,
    wrist: np.ndarray | None = None,
    T_camera_source: np.ndarray | None = None,
    known: np.ndarray | None = None,
    joints_camera: np.ndarray | None = None,
) -> Hand | None:
    """A Hand with joints and MANO in the camera frame; None where it is never known.

    orientation (n, 3, 3), translation or wrist (n, 3): in the source's frame, metres. pose: (n, ...) in `form`.
    betas: (10,) or (n, 10). T_camera_source: (n, 4, 4) or (4, 4); None: the source's frame is the camera.
    known: (n,) bool. joints_camera: (n, 21, 3) where the source gives joints itself; the model's otherwise.
    """
    n = len(orientation)
    known = np.ones(n, bool) if known is None else known.astype(bool)

    def tensor(array: np.ndarray | None) -> torch.Tensor | None:
        return None if array is None else torch.as_tensor(np.nan_to_num(np.asarray(array, dtype=np.float64)))

    with torch.no_grad():
        rotations = layer.pose_matrices(tensor(pose), form, add_mean=add_mean)
        if joints_camera is None:
            joints = layer.joints(
                tensor(orientation),
                rotations,
                tensor(np.broadcast_to(betas, (n, 10))),
                translation=tensor(translation),
                wrist=tensor(wrist),
                tips=tips,
            ).numpy()
            joints = joints if T_camera_source is None else transform(T_camera_source, joints)
        else:
            joints = joints_camera
    joints = np.where(known[:, None, None], joints, np.nan)
    R = np.eye(3) if T_camera_source is None else T_camera_source[..., :3, :3]
    shape = (
        betas if np.ndim(betas) == 1 else np.median(np.asarray(betas)[known], axis=0) if known.any() else betas[0]
    )
    mano = Mano(R @ orientation, rotations.numpy(), np.asarray(shape, dtype=np.float64), joints[:, 0])
    return make_hand(layer.side, joints, mano=mano)
