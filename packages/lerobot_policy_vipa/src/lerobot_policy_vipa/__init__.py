"""VIPA policies inside LeRobot, which imports installed packages of such a name: `--policy.type=vipa`."""

from lerobot_policy_vipa.configuration_vipa import LeRobotVipaConfig as LeRobotVipaConfig
from lerobot_policy_vipa.tabletop_env import TabletopEnvConfig as TabletopEnvConfig
