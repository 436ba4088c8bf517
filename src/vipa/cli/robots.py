"""The robots that are known: list them, check data against one, write a first file of yours, convert demonstrations."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vipa.io.files import atomic_write
from vipa.io.progress import counter
from vipa.robots import known
from vipa.robots.inspection import inspect_robot_data, plot_dimensions
from vipa.robots.template import file_name
from vipa.robots.template import template as robot_template

Positional = tyro.conf.Positional


def list_robots(name: Annotated[str | None, Positional] = None) -> None:
    """Every robot with its rate, views and numbers.

    name: only this one, with its whole contract.
    """
    for robot in [name] if name else known.ROBOTS.names():
        contract = known.find(robot).contract()
        print(f"{robot}\n  {contract.summary()}")
        if name:
            print(contract.to_json())


def convert(
    name: Annotated[str, Positional],
    root: Annotated[Path, Positional],
    out: Path,
    pictures: Literal["video", "image"] = "video",
) -> None:
    """Writes demonstrations as the robot's file reads them into a LeRobot v3 set, which `vipa train stage3` reads.

    name: of the robot, or its .py file. root: folder of its demonstrations. out: folder; episodes that are there are
    kept. pictures: H.264, or PNG in the tables, exact.
    """
    with counter("converting", "episodes") as count:
        number = known.convert(
            known.find(name), root, out, pictures, lambda done, total: count(done=done, total=total)
        )
    print(f"{number} episodes: {out}")


def check(name: Annotated[str, Positional], data: Annotated[Path, Positional], plot: Path | None = None) -> None:
    """Compares demonstrations with what the robot's contract says of them; ends with 1 where something does not fit.

    name: of the robot, or its .py file. data: folder of its demonstrations. plot: PNG of every number with its
    normaliser's bounds.
    """
    episodes = known.find(name).read(data)
    found = inspect_robot_data(episodes)
    print(found)
    if plot is not None:
        plot_dimensions(episodes, found.contract, plot)
        print(f"plot: {plot}")
    if found.problems:
        sys.exit(1)


def template(data: Annotated[Path, Positional], out: Path | None = None, horizon: int = 16) -> None:
    """Writes a first file of a robot from a LeRobot data set; units and forms in it are to be checked by you.

    data: the data set's folder. out: the .py file; left out, of the robot's name in the current folder. horizon:
    actions in a chunk.
    """
    text, path = robot_template(data, horizon), out or Path(file_name(data))
    if path.exists():
        raise FileExistsError(f"{path} is there already; give another --out")
    atomic_write(path, text)
    print(f"{path}: correct its units, frame and forms, then vipa robots check {path} {data}")


def main(args: list[str]) -> None:
    verbs = {"list": list_robots, "convert": convert, "check": check, "template": template}
    tyro.extras.subcommand_cli_from_dict(verbs, args=args or ["list"], prog="vipa robots")
