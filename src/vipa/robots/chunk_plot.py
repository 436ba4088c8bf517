"""A policy's chunks drawn over a recorded episode: what it would have done where the demonstration went."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from vipa.robots.episodes import Episode
from vipa.robots.policy import Observation, Policy


def look_at(episode: Episode, row: int) -> Observation:
    """What the robot saw, felt and was told at a row. The picture is decoded now."""
    images = {view: frames.read([row])[0] for view, frames in episode.views.items()}
    return Observation(images, episode.state[row], episode.text, (0, row))


def plot_chunks(policy: Policy, episode: Episode, path: Path) -> Float[np.ndarray, "a"]:
    """A PNG with every action over time, recorded, and as the policy's chunks, one after the other's end, each asked
    for where the recording is then. Returns the mean absolute difference of each action, in the contract's units.

    It is no closed loop: the policy never meets its own consequences.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names, horizon = [d.name for d in policy.contract.action], policy.contract.horizon
    starts = range(0, len(episode), horizon)
    chunks = [policy([look_at(episode, row)])[0][: len(episode) - row] for row in starts]
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 1.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    seconds = np.arange(len(episode)) / episode.rate
    for i, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.plot(seconds, episode.action[:, i], linewidth=0.8, color="black", label="recorded")
        for start, chunk in zip(starts, chunks):
            axes.plot(seconds[start : start + len(chunk)], chunk[:, i], linewidth=0.8, color="tab:orange")
        axes.set_title(name, fontsize=7)
        axes.tick_params(labelsize=6)
    figure.suptitle(f"{episode.text}: recorded (black), chunks of {horizon} (orange); seconds", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return np.abs(np.concatenate(chunks) - episode.action).mean(0)
