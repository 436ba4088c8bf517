"""Experiment trackers, through accelerate: trackio, wandb, tensorboard and whatever else it knows by name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from vipa.training.processes import Processes
from vipa.training.runs import TrainRun


@contextmanager
def trackers(run: TrainRun, team: Processes) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yields what sends a line of the log to every tracker of the run. ValueError for one that is not installed."""
    if not run.trackers or not team.first:
        yield lambda line: None
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = {str(getattr(name, "value", name)): kind for name, kind in LOGGER_TYPE_TO_CLASS.items()}
    available = {str(getattr(name, "value", name)) for name in get_available_trackers()}
    opened = []
    for name in run.trackers:
        if name not in available:
            state = "is not installed" if name in known else "is unknown"
            raise ValueError(f"tracker {name!r} {state}; installed: {', '.join(sorted(available)) or 'none'}")
        kind = known[name]
        place = {"logging_dir": str(run.out)} if getattr(kind, "requires_logging_directory", False) else {}
        tracker = kind(f"vipa-{run.name}", **place)
        if hasattr(tracker, "start"):
            tracker.start()
        tracker.store_init_configuration({k: str(v) for k, v in asdict(run).items()})
        opened.append(tracker)

    def send(line: dict[str, Any]) -> None:
        numbers = {name: value for name, value in line.items() if isinstance(value, int | float)}
        for tracker in opened:
            tracker.log(numbers, step=int(line["step"]))

    try:
        yield send
    finally:
        for tracker in opened:
            tracker.finish()
