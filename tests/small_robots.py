"""Small robots with random demonstrations, in the LeRobot layout."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from vipa.clips.video import ArrayFrames
from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.episodes import Episode
from vipa.robots.lerobot_export import EpisodeWriter


def small_contract(robot: str, state: int, action: int, **changes) -> ActionContract:
    def joints(count: int) -> tuple[Dimension, ...]:
        return tuple(Dimension(f"joint_{i}", "radian", "absolute") for i in range(count))

    contract = ActionContract(
        robot=robot,
        action=joints(action),
        state=joints(state),
        frame="joints",
        rotation="none",
        gripper="none",
        rate=10.0,
        horizon=8,
        views=("front",),
    )
    return replace(contract, **changes)


def write_demonstrations(
    root: Path, contract: ActionContract, episodes: int, rows: int = 6, still: int | None = None
) -> Path:
    """still: an action that never moves."""
    rng = np.random.default_rng(episodes)
    writer = EpisodeWriter(root, contract, "image")
    for index in range(episodes):
        state = rng.uniform(-1, 1, (rows, len(contract.state)))
        action = rng.uniform(-1, 1, (rows, len(contract.action)))
        if still is not None:
            action[:, still] = 0.7
        pictures = rng.integers(0, 256, (rows, 32, 32, 3)).astype(np.uint8)
        views = {view: ArrayFrames(pictures) for view in contract.views}
        writer.add(Episode(f"e{index}", views, state, action, f"move thing {index}", contract.rate))
    writer.finish()
    return root
