"""Trainings: the foundation of nano, and the three stages."""

from pathlib import Path
from typing import Literal

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
    if args[0] == "foundation":
        _foundation(args[1:])
    else:
        _stage(args[0], args[1:])


def _stage(stage: str, args: list[str]) -> None:
    """`--preset`, `--data`, `--out` and `--start` make the run; any of its fields may then be given."""
    from vipa.training.stages import STAGES

    def start(
        data: Path, out: Path, preset: Literal["nano", "vipa-2b"] = "nano", start: str | None = None
    ) -> tuple[Path, Path, str, str | None]:
        return data, out, preset, start

    shown = [arg for arg in args if arg not in ("-h", "--help")]
    if len(shown) < len(args) and "--data" not in args:
        shown += ["--data", "DATA", "--out", "OUT"]
    (data, out, preset, begin), rest = tyro.cli(
        start, args=shown, return_unknown_args=True, prog=f"vipa train {stage}"
    )
    run = STAGES[stage](preset, data, out, begin)
    run = tyro.cli(type(run), default=run, args=[*rest, *(["--help"] if len(shown) != len(args) else [])])
    _train(run)


def _foundation(args: list[str]) -> None:
    from vipa.training.foundation import foundation

    _train_foundation = foundation
    tyro.cli(_train_foundation, args=args, prog="vipa train foundation")


def _train(run) -> None:
    from vipa.training.loop import train

    print(run)
    result = train(run)
    print(f"{run.name}: {result.steps} steps, loss {result.final_loss:.3f}, model at {result.model}")
