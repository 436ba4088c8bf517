"""Processes that do not outlive the one that started them."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import connection, get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def cores() -> int:
    """Of the processor, as many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """This process, started by multiprocessing, ends when its parent does, however that ended."""
    parent = parent_process()
    assert parent is not None
    Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def begin_worker() -> None:
    """Of a pool: Ctrl-C is its parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def yielded_beside(generate: Callable[..., Iterable[T]], shares: Sequence[tuple]) -> Iterator[T]:
    """What `generate(*share)` yields for all shares, each in a process of its own, in the order in which it is made.

    All that goes there and back is pickled. An exception of theirs is raised here and ends the others, as does
    whoever stops listening. RuntimeError where a process ends without a word.
    """
    context = get_context("spawn")
    working, processes = [], []
    try:
        for share in shares:
            here, there = context.Pipe(duplex=False)
            processes.append(context.Process(target=_send, args=(there, generate, share), daemon=True))
            processes[-1].start()
            there.close()
            working.append(here)
        while working:
            for pipe in connection.wait(working):
                assert isinstance(pipe, connection.Connection)
                try:
                    kind, value = pipe.recv()
                except EOFError:
                    raise RuntimeError("a process ended without a word (out of memory?)") from None
                if kind == "error":
                    raise value
                if kind == "end":
                    working.remove(pipe)
                else:
                    yield value
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _send(pipe: Any, generate: Callable[..., Iterable[Any]], share: tuple) -> None:
    begin_worker()
    try:
        for value in generate(*share):
            pipe.send(("value", value))
        pipe.send(("end", None))
    except Exception as error:
        pipe.send(("error", error))
