"""Where one action of a hand ends and the next begins: minima of the wrist's speed (VITRA, arXiv 2510.21571: the speed
of the 3D wrist in the world, smoothed; a cut where it is the least within a window around it; each hand by itself)."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.ndimage import minimum_filter1d

from vipa.clips.clip import Clip, Text
from vipa.hand3d.config import HandsConfig
from vipa.hand3d.measure.paths import bridged, speeds, true_runs
from vipa.hand3d.measure.wrists import wrist_path

SMOOTHING = 0.08
"""Seconds, standard deviation, of the path before its speed is taken."""

WINDOW = 0.5
"""Seconds on each side of a cut in which no speed is less."""

RATIO = 1.5
"""By how much a hand is faster on both sides of a cut, so that a steady movement has none."""

LEAST_MOVEMENT, LEAST_SECONDS = 0.05, 0.3
"""Metres from where it begins and seconds; a segment below either is rest or jitter, and no action."""

REST, MARGIN = 0.03, 0.1
"""Metres per second that count as rest at the ends of a segment, and how many seconds of it are left there."""


def action_segments(
    path: Float[np.ndarray, "frames 3"], times: Float[np.ndarray, "frames"], gap: float
) -> list[tuple[int, int]]:
    """First and last frame of each action of one wrist.

    path: metres, in the world, NaN where unknown; times: seconds. Gaps of at most `gap` seconds are bridged; a segment
    does not reach over a longer one.
    """
    path = bridged(path, times, gap)
    speed, found = speeds(path, times, SMOOTHING), []
    for start, stop in true_runs(np.isfinite(speed)):
        cuts = [start, *(start + _minima(speed[start:stop], times[start:stop])), stop - 1]
        for begin, end in pairwise(cuts):
            moving = begin + np.flatnonzero(speed[begin : end + 1] > REST)
            if not len(moving):
                continue
            begin = max(begin, int(np.searchsorted(times, times[moving[0]] - MARGIN)))
            end = min(end, int(np.searchsorted(times, times[moving[-1]] + MARGIN)))
            moved = np.linalg.norm(path[begin : end + 1] - path[begin], axis=-1).max()
            if moved >= LEAST_MOVEMENT and times[end] - times[begin] >= LEAST_SECONDS:
                found.append((begin, end))
    return found


def wordless_texts(clip: Clip, hands: HandsConfig) -> tuple[Text, ...]:
    """A text without words for each action of each hand, in order; none without camera poses, as a hand's speed is then
    not known."""
    if clip.T_world_camera is None:
        return ()
    texts = []
    for hand in clip.hands:
        path = wrist_path(clip, hand, hands)
        for stretch in np.unique(path.stretch[path.stretch >= 0]):
            alone = np.where((path.stretch == stretch)[:, None], path.points, np.nan)
            for begin, end in action_segments(alone, path.times, path.gap):
                texts.append(Text("", float(path.times[begin]), float(path.times[end]), hand.side))
    return tuple(sorted(texts, key=lambda text: (text.start, text.end, text.hand)))


def _minima(speed: Float[np.ndarray, "n"], times: Float[np.ndarray, "n"]) -> np.ndarray:
    """Indices where the speed is the least within the window and much less than between its neighbours."""
    from scipy.signal import find_peaks  # here: as in `goals`

    if len(speed) < 3:
        return np.zeros(0, dtype=np.int64)
    half = max(1, round(WINDOW / float(np.median(np.diff(times)))))
    cuts = find_peaks(-np.log(speed + REST), prominence=np.log(RATIO))[0]
    return cuts[speed[cuts] <= minimum_filter1d(speed, 2 * half + 1, mode="nearest")[cuts]]
