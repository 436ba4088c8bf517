"""CUT3R: the 3D encoder of the dual encoder and the source of Hand3D's point maps (arXiv 2501.12387).

Written anew from the published architecture, in the Hugging Face manner. Released weights are non-commercial and
are brought by the user (`vipa import-weights cut3r FILE --out DIR`).
"""

from typing import Any

from vipa.models.cut3r.configuration_cut3r import Cut3rConfig, cut3r_224_config, cut3r_512_config
from vipa.models.cut3r.importing import import_cut3r
from vipa.models.cut3r.losses import cut3r_loss
from vipa.models.cut3r.modeling_cut3r import Cut3rModel, Cut3rOutput, Cut3rState
from vipa.models.cut3r.processing_cut3r import Cut3rProcessor
from vipa.models.cut3r.readout import (
    PointCloud,
    camera_trajectory,
    estimate_focal,
    estimated_intrinsics,
    fused_cloud,
    write_ply,
)
from vipa.moved import old_name

__all__ = [
    "Cut3rConfig",
    "Cut3rModel",
    "Cut3rOutput",
    "Cut3rProcessor",
    "Cut3rState",
    "PointCloud",
    "camera_trajectory",
    "cut3r_224_config",
    "cut3r_512_config",
    "cut3r_loss",
    "estimate_focal",
    "estimated_intrinsics",
    "fused_cloud",
    "import_cut3r",
    "write_ply",
]


def __getattr__(name: str) -> Any:
    return old_name(__name__, name)
