"""Robot episodes to look at: one self-contained HTML page, or one episode in Rerun; with a policy's chunks beside what
was recorded."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vipa.io.files import atomic_write
from vipa.io.lerobot_layout import read_set
from vipa.io.pages import data_url, render_page
from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.episodes import Episode, EpisodeSet
from vipa.robots.known import find
from vipa.robots.lerobot_data import (
    ACTION,
    CONTRACT_FILE,
    STATE,
    Columns,
    open_robot_data,
    read_info,
    read_lerobot,
)
from vipa.robots.policy import Policy
from vipa.robots.predictions import Predictions, plot_numbers, predict
from vipa.robots.template import text_column

PICTURES, WIDTH = 8, 224
"""Of an episode and a view that a page shows, and their pixels at most."""


@dataclass(frozen=True)
class Shown:
    """An episode of the page. number: its place in the set."""

    number: int
    episode: Episode
    predicted: Predictions | None


def stated(root: Path, robot: str | None) -> EpisodeSet | None:
    """A LeRobot set as the robot's file reads it, or by its own contract.json; None where there is neither."""
    if robot is not None:
        return find(robot).read(root)
    return open_robot_data(root) if (root / CONTRACT_FILE).is_file() else None


def by_names(root: Path, contract: ActionContract | None = None) -> EpisodeSet:
    """A LeRobot set by this contract (a policy's), or by the names of its numbers alone, without units.

    ValueError where it has no state, action or pictures, or does not fit the contract.
    """
    info = read_info(root)
    if not info.views:
        raise ValueError(f"{root}: no camera feature has pictures")
    views = {view.removeprefix("observation.images."): view for view in info.views}
    if contract is None:
        state, action = (
            tuple(Dimension(name, "none", "absolute") for name in info.dimension_names(column))
            for column in (STATE, ACTION)
        )
        contract = ActionContract(
            robot=info.robot or root.name,
            action=action,
            state=state,
            frame="not stated",
            rotation="none",
            gripper="none",
            rate=info.rate,
            horizon=1,
            views=tuple(views),
        )
    return read_lerobot(root, contract, Columns(text=text_column(info), views=views))


def choose(episodes: EpisodeSet, count: int, which: str | None) -> Iterator[tuple[int, Episode]]:
    """The first ones, or the one of this number (from the end where it is negative) or id, with their numbers."""
    if which is None:
        yield from ((i, episodes[i]) for i in range(min(count, len(episodes))))
        return
    if which.lstrip("-").isdigit() and -len(episodes) <= int(which) < len(episodes):
        number = int(which) % len(episodes)
        yield number, episodes[number]
        return
    for number, episode in enumerate(episodes):
        if episode.id == which:
            yield number, episode
            return
    raise ValueError(
        f"episode {which!r} is not there; there are 0 to {len(episodes) - 1}, {episodes[0].id} and so on"
    )


def check_policy(policy: Policy, episodes: EpisodeSet) -> None:
    """ValueError where the policy speaks of other numbers, or other views, than the data."""
    policy.contract.check(replace(episodes.contract, views=policy.contract.views))
    if missing := sorted(set(policy.contract.views) - set(episodes.contract.views)):
        raise ValueError(f"the policy sees {', '.join(missing)}, which the data does not have")


def write_page(
    root: Path,
    episodes: EpisodeSet,
    out: Path,
    chosen: Iterator[tuple[int, Episode]],
    policy: Policy | None = None,
    model: str = "",
) -> None:
    """The page. model: what the policy is called there."""
    shown = [Shown(i, episode, predict(policy, episode) if policy else None) for i, episode in chosen]
    info, contract = read_set(root) if (root / "meta" / "info.json").is_file() else None, episodes.contract
    about = [("Robot", contract.robot), ("Rate", f"{contract.rate:g} Hz"), ("Frame", contract.frame)]
    if info is not None:
        rows = sum(int(entry.get("length") or 0) for entry in info.episodes.values())
        about += [("Rows", f"{rows:,}"), ("Instructions", f"{len(info.tasks)}")]
    page = render_page(
        Path(__file__).parent / "episode_page.html",
        name=root.resolve().name,
        count=len(episodes),
        about=about,
        model=model,
        horizon=policy.contract.horizon if policy else 0,
        episodes=shown,
        views=contract.views,
        pictures=_pictures,
        plot=lambda item, which: _plot(item, which, contract),
    )
    atomic_write(out, page)


def _pictures(episode: Episode, view: str) -> Iterator[tuple[str, str]]:
    """(address, caption) of some pictures."""
    rows = np.unique(np.linspace(0, len(episode) - 1, PICTURES).round().astype(int)).tolist()
    for row, image in zip(rows, episode.views[view].read(rows)):
        picture, file = Image.fromarray(image), io.BytesIO()
        picture.thumbnail((WIDTH, WIDTH))
        picture.save(file, "JPEG", quality=85)
        yield data_url(file.getvalue(), ".jpg"), f"{row / episode.rate:.1f} s"


def _plot(item: Shown, which: str, contract: ActionContract) -> str:
    names = _names(getattr(contract, which))
    predicted = item.predicted if which == "action" else None
    values = getattr(item.episode, which)
    return data_url(plot_numbers(values, names, item.episode.rate, predicted), ".png")


def _names(dimensions: Sequence[Dimension]) -> list[str]:
    """With units."""
    return [
        d.name + ("" if d.unit == "none" else f" ({d.unit})" if d.scale == 1 else f" ({d.scale:.3g} {d.unit})")
        for d in dimensions
    ]


def show_in_rerun(
    episode: Episode, contract: ActionContract, predicted: Predictions | None, save: Path | None
) -> None:
    """Pictures, states and actions over time in the viewer, or as a recording (.rrd); predicted actions beside theirs.

    ModuleNotFoundError without Rerun (the extra `view`).
    """
    import rerun as rr

    rr.init("vipa", recording_id=episode.id, spawn=save is None)
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        rr.save(str(save))
    rr.send_blueprint(_blueprint(contract))
    rr.log("instruction", rr.TextDocument(episode.text), static=True)
    ahead: dict[int, np.ndarray] = {}
    if predicted is not None:
        ahead = {s + k: row for s, c in zip(predicted.starts, predicted.chunks) for k, row in enumerate(c)}
    for row in range(len(episode)):
        rr.set_time("episode", duration=row / episode.rate)
        for view in contract.views:
            rr.log(f"views/{view}", rr.Image(episode.views[view].read([row])[0]).compress())
        _log_numbers("state", contract.state, episode.state[row], "recorded")
        _log_numbers("action", contract.action, episode.action[row], "recorded")
        if row in ahead:
            _log_numbers("action", contract.action, ahead[row], "predicted")
    if save is not None:
        rr.disconnect()


def _log_numbers(what: str, dimensions: Sequence[Dimension], values: np.ndarray, kind: str) -> None:
    import rerun as rr

    for dimension, value in zip(dimensions, values):
        rr.log(f"{what}/{dimension.name}/{kind}", rr.Scalars(float(value)))


def _blueprint(contract: ActionContract) -> Any:
    import rerun.blueprint as rrb

    pictures = [rrb.Spatial2DView(origin=f"views/{view}", name=view) for view in contract.views]
    numbers = [
        rrb.TimeSeriesView(origin=f"{what}/{d.name}", name=f"{what} {d.name}")
        for what in ("action", "state")
        for d in getattr(contract, what)
    ]
    return rrb.Blueprint(rrb.Vertical(rrb.Horizontal(*pictures), rrb.Grid(*numbers), row_shares=[2, 3]))
