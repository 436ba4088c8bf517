"""Worker processes of one thread each for tasks of this process, which share them.

NumPy's and OpenCV's own threads wait for each other by spinning: beside other work a task takes several times as long
with two of them as with one.
"""

import os
import pickle
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from queue import Empty, PriorityQueue
from threading import Lock, Thread
from typing import Any

from vipa.io.child_process import begin_worker

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
"""Read by the libraries where they are first imported."""


class WorkerEnded(RuntimeError):
    """The process that worked on a task ended: killed, out of memory, or a crash."""


class Workers:
    """So many processes, each begun when there is a task for it. One that ends costs the task that it worked on; the
    next task gets another. They end when nobody holds this object any more, and with this process."""

    def __init__(self, size: int):
        self._tasks: PriorityQueue = PriorityQueue()
        self._numbers = count()
        self._processes: set[BaseProcess] = set()
        for _ in range(size):
            Thread(target=_hand_out, args=(self._tasks, self._processes), daemon=True).start()
        self.close = weakref.finalize(self, _end, self._tasks, self._processes, size)

    def submit(self, function: Callable[..., Any], *words: Any, urgent: bool = False) -> Future:
        """What `function(*words)` returns or raises in a worker; all of it is pickled. urgent: before what is not.
        The future raises WorkerEnded where the worker ends."""
        if not self.close.alive:
            raise RuntimeError("these workers were closed")
        future: Future = Future()
        self._tasks.put((not urgent, next(self._numbers), future, (function, words)))
        return future


_shared: weakref.WeakSet[Workers] = weakref.WeakSet()


def shared_workers(size: int) -> Workers:
    """Those that somebody holds already, else new ones."""
    held = next((workers for workers in _shared if workers.close.alive), None)
    workers = held or Workers(size)
    _shared.add(workers)
    return workers


def _hand_out(tasks: PriorityQueue, processes: set[BaseProcess]) -> None:
    """A thread's part: tasks to one process after each other."""
    process: BaseProcess | None = None
    pipe: Connection | None = None
    while True:
        *_, future, task = tasks.get()
        if future is None:
            break
        if not future.set_running_or_notify_cancel():
            continue
        try:
            packed = ForkingPickler.dumps(task)
        except Exception as error:
            future.set_exception(error)
            continue
        try:
            if process is None or pipe is None or not process.is_alive():
                process, pipe = _begin()
                processes.add(process)
            pipe.send_bytes(packed)
            good, answer = pipe.recv()
        except (EOFError, OSError):
            if process is not None:
                process.join()
                processes.discard(process)
            process = None
            future.set_exception(WorkerEnded("its process ended (out of memory?)"))
        except Exception as error:  # an answer that cannot be read
            future.set_exception(error)
        else:
            (future.set_result if good else future.set_exception)(answer)
    if process is not None and pipe is not None:
        pipe.close()
        process.join()


def _end(tasks: PriorityQueue, processes: set[BaseProcess], size: int) -> None:
    with suppress(Empty):
        while True:
            *_, future, _ = tasks.get_nowait()
            future.cancel()
    for number in range(size):
        tasks.put((True, number, None, None))
    for process in list(processes):
        process.terminate()


def _begin() -> tuple[BaseProcess, Connection]:
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there,), daemon=True)
    with _environment(ONE_THREAD):
        process.start()
    there.close()
    return process, here


_spawning = Lock()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Of processes that are started meanwhile; not over what the user says."""
    with _spawning:
        added = {name: value for name, value in values.items() if name not in os.environ}
        os.environ.update(added)
        try:
            yield
        finally:
            for name in added:
                os.environ.pop(name, None)


def _work(pipe: Connection) -> None:
    """In a worker: tasks until nobody gives any."""
    begin_worker()
    with suppress(EOFError, OSError):
        while True:
            packed = pipe.recv_bytes()
            try:
                function, words = pickle.loads(packed)
                answer = True, function(*words)
            except Exception as error:
                answer = False, error
            try:
                pipe.send(answer)
            except OSError:
                return
            except Exception as error:  # it cannot be pickled
                pipe.send((False, RuntimeError(f"{type(error).__name__}: {error}; of {answer[1]!r:.200}")))
