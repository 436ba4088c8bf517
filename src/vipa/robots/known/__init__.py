"""Robots: modules here, and entry points of the group `vipa.robots` (`vipa robots`)."""

import importlib.util
from pathlib import Path
from typing import Protocol, cast

from vipa.io.plugins import Plugins
from vipa.robots.contract import ActionContract, Dimension, Mode, Unit
from vipa.robots.episodes import EpisodeSet, write_episode


class Robot(Protocol):
    """What the module of a robot has; the first line of its docstring is what `vipa robots list` says of it."""

    @staticmethod
    def contract() -> ActionContract:
        """What its numbers mean, with the views and the horizon that it usually has."""
        ...

    @staticmethod
    def read(root: Path) -> EpisodeSet:
        """Its demonstrations below `root`. FileNotFoundError or ValueError where there are none of its own."""
        ...


ROBOTS = Plugins("robot", "vipa.robots.known", "vipa.robots")


def dimensions(names: str, unit: Unit, mode: Mode = "absolute", scale: float = 1.0) -> tuple[Dimension, ...]:
    """Of names with spaces between them."""
    return tuple(Dimension(name, unit, mode, scale) for name in names.split())


def find(name: str) -> Robot:
    """A known robot, or the one of your own .py file, which is run. ValueError where there is none."""
    path = Path(name)
    if path.suffix != ".py":
        return ROBOTS.load(name)
    if not path.is_file():
        raise ValueError(f"{name}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if missing := [part for part in ("contract", "read") if not hasattr(module, part)]:
        raise ValueError(
            f"{name}: no function {' and no '.join(missing)}; `vipa robots template` writes such a file"
        )
    return cast(Robot, module)


def convert(robot: Robot, root: Path, out: Path) -> int:
    """Writes a robot's demonstrations below `root` into the folder that stage 3 reads, and returns how many.

    Episodes that are there already are kept. ValueError where `out` holds those of another contract.
    """
    episodes, file = robot.read(root), out / "contract.json"
    if file.exists():
        episodes.contract.check(ActionContract.load(file))
    out.mkdir(parents=True, exist_ok=True)
    episodes.contract.save(file)
    for episode in episodes:
        if not (out / "episodes" / f"{episode.id}.parquet").exists():
            write_episode(out, episode)
    return len(episodes)
