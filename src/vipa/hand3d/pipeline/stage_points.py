"""Stage `points`: point maps of the sampled frames, kept in a file where a network made them."""

from collections.abc import Callable
from functools import cache

from vipa.hand3d.estimators.pointmaps import AnyMaps, PointMaps
from vipa.hand3d.pipeline.draft import Draft
from vipa.io.store import StageOutput


def by_network(draft: Draft) -> bool:
    """Whether the maps are worth a file."""
    return draft.estimators.points.cached


def maps_of(draft: Draft) -> Callable[[], AnyMaps | None]:
    """Makes the maps when they are asked for first; None where they are not needed, or the estimator has none.

    ValueError for maps of another unit than the estimator says.
    """
    clip, frames, estimator = draft.clip, draft.frames.tolist(), draft.estimators.points
    needed, name = draft.needs_points, draft.config.points.estimator

    def maps() -> AnyMaps | None:
        made = estimator(clip, frames) if needed else None
        if made is not None and estimator.metric not in (None, made.metric):
            raise ValueError(f"points: {name!r} says metric = {estimator.metric}, its maps say {made.metric}")
        return made

    return cache(maps)


def make(draft: Draft) -> StageOutput:
    """The maps' arrays; no values where there are none."""
    maps = maps_of(draft)()
    if maps is None:
        return StageOutput(None)
    arrays = {"points": maps.points, "confidence": maps.confidence, "T_world_camera": maps.T_world_camera}
    values = {"metric": maps.metric, "unit_error": maps.unit_error, "edge": maps.edge}
    return StageOutput(values, {name: array for name, array in arrays.items() if array is not None})


def take(draft: Draft, output: StageOutput | None) -> None:
    """The maps, of the file or, without one, read where a later stage needs them."""
    if output is None:
        draft.maps = maps_of(draft)
    elif output.values is not None:
        arrays = {"confidence": None, "T_world_camera": None, **output.arrays}
        maps = PointMaps(draft.frames, **arrays, **output.values)
        draft.maps = lambda: maps
