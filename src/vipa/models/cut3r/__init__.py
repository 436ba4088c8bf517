"""CUT3R: the 3D encoder of the dual encoder and the source of Hand3D's point maps (arXiv 2501.12387).

Written anew from the published architecture, in the Hugging Face manner. Released weights are non-commercial and are
brought by the user (`vipa import-weights cut3r FILE --out DIR`).
"""

from vipa.models.cut3r.configuration import Cut3rConfig, cut3r_224_config, cut3r_512_config, nano_cut3r_config
from vipa.models.cut3r.modelling import Cut3rModel, Cut3rOutput, Cut3rState

__all__ = [
    "Cut3rConfig",
    "Cut3rModel",
    "Cut3rOutput",
    "Cut3rState",
    "cut3r_224_config",
    "cut3r_512_config",
    "nano_cut3r_config",
]
