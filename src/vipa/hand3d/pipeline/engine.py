"""Where annotation runs: in this process, or on Ray over the cores and GPUs of one machine or a cluster.

An engine turns clips into reports and leaves their stage files below `out`; the tables are made of those files, so
that the records are the same whichever engine made them.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vipa.clips.clip import Clip, ClipError
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.estimators.base import Elsewhere, Estimators, check_names, has_network
from vipa.hand3d.pipeline.ahead import with_cameras
from vipa.hand3d.pipeline.table import STAGES
from vipa.hand3d.pipeline.work import ClipReport, annotate_clip, annotate_until, refuse
from vipa.io.files import OutputError

Clips = Iterable[Clip | ClipError]
Engine = Callable[[Clips, Path, AnnotateConfig, int], Iterator[ClipReport]]

CLIPS_AT_ONCE = 4
"""Per worker: how many clips are on their way before more are read from the source. Bounds the memory."""

TRIES = 3
"""So often a clip may end the process that works on it, and a process may fail to start."""

LAST_NETWORK = [stage.name for stage in STAGES if stage.network][-1]
"""So far the actors go that have a GPU."""

START_SECONDS = 600.0
"""So long none of a kind of worker may take to start, its networks loaded."""


def local(clips: Clips, out: Path, config: AnnotateConfig, workers: int) -> Iterator[ClipReport]:
    """One clip after another in this process, but for the cameras of those that come next."""
    estimators = Estimators.of(config)
    for clip, camera in with_cameras(clips, out, config, estimators):
        yield annotate_clip(clip, out, config, estimators, camera)


def on_ray(clips: Clips, out: Path, config: AnnotateConfig, workers: int) -> Iterator[ClipReport]:
    """Ray: `workers` actors, each with one clip at a time; the network that makes point maps in actors of its own, on
    the GPUs there are. Each network is loaded once in each actor that runs it, for the whole run, and nowhere else.
    `out` must be seen by every machine. A cluster is found by RAY_ADDRESS.

    A clip whose process ends `TRIES` times (out of memory, a crash) is refused and the others go on.
    ModuleNotFoundError where Ray is not installed (the extra `ray`); ValueError where no worker starts.
    """
    import ray

    check_names(config)  # an error here, not in a worker
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, num_cpus=None if _cluster() else workers + 1)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    pools: list[_Pool] = []
    source, on_the_way = iter(clips), 0
    try:
        network = None
        if has_network(config.points):
            held = {"num_cpus": 0, "num_gpus": 1} if gpus else {"num_cpus": 1}
            pools.append(_Pool(_Points, max(gpus, 1), (str(out), config), **held))
            network = pools[0].first()
            if not network.cached:
                pools.pop().close()
                network = None
        pools.append(_Pool(_Stages, workers, (str(out), config, network), num_cpus=1))
        while True:
            while on_the_way < CLIPS_AT_ONCE * workers and (clip := next(source, None)) is not None:
                pools[0].queue.append(_Job(clip, _pack(clip)))
                on_the_way += 1
            if on_the_way == 0:
                return
            for pool in pools:
                pool.hand_out()
            done, _ = ray.wait([task for pool in pools for task in pool.tasks], timeout=1.0)
            for i, pool in enumerate(pools):
                for job, report in pool.collect(done, out):
                    if report is None:
                        pools[i + 1].queue.append(job)
                    else:
                        on_the_way -= 1
                        yield report
    finally:
        for pool in pools:
            pool.close()


ENGINES: dict[str, Engine] = {"local": local, "ray": on_ray}


@dataclass
class _Job:
    """A clip on its way. ended: how many processes it ended."""

    clip: Clip | ClipError
    packed: bytes
    ended: int = 0


class _Pool:
    """Actors of one kind, each with one clip at a time, so that a clip that ends its process takes no other with it."""

    def __init__(self, kind: type, size: int, given: tuple[Any, ...], **resources: float):
        import ray

        remote = ray.remote(max_restarts=0, max_task_retries=0, **resources)(kind)
        self.make: Callable[[], Any] = lambda: remote.remote(*given)
        self.kind, self.resources = kind.__name__.strip("_").lower(), resources
        self.said: Any = None  # by the actor that started last, of itself
        self.queue: deque[_Job] = deque()
        self.idle: list[Any] = []
        self.tasks: dict[Any, tuple[Any, _Job | None]] = {}  # task -> actor and its clip; None: the actor starts
        self.failed_starts, self.alive_at = 0, time.monotonic()
        for _ in range(size):
            self._start()

    def _start(self) -> None:
        actor = self.make()
        self.tasks[actor.ready.remote()] = actor, None

    def first(self) -> Any:
        """What the first actor to start says of itself. ValueError where none starts."""
        import ray

        while self.said is None:
            started, _ = ray.wait(list(self.tasks), timeout=1.0)
            list(self.collect(started, Path()))
            self._refuse_to_wait()
        return self.said

    def hand_out(self) -> None:
        """Clips to idle actors. ValueError where clips wait and no actor has been there for too long."""
        while self.queue and self.idle:
            actor, job = self.idle.pop(), self.queue.popleft()
            self.tasks[actor.work.remote(job.packed)] = actor, job
        if not self.queue or self.idle or any(job for _, job in self.tasks.values()):
            self.alive_at = time.monotonic()
        self._refuse_to_wait()

    def _refuse_to_wait(self) -> None:
        if time.monotonic() - self.alive_at > START_SECONDS:
            raise ValueError(
                f"ray: no worker for {self.kind} started in {START_SECONDS:g} s; it needs {self.resources}, and Ray "
                "has no free machine with that: give --workers fewer, or a larger cluster"
            )

    def collect(self, done: list[Any], out: Path) -> Iterator[tuple[_Job, ClipReport | None]]:
        """Of the tasks that are done: clips with what became of them, None where the next kind of actor goes on."""
        import ray
        from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

        for task in done:
            if task not in self.tasks:
                continue
            actor, job = self.tasks.pop(task)
            try:
                report = ray.get(task)
            except RayTaskError as error:
                if job is None or isinstance(error.cause, OutputError):
                    raise ValueError(f"ray: a worker failed: {error.cause}") from error
                self.idle.append(actor)
                reason = f"its worker raised {type(error.cause).__name__}: {error.cause}"
                yield job, refuse(job.clip, out, reason)
            except RayError as error:  # the process is gone
                with suppress(Exception):
                    ray.kill(actor)
                if job is None:
                    self.failed_starts += 1
                    if self.failed_starts >= TRIES:
                        raise ValueError(f"ray: workers end while they start: {_last_line(error)}") from error
                self._start()
                if job is not None:
                    job.ended += 1
                    if job.ended < TRIES:
                        self.queue.append(job)
                    else:
                        why = (
                            "out of memory" if isinstance(error, OutOfMemoryError) else "out of memory, or a crash"
                        )
                        yield job, refuse(job.clip, out, f"it ended its process {TRIES} times ({why})")
            else:
                self.idle.append(actor)
                if job is None:
                    self.failed_starts, self.said = 0, report
                else:
                    yield job, None if report is None else ClipReport(**report)

    def close(self) -> None:
        """Ends the actors."""
        import ray

        for actor in [*self.idle, *(actor for actor, _ in self.tasks.values())]:
            with suppress(Exception):
                ray.kill(actor)


class _Points:
    """The stages of a clip up to the last one with a network, on its GPU; they are left in their files."""

    def __init__(self, out: str, config: AnnotateConfig):
        self.out, self.config, self.estimators = Path(out), config, Estimators.of(config, boxes=Elsewhere())

    def ready(self) -> Elsewhere:
        return Elsewhere.of(self.estimators.points, self.config)

    def work(self, packed: bytes) -> dict[str, Any] | None:
        """None: the other stages can go on; else the report that ends the clip."""
        report = annotate_until(LAST_NETWORK, _unpack(packed), self.out, self.config, self.estimators)
        return None if report is None else asdict(report)


class _Stages:
    """Every stage of a clip. network: stands for the one of `_Points`; None: there is none."""

    def __init__(self, out: str, config: AnnotateConfig, network: Elsewhere | None):
        self.out, self.config, self.estimators = Path(out), config, Estimators.of(config, points=network)

    def ready(self) -> bool:
        return True

    def work(self, packed: bytes) -> dict[str, Any]:
        return asdict(annotate_clip(_unpack(packed), self.out, self.config, self.estimators))


def _last_line(error: Exception) -> str:
    """Where Ray's messages have what the worker itself said."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def _pack(value: Any) -> bytes:
    """For the way between this program's own processes."""
    from ray import cloudpickle

    return cloudpickle.dumps(value)


def _unpack(data: bytes) -> Any:
    from ray import cloudpickle

    return cloudpickle.loads(data)


def _cluster() -> bool:
    return "RAY_ADDRESS" in os.environ
