"""Which frame of a video a row of a table belongs to, by time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float


def end_of(times: Float[np.ndarray, "frames"]) -> float:
    """When the last of these frames is over: it lasts as long as those just before it; 1 second where it is alone."""
    return float(times[-1] + (np.median(np.diff(times[-6:])) if len(times) > 1 else 1.0))


class TimedVideo(Protocol):
    """A video file. start: when its first frame is shown on its own clock; timestamps: seconds since then."""

    @property
    def path(self) -> Path: ...
    @property
    def start(self) -> float: ...
    @property
    def timestamps(self) -> np.ndarray: ...


@dataclass(frozen=True)
class VideoPart:
    """Where an episode's pictures are. start, end: seconds on the file's clock; end None: to the file's end."""

    path: Path
    start: float = 0.0
    end: float | None = None


def paired(times: np.ndarray, video: TimedVideo, part: VideoPart, rate: float) -> tuple[np.ndarray, str | None]:
    """(the frame of each row, how far the video goes beyond the rows in words, or None).

    times: of the rows, seconds, on whatever clock: they are looked for on the file's own clock, from its first frame
    on, and from the first row on, and the first that fits all rows, within the episode's part of the file, counts.
    ValueError where none does within half a frame, or where a row lies beyond the part.
    """
    steps = np.diff(times)
    if not (np.isfinite(times).all() and (steps > 0).all()):
        raise ValueError("the rows' timestamps must be finite and increase")
    step = float(np.median(steps)) if len(steps) else 1 / rate
    frames = video.timestamps
    frame_step = float(np.median(np.diff(frames))) if len(frames) > 1 else step
    half = 0.5 * min(step, frame_step)
    fits = []
    for rows, origin in ((times, video.start), (times, 0.0), (times - times[0], 0.0)):
        wanted = part.start + rows - origin
        nearest = _nearest(frames, wanted)
        off = np.abs(frames[nearest] - wanted)
        end = end_of(frames) if part.end is None else part.end - origin
        inside = (
            part.end is None or wanted[-1] <= end - step / 4
        )  # else the last frame is the next episode's first
        fits.append((float(off.max()), int(off.argmax()), inside, nearest, wanted, origin, end))
    worst, row, inside, nearest, wanted, origin, end = next(
        (fit for fit in fits if fit[0] <= 1.001 * half + 1e-4 and fit[2]), min(fits, key=lambda fit: fit[0])
    )
    if worst > 1.001 * half + 1e-4:
        raise ValueError(
            f"row {row} at {times[row]:.3f} s has no frame in {video.path}: the nearest is {worst:.3f} s away "
            f"(the video lasts {end_of(frames):.3f} s, the rows {times[-1] - times[0] + step:.3f} s)"
        )
    if not inside:
        raise ValueError(
            f"row {len(times) - 1} at {times[-1]:.3f} s lies beyond the episode's part of {video.path} "
            f"({part.start:.3f} to {part.end:.3f} s)"
        )
    beyond = {
        "after the last row": end - wanted[-1] - step,
        "before the first row": wanted[0] - part.start + origin,
    }
    notes = [f"{over:.2f} s {where}" for where, over in beyond.items() if over > 0.75 * step]
    return nearest, f"the video goes on {' and '.join(notes)}" if notes else None


def _nearest(sorted_times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if len(sorted_times) == 1:
        return np.zeros(len(wanted), int)
    after = np.searchsorted(sorted_times, wanted).clip(1, len(sorted_times) - 1)
    nearer = wanted - sorted_times[after - 1] <= sorted_times[after] - wanted
    return np.where(nearer, after - 1, after)
