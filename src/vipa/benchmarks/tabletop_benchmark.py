"""Closed-loop success on the tabletop's robot tasks, with rollout videos."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from tyro.conf import Positional

from vipa.benchmarks.closed_loop import ClosedLoopResult, Progress, Simulation, TaskScore, evaluate_closed_loop
from vipa.io.child_process import cores
from vipa.io.progress import counter
from vipa.robots.contract import ActionContract
from vipa.robots.known.tabletop import tabletop_contract
from vipa.robots.playing import BlankImages, Observation, Policy
from vipa.robots.real_time import Switching
from vipa.worlds.experts import perform
from vipa.worlds.rendering import Renderer
from vipa.worlds.robot import RATE
from vipa.worlds.robot_env import SETTLE_STEPS, TabletopEnv
from vipa.worlds.scene import scene_settings
from vipa.worlds.seeds import seeds_of
from vipa.worlds.tasks import STEP_LIMITS, TASKS

Axis = Literal["camera_pose", "light", "textures", "distractors", "layout", "wording"]  # worlds.changes.CHANGES

MOST = 4
"""Processes where nothing else is said, at most."""


@dataclass(frozen=True)
class Settings:
    """Lets the policy act in the tabletop world and counts successes, with rollout videos."""

    model: Positional[str]
    """A folder after stage 3, or nano:stage3."""
    out: Path
    """Folder of results; a run that was stopped continues."""
    tasks: tuple[str, ...] = TASKS
    """Of the robot."""
    split: Literal["train", "validation", "test"] = "test"
    """Whose seeds the scenes are."""
    episodes: int = 50
    """Scenes per task."""
    blank: bool = False
    """Cover the camera, for comparison."""
    videos: int = 3
    """Rollouts filmed per task."""
    execute: int = 4
    """Steps of a chunk before the next."""
    processes: int | None = None
    """At once, each with the policy's copy; left out: as many as the processor has cores, but at most four, and one
    for a policy on a GPU."""
    ambiguity: float = 0.0
    """Of the scenes (docs/worlds.md)."""
    delay: int = 0
    """Steps between an observation and its chunk, as if the policy were slower."""
    switching: Switching = "naive"
    """How a late chunk takes over: knowing nothing of the one before, or going on from it (real-time chunking)."""
    change: tuple[Axis, ...] = ()
    """What is not as in training; several at once."""
    strength: float = 1.0
    """Of the change, over 0 ... 1."""


def run(settings: Settings) -> ClosedLoopResult:
    """The model's policy, in the scenes that are asked for."""
    from vipa.robots.policy import VipaPolicy

    policy, name = VipaPolicy.from_pretrained(settings.model), settings.model
    player = BlankImages(policy) if settings.blank else policy
    simulation = TabletopEvaluation(
        settings.out,
        f"{name}, blank image" if settings.blank else name,
        settings.tasks,
        split=settings.split,
        episodes=settings.episodes,
        videos=settings.videos,
        execute=settings.execute,
        processes=settings.processes or processes_for(policy.model.device.type),
        ambiguity=settings.ambiguity,
        delay=settings.delay,
        switching=settings.switching,
        changes=dict.fromkeys(settings.change, settings.strength),
    )
    with counter("acting", "episodes") as count:
        return evaluate_tabletop(player, simulation, lambda done, total: count(done=done, total=total))


def processes_for(device: str) -> int:
    """At once, of a policy on this kind of device, where nothing else is said: on a CPU two threads of one policy are
    far from two policies of one thread each; a GPU is not shared."""
    return min(MOST, cores()) if device == "cpu" else 1


@dataclass(frozen=True)
class TabletopEvaluation(Simulation):
    """An evaluation of the tabletop's robot.

    Episodes are the first `episodes` seeds of `split` (from `first`). size: pixels of the policy's square images;
    video_size: of the films. changes: axis (`worlds.changes.CHANGES`) -> strength. The other fields are every
    `Simulation`'s.
    """

    tasks: tuple[str, ...] = TASKS
    split: str = "test"
    first: int = 0
    episodes: int = 50
    size: int = 112
    video_size: int = 224
    ambiguity: float = 0.0
    changes: dict[str, float] = field(default_factory=dict)

    rate = RATE
    libraries = ("mujoco",)

    @property
    def seeds(self) -> range:
        all_seeds = seeds_of(self.split)
        return all_seeds[self.first : self.first + self.episodes]

    def contract(self, views: tuple[str, ...]) -> ActionContract:
        return tabletop_contract(views)

    def start(self, task: str, seed: int, views: tuple[str, ...], film: bool) -> "TabletopEpisode":
        return TabletopEpisode(
            task,
            seed,
            self.video_size if film else None,
            size=self.size,
            views=views,
            changes=self.changes,
            ambiguity=self.ambiguity,
        )

    def protocol(self, identity: dict[str, Any]) -> dict[str, Any]:
        return {
            "benchmark": "tabletop",
            "policy": self.policy,
            "identity": identity,
            "tasks": {task: {"step_limit": STEP_LIMITS[task]} for task in self.tasks},
            "split": self.split,
            "seeds": [self.seeds[0], self.seeds[-1]],
            "image_size": self.size,
            **scene_settings(self.ambiguity),
            "changes": self.changes,
            "rate": RATE,
            "settle_steps": SETTLE_STEPS,
            "execute": self.execute,
            **self.real_time(),
        }

    def figures(self, episode: "TabletopEpisode") -> dict[str, float]:
        """Of the tool's measured path; see `roughness`."""
        return roughness(np.stack(episode.path), RATE)

    def decisive(self, protocol: dict[str, Any]) -> dict[str, Any]:
        kept = ("identity", "image_size", "rate", "settle_steps", "execute", "delay", "switching")
        limits = {task: rules["step_limit"] for task, rules in protocol.get("tasks", {}).items()}
        return {
            **{name: protocol.get(name) for name in kept},
            "ambiguity": protocol.get("ambiguity", 0.0),
            "scenes": protocol.get("scenes"),
            "changes": protocol.get("changes", {}),  # before there were any, there was none
            **{f"step limit of {task}": limits.get(task, limit) for task, limit in STEP_LIMITS.items()},
            "version of the simulator": protocol.get("versions", {}).get("mujoco"),
        }


class TabletopEpisode(TabletopEnv):
    """The tabletop's robot as a `closed_loop.Environment`. video_size: pixels of its film; None: none. options: of
    `TabletopEnv`."""

    def __init__(self, task: str, seed: int, video_size: int | None = None, **options: Any):
        super().__init__(task, seed, **options)
        self.key, self.path = seed, [self.robot.state[:3]]
        self.camera = Renderer(self.model, video_size, video_size) if video_size else None

    def advance(self, action: np.ndarray) -> None:
        super().advance(action)
        self.path.append(self.robot.state[:3])

    def observation(self) -> Observation:
        view = self.observe()
        return Observation(view.images, view.state, self.text, (self.key, self.steps))

    def picture(self) -> np.ndarray:
        assert self.camera is not None
        return self.render("agent", self.camera)


def evaluate_tabletop(
    policy: Policy, run: TabletopEvaluation, progress: Progress | None = None
) -> ClosedLoopResult:
    """As `evaluate_closed_loop`. ValueError for an unknown task, and for seeds that the split does not have."""
    if unknown := set(run.tasks) - set(TASKS):
        raise ValueError(f"robot tasks {sorted(unknown)} are unknown; known: {', '.join(TASKS)}")
    if len(run.seeds) != run.episodes or run.episodes < 1:
        raise ValueError(f"evaluation: {run.episodes} episodes from seed {run.first} do not fit in {run.split}")
    return evaluate_closed_loop(policy, run, progress)


def roughness(path: Float[np.ndarray, "n 3"], rate: float) -> dict[str, float]:
    """How a path in metres, `rate` points a second, shakes: `jerk`, the root mean square of its third derivative
    (m/s^3), by differences, and `acceleration`, of its second (m/s^2); what is too short for one has none."""
    names = {"acceleration": 2, "jerk": 3}
    return {
        name: float(np.sqrt((np.diff(path, order, axis=0) ** 2).sum(1).mean()) * rate**order)
        for name, order in names.items()
        if len(path) > order
    }


def _expert_succeeds(task: str, seed: int, run: TabletopEvaluation) -> bool:
    env = TabletopEnv(task, seed, size=16, changes=run.changes, ambiguity=run.ambiguity)
    for _ in perform(env):
        pass
    return env.success


def expert_scores(run: TabletopEvaluation) -> dict[str, TaskScore]:
    """What the scripted experts reach on the same seeds: the ceiling that a clone of them has."""
    return {
        task: TaskScore(sum(_expert_succeeds(task, seed, run) for seed in run.seeds), run.episodes)
        for task in run.tasks
    }
