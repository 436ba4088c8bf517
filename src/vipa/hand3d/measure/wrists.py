"""Which of a tracker's wrists can be believed, where they are between frames, and which the pictures show."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from vipa.clips.clip import Clip, Hand
from vipa.geometry import transform
from vipa.hand3d.config import HandsConfig
from vipa.hand3d.measure.visibility import Sight
from vipa.hands.skeleton import WRIST, Side

REASONS = ("", "unknown", "uncertain", "outside the picture", "hidden", "jumping")
"""Why a hand is not asked about in a frame; "": it is."""
_UNKNOWN, _UNCERTAIN, _OUTSIDE, _HIDDEN, _JUMPING = range(1, len(REASONS))


SLACK = 0.03
"""Metres of a tracker's noise between two frames, which is no movement."""


@dataclass(frozen=True)
class WristPath:
    """The wrist of one hand over a clip as far as it is believed.

    times: seconds since the first frame. points: metres in the world (in each frame's camera where the clip has no
    world), NaN where not believed. stretch: -1 there, else the number of the stretch without a jump; where the wrist
    went between two stretches is not known. gap: seconds between two frames that are still interpolated over.
    """

    times: Float[np.ndarray, "frames"]
    points: Float[np.ndarray, "frames 3"]
    stretch: Int[np.ndarray, "frames"]
    gap: float

    def at(self, times: Float[np.ndarray, "k"], frame: int) -> Float[np.ndarray, "k 3"]:
        """Linear between believed frames that are at most `gap` apart and of the stretch that `frame` is in; NaN
        elsewhere."""
        known = np.flatnonzero((self.stretch == self.stretch[frame]) & (self.stretch >= 0))
        if not len(known):
            return np.full((len(times), 3), np.nan)
        clock = self.times[known]
        path = np.stack([np.interp(times, clock, axis) for axis in self.points[known].T], -1)
        after = np.searchsorted(clock, times - 1e-9).clip(0, len(known) - 1)
        before = (after - (clock[after] > times + 1e-9)).clip(0)
        near = clock[after] - clock[before] <= self.gap + 1e-9
        within = (times >= clock[0] - 1e-9) & (times <= clock[-1] + 1e-9)
        return np.where((near & within)[:, None], path, np.nan)


@dataclass(frozen=True)
class LocatedHand:
    """One hand at the sampled frames of a clip.

    wrists: metres, each frame's camera, NaN where the hand is not asked about; reasons: why, an index of `REASONS`.
    confidence: the tracker's of the wrist, times the share of the hand that nothing hides. path: of all frames.
    """

    side: Side
    wrists: Float[np.ndarray, "n 3"]
    confidence: Float[np.ndarray, "n"]
    reasons: Int[np.ndarray, "n"]
    path: WristPath


def wrist_path(clip: Clip, hand: Hand, config: HandsConfig) -> WristPath:
    """The believed wrists: confident enough, and part of a movement that a hand can make.

    Where the wrist moves faster than a hand can, the track breaks. A piece between two breaks that is too short to
    tell (less than `config.gap`) is a slip of the tracker and left out.
    """
    times = clip.timestamps - clip.timestamps[0]
    points = hand.joints_camera[:, WRIST]
    if clip.T_world_camera is not None:
        points = transform(clip.T_world_camera, points[:, None])[:, 0]
    known = np.flatnonzero(_confident(hand, config) & np.isfinite(points).all(-1))
    pieces = _pieces(points[known], times[known], config)
    if pieces.any():
        first, last = (np.searchsorted(pieces, pieces, side) for side in ("left", "right"))
        known = known[times[known[last - 1]] - times[known[first]] >= config.gap]
        pieces = _pieces(points[known], times[known], config)
    stretch = np.full(len(times), -1)
    stretch[known] = pieces
    return WristPath(times, np.where(stretch[:, None] >= 0, points, np.nan), stretch, config.gap)


def _pieces(points: Float[np.ndarray, "n 3"], times: Float[np.ndarray, "n"], config: HandsConfig) -> np.ndarray:
    """(n,) the number of the piece without a jump that each point is in."""
    step = np.linalg.norm(np.diff(points, axis=0), axis=-1)
    jumps = step > config.speed * np.diff(times) + SLACK
    return np.concatenate([[0], np.cumsum(jumps)])[: len(points)].astype(np.int64)


def locate_hands(clip: Clip, sight: Sight, config: HandsConfig) -> tuple[LocatedHand, ...]:
    """The hands of a clip at the frames that are looked at.

    A hand is asked about where its wrist is believed and the picture shows it: at least `config.joints` of its joints
    inside, not so hidden that its confidence falls below `config.confidence`. The wrist itself may be just outside.
    """
    found = []
    for hand in clip.hands:
        path, (inside, share) = wrist_path(clip, hand, config), sight.joints(hand)
        wrists, tracked = hand.joints_camera[sight.frames, WRIST], hand.confidence[sight.frames, WRIST]
        stretch, confidence = path.stretch[sight.frames], tracked * share
        known = np.isfinite(wrists).all(-1) & (tracked > 0)
        reasons = np.zeros(len(sight.frames), dtype=np.int64)
        for reason, where in (  # the first that holds is told
            (_HIDDEN, confidence < config.confidence),
            (_OUTSIDE, (inside < config.joints) | (wrists[:, 2] <= 0)),
            (_JUMPING, stretch < 0),
            (_UNCERTAIN, ~_confident(hand, config)[sight.frames]),
            (_UNKNOWN, ~known),
        ):
            reasons[where] = reason
        wrists = np.where((reasons == 0)[:, None], wrists, np.nan)
        found.append(LocatedHand(hand.side, wrists, confidence, reasons, path))
    return tuple(found)


def _confident(hand: Hand, config: HandsConfig) -> Bool[np.ndarray, "frames"]:
    """The wrist's own confidence: all that is asked is measured from it. EgoDex's fingers are far less sure."""
    sure = hand.confidence[:, WRIST]
    return (sure > 0) & (sure >= config.confidence)
