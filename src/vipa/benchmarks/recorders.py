"""Recorders: modules `<name>_recorder` here, and entry points of the group `vipa.recorders` (`vipa record`)."""

from typing import Any, Protocol

import numpy as np

from vipa.benchmarks.closed_loop import Environment
from vipa.clips.video import ArrayFrames
from vipa.io.plugins import Plugins
from vipa.robots.episodes import Episode
from vipa.robots.playing import Policy, checked_chunks


class Recorder(Protocol):
    """What the module of a recorder has; the first line of its docstring is what `vipa record` lists.

    Settings: a dataclass whose fields are the options of the command line; `out` is the data set's folder.
    """

    Settings: type

    @staticmethod
    def run(settings: Any) -> object:
        """Records (`robots.recording.record`) and returns what is printed."""
        ...


RECORDERS = Plugins("recorder", "vipa.benchmarks", "vipa.recorders", suffix="_recorder")


def play(policy: Policy, environment: Environment, execute: int, **said: Any) -> Episode:
    """A policy's episode in a simulator, to its end. execute: steps of a chunk before the next is asked for. said: the
    fields of Episode that the environment does not know: id, task, seed, notes."""
    contract, seen, actions, chunk = policy.contract, [], [], iter(())
    while not environment.done:
        seen.append(environment.observation())
        if (action := next(chunk, None)) is None:
            chunk = iter(checked_chunks(policy, seen[-1:], execute)[0])
            action = next(chunk)
        actions.append(action)
        environment.advance(action)
    notes = {"failure": environment.failure, **said.pop("notes", {})}
    return Episode(
        views={view: ArrayFrames(np.stack([o.images[view] for o in seen])) for view in contract.views},
        state=np.stack([o.state for o in seen]),
        action=np.stack(actions),
        text=environment.text,
        rate=contract.rate,
        success=environment.success,
        notes=notes,
        **said,
    )
