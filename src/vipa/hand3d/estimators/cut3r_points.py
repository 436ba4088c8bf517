"""Point maps and camera poses from the CUT3R encoder."""

from collections.abc import Sequence

import numpy as np
import torch

from vipa.clips.clip import Clip, ClipError
from vipa.geometry import matrix_from_quaternion_wxyz, rigid
from vipa.hand3d.config import PointsConfig
from vipa.hand3d.estimators.pointmaps import PointMaps
from vipa.io.hashing import network_content
from vipa.models.cut3r import Cut3rModel
from vipa.models.loading import load_model
from vipa.models.pixels import resized, spatial_pixels


class Cut3rPoints:
    """Runs `Cut3rModel` over the sampled frames of a clip, in order, its state carried along.

    weights: a folder or a hub name. The unit is found by calibration, from hands and, where the weights' configuration
    says how good it is (`unit_error`), from the network's own. A network for square images sees the whole picture
    brought to its square; others see its longer side, both sides multiples of the patch.
    """

    cached = True
    metric: bool | None = False

    def __init__(self, weights: str):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load_model(Cut3rModel, weights, expected="cut3r")
        self.content = network_content(self.model)
        torch.nn.Module.to(self.model, self.device)

    @torch.inference_mode()
    def __call__(self, clip: Clip, frames: Sequence[int]) -> PointMaps:
        only = self.model.config.source
        if only is not None and clip.source != only:
            raise ClipError(
                clip.id,
                f"points: this encoder has seen the {only} world only and is wrong on other pictures; take "
                "the released CUT3R (`vipa import-weights cut3r FILE --out FOLDER`) or a depth network",
            )
        config, state, points, confidence, poses = self.model.config, None, [], [], []
        width, height = network_size(
            clip.intrinsics.width, clip.intrinsics.height, config.image_size, config.patch_size
        )
        for frame in frames:
            picture = resized([clip.frames.read([frame])[0]], (width, height)).to(self.device)
            out, state = self.model.step(spatial_pixels(picture), state, heads=("self", "pose"))
            assert out.points_self is not None and out.conf_self is not None and out.camera_pose is not None
            points.append(out.points_self[0].float().cpu().numpy())
            confidence.append(out.conf_self[0].float().cpu().numpy())
            poses.append(out.camera_pose[0].double().cpu().numpy())
        pose = np.stack(poses)
        T_world_camera = rigid(matrix_from_quaternion_wxyz(pose[:, 3:]), pose[:, :3])
        return PointMaps(
            np.asarray(frames),
            np.stack(points),
            np.stack(confidence),
            metric=False,
            T_world_camera=T_world_camera,
            unit_error=config.unit_error,
            edge=config.edge,
        )


def open_points(config: PointsConfig) -> Cut3rPoints:
    """ValueError without weights."""
    if config.weights is None:
        raise ValueError("points: the cut3r estimator needs weights (a folder or a hub name)")
    return Cut3rPoints(config.weights)


def network_size(width: int, height: int, longer: int, patch: int) -> tuple[int, int]:
    """(width, height) that a network sees: at 224 and below a square, else the longer side and the aspect kept to
    the nearest multiple of the patch."""
    if longer <= 224:
        return longer, longer
    factor = longer / max(width, height)
    return tuple(max(patch, round(side * factor / patch) * patch) for side in (width, height))  # type: ignore
