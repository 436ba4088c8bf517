"""Closed-loop success in SimplerEnv's WidowX tasks (visual matching), played by vla-eval.

From vla-eval's source, not run here: its assets need a GPU or Vulkan in software.
"""

from dataclasses import dataclass

from vipa.benchmarks.vla_eval_run import Entry, HarnessResult
from vipa.benchmarks.vla_eval_settings import HarnessSettings, evaluate
from vipa.robots.contract import ActionContract
from vipa.robots.known import dimensions

TASKS = (
    "widowx_spoon_on_towel",
    "widowx_carrot_on_plate",
    "widowx_stack_cube",
    "widowx_put_eggplant_in_basket",
)
RULES = {"success_mode": "early_stop", "max_episode_steps": 120, "seed": 0}


@dataclass(frozen=True, kw_only=True)
class Settings(HarnessSettings):
    """Lets a policy act in SimplerEnv through vla-eval and counts successes, with rollout videos."""

    tasks: tuple[str, ...] = TASKS
    """Of SimplerEnv, by name."""
    episodes: int = 24
    """Of each task."""


def contract() -> ActionContract:
    return ActionContract(
        robot="simpler widowx",
        action=(
            *dimensions("delta_x delta_y delta_z", "metre", "delta"),
            *dimensions("delta_rotation_x delta_rotation_y delta_rotation_z", "radian", "delta"),
            *dimensions("gripper", "none"),
        ),
        state=(
            *dimensions("x y z", "metre"),
            *dimensions("rotation_w rotation_x rotation_y rotation_z gripper", "none"),
        ),
        frame="robot base: x forward, y left, z up",
        rotation="axis_angle",
        gripper="0 closed, 1 open",
        rate=5.0,
        horizon=16,
        views=("primary",),
        keys={"primary": "observation/image"},
    )


def run(settings: Settings) -> HarnessResult:
    """The model's policy in the tasks that are asked for."""
    kind = "vla_eval.benchmarks.simpler.benchmark:SimplerEnvBenchmark"
    entries = tuple(
        Entry(task, kind, {"task_name": task, "send_state": True, **RULES}, steps=RULES["max_episode_steps"])
        for task in settings.tasks
    )
    return evaluate(settings, "simpler", entries, contract(), rules=RULES)
