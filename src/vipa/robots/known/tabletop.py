"""The tabletop world's gripper robot; its demonstrations are collected from scripted experts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vipa.clips.video import ArrayFrames
from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.episodes import Episode
from vipa.robots.lerobot_data import open_robot_data
from vipa.robots.recording import Attempt, Recorded, record
from vipa.worlds.experts import Noise, perform
from vipa.worlds.robot import POSITION_SCALE, RATE, ROTATION_SCALE
from vipa.worlds.robot_env import TabletopEnv
from vipa.worlds.scene import scene_settings
from vipa.worlds.seeds import split_of
from vipa.worlds.tasks import TASKS

FRAME = "world: x to the camera's right, y away from the camera, z up, origin at the table's centre"


def tabletop_contract(views: Sequence[str] = ("agent",), horizon: int = 8) -> ActionContract:
    """LIBERO's layout of seven action and eight state numbers at 10 Hz; the tool's rest rotation is zero."""
    return ActionContract(
        robot="tabletop gripper",
        action=(
            *(Dimension(f"delta_{a}", "metre", "delta", POSITION_SCALE) for a in "xyz"),
            *(Dimension(f"delta_rotation_{a}", "radian", "delta", ROTATION_SCALE) for a in "xyz"),
            Dimension("gripper", "none", "absolute"),
        ),
        state=(
            *(Dimension(a, "metre", "absolute") for a in "xyz"),
            *(Dimension(f"rotation_{a}", "radian", "absolute") for a in "xyz"),
            Dimension("finger_left", "metre", "absolute"),
            Dimension("finger_right", "metre", "absolute"),
        ),
        frame=FRAME,
        rotation="axis_angle",
        gripper="-1 open, +1 closed",
        rate=RATE,
        horizon=horizon,
        views=tuple(views),
    )


contract, read = tabletop_contract, open_robot_data


def demonstration(
    task: str,
    seed: int,
    *,
    size: int = 112,
    views: Sequence[str] = ("agent",),
    noise: Noise | None = None,
    ambiguity: float = 0.0,
) -> Episode:
    """The expert's episode of (task, seed); `success` says how it went. noise: see experts.Noise; None: none.
    ambiguity: of the scene."""
    env = TabletopEnv(task, seed, size=size, views=tuple(views), ambiguity=ambiguity)
    steps = list(perform(env, noise))
    return Episode(
        id=f"{task}_{seed}",
        views={v: ArrayFrames(np.stack([seen.images[v] for seen, _ in steps])) for v in views},
        state=np.stack([seen.state for seen, _ in steps]).astype(np.float32),
        action=np.stack([action for _, action in steps]).astype(np.float32),
        text=env.text,
        rate=RATE,
        success=env.success,
        task=task,
        seed=seed,
        notes={"split": split_of(seed), "failure": env.failure} | ({"ambiguity": ambiguity} if ambiguity else {}),
    )


def task_of(seed: int, mixture: dict[str, float]) -> str:
    """The task that a seed shows under a mixture {task: weight}; the same wherever it is asked."""
    names, weights = list(mixture), np.array(list(mixture.values()), dtype=np.float64)
    return names[int(np.random.default_rng([seed, 4]).choice(len(names), p=weights / weights.sum()))]


def attempts(
    seeds: Iterable[int], mixture: dict[str, float] | None, make: Callable[[str, int], Episode]
) -> Iterator[Attempt]:
    """Of each seed the episode of its task. mixture: task -> weight; None: all tasks alike. ValueError for unknown
    tasks."""
    mixture = dict(mixture or dict.fromkeys(TASKS, 1.0))
    if unknown := set(mixture) - set(TASKS):
        raise ValueError(f"robot tasks {sorted(unknown)} are unknown; known: {', '.join(TASKS)}")
    jobs = ((task_of(seed, mixture), seed) for seed in seeds)
    return (Attempt(f"{task}_{seed}", partial(make, task, seed)) for task, seed in jobs)


def collect(
    root: Path,
    seeds: Sequence[int],
    mixture: dict[str, float] | None = None,
    *,
    size: int = 112,
    views: Sequence[str] = ("agent",),
    horizon: int = 8,
    noise: Noise | None = Noise(),  # noqa: B008 - frozen
    ambiguity: float = 0.0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Recorded:
    """Records the expert's episode of each seed into `root` (robots.recording); those that fail are not written.

    mixture: as of `attempts`. ambiguity: of the scenes. progress(done, total). ValueError for seeds of several splits,
    and as `record`.
    """
    if len(splits := {split_of(s) for s in seeds}) > 1:
        raise ValueError(f"{root}: seeds of several splits ({', '.join(sorted(splits))}) in one recording")
    return record(
        root,
        tabletop_contract(views, horizon),
        attempts(
            seeds, mixture, partial(demonstration, size=size, views=tuple(views), noise=noise, ambiguity=ambiguity)
        ),
        settings("expert", size, noise, ambiguity),
        workers=workers,
        progress=lambda _, made: progress(made, len(seeds)) if progress else None,
    )


def settings(policy: object, size: int, noise: Noise | None = None, ambiguity: float = 0.0) -> dict[str, Any]:
    """What decides an episode of a task and a seed, for the record. policy: its identity."""
    said = {"robot": "tabletop", "policy": policy, "size": size, "noise": None if noise is None else asdict(noise)}
    return said | (scene_settings(ambiguity) if ambiguity else {})
