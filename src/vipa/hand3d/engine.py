"""Where annotation runs: in this process, or on Ray Data over the cores and GPUs of one machine or a cluster.

An engine turns clips into reports and leaves their stage files below `out`; the tables are made of those files, so
that the records are the same whichever engine made them.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from vipa.clips.clip import Clip, ClipError
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.estimators import Estimators
from vipa.hand3d.stages import ClipStages
from vipa.hand3d.store import ClipStore
from vipa.hand3d.work import ClipReport, annotate_clip, clip_folder

Clips = Iterable[Clip | ClipError]
Engine = Callable[[Clips, Path, AnnotateConfig, int], Iterator[ClipReport]]

CLIPS_AT_ONCE = 32
"""Per worker: how many clips travel to Ray before more are read from the source. Bounds the memory."""


def local(clips: Clips, out: Path, config: AnnotateConfig, workers: int) -> Iterator[ClipReport]:
    """One clip after another in this process."""
    estimators = Estimators.of(config)
    for clip in clips:
        yield annotate_clip(clip, out, config, estimators)


def on_ray(clips: Clips, out: Path, config: AnnotateConfig, workers: int) -> Iterator[ClipReport]:
    """Ray Data: `workers` actors, each with its own estimators; the network that makes point maps in actors of its
    own, on the GPUs there are. `out` must be seen by every machine. A cluster is found by RAY_ADDRESS.

    ModuleNotFoundError where Ray is not installed (the extra `ray`).
    """
    import ray

    Estimators.of(config)  # a wrong name is an error here, not in a worker
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, num_cpus=None if _cluster() else workers + 1)
    ray.data.DataContext.get_current().enable_progress_bars = False
    gpus = int(ray.cluster_resources().get("GPU", 0))
    source = iter(clips)
    while batch := list(islice(source, CLIPS_AT_ONCE * workers)):
        rows = ray.data.from_items([{"clip": _pack(clip)} for clip in batch])
        if config.points.estimator != "depth":
            rows = rows.map_batches(
                _Points,
                fn_constructor_args=(str(out), config),
                batch_size=8,
                concurrency=max(gpus, 1),
                num_gpus=1 if gpus else 0,
            )
        rows = rows.map_batches(_Stages, fn_constructor_args=(str(out), config), batch_size=4, concurrency=workers)
        for row in rows.iter_rows():
            yield ClipReport(**_unpack(row["report"]))


ENGINES: dict[str, Engine] = {"local": local, "ray": on_ray}


class _Points:
    """Makes the point maps of clips on its GPU and leaves them in their stage files."""

    def __init__(self, out: str, config: AnnotateConfig):
        self.out, self.config, self.estimators = Path(out), config, Estimators.of(config)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import contextlib

        for clip in map(_unpack, batch["clip"]):
            if isinstance(clip, Clip):
                store = ClipStore(clip_folder(self.out, clip))
                with contextlib.suppress(Exception):  # the next step meets the same and reports it
                    _ = ClipStages(clip, self.config, self.estimators, store).maps
        return {"clip": batch["clip"]}


class _Stages:
    """Every stage of clips."""

    def __init__(self, out: str, config: AnnotateConfig):
        self.out, self.config, self.estimators = Path(out), config, Estimators.of(config)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        reports = [annotate_clip(_unpack(c), self.out, self.config, self.estimators) for c in batch["clip"]]
        return {"report": [_pack(asdict(report)) for report in reports]}


def _pack(value: Any) -> bytes:
    """For the way between this program's own processes."""
    from ray import cloudpickle

    return cloudpickle.dumps(value)


def _unpack(data: bytes) -> Any:
    from ray import cloudpickle

    return cloudpickle.loads(data)


def _cluster() -> bool:
    return "RAY_ADDRESS" in os.environ
