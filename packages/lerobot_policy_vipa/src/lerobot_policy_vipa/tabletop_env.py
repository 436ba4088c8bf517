"""VIPA's tabletop world as a LeRobot environment: `--env.type=vipa_tabletop`."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig

from vipa.worlds.robot import RATE
from vipa.worlds.robot_env import VIEWS, RobotView, TabletopEnv
from vipa.worlds.seeds import seeds_of
from vipa.worlds.tasks import STEP_LIMITS, TASKS


class TabletopGym(gym.Env):
    """Episodes of one task; seed n of a reset is scene n of the split, and without one the next."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(RATE)}  # noqa: RUF012 - gymnasium's form
    render_mode = "rgb_array"

    def __init__(self, task: str, split: str, size: int):
        self.task, self.split, self.size, self._number = task, split, size, -1
        self._max_episode_steps = STEP_LIMITS[task]
        picture = gym.spaces.Box(0, 255, (size, size, 3), np.uint8)
        state = gym.spaces.Box(-np.inf, np.inf, (8,), np.float64)
        self.observation_space = gym.spaces.Dict(
            {"pixels": gym.spaces.Dict(dict.fromkeys(VIEWS, picture)), "agent_pos": state}
        )
        self.action_space = gym.spaces.Box(-np.inf, np.inf, (7,), np.float32)

    @property
    def task_description(self) -> str:
        return self._env.text

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self._number = self._number + 1 if seed is None else seed
        self._env = TabletopEnv(self.task, seeds_of(self.split)[self._number], size=self.size, views=VIEWS)
        return self._seen(self._env.reset()), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        seen = self._env.step(np.asarray(action, dtype=np.float64))
        success, late = self._env.success, self._env.failure == "out of time"
        done = self._env.done and not late
        return self._seen(seen), float(success), done, late, {"is_success": success}

    def render(self) -> np.ndarray:
        return self._env.render()

    @staticmethod
    def _seen(view: RobotView) -> dict[str, Any]:
        return {"pixels": dict(view.images), "agent_pos": np.asarray(view.state, dtype=np.float64)}


@EnvConfig.register_subclass("vipa_tabletop")
@dataclass
class TabletopEnvConfig(EnvConfig):
    """task: of touch, push, lift and place, with commas between several. split: whose scenes. size: of pictures."""

    task: str | None = ",".join(TASKS)
    fps: int = int(RATE)
    split: str = "test"
    size: int = 112
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            "action": PolicyFeature(FeatureType.ACTION, (7,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (8,)),
            **{f"pixels/{view}": PolicyFeature(FeatureType.VISUAL, (112, 112, 3)) for view in VIEWS},
        }
    )
    features_map: dict[str, str] = field(
        default_factory=lambda: {
            "action": "action",
            "agent_pos": "observation.state",
            **{f"pixels/{view}": f"observation.images.{view}" for view in VIEWS},
        }
    )

    @property
    def gym_kwargs(self) -> dict:
        return {"split": self.split, "size": self.size}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        """{task: {0: environments}}; always in this process, for scenes are quick."""
        tasks = (self.task or "").split(",")
        if unknown := set(tasks) - set(TASKS):
            raise ValueError(f"env.task: {', '.join(sorted(unknown))}; known: {', '.join(TASKS)}")
        same = gym.vector.AutoresetMode.SAME_STEP
        return {
            task: {
                0: gym.vector.SyncVectorEnv(
                    [partial(TabletopGym, task, **self.gym_kwargs)] * n_envs, autoreset_mode=same
                )
            }
            for task in tasks
        }
