"""Benchmarks: answers about space, motions, robots, and how good the data and the encoders are."""

import tyro

from vipa.benchmarks import BENCHMARKS
from vipa.cli._choices import choose


def main(args: list[str]) -> None:
    if (choice := choose("vipa evaluate", BENCHMARKS, args)) is None:
        return
    name, rest = choice
    benchmark = BENCHMARKS.load(name)
    settings = tyro.cli(benchmark.Settings, args=rest, prog=f"vipa evaluate {name}")
    print(benchmark.run(settings))
    print(f"written: {settings.out}")
