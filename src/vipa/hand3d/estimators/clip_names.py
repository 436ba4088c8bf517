"""Names of objects as they came with the clip."""

from vipa.clips.clip import Clip
from vipa.hand3d.estimators.endpoint import Endpoint


def clip_names(clip: Clip) -> list[str]:
    """The names that came with the clip."""
    return [track.name for track in clip.objects or ()]


def open_names(endpoint: Endpoint | None):
    return clip_names
