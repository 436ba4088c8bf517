"""Closed-loop success in LIBERO-Pro: LIBERO's tasks with positions, objects, words, goals or surroundings changed."""

from dataclasses import dataclass

from vipa.benchmarks.libero_benchmark import RULES, STEPS, SUITES, params
from vipa.benchmarks.vla_eval_run import Entry, HarnessResult
from vipa.benchmarks.vla_eval_settings import HarnessSettings, evaluate
from vipa.robots.known.libero import contract


@dataclass(frozen=True, kw_only=True)
class Settings(HarnessSettings):
    """Lets a policy act in LIBERO-Pro through vla-eval and counts successes, with rollout videos."""

    suites: tuple[str, ...] = SUITES
    """Of tasks, before they are changed."""
    changes: tuple[str, ...] = ("swap", "object", "lan", "task")
    """Of each suite: swap, object, lan, task or env."""


def run(settings: Settings) -> HarnessResult:
    """The model's policy in every changed suite."""
    kind = "vla_eval.benchmarks.libero_pro.benchmark:LIBEROProBenchmark"
    entries = tuple(
        Entry(f"{suite}_{change}", kind, {**params(suite), "perturbation": change}, steps=STEPS[suite])
        for suite in settings.suites
        for change in settings.changes
    )
    for entry in entries:  # its state is of the quaternion with w >= 0, which our contract reads as well
        del entry.params["quat_no_antipodal"]
    return evaluate(settings, "libero-pro", entries, contract(), rules=RULES)
