"""Closed-loop success in RoboCasa's 24 atomic tasks, played by vla-eval in the simulator's own environment."""

from dataclasses import dataclass

from vipa.benchmarks.vla_eval_run import Entry, HarnessResult
from vipa.benchmarks.vla_eval_settings import HarnessSettings, evaluate
from vipa.robots.known.robocasa import contract
from vipa.robots.playing import Policy

CAMERAS = {"left": "robot0_agentview_left", "right": "robot0_agentview_right", "wrist": "robot0_eye_in_hand"}
RULES = {
    "camera_size": 256,
    "objects": "instances that no demonstration shows (split B)",
    "scenes": "the five layouts and styles of RoboCasa's own evaluation",
    "steps": "each task's horizon in RoboCasa's registry",
}
"""vla-eval's defaults, which are RoboCasa's own protocol, for the record."""


@dataclass(frozen=True, kw_only=True)
class Settings(HarnessSettings):
    """Lets a policy act in RoboCasa through vla-eval and counts successes, with rollout videos.

    Episode i of a task is played with seed + i. Not run here: the simulator's assets could not be had.
    """

    tasks: tuple[str, ...] = ()
    """RoboCasa's names, as PnPCounterToCab; none: all 24."""
    seed: int = 0
    """Of the first episode of each task."""


def params(settings: Settings) -> dict[str, object]:
    """Of vla-eval's RoboCasa benchmark."""
    chosen = {"tasks": list(settings.tasks)} if settings.tasks else {}
    return {
        "camera_names": list(CAMERAS.values()),
        "camera_size": RULES["camera_size"],
        "seed": settings.seed,
        "send_state": True,
        **chosen,
    }


def run(settings: Settings) -> HarnessResult:
    """The model's policy in the tasks that are asked for."""
    kind = "vla_eval.benchmarks.robocasa.benchmark:RoboCasaBenchmark"
    entries = (Entry("robocasa", kind, params(settings)),)
    return evaluate(settings, "robocasa", entries, contract(), server=served, rules=RULES)


def served(policy: Policy, execute: int) -> object:
    """vla-eval's server of a policy, with RoboCasa's cameras as its views."""
    from vipa.robots.serving.vla_eval_server import PolicyModelServer  # needs the extra `vla-eval`

    return PolicyModelServer(policy, execute, {view: CAMERAS[view] for view in policy.contract.views})
