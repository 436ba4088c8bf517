"""CUT3R: the 3D encoder of the dual encoder and the source of Hand3D's point maps (arXiv 2501.12387).

Written anew from the published architecture, in the Hugging Face manner. Released weights are non-commercial and
are brought by the user (`vipa import-weights cut3r FILE --out DIR`).
"""

from vipa.models.cut3r.configuration import Cut3rConfig, cut3r_224_config, cut3r_512_config, nano_cut3r_config
from vipa.models.cut3r.geometry import (
    PointCloud,
    camera_trajectory,
    estimate_focal,
    estimated_intrinsics,
    fused_cloud,
    write_ply,
)
from vipa.models.cut3r.importing import import_cut3r
from vipa.models.cut3r.losses import cut3r_loss
from vipa.models.cut3r.modelling import Cut3rModel, Cut3rOutput, Cut3rState
from vipa.models.cut3r.processor import Cut3rProcessor

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
    "nano_cut3r_config",
    "write_ply",
]
