"""Statistics of the columns of a LeRobot data set, in the form that its meta/ keeps: per episode and of the whole."""

from collections.abc import Sequence
from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
STATISTICS = ("min", "max", "mean", "std", "count", *QUANTILES)

ColumnStatistics = dict[str, np.ndarray]
"""`min`, `max`, `mean`, `std` (population) and quantiles, one number a dimension; `count`: rows, shape (1,)."""


def column_statistics(values: np.ndarray) -> ColumnStatistics:
    """Of rows (n, d), n > 0, finite."""
    values = np.asarray(values, np.float64)
    out = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {**out, "count": np.array([len(values)]), **dict(zip(QUANTILES, quantiles))}


class PictureCounts:
    """Of pictures that pass one by one: how often each level of each channel occurs, in every fourth row and column."""

    def __init__(self) -> None:
        self.frames, self.levels = 0, np.zeros((3, 256), np.int64)

    def add(self, image: np.ndarray) -> None:
        """(height, width, 3) uint8."""
        self.frames += 1
        for channel, values in enumerate(image[::4, ::4].reshape(-1, 3).T):
            self.levels[channel] += np.bincount(values, minlength=256)

    def statistics(self) -> ColumnStatistics:
        """Per channel, levels 0 ... 1, each of shape (3, 1, 1); `count`: of frames."""
        values, total = np.arange(256) / 255, self.levels.sum(1)
        mean = self.levels @ values / total
        variance = (self.levels * (values - mean[:, None]) ** 2).sum(1) / total
        seen = [values[np.flatnonzero(row)] for row in self.levels]
        out = {"min": [v[0] for v in seen], "max": [v[-1] for v in seen], "mean": mean, "std": np.sqrt(variance)}
        below = np.cumsum(self.levels, 1)
        for name, q in QUANTILES.items():
            out[name] = values[(below < q * total[:, None]).sum(1).clip(max=255)]
        shaped = {name: np.asarray(value, np.float64).reshape(3, 1, 1) for name, value in out.items()}
        return {**shaped, "count": np.array([self.frames])}


def as_entry(statistics: dict[str, ColumnStatistics]) -> dict[str, list]:
    """As columns of version 3's meta/episodes."""
    return {f"stats/{c}/{name}": v.tolist() for c, of in statistics.items() for name, v in of.items()}


def from_entry(entry: dict[str, Any]) -> dict[str, ColumnStatistics]:
    """Inverse of `as_entry`; other columns are passed over."""
    found: dict[str, ColumnStatistics] = {}
    for key, value in entry.items():
        column, _, name = key.removeprefix("stats/").rpartition("/")
        if key.startswith("stats/") and value is not None and name in STATISTICS:
            found.setdefault(column, {})[name] = np.asarray(value)
    return found


def combined(parts: Sequence[dict[str, ColumnStatistics]]) -> dict[str, ColumnStatistics]:
    """Of all rows from those of each part, exactly; without quantiles, which need the rows themselves. A column that a
    part lacks is left out.

    Surprising: LeRobot's own tools take the mean of the parts' quantiles, which is no quantile of all rows (0.8 rad
    beside it in five episodes of a GR00T set).
    """
    names = [name for name in (parts[0] if parts else ()) if all(name in part for part in parts)]
    return {name: _combined([part[name] for part in parts]) for name in names}


def _combined(parts: Sequence[ColumnStatistics]) -> ColumnStatistics:
    counts = np.array([part["count"][0] for part in parts], np.float64)
    share = (counts / counts.sum()).reshape(-1, *[1] * parts[0]["mean"].ndim)
    stacked = {name: np.stack([part[name] for part in parts]) for name in ("min", "max", "mean", "std")}
    mean = (share * stacked["mean"]).sum(0)
    variance = (share * (stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)).sum(0)
    out = {"min": stacked["min"].min(0), "max": stacked["max"].max(0), "mean": mean, "std": np.sqrt(variance)}
    return {**out, "count": np.array([int(counts.sum())])}
