"""The tabletop world as a LeRobot robot, `--robot.type=tabletop`: two cameras, a state, and a tool that is moved.

LeRobot imports installed packages of such a name. Numbers are called `.pos`, for lerobot-rollout hands on no others.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.robots import Robot, RobotConfig

from vipa.robots.known.tabletop import tabletop_contract
from vipa.worlds.robot_env import VIEWS, TabletopEnv
from vipa.worlds.seeds import seeds_of

CONTRACT = tabletop_contract(VIEWS)
STATE, ACTION = ([f"{d.name}.pos" for d in dimensions] for dimensions in (CONTRACT.state, CONTRACT.action))


@RobotConfig.register_subclass("tabletop")
@dataclass(kw_only=True)
class TabletopRobotConfig(RobotConfig):
    """task: of touch, push, lift and place. scene: counted from the first test scene. size: of the pictures.
    record: an .npz file, written when the robot is let go: what it showed and what it was told, moment by moment."""

    record: Path
    task: str = "touch"
    scene: int = 0
    size: int = 112


class TabletopRobot(Robot):
    """Moves only when it is told to, and goes on after its task is done, as an arm does."""

    config_class = TabletopRobotConfig
    name = "tabletop"
    is_connected, is_calibrated = False, True

    def __init__(self, config: TabletopRobotConfig):
        super().__init__(config)
        self.config = config

    @cached_property
    def observation_features(self) -> dict[str, Any]:
        return dict.fromkeys(STATE, float) | dict.fromkeys(VIEWS, (self.config.size, self.config.size, 3))

    @cached_property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(ACTION, float)

    def connect(self, calibrate: bool = True) -> None:
        scene = seeds_of("test")[self.config.scene]
        self.env = TabletopEnv(self.config.task, scene, size=self.config.size, views=VIEWS)
        self.view = self.env.reset()
        self.seen, self.told, self.is_connected = [], [], True

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def get_observation(self) -> dict[str, Any]:
        return dict(zip(STATE, self.view.state.tolist(), strict=True)) | self.view.images

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        told = np.array([action[name] for name in ACTION])
        self.seen.append(self.view)
        self.told.append(told)
        self.env.robot.apply(told)
        self.view = self.env.observe()
        return action

    def disconnect(self) -> None:
        shown = {view: np.stack([moment.images[view] for moment in self.seen]) for view in VIEWS}
        state = np.stack([moment.state for moment in self.seen])
        np.savez(self.config.record, state=state, action=np.stack(self.told), text=self.env.text, **shown)
        self.is_connected = False
