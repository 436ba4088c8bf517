"""Trainings, each a module here or an entry point of the group `vipa.trainings`: `vipa train`."""

from typing import Any, Protocol

from vipa.io.plugins import Plugins


class Training(Protocol):
    """What the module of a training has; the first line of its docstring is what `vipa train` lists."""

    @staticmethod
    def make(*args: Any, **options: Any) -> Any:
        """The complete run: a `TrainRun`, or another dataclass with a method `train()`. Its parameters are options of
        the command line, and so is every field of what it returns, which the caller may then replace."""
        ...


TRAININGS = Plugins("training", "vipa.training.known", "vipa.trainings")
