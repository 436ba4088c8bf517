"""A benchmark of vla-eval without a simulator: a point on a line, to be pushed past 1."""

import time

import numpy as np
from vla_eval.benchmarks.base import StepBenchmark, StepResult


class ToyWorld(StepBenchmark):
    """An even episode needs two steps, an odd one never succeeds. breaks: the episode that raises an error."""

    render_backends = frozenset({"gpu", "cpu"})

    def __init__(self, seconds: float = 0.0, breaks: int = -1):
        super().__init__()
        self.seconds, self.breaks = seconds, breaks

    @classmethod
    def configure_render(cls, mode):
        return {}

    def get_tasks(self):
        return [{"name": f"push {word}", "task_id": i} for i, word in enumerate(("far", "near", "hard"))]

    def reset(self, task):
        if task["episode_idx"] == self.breaks:
            raise RuntimeError("the world fell apart")
        self.x, self.odd = 0.0, task["episode_idx"] % 2
        return self.x

    def step(self, action):
        time.sleep(self.seconds)
        self.x += 0.0 if self.odd else float(np.ravel(action["actions"])[0])
        return StepResult(self.x, 0.0, self.x >= 1.0, {})

    def make_obs(self, raw_obs, task):
        image = np.zeros((8, 8, 3), np.uint8)
        return {"images": {"front": image}, "states": np.array([raw_obs]), "task_description": task["name"]}

    def get_step_result(self, step_result):
        return {"success": step_result.done}

    def get_metadata(self):
        return {"max_steps": 4}
