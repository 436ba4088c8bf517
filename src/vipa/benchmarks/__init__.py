"""Benchmarks: modules `<name>_benchmark` here, and entry points of the group `vipa.benchmarks` (`vipa evaluate`)."""

from typing import Any, Protocol

from vipa.io.plugins import Plugins


class Benchmark(Protocol):
    """What the module of a benchmark has; the first line of its docstring is what `vipa evaluate` lists.

    Settings: a dataclass whose fields are the options of the command line; `out` is where the results go.
    """

    Settings: type

    @staticmethod
    def run(settings: Any) -> object:
        """Does it and writes `settings.out`. What it returns is printed."""
        ...


BENCHMARKS = Plugins("benchmark", "vipa.benchmarks", "vipa.benchmarks", suffix="_benchmark")
