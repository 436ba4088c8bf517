"""Wrist waypoints as text tokens: uniform bins per axis in the cubic metre before the camera (section 3.2.2)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vipa.hands.skeleton import Side

AXES = ("x", "y", "z")
MOTION_START, MOTION_END = "<motion>", "</motion>"
HAND_TOKENS: dict[Side, str] = {"left": "<left_hand>", "right": "<right_hand>"}


@dataclass(frozen=True)
class MotionCodec:
    """Metric wrist trajectories <-> motion tokens.

    low, high: metres per axis, camera frame of the observation image. Bins are uniform; a coordinate stands for
    its bin's centre, so the round trip errs by at most half a bin (0.49 mm at 1024 bins). Coordinates outside
    are clipped (`outside` counts them).
    """

    low: tuple[float, float, float] = (-0.5, -0.5, 0.0)
    high: tuple[float, float, float] = (0.5, 0.5, 1.0)
    bins: int = 1024

    @property
    def tokens(self) -> list[str]:
        """Every motion token in vocabulary order: x bins, y bins, z bins, then the four delimiters."""
        waypoint = [f"<m{axis}_{i}>" for axis in AXES for i in range(self.bins)]
        return [*waypoint, MOTION_START, MOTION_END, *HAND_TOKENS.values()]

    def encode(self, points: np.ndarray) -> np.ndarray:
        """Bins (n, 3) of points (n, 3) in metres. ValueError for NaN."""
        points = np.asarray(points, dtype=np.float64)
        if not np.isfinite(points).all():
            raise ValueError("a motion with unknown (NaN) waypoints has no tokens")
        low, high = np.array(self.low), np.array(self.high)
        return np.clip(np.floor((points - low) / (high - low) * self.bins), 0, self.bins - 1).astype(np.int64)

    def decode(self, indices: np.ndarray) -> np.ndarray:
        """Bin centres (n, 3) in metres."""
        low, high = np.array(self.low), np.array(self.high)
        return low + (np.asarray(indices) + 0.5) / self.bins * (high - low)

    def outside(self, points: np.ndarray) -> np.ndarray:
        """Which of (n, 3) points leave the volume, (n,)."""
        points = np.asarray(points)
        return np.any((points < np.array(self.low)) | (points > np.array(self.high)), axis=-1)

    def to_text(self, trajectories: Mapping[str, np.ndarray] | Mapping[Side, np.ndarray]) -> str:
        """`<motion><right_hand><mx_i><my_j><mz_k>...</motion>` of wrist points (n, 3) per hand, left first."""
        parts = [MOTION_START]
        for side, token in HAND_TOKENS.items():
            if side in trajectories:
                parts.append(token)
                for waypoint in self.encode(trajectories[side]):
                    parts += [f"<m{axis}_{i}>" for axis, i in zip(AXES, waypoint)]
        return "".join([*parts, MOTION_END])

    def from_text(self, text: str) -> dict[str, np.ndarray]:
        """Inverse of `to_text` for the first motion span in a text. ValueError where it does not parse."""
        span = re.search(f"{MOTION_START}(.*?){MOTION_END}", text, re.DOTALL)
        if span is None:
            raise ValueError(f"no {MOTION_START}...{MOTION_END} span in {text[:80]!r}")
        trajectories: dict[str, np.ndarray] = {}
        sides = {token: side for side, token in HAND_TOKENS.items()}
        pieces = re.split(f"({'|'.join(sides)})", span[1].replace(" ", ""))
        if pieces[0]:
            raise ValueError(f"motion span must begin with a hand token, got {pieces[0][:40]!r}")
        for token, body in zip(pieces[1::2], pieces[2::2]):
            triplets = re.findall(r"<mx_(\d+)><my_(\d+)><mz_(\d+)>", body)
            if re.sub(r"<mx_\d+><my_\d+><mz_\d+>", "", body):
                raise ValueError(f"motion of the {sides[token]} hand is not whole x, y, z triplets")
            if sides[token] in trajectories:
                raise ValueError(f"motion names the {sides[token]} hand twice")
            trajectories[sides[token]] = self.decode(np.array(triplets, dtype=np.int64).reshape(-1, 3))
        return trajectories
