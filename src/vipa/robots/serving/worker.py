"""One thread that owns the policy: requests of all clients wait in a bounded queue and are answered in batches."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from vipa.robots.policy import Observation, Policy
from vipa.robots.serving.metrics import Metrics

log = logging.getLogger(__name__)


class Busy(Exception):
    """The queue is full, or the worker has stopped."""


@dataclass(frozen=True)
class Answer:
    """chunk (horizon, a); seconds that its batch took, and the batch's rows."""

    chunk: np.ndarray
    seconds: float
    rows: int


@dataclass
class _Job:
    observation: Observation
    answer: "Future[Answer]" = field(default_factory=Future)


class Worker:
    """Chunks for single observations, made in batches.

    max_batch: rows of a batch. max_queue: requests that may wait. gather: how long a batch waits for more rows, as a
    share of what the last one took, as long as `clients()` says that others could still ask; one client alone never
    waits.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        max_batch: int = 16,
        max_queue: int = 256,
        gather: float = 0.1,
        clients: Callable[[], int] = lambda: 1,
        metrics: Metrics | None = None,
    ):
        self.policy, self.max_batch, self.gather, self.clients = policy, max_batch, gather, clients
        self.metrics = metrics or Metrics()
        self._queue: queue.Queue[_Job | None] = queue.Queue(max_queue + 1)  # one place for the end
        self._max_queue, self._closed, self._took = max_queue, False, 0.0
        self._thread = threading.Thread(target=self._run, name="vipa-inference", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        return self._queue.qsize()

    def submit(self, observation: Observation) -> "Future[Answer]":
        """The answer to come; cancelled before its turn, it costs nothing. Raises Busy at once."""
        if self._closed or self._queue.qsize() >= self._max_queue:
            raise Busy(
                f"{self._max_queue} requests wait already" if not self._closed else "the server is stopping"
            )
        job = _Job(observation)
        self._queue.put_nowait(job)
        return job.answer

    def close(self, timeout: float | None = None) -> None:
        """Answers what waits, then ends the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        going = True
        while going:
            batch, going = self._collect()
            batch = [job for job in batch if job.answer.set_running_or_notify_cancel()]
            if batch:
                self._answer(batch)

    def _collect(self) -> tuple[list[_Job], bool]:
        """The next batch, and whether there may be another."""
        batch: list[_Job] = []
        until = None
        while len(batch) < self.max_batch:
            try:
                if until is None:
                    job = self._queue.get()
                elif len(batch) >= self.clients():
                    job = self._queue.get_nowait()
                else:
                    job = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                return batch, False
            batch.append(job)
            until = until or time.monotonic() + self.gather * self._took
        return batch, True

    def _answer(self, batch: list[_Job]) -> None:
        start = time.perf_counter()
        try:
            chunks = self._infer([job.observation for job in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            log.warning("a batch of %d failed (%s); each is answered alone", len(batch), error)
            for job in batch:  # whose fault it was, the others' answers do not feel
                self._answer([job])
            return
        self._took = seconds = time.perf_counter() - start
        self.metrics.batches.add(len(batch))
        self.metrics.inferences.add(seconds)
        for job, chunk in zip(batch, chunks):
            job.answer.set_result(Answer(chunk, seconds, len(batch)))

    def _infer(self, observations: list[Observation]) -> np.ndarray:
        contract = self.policy.contract
        chunks = np.asarray(self.policy(observations))
        expected = (len(observations), contract.horizon, len(contract.action))
        if chunks.shape != expected:
            raise RuntimeError(f"the policy gave chunks of shape {chunks.shape}, its contract says {expected}")
        if not np.isfinite(chunks).all():
            raise RuntimeError("the policy gave numbers that are not finite")
        return chunks
