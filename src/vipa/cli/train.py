"""Trainings: the three stages, nano's foundation, and others that are installed."""

import inspect
import signal
import sys
from pathlib import Path

import tyro

from vipa.cli._choices import choose
from vipa.training.known import TRAININGS


def main(args: list[str]) -> None:
    """The parameters of the training make its run; then any field of the run may be given."""
    if (choice := choose("vipa train", TRAININGS, args)) is None:
        return
    kind, rest = choice
    make, program = TRAININGS.load(kind).make, f"vipa train {kind}"
    if {"-h", "--help"} & set(rest):
        _help(program, make)
    dry = "--dry-run" in rest
    rest = [arg for arg in rest if arg != "--dry-run"]
    run, rest = tyro.cli(make, args=rest, return_unknown_args=True, prog=program)
    run = tyro.cli(type(run), default=run, args=rest, prog=program)
    from vipa.benchmarks.watching import watch_of
    from vipa.training.estimate import estimate
    from vipa.training.loop import train
    from vipa.training.runs import TrainRun

    if dry:
        if not isinstance(run, TrainRun):
            raise ValueError(f"{program}: --dry-run tells what a stage costs, and this is not one run of the loop")
        print(estimate(run).text())
        return
    print(run)
    result = train(run, watch_of(run)) if isinstance(run, TrainRun) else run.train()
    if isinstance(run, TrainRun) and result.steps < run.steps:
        print(f"{kind}: asked to stop, saved after {result.steps} of {run.steps} steps; the same command goes on")
        sys.exit(128 + signal.SIGTERM)
    print(f"{kind}: {result}")


def _help(program: str, make) -> None:
    """Every field of the run, made from the names of what must be given. Ends the program."""
    needed = [p.name for p in inspect.signature(make).parameters.values() if p.default is p.empty]
    options = " ".join(f"--{name.replace('_', '-')} {name.upper()}" for name in needed)
    print(f"usage: {program} {options} [--dry-run] [any field of the run]")
    if not inspect.isclass(make):
        print(f"\n{inspect.getdoc(make)}\nOptions of its own: {', '.join(inspect.signature(make).parameters)}.\n")
    run = make(**{name: Path(name.upper()) for name in needed})
    tyro.cli(type(run), default=run, args=["--help"], prog=program)
