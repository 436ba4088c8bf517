"""The whole path in minutes: films, annotates, trains, evaluates, and writes a report page."""

import tyro

from vipa.nano.demo import DemoRun, run_demo


def main(args: list[str]) -> None:
    path = run_demo(tyro.cli(DemoRun, args=args, prog="vipa demo"))
    print(f"The report: {path.resolve()}")
