"""Robot demonstrations, our own episodes or a LeRobot set, as a component of a training mixture (stage 3)."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from vipa.data.mixture import ModelLoss
from vipa.data.spec import DataSpec
from vipa.data.tokens import Group
from vipa.models.packing import Packer
from vipa.robots.contract import ActionContract, Scheme
from vipa.robots.episodes import Episode, EpisodeSet
from vipa.robots.lerobot import open_robot_data
from vipa.robots.transforms import Normalise, compute_statistics


class Demonstrations(ModelLoss):
    """A row is one step of one episode: its views, its text, its state and the action chunk that follows.

    contract: of the folder, normalised by the statistics of these episodes.
    """

    views = True

    def __init__(self, spec: DataSpec, packer: Packer):
        opened = open_robot_data(spec.path)
        self.spec, self.packer = spec, packer
        self.contract = normalised(opened, spec.normalisation)
        self._episodes: dict[str, Episode] = {episode.id: episode for episode in opened}
        self._open = opened.open
        self._places = dict(zip(self._episodes, opened.paths, strict=True))
        self._rows = [(key, t) for key, episode in self._episodes.items() for t in range(len(episode))]
        self._normalise = Normalise.of(self.contract)
        self._images = lru_cache(maxsize=4)(self._read_views)

    def __len__(self) -> int:
        return len(self._rows)

    def group(self, key: str, t: int) -> Group:
        return tuple(f"{key}/{t:05d}/{view}" for view in self.contract.views)

    def groups(self) -> Iterable[Group]:
        return (self.group(*row) for row in self._rows)

    def _read_views(self, key: str) -> dict[str, np.ndarray]:
        episode = self._open(self._places[key])  # its images are forgotten with it
        return {view: episode.views[view].read(range(len(episode))) for view in self.contract.views}

    def read(self, group: Group) -> list[np.ndarray]:
        places = [image.split("/", 2) for image in group]
        return [self._images(key)[view][int(t)] for key, t, view in places]

    def inputs(self, rng: np.random.Generator, rows: np.ndarray) -> tuple[dict[str, Any], list[Group], int]:
        chosen = [self._rows[row] for row in rows]
        groups = [self.group(*row) for row in chosen]
        prompts = self.packer.prompts([(len(self.contract.views), self._episodes[key].text) for key, _ in chosen])
        samples, masks = [], []
        for key, t in chosen:
            episode = self._episodes[key]
            action, real = episode.chunk(t, self.contract.horizon)
            samples.append(self._normalise.forward({"state": episode.state[t], "action": action}))
            masks.append(real)
        inputs = {
            **prompts,
            "actions": torch.from_numpy(np.stack([s["action"] for s in samples])).float(),
            "action_mask": torch.from_numpy(np.stack(masks)),
            "state": torch.from_numpy(np.stack([s["state"] for s in samples])).float(),
            "embodiment": self.contract.robot,
            "noise_draws": self.spec.noise_draws,
            "generator": torch.Generator().manual_seed(int(rng.integers(2**62))),
        }
        return inputs, groups, len(rows)


def normalised(episodes: EpisodeSet, scheme: Scheme = "quantiles") -> ActionContract:
    """The contract of these episodes, normalised by their own statistics."""
    return episodes.contract.normalised(scheme, *compute_statistics(episodes.samples()))
