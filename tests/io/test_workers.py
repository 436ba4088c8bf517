"""Worker processes: their answers, their errors, and what one costs that ends."""

import gc
import operator
import os
import signal
import time
import weakref

import pytest

from vipa.io.workers import WorkerEnded, Workers, shared_workers


@pytest.fixture
def workers():
    made = Workers(1)
    yield made
    made.close()


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_answers_and_errors_come_back_and_libraries_have_one_thread(workers):
    pid = workers.submit(os.getpid)
    assert pid.result() != os.getpid()
    with pytest.raises(ZeroDivisionError):
        workers.submit(operator.truediv, 1, 0).result()
    for unfit in (workers.submit(lambda: 1), workers.submit(operator.attrgetter("lock"), os)):
        with pytest.raises(Exception, match=r"pickle|lock"):
            unfit.result()
    assert workers.submit(os.getenv, "OPENBLAS_NUM_THREADS").result() == "1"
    assert workers.submit(os.getpid).result() == pid.result()


def test_one_that_ends_costs_its_task_alone(workers):
    before, ended, after = workers.submit(os.getpid), workers.submit(os._exit, 1), workers.submit(os.getpid)
    with pytest.raises(WorkerEnded):
        ended.result()
    assert after.result() != before.result()


def test_one_that_is_killed_between_tasks_costs_none(workers):
    pid = workers.submit(os.getpid).result()
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    assert workers.submit(os.getpid).result() != pid


def test_what_is_urgent_goes_first(workers):
    workers.submit(time.sleep, 0.2)
    times = [
        workers.submit(time.monotonic),
        workers.submit(time.monotonic),
        workers.submit(time.monotonic, urgent=True),
    ]
    first, second, urgent = (each.result() for each in times)
    assert urgent < first < second


def test_they_are_shared_and_end_when_nobody_holds_them(monkeypatch):
    monkeypatch.setattr(
        "vipa.io.workers._shared", weakref.WeakSet()
    )  # another test's, of more processes, may be alive
    held = shared_workers(1)
    assert shared_workers(2) is held
    pid = held.submit(os.getpid).result()
    works = held.submit(time.sleep, 60)
    waits = held.submit(abs, -7)
    while not works.running():
        time.sleep(0.01)
    del held
    gc.collect()
    assert gone(pid)
    assert waits.cancelled()
    with pytest.raises(WorkerEnded):
        works.result()
    assert shared_workers(1).submit(os.getpid).result() != pid
