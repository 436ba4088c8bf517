"""Closed-loop success on the tabletop's robot tasks: batched over environments, resumable, with its protocol.

folder/
  protocol.json     the TabletopEvaluation, the policy's name and identity, and the versions it ran with
  episodes.jsonl    one line per finished episode, appended at once: a rerun continues after it
  result.json       rates with 95 % Wilson intervals
  videos/           rollouts of the first seeds of each task
"""

import importlib.metadata
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vipa.benchmarks.statistics import wilson_interval
from vipa.io.files import atomic_write
from vipa.io.json_files import read_json
from vipa.io.json_log import JsonLog
from vipa.io.video_writer import write_video
from vipa.robots.known.tabletop import demonstration, tabletop_contract
from vipa.robots.policy import ChunkExecutor, Observation, Policy
from vipa.worlds.rendering import Renderer
from vipa.worlds.robot import RATE
from vipa.worlds.robot_env import SETTLE_STEPS, TabletopEnv
from vipa.worlds.seeds import seeds_of
from vipa.worlds.tasks import STEP_LIMITS, TASKS


@dataclass(frozen=True)
class TabletopEvaluation:
    """One evaluation, complete: all that decides its figures but the policy.

    Episodes are the first `episodes` seeds of `split` (from `first`), the same for every task. size: pixels of
    the policy's square images. execute: steps of a chunk before the next is asked for. batch: environments at
    once (changes nothing but speed). videos: rollouts filmed per task. policy: a name for the record. anew: where `out`
    holds another policy's or protocol's episodes, begin again instead of refusing.
    """

    out: Path
    policy: str
    tasks: tuple[str, ...] = TASKS
    split: str = "test"
    first: int = 0
    episodes: int = 50
    size: int = 112
    execute: int = 4
    batch: int = 16
    videos: int = 3
    video_size: int = 224
    anew: bool = False

    @property
    def seeds(self) -> range:
        all_seeds = seeds_of(self.split)
        return all_seeds[self.first : self.first + self.episodes]

    def protocol(self, identity: dict[str, Any]) -> dict[str, Any]:
        """What another's figures must share to be comparable, for the record. identity: the policy's."""
        return {
            "benchmark": "tabletop",
            "policy": self.policy,
            "identity": identity,
            "tasks": {task: {"step_limit": STEP_LIMITS[task]} for task in self.tasks},
            "split": self.split,
            "seeds": [self.seeds[0], self.seeds[-1]],
            "image_size": self.size,
            "rate": RATE,
            "settle_steps": SETTLE_STEPS,
            "execute": self.execute,
        }


@dataclass(frozen=True)
class EpisodeOutcome:
    """How one episode went. failure: why not, in words; "" for a success. steps: actions taken."""

    task: str
    seed: int
    text: str
    success: bool
    failure: str
    steps: int


@dataclass(frozen=True)
class TaskScore:
    """successes of trials, and the 95 % Wilson interval of the rate."""

    successes: int
    trials: int

    @property
    def rate(self) -> float:
        return self.successes / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.successes, self.trials)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.rate:.0%} [{low:.0%}, {high:.0%}] ({self.successes}/{self.trials})"


@dataclass(frozen=True)
class TabletopResult:
    """Outcomes of an evaluation, and where its files are. identity: the policy's."""

    run: TabletopEvaluation
    identity: dict[str, Any]
    outcomes: tuple[EpisodeOutcome, ...]
    videos: tuple[Path, ...]

    @property
    def scores(self) -> dict[str, TaskScore]:
        """By task, and "all" over every episode."""
        groups = {task: [o for o in self.outcomes if o.task == task] for task in self.run.tasks}
        groups["all"] = list(self.outcomes)
        return {name: TaskScore(sum(o.success for o in os), len(os)) for name, os in groups.items()}

    def to_dict(self) -> dict[str, Any]:
        scores = {
            name: {"successes": s.successes, "trials": s.trials, "rate": s.rate, "interval": s.interval}
            for name, s in self.scores.items()
        }
        return {"protocol": self.run.protocol(self.identity), "scores": scores}


def evaluate_tabletop(
    policy: Policy, run: TabletopEvaluation, progress: Callable[[int, int], None] | None = None
) -> TabletopResult:
    """Runs every (task, seed) that `run.out` does not hold yet, and returns all of them.

    progress(done, total) is called after each episode. ValueError where the policy's contract does not fit the
    robot, where a task is unknown, or where `run.out` holds episodes of another policy or protocol.
    """
    if unknown := set(run.tasks) - set(TASKS):
        raise ValueError(f"robot tasks {sorted(unknown)} are unknown; known: {', '.join(TASKS)}")
    if len(run.seeds) != run.episodes or run.episodes < 1:
        raise ValueError(f"evaluation: {run.episodes} episodes from seed {run.first} do not fit in {run.split}")
    policy.contract.check(tabletop_contract(policy.contract.views))
    _open_folder(run, policy.identity)
    log = JsonLog(run.out / "episodes.jsonl")
    done = (_outcome(log.path, number, row) for number, row in enumerate(log.rows, 1))
    outcomes = {(outcome.task, outcome.seed): outcome for outcome in done}
    jobs = [(task, seed) for task in run.tasks for seed in run.seeds]
    todo = [job for job in jobs if job not in outcomes]
    for outcome in _roll(policy, run, todo):
        outcomes[outcome.task, outcome.seed] = outcome
        log.add(asdict(outcome))
        if progress is not None:
            progress(sum(job in outcomes for job in jobs), len(jobs))
    videos = tuple(sorted((run.out / "videos").glob("[!.]*.mp4")))
    result = TabletopResult(run, policy.identity, tuple(outcomes[job] for job in jobs), videos)
    atomic_write(run.out / "result.json", _json(result.to_dict()))
    return result


def _roll(policy: Policy, run: TabletopEvaluation, jobs: list[tuple[str, int]]) -> Iterable[EpisodeOutcome]:
    """Episodes as they end, `run.batch` environments at once."""
    executor, waiting, slots = ChunkExecutor(policy, run.execute), iter(jobs), {}
    filmed = {(task, seed) for task in run.tasks for seed in run.seeds[: run.videos]}

    def start(slot: int) -> None:
        executor.forget(slot)
        slots.pop(slot, None)
        if (job := next(waiting, None)) is not None:
            slots[slot] = _Rollout(*job, run, policy.contract.views, film=job in filmed)

    for slot in range(run.batch):
        start(slot)
    while slots:
        actions = executor.act({slot: rollout.observation for slot, rollout in slots.items()})
        for slot, action in actions.items():
            rollout = slots[slot]
            rollout.step(action)
            if rollout.env.done:
                yield rollout.finish()
                start(slot)


class _Rollout:
    """One environment under evaluation, and its film."""

    def __init__(self, task: str, seed: int, run: TabletopEvaluation, views: tuple[str, ...], film: bool):
        self.run, self.job = run, (task, seed)
        self.env = TabletopEnv(task, seed, size=run.size, views=views)
        self.view = self.env.reset()
        self.camera = Renderer(self.env.model, run.video_size, run.video_size) if film else None
        self.film: list[np.ndarray] = []
        self._shoot()

    def _shoot(self) -> None:
        if self.camera is not None:
            self.film.append(self.env.render("agent", self.camera))

    def observation(self) -> Observation:
        return Observation(self.view.images, self.view.state, self.env.text, (self.job[1], self.env.steps))

    def step(self, action: np.ndarray) -> None:
        self.view = self.env.step(action)
        self._shoot()

    def finish(self) -> EpisodeOutcome:
        env, (task, seed) = self.env, self.job
        if self.film:
            folder = self.run.out / "videos"
            name = f"{task}_{seed}_{'success' if env.success else 'failure'}.mp4"
            for before in folder.glob(
                f"{task}_{seed}_*.mp4"
            ):  # of a run that ended before its episode was written
                before.unlink()
            write_video(folder / name, _with_verdict(self.film, env.success), RATE)
        return EpisodeOutcome(task, seed, env.text, env.success, env.failure, env.steps)


def _with_verdict(images: list[np.ndarray], success: bool) -> list[np.ndarray]:
    """The film with its last image held for a second in a green or red frame."""
    last = images[-1].copy()
    inside = last[4:-4, 4:-4].copy()
    last[:] = (40, 160, 60) if success else (200, 50, 40)
    last[4:-4, 4:-4] = inside
    return [*images, *[last] * round(RATE)]


def expert_scores(run: TabletopEvaluation) -> dict[str, TaskScore]:
    """What the scripted experts reach on the same seeds: the ceiling that a clone of them has."""
    return {
        task: TaskScore(sum(bool(demonstration(task, seed, size=16).success) for seed in run.seeds), run.episodes)
        for task in run.tasks
    }


def _open_folder(run: TabletopEvaluation, identity: dict[str, Any]) -> None:
    """Makes or continues an evaluation's folder. ValueError (or a new beginning) where it holds other episodes."""
    file = run.out / "protocol.json"
    names = ("vipa", "mujoco", "torch", "transformers", "numpy")
    protocol = {**run.protocol(identity), "versions": {name: _version(name) for name in names}}
    protocol = json.loads(json.dumps(protocol))
    if (run.out / "episodes.jsonl").exists():
        before = _decides_an_episode(read_json(file) if file.exists() else {})
        now = _decides_an_episode(protocol)
        differing = [name for name in now if before.get(name) != now[name]]
        if differing and not run.anew:
            raise ValueError(
                f"{run.out}: holds episodes with another {', '.join(differing)}; choose or empty the folder"
            )
        if differing:
            for old in (run.out / "result.json", *(run.out / "videos").glob("*.mp4"), run.out / "episodes.jsonl"):
                old.unlink(missing_ok=True)
    atomic_write(file, _json(protocol))


def _decides_an_episode(protocol: dict[str, Any]) -> dict[str, Any]:
    """Of a protocol what decides how an episode goes: not which are asked for, nor what the policy is called."""
    kept = ("identity", "image_size", "rate", "settle_steps", "execute")
    limits = {task: rules["step_limit"] for task, rules in protocol.get("tasks", {}).items()}
    versions = protocol.get("versions", {})
    return {
        **{name: protocol.get(name) for name in kept},
        **{f"step limit of {task}": limits.get(task, limit) for task, limit in STEP_LIMITS.items()},
        "version of the simulator": versions.get("mujoco"),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _outcome(path: Path, number: int, row: dict[str, Any]) -> EpisodeOutcome:
    try:
        return EpisodeOutcome(**row)
    except TypeError as error:
        raise ValueError(f"{path}, line {number}: not an episode ({error}); delete that line") from None


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
