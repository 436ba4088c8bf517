"""The VIPA model: dual encoder, fusion, motion tokens, action head, processor (VIPA-VLA section 3)."""

from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from vipa.models.backbone import VipaModel
from vipa.models.configuration import ActionHeadConfig, FusionConfig, VipaConfig
from vipa.models.cut3r import Cut3rConfig, Cut3rModel
from vipa.models.inference import ActionRunner
from vipa.models.modeling import VipaForConditionalGeneration, VipaOutput
from vipa.models.motion_tokens import MedianBin, MotionGrammar, add_motion_tokens, initialise_motion_rows
from vipa.models.presets import preset_config, vipa_1b_config, vipa_2b_config
from vipa.models.processing import VipaProcessor, image_processor
from vipa.moved import old_name

AutoConfig.register("cut3r", Cut3rConfig, exist_ok=True)
AutoModel.register(Cut3rConfig, Cut3rModel, exist_ok=True)
AutoConfig.register("vipa", VipaConfig, exist_ok=True)
AutoModel.register(VipaConfig, VipaModel, exist_ok=True)
AutoModelForImageTextToText.register(VipaConfig, VipaForConditionalGeneration, exist_ok=True)
AutoProcessor.register(VipaConfig, VipaProcessor, exist_ok=True)

__all__ = [
    "ActionHeadConfig",
    "ActionRunner",
    "FusionConfig",
    "MedianBin",
    "MotionGrammar",
    "VipaConfig",
    "VipaForConditionalGeneration",
    "VipaModel",
    "VipaOutput",
    "VipaProcessor",
    "add_motion_tokens",
    "image_processor",
    "initialise_motion_rows",
    "preset_config",
    "vipa_1b_config",
    "vipa_2b_config",
]


def __getattr__(name: str) -> Any:
    return old_name(__name__, name)
