"""A policy's chunks beside a recorded episode: what it would have done where the demonstration went."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vipa.robots.episodes import Episode
from vipa.robots.policy import Observation, Policy


@dataclass(frozen=True)
class Predictions:
    """Chunks (k, a), one after the other's end, each asked for where the recording is then; the last one is cut where
    the episode ends. It is no closed loop: the policy never meets its own consequences."""

    starts: tuple[int, ...]
    chunks: tuple[Float[np.ndarray, "k a"], ...]

    def errors(self, episode: Episode) -> Float[np.ndarray, "a"]:
        """Mean absolute difference from the recorded action, in the contract's units."""
        return np.abs(np.concatenate(self.chunks) - episode.action).mean(0)


def look_at(episode: Episode, row: int) -> Observation:
    """What the robot saw, felt and was told at a row. The picture is decoded now."""
    images = {view: frames.read([row])[0] for view, frames in episode.views.items()}
    return Observation(images, episode.state[row], episode.text, (0, row))


def predict(policy: Policy, episode: Episode) -> Predictions:
    starts = range(0, len(episode), policy.contract.horizon)
    chunks = [policy([look_at(episode, row)])[0][: len(episode) - row] for row in starts]
    return Predictions(tuple(starts), tuple(chunks))


def plot_numbers(
    values: Float[np.ndarray, "n d"], names: Sequence[str], rate: float, predicted: Predictions | None = None
) -> bytes:
    """A PNG with every number over the seconds, black, and the predicted ones of it, orange."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.6 * columns, 1.7 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    seconds = np.arange(len(values)) / rate
    errors = None if predicted is None else np.abs(np.concatenate(predicted.chunks) - values).mean(0)
    for i, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.plot(seconds, values[:, i], linewidth=0.9, color="black")
        for start, chunk in zip(*(predicted.starts, predicted.chunks) if predicted else ((), ())):
            axes.plot(seconds[start : start + len(chunk)], chunk[:, i], linewidth=0.9, color="tab:orange")
            axes.plot(seconds[start], chunk[0, i], ".", markersize=2.5, color="tab:orange")
        axes.set_title(name if errors is None else f"{name}   off by {errors[i]:.3g}", fontsize=7)
        axes.tick_params(labelsize=6)
        axes.margins(x=0.01)
    file = io.BytesIO()
    figure.savefig(file, dpi=110)
    return file.getvalue()
