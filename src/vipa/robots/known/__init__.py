"""Robots: modules here, and entry points of the group `vipa.robots` (`vipa robots`)."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from vipa.io.plugins import Plugins
from vipa.robots.contract import ActionContract, Dimension, Mode, Unit
from vipa.robots.episodes import EpisodeSet
from vipa.robots.lerobot_export import EpisodeWriter, Pictures


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


def convert(
    robot: Robot,
    root: Path,
    out: Path,
    pictures: Pictures = "video",
    progress: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Writes a robot's demonstrations below `root` as the LeRobot v3 set that stage 3 reads, and returns how many.

    Episodes that are there already are kept. progress(done, total). ValueError where `out` holds those of another
    contract.
    """
    episodes = robot.read(root)
    writer = EpisodeWriter(out, episodes.contract, pictures)
    for done, episode in enumerate(episodes, 1):
        writer.add(episode)
        progress(done, len(episodes))
    writer.finish()
    return len(writer.ids)
