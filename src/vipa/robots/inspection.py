"""What a robot's data holds, against what its contract says: `vipa robots check`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vipa.robots.contract import ActionContract, Dimension, Scheme, Statistics
from vipa.robots.episodes import EpisodeSet
from vipa.robots.number_transforms import OPEN_CLOSED
from vipa.robots.transforms import Normaliser, compute_statistics, is_narrow, pipeline_of

AT_REST = 0.05
"""A gripper is at an end of its form's range within this share of it."""


@dataclass(frozen=True)
class Inspection:
    """lines: what is there. problems: what does not fit the contract. contract: with the statistics of the data."""

    contract: ActionContract
    lines: tuple[str, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        problems = [f"problem: {problem}" for problem in self.problems] or ["no problems"]
        return "\n".join([*self.lines, *problems])


def inspect_robot_data(episodes: EpisodeSet, scheme: Scheme = "quantiles") -> Inspection:
    """Lengths, rates, views, ranges, still dimensions and grippers. ValueError where an episode cannot be read, or
    its widths or rate differ from the contract's, as its reader says."""
    contract = episodes.contract
    opened = list(episodes)
    lengths = [len(episode) for episode in opened]
    texts = {episode.text for episode in opened}
    lines = [
        contract.summary(),
        f"{len(opened)} episodes of {min(lengths)} to {max(lengths)} rows, {sum(lengths)} in all, at "
        f"{opened[0].rate:g} Hz; {len(texts)} instructions",
    ]
    problems = [f"episode {e.id!r}: no instruction" for e in opened if not e.text.strip()]
    problems += [
        f"episode {e.id!r}: {len(e)} rows, fewer than a chunk of {contract.horizon}"
        for e in opened
        if len(e) < contract.horizon
    ]
    first = opened[0]
    for view in contract.views:
        picture = first.views[view].read([0])[0]
        lines.append(f"view {view}: {picture.shape[1]} x {picture.shape[0]} pixels")
        if picture.std() < 1:
            problems.append(f"view {view}: its first picture is of one colour")
    plain = {
        "state": Statistics.of(np.concatenate([e.state for e in opened]), ""),
        "action": Statistics.of(np.concatenate([e.action for e in opened]), ""),
    }
    for name, dimensions in (("state", contract.state), ("action", contract.action)):
        lines += _ranges(name, dimensions, plain[name])
        problems += _impossible(name, dimensions, plain[name])
    found, trouble = _gripper(contract, np.concatenate([e.action for e in opened]))
    before = pipeline_of(contract)
    statistics = compute_statistics(episodes.samples(), before)
    return Inspection(contract.normalised(scheme, *statistics), (*lines, *found), (*problems, *trouble))


def _ranges(name: str, dimensions: tuple[Dimension, ...], statistics: Statistics) -> Iterable[str]:
    spread = (np.array(statistics.quantile_99) - statistics.quantile_01) / 2
    still = is_narrow(spread, dimensions)
    for i, dimension in enumerate(dimensions):
        unit = "" if dimension.unit == "none" else f" {dimension.unit}"
        scale = "" if dimension.scale == 1 else f" x {dimension.scale:.3g}"
        yield (
            f"{name} {dimension.name}: {statistics.minimum[i]:.4g} to {statistics.maximum[i]:.4g}{scale}{unit}, "
            f"{dimension.mode}" + (" (hardly moves: will only be shifted)" if still[i] else "")
        )


def _impossible(name: str, dimensions: tuple[Dimension, ...], statistics: Statistics) -> Iterable[str]:
    """Numbers that can hardly be of their unit: angles of several turns are degrees, metres of tens millimetres."""
    most = {"radian": 4 * np.pi, "metre": 10.0}
    for i, d in enumerate(dimensions):
        reach = max(abs(statistics.minimum[i]), abs(statistics.maximum[i])) * abs(d.scale)
        if d.unit in most and reach > most[d.unit]:
            other = "degrees" if d.unit == "radian" else "millimetres"
            yield f"{name} {d.name} reaches {reach:.4g} {d.unit}: are these {other}?"


def _gripper(contract: ActionContract, action: Float[np.ndarray, "n a"]) -> tuple[list[str], list[str]]:
    """The form that a gripper's numbers can be of, where the contract says it has one."""
    places = [i for i, d in enumerate(contract.action) if "gripper" in d.name]
    if contract.gripper == "none" or len(places) != 1:
        return [], []
    low, high = float(action[:, places[0]].min()), float(action[:, places[0]].max())
    fits = [
        form
        for form, ends in OPEN_CLOSED.items()
        if min(ends) - AT_REST <= low and high <= max(ends) + AT_REST and (low < -AT_REST) == (min(ends) < 0)
    ]
    said = f"gripper: {low:.3g} to {high:.3g}, which may be {' or '.join(map(repr, fits)) or 'none of the forms'}"
    if contract.gripper in fits:
        return [f"{said}; the contract says {contract.gripper!r}"], []
    return [], [f"{said}; the contract says {contract.gripper!r}"]


def plot_dimensions(episodes: EpisodeSet, contract: ActionContract, path: Path) -> None:
    """A PNG: every number of the model's state and action over the rows, with what its normaliser takes for -1 and 1.

    contract: with statistics of these episodes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    before = pipeline_of(contract)
    state, action = before.dimensions(contract)
    samples = [before.forward({"state": e.state, "action": e.action[:, None]}) for e in episodes]
    rows = {
        "state": np.concatenate([s["state"] for s in samples]),
        "action": np.concatenate([s["action"][:, 0] for s in samples]),
    }
    panels = [("state", i, d) for i, d in enumerate(state)] + [("action", i, d) for i, d in enumerate(action)]
    columns = 4
    figure = Figure(figsize=(4 * columns, 1.8 * -(-len(panels) // columns)), layout="constrained")
    FigureCanvasAgg(figure)
    normalisers = {
        name: Normaliser.of(contract.normalisation, statistics, [d.name for d in dimensions], dimensions)
        for name, statistics, dimensions in (
            ("state", contract.state_statistics, state),
            ("action", contract.action_statistics, action),
        )
        if statistics is not None
    }
    for place, (name, i, dimension) in enumerate(panels):
        axes = figure.add_subplot(-(-len(panels) // columns), columns, place + 1)
        axes.plot(rows[name][:, i], linewidth=0.5)
        shift, scale = normalisers[name].shift[i], normalisers[name].scale[i]
        for bound in (shift - scale, shift + scale):
            axes.axhline(bound, linestyle="--", linewidth=0.6, color="tab:red")
        middle = rows[name][:, i]
        axes.set_ylim(min(middle.min(), shift - scale), max(middle.max(), shift + scale) + 1e-9)
        axes.set_title(f"{name} {dimension.name}", fontsize=7)
        axes.tick_params(labelsize=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
