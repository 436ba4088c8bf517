"""The action contract of a LeRobot data set: whose file reads it, what it says itself, or plain numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vipa.data.demonstrations import normalised
from vipa.robots.contract import ActionContract, Dimension, Statistics
from vipa.robots.known import find
from vipa.robots.lerobot_data import ACTION, CONTRACT_FILE, STATE, open_robot_data
from vipa.robots.transforms import Pipeline

STATISTICS = ("mean", "std", "min", "max", "q01", "q99")


def contract_of(meta: Any, robot: str | None, horizon: int) -> ActionContract:
    """With its normalisation. meta: a LeRobotDatasetMetadata. ValueError where the set does not say enough."""
    root = Path(meta.root)
    if robot is None and not (root / CONTRACT_FILE).is_file():
        return _plain(meta, horizon)
    episodes = find(robot).read(root) if robot else open_robot_data(root)
    return normalised(replace(episodes, contract=replace(episodes.contract, horizon=horizon)))


def _plain(meta: Any, horizon: int) -> ActionContract:
    """Numbers whose meaning nobody said, as they are in the set, normalised by its own statistics."""
    contract = ActionContract(
        robot=meta.robot_type or meta.repo_id,
        action=_dimensions(meta.features[ACTION]),
        state=_dimensions(meta.features[STATE]),
        frame=f"as recorded in {meta.repo_id}",
        rotation="none",
        gripper="none",
        rate=float(meta.fps),
        horizon=horizon,
        views=tuple(key.removeprefix("observation.images.") for key in meta.camera_keys),
    )
    return contract.normalised("quantiles", _statistics(meta.stats, ACTION), _statistics(meta.stats, STATE))


def _dimensions(feature: dict[str, Any]) -> tuple[Dimension, ...]:
    names = feature.get("names")
    if isinstance(names, dict):  # {"axes": [...]}, as some sets have it
        names = [name for group in names.values() for name in group]
    width = feature["shape"][0]
    given = names if names and len(names) == width else [str(i) for i in range(width)]
    return tuple(Dimension(name, "none", "absolute") for name in given)


def _statistics(stats: dict[str, Any], column: str) -> Statistics:
    own = stats.get(column, {})
    if missing := [name for name in (*STATISTICS, "count") if name not in own]:
        raise ValueError(
            f"meta/stats.json: {column} has no {', '.join(missing)}; write a contract.json beside meta/, or a "
            "robot's file (docs/your-robot.md)"
        )
    rows = [tuple(np.asarray(own[name], dtype=np.float64).ravel().tolist()) for name in STATISTICS]
    return Statistics(*rows, count=int(np.asarray(own["count"]).ravel()[0]), pipeline=Pipeline().hash)
