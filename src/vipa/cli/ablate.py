"""Arms that differ in one thing (no pretraining, no 3D encoder, ...), trained and compared with paired tests."""

import json
from dataclasses import asdict
from pathlib import Path

import tyro

from vipa.benchmarks.ablation.arms import ARMS, BUDGETS
from vipa.io.files import atomic_write, remove


def main(args: list[str]) -> None:
    """`vipa ablate BUDGET [options]`: plan, train, measure, write the tables; `vipa ablate tables ANSWERS ...`: the
    tables of answers that were kept."""
    if not args or args[0] in ("-h", "--help"):
        print(
            "usage: vipa ablate BUDGET [options] [--dry-run]      (vipa ablate BUDGET --help says more)\n"
            "       vipa ablate tables ANSWERS [ANSWERS ...]      (the answers.json of runs that differ in arms and\n"
            "                                                      seeds alone, whole or kept)\n\nbudgets:"
        )
        for name, budget in BUDGETS.items():
            print(
                f"  {name:<16}{budget.clips} clips, {budget.demonstrations} demonstrations, {_steps(name)} steps"
            )
        print("\narms:")
        for arm in ARMS.values():
            print(f"  {arm.name:<16}{arm.what}")
        return
    if args[0] == "tables":
        tyro.cli(_show_tables, args=args[1:], prog="vipa ablate tables")
        return
    budget, rest = args[0], [arg for arg in args[1:] if arg != "--dry-run"]
    if budget not in BUDGETS:
        raise ValueError(f"budget {budget!r} is unknown; known: {', '.join(BUDGETS)}")
    from vipa.benchmarks.ablation.answers import Answers
    from vipa.benchmarks.ablation.plan import Ablation, plan, plan_text
    from vipa.benchmarks.ablation.tables import costs, tables
    from vipa.io.jobs import run_jobs
    from vipa.training.setup import TOKENS

    run = tyro.cli(Ablation, default=Ablation(**asdict(BUDGETS[budget])), args=rest, prog=f"vipa ablate {budget}")
    planned = plan(run)
    print(plan_text(run, planned), flush=True)
    if "--dry-run" in args:
        return
    run_jobs(
        [job for p in planned for job in p.jobs], run.out / "store", run.places(), lambda s: print(s, flush=True)
    )
    remove(run.out / "store" / TOKENS)
    answers = Answers.of(run, planned)
    answers.write(run.out / "answers.json")
    text, record = tables(answers)
    atomic_write(run.out / "ablation.json", json.dumps(record, indent=1) + "\n")
    atomic_write(run.out / "costs.json", json.dumps(costs(run, planned), indent=1) + "\n")
    atomic_write(run.out / "ablation.md", text)
    print(text)
    print(f"written: {run.out / 'ablation.md'}, ablation.json, answers.json, costs.json")


def _show_tables(answers: tyro.conf.Positional[tuple[Path, ...]]) -> None:
    """The tables of runs that differ in arms and seeds alone.

    answers: the answers.json of each.
    """
    if not answers:
        raise ValueError("vipa ablate tables: name the answers.json of one run or several")
    from vipa.benchmarks.ablation.answers import Answers
    from vipa.benchmarks.ablation.tables import tables

    print(tables(Answers.merged({path: Answers.read(path) for path in answers}))[0])


def _steps(budget: str) -> str:
    b = BUDGETS[budget]
    return f"{b.stage1_steps} + {b.stage2_steps} + {b.stage3_steps}"
