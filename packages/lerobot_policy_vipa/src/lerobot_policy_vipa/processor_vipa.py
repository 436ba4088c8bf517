"""The pre- and post-processors of a VIPA policy: LeRobot's own, which turn batches and move them; nothing is
normalised there, for the numbers that a policy takes and gives are the robot's own."""

from typing import Any

from lerobot.processor.factory import make_default_pre_post_processors
from torch import Tensor

from lerobot_policy_vipa.configuration_vipa import LeRobotVipaConfig


def make_vipa_pre_post_processors(
    config: LeRobotVipaConfig, dataset_stats: dict[str, dict[str, Tensor]] | None = None
) -> tuple[Any, Any]:
    return make_default_pre_post_processors(config, dataset_stats)
