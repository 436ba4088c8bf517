"""What a model that still learns answers about held-out records: errors in metres and directions, as the benchmarks
count them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vipa.benchmarks import hand3d_benchmark, trajectories_benchmark
from vipa.benchmarks.answering import ModelAnswerer
from vipa.benchmarks.asking import select
from vipa.data.spec import DataSpec
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import ActionRecord, VisualRecord
from vipa.training.loop import Watch
from vipa.training.runs import TrainRun

BATCH = 32
"""Records asked at once."""


def watch_of(run: TrainRun) -> Watch | None:
    """What asks `run.validate_answers` records of each Hand3D component of `run.validation`, the same ones each time;
    None where there is nothing to ask."""
    asked = [_Asked(spec, run.validate_answers) for spec in run.validation if spec.kind in FIGURES]
    if not run.validate_every or not run.validate_answers or not asked:
        return None
    return lambda model, processor: {
        name: value for some in asked for name, value in some(model, processor).items()
    }


class _Asked:
    """The records of a component, read when they are first asked."""

    def __init__(self, spec: DataSpec, limit: int):
        self.spec, self.limit = spec, limit
        self.data: Hand3D | None = None
        self.records: list[Any] = []

    def __call__(self, model: Any, processor: Any) -> dict[str, float]:
        exam, figures = FIGURES[self.spec.kind]
        if self.data is None:
            self.data = Hand3D(self.spec.path)
            self.records = select(list(exam.records(self.data, self.spec.split)), self.limit)
        return figures(ModelAnswerer.of(model, processor, self.data), self.records) if self.records else {}


def _questions(model: ModelAnswerer, records: Sequence[VisualRecord]) -> dict[str, float]:
    """Mean distance error in metres (of all but camera rotations), direction score of 3, share not understood."""
    scored = hand3d_benchmark.score(records, _answers(model.questions, records))
    metric = [s.error for s in scored if s.kind != "camera_rotation"]
    figures = {
        "validation_direction_score": float(np.mean([s.direction_score for s in scored])),
        "validation_unparsable": float(np.mean([not s.parsed for s in scored])),
    }
    return figures | ({"validation_distance_error": float(np.mean(metric))} if metric else {})


def _motions(model: ModelAnswerer, records: Sequence[ActionRecord]) -> dict[str, float]:
    """Mean distance of the waypoints in metres (ADE)."""
    codec = trajectories_benchmark.codec_of(model.data)
    scored = trajectories_benchmark.score(records, _answers(model.motions, records), codec)
    return {"validation_motion_error": float(np.mean([s.average_error for s in scored]))}


def _answers(ask: Callable[[Sequence[Any]], list[str]], records: Sequence[Any]) -> list[str]:
    return [answer for i in range(0, len(records), BATCH) for answer in ask(records[i : i + BATCH])]


FIGURES: dict[str, tuple[Any, Callable[[ModelAnswerer, Sequence[Any]], dict[str, float]]]] = {
    "hand3d_visual": (hand3d_benchmark.HAND3D, _questions),
    "hand3d_action": (trajectories_benchmark.TRAJECTORIES, _motions),
}
"""Kind of data -> the exam whose records are asked, and what is said of their answers."""
