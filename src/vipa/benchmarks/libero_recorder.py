"""Episodes of LIBERO by the scripted expert, in the simulator's own environment, as a LeRobot v3 set."""

import json
import shlex
import struct
import subprocess
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from vipa.benchmarks.libero_benchmark import RULES, STEPS, params
from vipa.benchmarks.recorders import play
from vipa.benchmarks.vla_eval_run import WORKER, surroundings
from vipa.clips.video import ArrayFrames
from vipa.io.progress import counter
from vipa.robots.contract import ActionContract
from vipa.robots.episodes import Episode
from vipa.robots.known.libero import contract
from vipa.robots.lerobot_export import Pictures
from vipa.robots.libero_expert import LiberoExpert, Scene, TrueObservation
from vipa.robots.libero_hdf5 import moving
from vipa.robots.recording import Attempt, Recorded, record
from vipa.robots.serving.arrays import pack, unpack


@dataclass(frozen=True)
class Settings:
    """Records demonstrations of LIBERO's pick-and-place tasks until there are as many of each task as asked for.

    Scenes are drawn anew from the tasks' own ranges: the benchmark's initial states stay unseen.
    """

    out: Path
    """Folder of the LeRobot set."""
    python: str
    """The Python of the simulator's own environment, which has vla-eval."""
    suite: str = "libero_object"
    """Of tasks."""
    tasks: tuple[int, ...] = (0,)
    """Numbers of tasks of the suite, each as often as the others."""
    episodes: int = 50
    """Those that are written, of all tasks together."""
    seed: int = 0
    """The first scene; the others follow it."""
    size: int = 256
    """Pixels of the square images."""
    noise: float = 0.1
    """Spread of what disturbs the arm, in the action's numbers; the recorded actions do not show it."""
    pictures: Pictures = "image"
    """PNG in the tables, exact, or H.264."""


def run(settings: Settings) -> Recorded:
    """ValueError for an unknown suite or task, a simulator that does not start, and a folder of another recording."""
    if settings.suite not in STEPS:
        raise ValueError(f"suite {settings.suite!r} is unknown; known: {', '.join(STEPS)}")
    world = World(settings.python, settings.suite, settings.size, new_scenes=True)
    with closing(world), counter("recording", "episodes", settings.episodes) as count:
        if bad := [task for task in settings.tasks if not 0 <= task < len(world.tasks)]:
            raise ValueError(f"{settings.suite}: has no task {bad[0]}; they are 0 .. {len(world.tasks) - 1}")
        expert = LiberoExpert(world.contract.views)
        said = {**RULES, "simulator": "libero", "suite": settings.suite, "size": settings.size, "scenes": "new"}
        make = partial(demonstrate, world, expert, settings.noise)
        return record(
            settings.out,
            world.contract,
            (
                Attempt(f"{settings.suite}_{task}_{scene}", partial(make, task, scene))
                for scene in range(settings.seed, settings.seed + 100 * settings.episodes)
                for task in settings.tasks
            ),
            {**said, "noise": settings.noise, **expert.identity},
            wanted=settings.episodes,
            pictures=settings.pictures,
            progress=lambda done, made: count(f"of {made} attempts", done=done, total=settings.episodes),
        )


def demonstrate(world: "World", expert: LiberoExpert, noise: float, task: int, scene: int) -> Episode:
    """The expert's episode without the rows that move nothing."""
    environment = LiberoEpisode(world, task, scene, noise)
    name = f"{world.suite}_{task}_{scene}"
    notes = {"policy": expert.identity, "noise": noise}
    episode = play(expert, environment, 1, id=name, task=f"{world.suite}/{task}", seed=scene, notes=notes)
    return without_still_rows(episode)


def without_still_rows(episode: Episode) -> Episode:
    """The episode's rows that move the arm or the gripper, as in the field's training data."""
    kept = np.flatnonzero(moving(episode.action))
    return Episode(
        **{
            **vars(episode),
            "views": {view: ArrayFrames(frames.read(kept.tolist())) for view, frames in episode.views.items()},
            "state": episode.state[kept],
            "action": episode.action[kept],
            "notes": {**episode.notes, "still_rows_left_out": len(episode) - len(kept)},
        }
    )


@dataclass
class World:
    """A LIBERO suite in its own process. size: pixels of the pictures; 0: none. new_scenes, look_every: see
    `LIBEROWorlds`.

    ValueError, with the last words of the process, where it ends.
    """

    python: str
    suite: str
    size: int = 256
    new_scenes: bool = False
    look_every: int = 1
    tasks: list[str] = field(init=False)

    def __post_init__(self) -> None:
        asked = {**params(self.suite), "camera_size": self.size, "new_scenes": self.new_scenes}
        asked["look_every"] = self.look_every
        script = WORKER.with_name("libero_steps.py")
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        try:
            self._process = subprocess.Popen(
                [*shlex.split(self.python), str(script), json.dumps(asked)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                env=surroundings(),
            )
        except (OSError, IndexError):
            raise ValueError(f"--python {self.python or 'PATH'}: no such program") from None
        self.tasks = self._receive()["tasks"]

    @property
    def contract(self) -> ActionContract:
        return contract()

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        data = pack(order)
        self._pipe("stdin").write(struct.pack("<I", len(data)) + data)
        self._pipe("stdin").flush()
        return self._receive()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _receive(self) -> dict[str, Any]:
        head = self._pipe("stdout").read(4)
        if len(head) < 4:
            self._words.seek(0)
            words = self._words.read().decode(errors="replace").strip().splitlines()
            raise ValueError(f"{self.python}: LIBERO ended; {words[-1] if words else 'it said nothing'}")
        return unpack(self._pipe("stdout").read(struct.unpack("<I", head)[0]))

    def _pipe(self, name: str) -> IO[bytes]:
        return getattr(self._process, name)


class LiberoEpisode:
    """One episode as a `closed_loop.Environment`. noise: see `Settings`."""

    def __init__(self, world: World, task: int, scene: int, noise: float = 0.0):
        self.world, self.limit, self.noise = world, STEPS[world.suite], noise
        self.key, self.chance = (task, scene), np.random.default_rng([task, scene])
        self.text, self.steps, self.success = world.tasks[task], 0, False
        self._seen = world.ask({"task": task, "scene": scene})

    @property
    def done(self) -> bool:
        return self.success or self.steps >= self.limit

    @property
    def failure(self) -> str:
        return "" if self.success else "time is up"

    def observation(self) -> TrueObservation:
        sent, scene = self._seen.get("scene"), None
        if sent:
            scene = Scene(sent["target"], bool(sent["held"]), sent["goal"], sent["boxes"])
        state = np.array(self._seen["states"])
        return TrueObservation(self._seen["images"], state, self.text, (self.key[1], self.steps), scene)

    def advance(self, action: np.ndarray) -> None:
        disturbed = np.array(action, dtype=np.float64)
        disturbed[:6] += self.noise * self.chance.standard_normal(6) * np.any(np.abs(disturbed[:6]) > 0.2)
        self._seen = self.world.ask({"action": np.clip(disturbed, -1.0, 1.0).tolist()})
        self.steps += 1
        self.success = bool(self._seen["done"])

    def picture(self) -> np.ndarray:
        return self._seen["images"]["agentview"]
