"""Trainings: the foundation of nano, and the three stages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro


def main(args: list[str]) -> None:
    kinds = ("foundation", "stage1", "stage2", "stage3")
    if not args or args[0] not in kinds:
        known = f"known: {', '.join(kinds)}"
        if args and args[0] in ("-h", "--help"):
            print(
                f"usage: vipa train KIND [options]; {known}\n\n`vipa train KIND --help` shows every field of a run."
            )
            return
        raise ValueError(f"say what to train; {known}")
    if "--dry-run" in args:
        _stage(args[0], [arg for arg in args[1:] if arg != "--dry-run"], _estimate)
    elif args[0] == "foundation":
        _foundation(args[1:])
    else:
        _stage(args[0], args[1:], _train)


def _stage(stage: str, args: list[str], do: Callable[[Any], None]) -> None:
    """`--preset`, `--data`, `--out` and `--start` make the run; any of its fields may then be given."""
    from vipa.training.runs import STAGES, Preset

    def start(
        data: Path, out: Path, preset: Preset = "nano", start: str | None = None
    ) -> tuple[Path, Path, Preset, str | None]:
        return data, out, preset, start

    wanted = [arg for arg in args if arg not in ("-h", "--help")]
    show_help = len(wanted) < len(args)
    if show_help:
        print(
            f"usage: vipa train {stage} --data FOLDER --out FOLDER [--preset nano|vipa-1b|vipa-2b] [--dry-run] [any "
            "field of the run]"
        )
        wanted = ["--data", "DATA", "--out", "OUT"]
    (data, out, preset, begin), rest = tyro.cli(
        start, args=wanted, return_unknown_args=True, prog=f"vipa train {stage}"
    )
    run = STAGES[stage](preset, data, out, begin)
    run = tyro.cli(type(run), default=run, args=["--help"] if show_help else rest, prog=f"vipa train {stage}")
    do(run)


def _estimate(run: Any) -> None:
    """What the run would be and cost (`--dry-run`); nothing is written."""
    from vipa.training.estimate import estimate

    print(estimate(run).text())


def _foundation(args: list[str]) -> None:
    from vipa.nano.foundation.run import FoundationRun, train_foundation

    run = tyro.cli(FoundationRun, args=args, prog="vipa train foundation")
    print(run)
    print(f"foundation: the vision-language model is at {train_foundation(run)}")


def _train(run: Any) -> None:
    from vipa.training.loop import train

    print(run)
    result = train(run)
    print(f"{run.name}: {result.steps} steps, loss {result.final_loss:.3f}, model at {result.model}")
