"""Episodes of the tabletop's robot, by its scripted experts or by a policy, as a LeRobot v3 set."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from vipa.benchmarks.recorders import play
from vipa.benchmarks.tabletop_benchmark import TabletopEpisode
from vipa.io.progress import counter
from vipa.robots.episodes import Episode
from vipa.robots.known import tabletop
from vipa.robots.lerobot_export import Pictures
from vipa.robots.playing import Policy
from vipa.robots.recording import Recorded, record
from vipa.worlds.experts import Noise
from vipa.worlds.seeds import seeds_of
from vipa.worlds.tasks import TASKS


@dataclass(frozen=True)
class Settings:
    """Records episodes of the tabletop's robot until there are as many as asked for; one that was stopped goes on."""

    out: Path
    """Folder of the LeRobot set."""
    episodes: int = 50
    """Those that are written."""
    policy: str = "expert"
    """Who acts: `expert`, or a model after stage 3 (a folder, or nano:stage3)."""
    seed: int = 0
    """The first scene, counted from the split's first; the others follow it."""
    split: Literal["train", "validation", "test"] = "train"
    """Whose seeds the scenes are."""
    tasks: tuple[str, ...] = TASKS
    """Each as often as the others."""
    failures: bool = False
    """Write episodes that did not succeed, too; else another scene is tried."""
    size: int = 112
    """Pixels of the square images."""
    views: tuple[str, ...] = ("agent",)
    """Of the expert's recordings; a policy has its own."""
    ambiguity: float = 0.0
    """Of the scenes (docs/worlds.md)."""
    noise: bool = True
    """Whether the expert's arm is disturbed, which the recorded actions do not show."""
    execute: int = 4
    """Of a policy, steps of a chunk before the next."""
    pictures: Pictures = "image"
    """PNG in the tables, exact, or H.264."""
    workers: int = 1
    """Processes of the expert."""


def run(settings: Settings) -> Recorded:
    """ValueError for unknown tasks, too few seeds, or a folder that holds another recording."""
    seeds = seeds_of(settings.split)[settings.seed :]
    if settings.episodes < 1 or settings.seed < 0 or len(seeds) < settings.episodes:
        raise ValueError(f"{settings.episodes} episodes from seed {settings.seed} do not fit in {settings.split}")
    if settings.policy == "expert":
        noise = Noise() if settings.noise else None
        make = partial(
            tabletop.demonstration,
            size=settings.size,
            views=settings.views,
            noise=noise,
            ambiguity=settings.ambiguity,
        )
        contract = tabletop.tabletop_contract(settings.views)
        said = tabletop.settings("expert", settings.size, noise, settings.ambiguity)
    else:
        from vipa.robots.policy import VipaPolicy

        policy = VipaPolicy.from_pretrained(settings.policy)
        contract = tabletop.tabletop_contract(policy.contract.views, policy.contract.horizon)
        policy.contract.check(contract)
        make = partial(
            act, policy=policy, size=settings.size, execute=settings.execute, ambiguity=settings.ambiguity
        )
        acts = {**policy.identity, "execute": settings.execute}
        said = tabletop.settings(acts, settings.size, ambiguity=settings.ambiguity)
    mixture = dict.fromkeys(settings.tasks, 1.0)
    with counter("recording", "episodes", settings.episodes) as count:
        return record(
            settings.out,
            contract,
            tabletop.attempts(seeds, mixture, make),
            said,
            wanted=settings.episodes,
            failures=settings.failures,
            pictures=settings.pictures,
            workers=settings.workers if settings.policy == "expert" else 1,
            progress=lambda done, made: count(f"of {made} attempts", done=done, total=settings.episodes),
        )


def act(task: str, seed: int, policy: Policy, size: int, execute: int, ambiguity: float = 0.0) -> Episode:
    """The policy's episode of a task and a seed, the one that an evaluation sees."""
    environment = TabletopEpisode(task, seed, size=size, views=policy.contract.views, ambiguity=ambiguity)
    notes = {"split": tabletop.split_of(seed), "policy": policy.identity}
    notes |= {"ambiguity": ambiguity} if ambiguity else {}
    return play(policy, environment, execute, id=f"{task}_{seed}", task=task, seed=seed, notes=notes)
