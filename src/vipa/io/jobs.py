"""Work that is done once: every job has a folder named by what decides its result, and a process of its own.

store/
  stage1-0123456789abcdef/        what the job made
  stage1-0123456789abcdef.json    it is done: its settings, what it was made from, how long it took
  stage1-0123456789abcdef.log     what it said
  lock                            one command at a time works here

Jobs that have the same settings and are made from the same are the same job, whoever asks for them. A store may be
killed at any moment: what was done stays, and a job under way goes on (or begins again, see `Job.resumes`).
"""

import fcntl
import importlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import connection, get_context
from pathlib import Path
from threading import Thread
from typing import Any

from vipa.io.child_process import end_with_parent
from vipa.io.files import atomic_write, remove
from vipa.io.hashing import digest

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One piece of work.

    name: of its kind, in folder names and plans. make: `module:function`, called in a fresh process as
    function(folder, settings, needs, options) with the folders of what it needs by their role. settings: JSON values
    that decide the result, together with `make` and what the needs are. options: JSON values that say how (threads,
    device), not what. resumes: whether a job that was stopped goes on in its folder; others begin with an empty one, so
    that their result does not depend on where they were stopped. units: how much work it is, to estimate its seconds.
    """

    name: str
    make: str
    settings: Mapping[str, Any]
    needs: Mapping[str, "Job"] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    resumes: bool = True
    units: float = 1.0

    @cached_property
    def key(self) -> str:
        """The name of its folder."""
        return f"{self.name}-{digest(json.dumps(self.identity, sort_keys=True))}"

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the result."""
        needs = {role: job.key for role, job in self.needs.items()}
        return json.loads(json.dumps({"make": self.make, "settings": dict(self.settings), "needs": needs}))

    def folder(self, store: Path) -> Path:
        return store / self.key

    def record(self, store: Path) -> dict[str, Any] | None:
        """What is known of it when it is done: `identity`, `seconds`, `units`; None before."""
        path = store / f"{self.key}.json"
        return json.loads(path.read_text()) if path.exists() else None


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """These jobs and all that they need, each once, needs first."""
    found: dict[str, Job] = {}

    def add(job: Job) -> None:
        if job.key not in found:
            for need in job.needs.values():
                add(need)
            found[job.key] = job

    for job in jobs:
        add(job)
    return list(found.values())


def _most_needed_first(jobs: Sequence[Job]) -> list[Job]:
    """By how many of these jobs wait for each, so that what many wait for does not wait itself."""
    waiting = Counter(need.key for job in jobs for need in in_order([job]) if need.key != job.key)
    return sorted(jobs, key=lambda job: -waiting[job.key])


def run_jobs(jobs: Sequence[Job], store: Path, devices: Sequence[str] = ("cpu",), say: Say = print) -> None:
    """All of these jobs that are not done yet, as many at once as there are devices (`cpu`, `cpu:0` for one core of it,
    `cuda:0`, ...); a device that is named twice does two.

    ValueError where a job fails (the others that run then end first), and where another command works in `store`.
    """
    store.mkdir(parents=True, exist_ok=True)
    with _alone(store):
        todo = _most_needed_first([job for job in in_order(jobs) if job.record(store) is None])
        total, free = len(todo), list(devices)
        running: dict[int, tuple[Job, str, Any]] = {}
        failed: list[Job] = []
        try:
            while (todo and not failed) or running:
                for job in [j for j in todo if all(n.record(store) for n in j.needs.values())]:
                    if not free or failed:
                        break
                    todo.remove(job)
                    device, done = free.pop(0), total - len(todo)
                    say(f"[{done}/{total}] {job.key} on {device}")
                    process = get_context("spawn").Process(target=_work, args=(job, store, device, os.getpid()))
                    process.start()
                    running[process.sentinel] = (job, device, process)
                for sentinel in connection.wait(list(running)):
                    assert isinstance(sentinel, int)
                    job, device, process = running.pop(sentinel)
                    process.join()
                    free.append(device)
                    if process.exitcode or job.record(store) is None:
                        failed.append(job)
        finally:
            for _, _, process in running.values():
                process.terminate()
        if failed:
            path = store / f"{failed[0].key}.log"
            last = path.read_text(errors="replace").strip().splitlines()[-1:] if path.exists() else []
            raise ValueError(f"{failed[0].key} failed: {' '.join(last)} (all it said: {path})")


def _work(job: Job, store: Path, device: str, parent: int) -> None:
    """In the job's own process: it ends when the one that started it does, however that ended."""
    end_with_parent()
    log = os.open(store / f"{job.key}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    kind, _, number = device.partition(":")
    if kind == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = number
    elif number:
        os.environ["OMP_NUM_THREADS"] = "1"
        if hasattr(os, "sched_setaffinity"):
            available = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {available[int(number) % len(available)]})
    folder, partial = job.folder(store), store / f".{job.key}.seconds"
    with _alone(store, job.key):  # a process whose parent was killed may take a moment to end
        if not job.resumes:
            remove(folder)
            partial.unlink(missing_ok=True)
        before, start = float(partial.read_text() or 0) if partial.exists() else 0.0, time.monotonic()
        _clock(partial, before, start)
        module, _, function = job.make.partition(":")
        make = getattr(importlib.import_module(module), function)
        try:
            make(folder, dict(job.settings), {r: n.folder(store) for r, n in job.needs.items()}, dict(job.options))
        except (ValueError, OSError) as error:  # one line, as the command line says it
            print(error, file=sys.stderr, flush=True)
            os._exit(2)
        seconds = before + time.monotonic() - start
        record = job.identity | {"seconds": round(seconds, 1), "units": job.units, "device": device}
        atomic_write(store / f"{job.key}.json", json.dumps(record, indent=1) + "\n")
        partial.unlink(missing_ok=True)


def _clock(path: Path, before: float, start: float) -> None:
    """Keeps how long the job has worked, over all tries, to about a second."""

    def write() -> None:
        while True:
            time.sleep(1.0)
            if not path.parent.exists():
                return
            path.write_text(f"{before + time.monotonic() - start:.1f}")

    Thread(target=write, daemon=True).start()


@contextmanager
def _alone(store: Path, name: str = "") -> Iterator[None]:
    """Holds a lock of the store (or waits for a job's) that the kernel lets go when the process ends."""
    with (store / (f".{name}.lock" if name else "lock")).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if name else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{store}: another command is at work here; wait for it, or end it") from None
        yield
