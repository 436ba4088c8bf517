"""Robot episodes recorded in a simulator, by an expert or a policy, as a LeRobot v3 set."""

import tyro

from vipa.benchmarks.recorders import RECORDERS
from vipa.cli._choices import choose


def main(args: list[str]) -> None:
    if (choice := choose("vipa record", RECORDERS, args)) is None:
        return
    name, rest = choice
    recorder = RECORDERS.load(name)
    settings = tyro.cli(recorder.Settings, args=rest, prog=f"vipa record {name}")
    print(recorder.run(settings))
    print(f"written: {settings.out}")
