"""MANO of a clip's hands: from a source's own parameters in any convention, or fitted to joints."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from vipa.clips.clip import Hand, Mano
from vipa.clips.reading import make_hand
from vipa.geometry import transform
from vipa.hands.fitting import fit_mano
from vipa.hands.mano import ManoLayer, PoseForm
from vipa.hands.mano_files import Convention, load_mano
from vipa.hands.skeleton import Side


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
    given = np.isfinite(np.asarray(pose, dtype=np.float64)).reshape(n, -1).all(1)  # joints may be known without
    shape = np.asarray(betas, dtype=np.float64)
    if shape.ndim == 2:
        good = known & given & np.isfinite(shape).all(1)
        shape = np.median(shape[good], axis=0) if good.any() else shape[0]
    mano = Mano(
        np.where(given[:, None, None], R @ orientation, np.nan),
        np.where(given[:, None, None, None], rotations.numpy(), np.nan),
        shape,
        joints[:, 0],
    )
    return make_hand(layer.side, joints, mano=mano)


def fitted_mano(hand: Hand, folder: Path, tips: Convention) -> Hand:
    """The hand with MANO fitted to its joints, for sources that give joints only; the joints stay the source's.

    folder: of the imported models; FileNotFoundError where it has none. tips: what the source's fingertips are
    nearest to. A frame without three known joints of the palm is NaN in the MANO too, though the fit bridges
    it; a hand that never shows three stays as it is.
    """
    layer = mano_layer(hand.side, folder, True)
    try:
        fit = fit_mano(layer, hand.joints_camera, hand.confidence, tips=tips)
    except ValueError:  # nothing that a hand could be fitted to
        return hand
    seen = np.isfinite(fit.error)
    mano = Mano(
        np.where(seen[:, None, None], fit.global_orientation, np.nan),
        np.where(seen[:, None, None, None], fit.pose, np.nan),
        fit.betas,
        np.where(seen[:, None], fit.wrist, np.nan),
    )
    return replace(hand, mano=mano)
