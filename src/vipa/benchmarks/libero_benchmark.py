"""Closed-loop success in LIBERO, played by vla-eval in the simulator's own environment."""

from dataclasses import dataclass

from vipa.benchmarks.vla_eval_run import Entry, HarnessResult
from vipa.benchmarks.vla_eval_settings import HarnessSettings, evaluate
from vipa.robots.known.libero import contract
from vipa.robots.libero_expert import LiberoExpert
from vipa.robots.playing import Policy

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
RULES = {
    "camera_size": 256,
    "views": "agentview, wrist; turned by 180 degrees, upright",
    "state": "end effector's position, axis-angle of its quaternion of either sign, finger positions",
    "settle_steps": 10,
    "seed": 7,
}
"""The protocol that reproduces published scores, with STEPS: what is not vla-eval's default stands in `params`."""

NEVER = 1_000_000
"""Steps from one picture to the next where nobody looks: cameras are covered, and nothing is filmed."""


@dataclass(frozen=True, kw_only=True)
class Settings(HarnessSettings):
    """Lets a policy act in LIBERO through vla-eval and counts successes, with rollout videos.

    MODEL may be `expert`: the scripted one, which sees the simulation's truth.
    """

    suites: tuple[str, ...] = SUITES
    """Of tasks."""
    tasks: tuple[int, ...] = ()
    """Numbers of tasks of each suite; none: all."""
    look_every: int = 1
    """Steps from one picture to the next, the last being repeated: equal to --execute, the policy misses nothing and
    a simulator without a graphics card is three times as fast. 1: vla-eval's LIBERO as it is."""


def params(suite: str) -> dict[str, object]:
    """Of vla-eval's LIBERO benchmark, for this protocol."""
    return {
        "suite": suite,
        "seed": RULES["seed"],
        "num_steps_wait": RULES["settle_steps"],
        "send_state": True,
        "send_wrist_image": True,
        "quat_no_antipodal": True,
    }


def run(settings: Settings) -> HarnessResult:
    """The model's policy, or the expert, in the suites that are asked for."""
    if unknown := [suite for suite in settings.suites if suite not in STEPS]:
        raise ValueError(f"suite {unknown[0]!r} is unknown; known: {', '.join(STEPS)}")
    if settings.execute % settings.look_every:
        raise ValueError(f"--look-every {settings.look_every}: --execute {settings.execute} is no multiple of it")
    expert = LiberoExpert() if settings.model == "expert" else None
    kind, more = "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark", {}
    every = NEVER if settings.blank and not settings.videos else settings.look_every
    if every > 1:
        kind, more = "libero_worlds:LIBEROWorlds", {"truth": False, "look_every": every}
    if expert:  # needs eyes for its films only
        kind, more = "libero_worlds:LIBEROWorlds", {"camera_size": RULES["camera_size"] if settings.videos else 0}
    entries = tuple(
        Entry(suite, kind, {**params(suite), **more}, settings.tasks, STEPS[suite]) for suite in settings.suites
    )
    return evaluate(
        settings,
        "libero",
        entries,
        contract(),
        policy=expert,
        server=_true if expert else None,
        rules=RULES,
    )


def _true(policy: Policy, execute: int) -> object:
    from vipa.robots.serving.truth_server import TruthModelServer  # needs the extra `vla-eval`

    return TruthModelServer(policy, execute)
