"""List the robots that are known and what their numbers mean, or bring demonstrations into the form of stage 3."""

from pathlib import Path
from typing import Annotated

import tyro

from vipa.robots import known

Positional = tyro.conf.Positional


def list_robots(name: Annotated[str | None, Positional] = None) -> None:
    """Every robot with its rate, views and numbers.

    name: only this one, with its whole contract.
    """
    for robot in [name] if name else known.ROBOTS.names():
        contract = known.ROBOTS.load(robot).contract()
        print(f"{robot}\n  {contract.summary()}")
        if name:
            print(contract.to_json())


def convert(name: Annotated[str, Positional], root: Annotated[Path, Positional], out: Path) -> None:
    """Writes demonstrations as the robot's file reads them into a folder that `vipa train stage3` reads.

    name: of the robot. root: folder of its demonstrations. out: folder; episodes that are there are kept.
    """
    print(f"{known.convert(known.ROBOTS.load(name), root, out)} episodes: {out}")


def main(args: list[str]) -> None:
    verbs = {"list": list_robots, "convert": convert}
    tyro.extras.subcommand_cli_from_dict(verbs, args=args or ["list"], prog="vipa robots")
