"""Stage `scale`: metres per unit of the point map, from hands."""

from dataclasses import asdict

from vipa.hand3d.measure.calibration import ScaleEstimate, estimate_scale
from vipa.hand3d.pipeline.draft import Draft
from vipa.io.store import StageOutput


def make(draft: Draft) -> StageOutput:
    """A `ScaleEstimate`; none without a point map."""
    maps = draft.maps()
    return StageOutput(None if maps is None else asdict(estimate_scale(draft.clip, maps, draft.config.scale)))


def take(draft: Draft, output: StageOutput | None) -> None:
    assert output is not None
    draft.scale = None if output.values is None else ScaleEstimate(**output.values)
