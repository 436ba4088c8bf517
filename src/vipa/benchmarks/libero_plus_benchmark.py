"""Closed-loop success in LIBERO-Plus: LIBERO's tasks with cameras, light, textures, layout and words changed."""

from dataclasses import dataclass

from vipa.benchmarks.libero_benchmark import RULES, STEPS, SUITES, params
from vipa.benchmarks.vla_eval_run import Entry, HarnessResult
from vipa.benchmarks.vla_eval_settings import HarnessSettings, evaluate
from vipa.robots.known.libero import contract


@dataclass(frozen=True, kw_only=True)
class Settings(HarnessSettings):
    """Lets a policy act in LIBERO-Plus through vla-eval and counts successes, with rollout videos."""

    suites: tuple[str, ...] = SUITES
    """Of tasks."""
    category: str | None = None
    """One kind of change, such as "Camera Viewpoints"; none: all."""
    difficulty: int | None = None
    """One level, 1 to 3."""
    episodes: int = 1
    """Of each variant of a task."""
    videos: int = 0
    """Rollouts filmed per variant."""


def run(settings: Settings) -> HarnessResult:
    """The model's policy in the suites that are asked for."""
    kind = "vla_eval.benchmarks.libero_plus.benchmark:LIBEROPlusBenchmark"
    changes = {"category": settings.category, "difficulty_level": settings.difficulty}
    entries = tuple(Entry(s, kind, {**params(s), **changes}, steps=STEPS[s]) for s in settings.suites)
    return evaluate(settings, "libero-plus", entries, contract(), rules=RULES)
