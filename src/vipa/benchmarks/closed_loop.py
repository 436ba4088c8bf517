"""Closed-loop success of a policy in a simulator: batched over environments, resumable, with its protocol.

folder/
  protocol.json     what the `Simulation` says of itself, the policy's name and identity, and the versions it ran with
  episodes.jsonl    one line per finished episode, appended at once: a rerun continues after it
  result.json       rates with 95 % Wilson intervals
  videos/           rollouts of the first seeds of each task

Which simulator it is, only the `Simulation` knows (`tabletop_benchmark.py`).

Why not vla-eval's runner, which plays the other simulators: it has one environment a connection and draws at every
step; here the chunks of many are one batch, and nothing is drawn between them. In process it made half of this
loop's steps a second of processor on the tabletop with nano (docs/simulators.md).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
from jaxtyping import Float, UInt8

from vipa.benchmarks.results import Mean
from vipa.benchmarks.statistics import bootstrap_interval, wilson_interval
from vipa.benchmarks.timing import Call, Timed, latency
from vipa.io.child_process import cores, yielded_beside
from vipa.io.files import atomic_write
from vipa.io.json_files import read_json
from vipa.io.json_log import JsonLog
from vipa.io.provenance import provenance, versions
from vipa.io.video_writer import write_video
from vipa.robots.contract import ActionContract
from vipa.robots.playing import Observation, Policy, checked_chunks
from vipa.robots.real_time import ContinuingPolicy, RealTimeExecutor, Switching

Progress = Callable[[int, int], None]


class Environment(Protocol):
    """One episode under way in a simulator. text: the instruction. steps: actions taken so far. done: it has ended, by
    success or by a failure, which is in words."""

    @property
    def text(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def done(self) -> bool: ...
    @property
    def success(self) -> bool: ...
    @property
    def failure(self) -> str: ...

    def observation(self) -> Observation: ...

    def advance(self, action: Float[np.ndarray, "a"]) -> None: ...

    def picture(self) -> UInt8[np.ndarray, "h w 3"]:
        """For the film of the episode, with even sizes."""
        ...


@dataclass(frozen=True)
class Simulation(ABC):
    """One evaluation in a simulator, complete: all that decides its figures but the policy. A simulator subclasses it.

    policy: a name for the record. tasks: each is played on all seeds. execute: steps of a chunk before the next is
    asked for. delay: steps between an observation and its chunk; switching: how that chunk takes over
    (`robots.real_time`). batch: environments at once; processes: each with a copy of the policy, a share of the jobs
    and of the processor's cores; both change nothing but speed. videos: rollouts filmed per task.
    anew: where `out` holds another policy's or protocol's episodes, begin again instead of refusing.
    """

    out: Path
    policy: str
    tasks: tuple[str, ...]
    execute: int = 4
    delay: int = 0
    switching: Switching = "naive"
    batch: int = 16
    processes: int = 1
    videos: int = 3
    anew: bool = False

    rate: ClassVar[float]  # actions a second
    libraries: ClassVar[tuple[str, ...]] = ()  # whose versions the protocol names besides our own

    @property
    @abstractmethod
    def seeds(self) -> Sequence[int]:
        """Of the episodes, the same for every task."""

    @abstractmethod
    def contract(self, views: tuple[str, ...]) -> ActionContract:
        """Of the robot, seen from these views."""

    @abstractmethod
    def start(self, task: str, seed: int, views: tuple[str, ...], film: bool) -> Environment:
        """An episode before its first action. film: pictures of it will be asked for."""

    def figures(self, episode: Any) -> dict[str, float]:
        """Numbers of an episode that ended (one that `start` gave), besides its success."""
        return {}

    def real_time(self) -> dict[str, Any]:
        """Part of every protocol: nothing where no chunk is late."""
        plain = self.delay == 0 and self.switching == "naive"
        return {} if plain else {"delay": self.delay, "switching": self.switching}

    @abstractmethod
    def protocol(self, identity: dict[str, Any]) -> dict[str, Any]:
        """What another's figures must share to be comparable, for the record. identity: the policy's."""

    @abstractmethod
    def decisive(self, protocol: dict[str, Any]) -> dict[str, Any]:
        """Of a saved protocol (with "versions"; {} where there is none) what decides how an episode goes: not which
        episodes are asked for, nor what the policy is called."""


@dataclass(frozen=True)
class EpisodeOutcome:
    """How one episode went. failure: why not, in words; "" for a success. steps: actions taken. figures: what its
    simulator measured besides."""

    task: str
    seed: int
    text: str
    success: bool
    failure: str
    steps: int
    figures: dict[str, float] = field(default_factory=dict)


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

    @classmethod
    def of(cls, outcomes: Sequence[EpisodeOutcome]) -> "TaskScore":
        return cls(sum(outcome.success for outcome in outcomes), len(outcomes))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.rate:.0%} [{low:.0%}, {high:.0%}] ({self.successes}/{self.trials})"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rate": self.rate, "interval": self.interval}


@dataclass(frozen=True)
class ClosedLoopResult:
    """Outcomes of an evaluation, and where its files are. identity: the policy's."""

    run: Simulation
    identity: dict[str, Any]
    outcomes: tuple[EpisodeOutcome, ...]
    videos: tuple[Path, ...]

    @property
    def scores(self) -> dict[str, TaskScore]:
        """By task, and "all" over every episode."""
        groups = {task: [o for o in self.outcomes if o.task == task] for task in self.run.tasks}
        groups["all"] = list(self.outcomes)
        return {name: TaskScore.of(outcomes) for name, outcomes in groups.items()}

    def __str__(self) -> str:
        return "\n".join(f"  {task:<10} {score}" for task, score in self.scores.items())

    def to_dict(self) -> dict[str, Any]:
        scores = {name: score.to_dict() for name, score in self.scores.items()}
        measured = sorted({name for o in self.outcomes for name in o.figures})
        means = {name: asdict(self.mean(name)) for name in measured}
        return {"protocol": self.run.protocol(self.identity), "scores": scores, "means": means}

    def mean(self, figure: str) -> Mean:
        """Over the episodes that have it, with its 95 % bootstrap interval."""
        values = np.array([o.figures[figure] for o in self.outcomes if figure in o.figures])
        return Mean(float(values.mean()), *bootstrap_interval(values))


def evaluate_closed_loop(policy: Policy, run: Simulation, progress: Progress | None = None) -> ClosedLoopResult:
    """Runs every (task, seed) that `run.out` does not hold yet, and returns all of them.

    progress(done, total) is called after each episode. ValueError where the policy's contract does not fit the
    robot, or where `run.out` holds episodes of another policy or protocol.
    """
    policy.contract.check(run.contract(policy.contract.views))
    _open_folder(run, policy.identity)
    log = JsonLog(run.out / "episodes.jsonl")
    done = (_outcome(log.path, number, row) for number, row in enumerate(log.rows, 1))
    outcomes = {(outcome.task, outcome.seed): outcome for outcome in done}
    jobs = [(task, seed) for task in run.tasks for seed in run.seeds]
    todo = [job for job in jobs if job not in outcomes]
    latencies: list[Call] = []
    for outcome in _played(policy, run, todo, latencies):
        outcomes[outcome.task, outcome.seed] = outcome
        log.add(asdict(outcome))
        if progress is not None:
            progress(sum(job in outcomes for job in jobs), len(jobs))
    videos = tuple(sorted((run.out / "videos").glob("[!.]*.mp4")))
    result = ClosedLoopResult(run, policy.identity, tuple(outcomes[job] for job in jobs), videos)
    made = provenance() | {"latency": latency(latencies)}
    atomic_write(run.out / "result.json", _json(result.to_dict() | {"made": made}))
    return result


def _played(
    policy: Policy, run: Simulation, jobs: list[tuple[str, int]], calls: list[Call]
) -> Iterable[EpisodeOutcome]:
    """Episodes as they end. calls: get those of the policy, as they are known."""
    processes = min(run.processes, len(jobs) // 4)  # for fewer it is not worth its beginning
    if processes > 1:
        shares = [(policy, run, jobs[i::processes], processes) for i in range(processes)]
        heard = yielded_beside(_rolled_beside, shares)
    else:
        heard = _rolled(policy, run, jobs)
    for said in heard:
        if isinstance(said, EpisodeOutcome):
            yield said
        else:
            calls.extend(said)


def _rolled_beside(
    policy: Policy, run: Simulation, jobs: list[tuple[str, int]], processes: int
) -> Iterable[EpisodeOutcome | list[Call]]:
    import torch

    torch.set_num_threads(max(1, cores() // processes))
    yield from _rolled(policy, run, jobs)


def _rolled(policy: Policy, run: Simulation, jobs: list[tuple[str, int]]) -> Iterable[EpisodeOutcome | list[Call]]:
    """The outcomes, and at last the calls of the policy."""
    timed: Any = Timed(policy)  # passes on what a policy has
    roll = _roll_in_time if run.real_time() else _roll
    yield from roll(timed, run, jobs)
    yield timed.calls


def _roll(policy: Policy, run: Simulation, jobs: list[tuple[str, int]]) -> Iterable[EpisodeOutcome]:
    """Episodes as they end, `run.batch` environments at once.

    All ask for their chunks together, and the next episodes begin there too: were they to begin where others end, the
    policy would soon answer `run.execute` small batches in place of a large one.
    """
    waiting, rollouts = iter(jobs), []
    while True:
        for job in islice(waiting, run.batch - len(rollouts)):
            rollouts.append(_Rollout(*job, run, policy.contract.views))
        if not rollouts:
            return
        chunks = checked_chunks(policy, [rollout.env.observation() for rollout in rollouts], run.execute)
        for rollout, chunk in zip(rollouts, chunks):
            rollout.play(chunk)
            if rollout.env.done:
                yield rollout.finish()
        rollouts = [rollout for rollout in rollouts if not rollout.env.done]


def _roll_in_time(policy: Policy, run: Simulation, jobs: list[tuple[str, int]]) -> Iterable[EpisodeOutcome]:
    """The same with chunks that come late, a step of all environments at a time."""
    if run.switching != "naive" and not hasattr(policy, "go_on"):
        raise ValueError(f"{run.policy}: {run.switching} needs a policy whose chunks can go on from others")
    executor = RealTimeExecutor(cast(ContinuingPolicy, policy), run.execute, run.delay, run.switching)
    waiting, rollouts, numbers = iter(jobs), {}, count()
    while True:
        for job in islice(waiting, run.batch - len(rollouts)):
            rollouts[next(numbers)] = _Rollout(*job, run, policy.contract.views)
        if not rollouts:
            return
        actions = executor.act({number: rollout.env.observation for number, rollout in rollouts.items()})
        for number, action in actions.items():
            rollouts[number].play(action[None])
            if rollouts[number].env.done:
                executor.forget(number)
                yield rollouts.pop(number).finish()


class _Rollout:
    """One environment under evaluation, and its film."""

    def __init__(self, task: str, seed: int, run: Simulation, views: tuple[str, ...]):
        film = seed in run.seeds[: run.videos]
        self.run, self.job = run, (task, seed)
        self.env = run.start(task, seed, views, film)
        self.film = [self.env.picture()] if film else []

    def play(self, actions: Float[np.ndarray, "k a"]) -> None:
        """Until the episode ends."""
        for action in actions:
            self.env.advance(action)
            if self.film:
                self.film.append(self.env.picture())
            if self.env.done:
                return

    def finish(self) -> EpisodeOutcome:
        env, (task, seed) = self.env, self.job
        if self.film:
            folder = self.run.out / "videos"
            name = f"{task}_{seed}_{'success' if env.success else 'failure'}.mp4"
            for before in folder.glob(
                f"{task}_{seed}_*.mp4"
            ):  # of a run that ended before its episode was written
                before.unlink()
            write_video(folder / name, _with_verdict(self.film, env.success, self.run.rate), self.run.rate)
        figures = self.run.figures(env)
        return EpisodeOutcome(task, seed, env.text, env.success, env.failure, env.steps, figures)


def _with_verdict(images: list[np.ndarray], success: bool, rate: float) -> list[np.ndarray]:
    """The film with its last image held for a second in a green or red frame."""
    last = images[-1].copy()
    inside = last[4:-4, 4:-4].copy()
    last[:] = (40, 160, 60) if success else (200, 50, 40)
    last[4:-4, 4:-4] = inside
    return [*images, *[last] * round(rate)]


def _open_folder(run: Simulation, identity: dict[str, Any]) -> None:
    """Makes or continues an evaluation's folder. ValueError (or a new beginning) where it holds other episodes."""
    file = run.out / "protocol.json"
    names = ("vipa", *run.libraries, "torch", "transformers", "numpy")
    protocol = {**run.protocol(identity), "versions": versions(names)}
    protocol = json.loads(json.dumps(protocol))
    if (run.out / "episodes.jsonl").exists():
        before = run.decisive(read_json(file) if file.exists() else {})
        now = run.decisive(protocol)
        differing = [name for name in now if before.get(name) != now[name]]
        if differing and not run.anew:
            raise ValueError(
                f"{run.out}: holds episodes with another {', '.join(differing)}; choose or empty the folder"
            )
        if differing:
            for old in (run.out / "result.json", *(run.out / "videos").glob("*.mp4"), run.out / "episodes.jsonl"):
                old.unlink(missing_ok=True)
    atomic_write(file, _json(protocol))


def _outcome(path: Path, number: int, row: dict[str, Any]) -> EpisodeOutcome:
    try:
        return EpisodeOutcome(**row)
    except TypeError as error:
        raise ValueError(f"{path}, line {number}: not an episode ({error}); delete that line") from None


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
