"""Saved results side by side: a page and Markdown tables, with intervals, pairs and published figures."""

import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro


def main(args: list[str]) -> None:
    from vipa.io.files import atomic_write

    def report(
        runs: Annotated[tuple[str, ...], tyro.conf.Positional], *, out: Path, title: str = "Results"
    ) -> None:
        """Results of `vipa evaluate`, any number: those of the same questions, or in the same simulator, are compared.

        runs: JSON files, folders of a closed loop, or folders that hold such; NAME=PATH names whoever answered, and the
        same name again is another seed of its training. The first is compared with the others. out: the page; its
        tables are written beside it as Markdown, or alone where `out` ends in .md.
        """
        from vipa.benchmarks.report.contenders import columns, find_runs
        from vipa.benchmarks.report.report import markdown_of, render_runs

        named = []
        for said in runs:
            name, _, path = said.rpartition("=")
            for run in find_runs(Path(path)):
                named.append((name or run.result.name, run))
        if not named:
            raise ValueError("vipa report: no results; give files or folders of `vipa evaluate`")
        date = datetime.now().strftime("%d %B %Y").lstrip("0")
        command = shlex.join(["vipa", "report", *args])
        found = columns(named)
        if out.suffix != ".md":
            atomic_write(out, render_runs(title, date, found))
        tables = out.with_suffix(".md")
        atomic_write(tables, markdown_of(title, f"{date}. Made by\n\n    {command}", found))
        print(f"{len(named)} results: {' and '.join(str(file) for file in dict.fromkeys((out, tables)))}")

    tyro.cli(report, args=args, prog="vipa report")
