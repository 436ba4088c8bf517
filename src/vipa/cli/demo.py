"""The whole path in minutes: films, annotates, trains, evaluates, and writes a report page."""

import tyro


def main(args: list[str]) -> None:
    from vipa.nano.demo import DemoRun, run_demo

    path = run_demo(tyro.cli(DemoRun, args=args, prog="vipa demo"))
    print(f"The report: {path.resolve()}")
