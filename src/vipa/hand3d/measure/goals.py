"""Where a hand goes next for a task: to a touch, to where it lets go, or to the next place where it stops.

Every goal is something that is seen to happen in the clip. The end of a text is none: recordings end with hands at
rest, and texts are cut where clips are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

from vipa.clips.clip import Clip, Text
from vipa.hand3d.config import GoalsConfig
from vipa.hand3d.measure.paths import bridged, speeds, true_runs
from vipa.hand3d.measure.relations import GoalKind
from vipa.hands.skeleton import Side


@dataclass(frozen=True)
class Goal:
    """The frame at which the hand is there, what happens there, and the object that is touched or let go."""

    frame: int
    kind: GoalKind
    object: str | None


@dataclass(frozen=True)
class Stop:
    """A wrist that hardly moves from frame `arrival` on. left: the frame at which it goes on; None: not seen to."""

    arrival: int
    left: int | None


class TaskGoals:
    """The goals of one clip's hands. names: the objects that a text can mean. wrists: metres, in the world, NaN where
    unknown (short gaps are bridged)."""

    def __init__(
        self,
        clip: Clip,
        names: Sequence[str],
        wrists: dict[Side, Float[np.ndarray, "frames 3"]],
        config: GoalsConfig,
    ):
        self.clip, self.names, self.config = clip, list(names), config
        self.times = clip.timestamps - clip.timestamps[0]
        self.frame_time = 1.0 / clip.rate
        self.wrists: dict[Side, np.ndarray] = {
            side: bridged(path, self.times, config.gap) for side, path in wrists.items()
        }
        self.stops = cache(self._stops)

    def goal(self, side: Side, text: Text, frame: int) -> Goal | None:
        """Where this hand goes from `frame` for this text; None where it does nothing for it, or that is not known."""
        if text.hand not in (None, "both", side):
            return None
        mentioned = mentioned_names(text.text, self.names)
        contacts = self.clip.contacts or {}
        touch = {n: np.asarray(contacts[side, n], float) for n in mentioned or self.names if (side, n) in contacts}
        last = int(np.flatnonzero(self.times <= text.end + self.config.slack)[-1])
        held = [name for name, t in touch.items() if t[frame] == 1]
        for name in held:
            if (release := _until(touch[name], frame, last)) is not None:
                return Goal(release, "release", name) if release > frame else None
        if touch and not held:
            for name, t in touch.items():
                if (onset := _onset(t, frame, last)) is not None:
                    return Goal(onset, "touch", name)
            if mentioned and all((t[frame : last + 1] == 0).all() for t in touch.values()):
                return None  # it is known not to touch what the text names
        if not self.acts(side, text):
            return None
        stop = self._next_stop(side, text, frame)
        return None if stop is None else Goal(stop, "stop", None)

    def acts(self, side: Side, text: Text) -> bool:
        """Whether a text means this hand: it says so, or, where it names no hand, this one works while it lasts."""
        if text.hand is not None:
            return text.hand in ("both", side)
        reach = {s: self._reach(s, text) for s in self.wrists}
        return reach.get(side, 0.0) >= max(self.config.idle, self.config.idle_share * max(reach.values()))

    def origin(self, side: Side, text: Text) -> Float[np.ndarray, "3"] | None:
        """Where the wrist was when the text began; None where the clip begins later, or the wrist is unknown then."""
        if text.start < -0.5 * self.frame_time:
            return None
        inside = (self.times >= text.start - 1e-6) & (self.times <= text.start + self.config.slack)
        known = np.flatnonzero(inside & np.isfinite(self.wrists[side]).all(-1))
        return self.wrists[side][known[0]] if len(known) else None

    def _reach(self, side: Side, text: Text, origin: np.ndarray | None = None) -> float:
        """The wrist's greatest distance in metres, while the text lasts, from `origin` or where it is seen first."""
        path = self.wrists[side][(self.times >= text.start - 1e-6) & (self.times <= text.end + 1e-6)]
        path = path[np.isfinite(path).all(-1)]
        return (
            float(np.linalg.norm(path - (path[0] if origin is None else origin), axis=-1).max())
            if len(path)
            else 0.0
        )

    def _next_stop(self, side: Side, text: Text, frame: int) -> int | None:
        """The frame of arrival at the next place where the hand stops, away from `frame` and from the text's start."""
        c, path = self.config, self.wrists[side]
        origin = self.origin(side, text)
        reach = 0.0 if origin is None else self._reach(side, text, origin)
        for stop in self.stops(side):
            at = self.times[stop.arrival]
            if stop.arrival <= frame or at < text.start - 1e-6:
                continue
            if at > text.end + c.slack or not np.isfinite(path[frame : stop.arrival + 1]).all():
                return None
            if np.linalg.norm(path[stop.arrival] - path[frame]) < c.away:
                continue
            stays = stop.left is None or self.times[stop.left] > text.end
            if origin is None:
                return None if stays else stop.arrival  # it may have gone back to rest
            home = max(c.rest if stays else c.home, c.home_share * reach)
            if np.linalg.norm(path[stop.arrival] - origin) < home:
                return None
            way, back = path[stop.arrival] - path[frame], origin - path[frame]
            homeward = way @ back > np.cos(c.homeward) * np.linalg.norm(way) * np.linalg.norm(back)
            return None if homeward and np.linalg.norm(back) >= c.home else stop.arrival
        return None

    def _stops(self, side: Side) -> tuple[Stop, ...]:
        """Where the wrist's speed has a minimum that is slow, and much slower than the movements on both sides."""
        from scipy.signal import find_peaks  # here: it takes longer to import than a run that has nothing to do

        c, path, found = self.config, self.wrists[side], []
        speed = speeds(path, self.times, c.smoothing)
        for start, stop in true_runs(np.isfinite(speed)):
            v = speed[start:stop]
            walls = np.concatenate([[np.inf], v, [np.inf]])  # a rest that begins or ends the run is a minimum too
            depth = -np.log(np.minimum(walls, 10.0) + c.jitter)
            minima = find_peaks(depth, prominence=np.log(c.ratio))[0] - 1
            for low in minima[v[minima] < c.slow]:
                still = v <= max(2.0 * v[low], c.jitter)
                first, after = _stretch(still, int(low))
                seen_to_leave = after < len(v)
                if not seen_to_leave and self.times[start + after - 1] - self.times[start + first] < c.dwell:
                    continue  # it may only have slowed down
                if first > 0:
                    found.append(Stop(start + first, start + after if seen_to_leave else None))
        return tuple(found)


def mentioned_names(text: str, names: Sequence[str]) -> list[str]:
    """Those that a sentence says as whole words, in the order in which it does."""
    found = {n: re.search(rf"\b{re.escape(n.lower())}(?:s|es)?\b", text.lower()) for n in names}
    at = {n: match.start() for n, match in found.items() if match}
    return sorted(at, key=lambda n: at[n])


def _onset(touch: Float[np.ndarray, "frames"], frame: int, last: int) -> int | None:
    """The first frame of a touch that is known to begin after `frame`, at `last` at the latest."""
    later = touch[frame : last + 1]
    changes = np.flatnonzero(later != 0)
    return frame + int(changes[0]) if len(changes) and later[changes[0]] == 1 else None


def _until(touch: Float[np.ndarray, "frames"], frame: int, last: int) -> int | None:
    """The last frame of a touch that is known to end before or at `last`."""
    later = touch[frame : last + 1]
    changes = np.flatnonzero(later != 1)
    return frame + int(changes[0]) - 1 if len(changes) and later[changes[0]] == 0 else None


def _stretch(mask: np.ndarray, index: int) -> tuple[int, int]:
    """(start, stop) of the stretch of True that holds `index`."""
    return next((a, b) for a, b in true_runs(mask) if a <= index < b)
