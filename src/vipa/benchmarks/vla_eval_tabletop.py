"""The tabletop as a benchmark of vla-eval, so that any model of that harness can be tried on it.

    benchmarks:
      - benchmark: "vipa.benchmarks.vla_eval_tabletop:TabletopBenchmark"
        episodes_per_task: 50
        params: {changes: {camera_pose: 1.0}}

in a configuration of `vla-eval run`, where vla-eval and vipa are installed. Observations and actions have
LIBERO's form (docs/robots.md says what the numbers mean). Imported only there: it needs the extra `vla-eval`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.render import configure_mujoco_render
from vla_eval.specs import (
    GRIPPER_CLOSE_POS,
    IMAGE_RGB,
    LANGUAGE,
    POSITION_DELTA,
    ROTATION_AA,
    STATE_EEF_POS_AA_GRIP,
    DimSpec,
)

from vipa.worlds.robot_env import RobotView, TabletopEnv
from vipa.worlds.seeds import seeds_of
from vipa.worlds.tasks import STEP_LIMITS, TASKS

CAMERAS = {"agent": "agentview", "wrist": "wrist"}
"""What the harness calls the robot's views."""


class TabletopBenchmark(StepBenchmark):
    """Four robot tasks on a simulated table, in scenes that follow from their seeds.

    tasks: of touch, push, lift and place. split, first: episode i plays the i-th seed of the split, counted from
    `first`; `vipa evaluate tabletop` plays the same. changes: axis (camera_pose, light, textures, distractors, layout,
    wording) -> strength over 0 ... 1; none: as in training. size: pixels of the square images. send_wrist_image,
    send_state: as in the LIBERO benchmark.

    The instruction is the episode's, not the task's. Deltas are in the world's frame, seen from the camera: x right, y
    away, z up; 1.0 is 5 cm or 0.5 rad.
    """

    _ALL_RECORD_FIELDS = frozenset({"reward", "done", "success", "action", "state"})
    render_backends = frozenset({"gpu", "cpu"})

    @classmethod
    def configure_render(cls, mode: str) -> dict[str, str]:
        """As the harness's other MuJoCo benchmarks: "cpu" draws with OSMesa."""
        return configure_mujoco_render(mode)

    def __init__(
        self,
        tasks: Sequence[str] = TASKS,
        split: Literal["train", "validation", "test"] = "test",
        first: int = 0,
        changes: Mapping[str, float] | None = None,
        size: int = 112,
        send_wrist_image: bool = False,
        send_state: bool = True,
    ):
        super().__init__()
        self.tasks, self.split, self.first, self.size = tuple(tasks), split, first, size
        self.changes, self.send_state = dict(changes or {}), send_state
        self.views = ("agent", "wrist") if send_wrist_image else ("agent",)
        self.env: TabletopEnv | None = None

    def get_tasks(self) -> list[dict[str, Any]]:
        return [{"name": task, "suite": "tabletop"} for task in self.tasks]

    def reset(self, task: dict[str, Any]) -> RobotView:
        seed = seeds_of(self.split)[self.first + int(task.get("episode_idx", 0))]
        self.env = TabletopEnv(task["name"], seed, size=self.size, views=self.views, changes=self.changes)
        self._recorder.record_video(self.render())
        return self.env.observe()

    def step(self, action: dict[str, Any]) -> StepResult:
        assert self.env is not None
        numbers = np.asarray(action.get("actions", action.get("action")), np.float64)
        view, success = self.env.step(numbers), self.env.success
        self._recorder.record_video(view.images["agent"])
        self._recorder.record_step(
            reward=float(success),
            done=self.env.done,
            success=success,
            action=numbers.astype(np.float32),
            state=view.state.astype(np.float32),
        )
        result = {"success": success, "failure": self.env.failure, "seed": self.env.task.seed}
        return StepResult(view, float(success), self.env.done, result)

    def make_obs(self, raw_obs: RobotView, task: dict[str, Any]) -> dict[str, Any]:
        assert self.env is not None
        images = {CAMERAS[view]: image for view, image in raw_obs.images.items()}
        state = {"states": raw_obs.state.astype(np.float32)} if self.send_state else {}
        return {"images": images, "task_description": self.env.text, **state}

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        return {"success": False, **step_result.info}

    def get_metadata(self) -> dict[str, Any]:
        limit = max(STEP_LIMITS[task] for task in self.tasks)  # each episode ends at its own
        return {"max_steps": limit, "split": self.split, "first": self.first, "changes": self.changes}

    def get_hold_action(self, last_action: dict[str, Any] | None) -> dict[str, Any]:
        """No movement, the gripper as it was told last, open at first."""
        gripper = -1.0 if last_action is None else float(np.asarray(last_action["actions"]).ravel()[-1])
        return {"actions": np.array([0, 0, 0, 0, 0, 0, gripper], np.float32)}

    def get_action_spec(self) -> dict[str, DimSpec]:
        return {"position": POSITION_DELTA, "rotation": ROTATION_AA, "gripper": GRIPPER_CLOSE_POS}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        images = {CAMERAS[view]: IMAGE_RGB for view in self.views}
        state = {"state": STATE_EEF_POS_AA_GRIP} if self.send_state else {}
        return {**images, "image": IMAGE_RGB, "language": LANGUAGE, **state}

    def render(self) -> np.ndarray | None:
        return None if self.env is None else self.env.render("agent")
