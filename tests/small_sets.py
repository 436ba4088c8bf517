"""Small sets of robot episodes with two cameras, written by us, and pictures whose grey says which frame they are."""

from pathlib import Path

import numpy as np

from vipa.clips.video import ArrayFrames
from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.episodes import Episode
from vipa.robots.lerobot_export import EpisodeWriter, Pictures

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
ROWS, FPS = 24, 10


def contract(views: tuple[str, ...] = ("front", "wrist")) -> ActionContract:
    dimensions = tuple(Dimension(name, "metre", "absolute") for name in "xyz")
    return ActionContract("toy", dimensions, dimensions[:2], "base", "none", "none", float(FPS), 4, views)


def demonstration(seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    n = 6 + seed
    views = {v: ArrayFrames(rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)) for v in ("front", "wrist")}
    state, action = (rng.normal(size=(n, k)).astype(np.float32) for k in (2, 3))
    return Episode(
        f"push_{seed}", views, state, action, f"push {seed % 2}", FPS, True, "push", seed, {"noise": 0.5}
    )


def recorded(root: Path, pictures: Pictures) -> Path:
    """Three episodes."""
    writer = EpisodeWriter(root, contract(), pictures)
    for seed in range(3):
        writer.add(demonstration(seed))
    writer.finish()
    return root


def grey(count: int) -> np.ndarray:
    return np.broadcast_to((20 + 8 * np.arange(count, dtype=np.uint8))[:, None, None, None], (count, 64, 64, 3))


def levels(frames) -> list[int]:
    return [round((float(image.mean()) - 20) / 8) for image in frames.read(range(len(frames)))]
