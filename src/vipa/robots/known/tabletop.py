"""The tabletop world's gripper robot; its demonstrations are collected from scripted experts."""

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vipa.clips.video import ArrayFrames
from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.episodes import Episode, open_episodes, write_episode
from vipa.worlds.experts import Noise, perform
from vipa.worlds.robot import POSITION_SCALE, RATE, ROTATION_SCALE
from vipa.worlds.robot_env import TabletopEnv
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


contract, read = tabletop_contract, open_episodes


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


@dataclass(frozen=True)
class Collected:
    """What a collection did: ids written now, found from before, and of experts that failed (not written)."""

    written: tuple[str, ...]
    found: tuple[str, ...]
    failed: tuple[str, ...]


def task_of(seed: int, mixture: dict[str, float]) -> str:
    """The task that a seed shows under a mixture {task: weight}; the same wherever it is asked."""
    names, weights = list(mixture), np.array(list(mixture.values()), dtype=np.float64)
    return names[int(np.random.default_rng([seed, 4]).choice(len(names), p=weights / weights.sum()))]


def _collect_one(
    job: tuple[str, int], root: Path, size: int, views: tuple[str, ...], noise: Noise | None, ambiguity: float
) -> bool:
    episode = demonstration(*job, size=size, views=views, noise=noise, ambiguity=ambiguity)
    if episode.success:
        write_episode(root, episode)
    return bool(episode.success)


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
) -> Collected:
    """Writes one successful demonstration per seed into `root` (robots.episodes) and says what was done.

    mixture: task -> weight; None: all tasks alike. ambiguity: of the scenes. Episodes that are there already are kept,
    so an interrupted collection continues. progress(done, total) is called after each. ValueError for unknown tasks,
    for seeds of several splits, or where `root` holds episodes of another contract.
    """
    root, mixture = Path(root), dict(mixture or dict.fromkeys(TASKS, 1.0))
    if unknown := set(mixture) - set(TASKS):
        raise ValueError(f"robot tasks {sorted(unknown)} are unknown; known: {', '.join(TASKS)}")
    if len(splits := {split_of(s) for s in seeds}) > 1:
        raise ValueError(f"{root}: seeds of several splits ({', '.join(sorted(splits))}) in one collection")
    contract = tabletop_contract(views, horizon)
    file = root / "contract.json"
    if file.exists():
        contract.check(ActionContract.load(file))
    root.mkdir(parents=True, exist_ok=True)
    contract.save(file)
    jobs = [(task_of(seed, mixture), seed) for seed in seeds]
    ids = [f"{task}_{seed}" for task, seed in jobs]
    there = {path.stem for path in (root / "episodes").glob("*.parquet")}
    todo = [job for job, id in zip(jobs, ids) if id not in there]
    run = partial(_collect_one, root=root, size=size, views=tuple(views), noise=noise, ambiguity=ambiguity)
    written, failed = [], []
    pool = multiprocessing.get_context("spawn").Pool(workers) if workers > 1 else None
    try:
        results = pool.imap(run, todo, chunksize=4) if pool else map(run, todo)
        for k, (job, ok) in enumerate(zip(todo, results)):
            (written if ok else failed).append(f"{job[0]}_{job[1]}")
            if progress is not None:
                progress(len(ids) - len(todo) + k + 1, len(ids))
    finally:
        if pool is not None:
            pool.terminate()
    return Collected(tuple(written), tuple(i for i in ids if i in there), tuple(failed))
