"""Robot demonstrations, a LeRobot set or what a robot's file reads, as a component of a training mixture (stage 3)."""

from collections.abc import Iterable, Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vipa.clips.lerobot_frames import EncodedFrames
from vipa.data.component import Group, Items
from vipa.data.spec import DataSpec
from vipa.hands.conventions import Conventions
from vipa.models.fit import Embodiment
from vipa.models.packing import Packer
from vipa.robots.contract import ActionContract, Scheme
from vipa.robots.episodes import Episode, EpisodeSet
from vipa.robots.known import find
from vipa.robots.lerobot_data import open_robot_data
from vipa.robots.transforms import Normalise, Pipeline, compute_statistics, pipeline_of

OPENED = 8
"""Episodes of which what is read of their pictures' files stays at hand."""
AHEAD = 32
"""Pictures that are decoded at once where they are wanted in their order."""


class Demonstrations:
    """A row is one step of one episode: its views, its text, its state and the action chunk that follows.

    contract: of the folder, or of the robot that is named, normalised by the statistics of these episodes. embodiment:
    what the action head must have for it. still: numbers that hardly move (`Normaliser`). The loss is the mean squared
    error of the flow's velocity over the real actions of a step (section 3.3).
    """

    views = True
    conventions = Conventions()
    readout: nn.Module | None = None

    def __init__(self, spec: DataSpec, packer: Packer):
        opened = find(spec.robot).read(spec.path) if spec.robot else open_robot_data(spec.path)
        self.spec, self.packer = spec, packer
        self._episodes: dict[str, Episode] = {episode.id: episode for episode in opened}
        self._keys = list(self._episodes)
        self._ends = np.cumsum([len(episode) for episode in self._episodes.values()])
        self.normalise(normalised(opened, spec.normalisation, spec.statistics))
        if spec.max_delay >= (horizon := self.contract.horizon):
            raise ValueError(
                f"data {spec.path}: max_delay {spec.max_delay} leaves nothing to learn of a chunk of {horizon}"
            )
        self._open_views()

    def normalise(self, contract: ActionContract) -> None:
        """By this contract's statistics from now on: held-out episodes by those of what is learned from."""
        before = pipeline_of(contract)
        normalise = Normalise.of(contract, before)
        state, action = before.dimensions(contract)
        self.contract, self.still = contract, normalise.still
        self._pipeline = Pipeline((*before.transforms, normalise))
        self.embodiment = Embodiment(
            contract.robot, len(state), len(action), contract.horizon, self.spec.max_delay
        )

    def _open_views(self) -> None:
        # Copies: images that are read of a file are forgotten with them. Of a video only the frames' numbers stay.
        self._views = lru_cache(maxsize=OPENED)(
            lambda key: {
                name: copy(view) if isinstance(view, EncodedFrames) else view
                for name, view in self._episodes[key].views.items()
            }
        )
        self._runs: dict[tuple[str, str], tuple[int, np.ndarray]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_views", "_runs")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open_views()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(len(self))

    def _step(self, row: int) -> tuple[str, int]:
        """Episode and step."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        key = self._keys[number]
        return key, row - int(self._ends[number]) + len(self._episodes[key])

    def group(self, row: int) -> Group:
        key, t = self._step(row)
        return tuple(f"{key}/{t:05d}/{view}" for view in self.contract.views)

    def groups(self) -> Iterable[Group]:
        return map(self.group, range(len(self)))

    def _picture(self, key: str, view: str, t: int) -> np.ndarray:
        """One picture. Where an episode's are read one after another, the next ones are decoded with it: from a video
        each alone would be decoded from its key frame on."""
        first, run = self._runs.get((key, view), (t, None))
        if run is None or not first <= t < first + len(run):
            ahead = AHEAD if run is not None and t == first + len(run) else 1
            if run is None:  # another episode
                self._runs = {place: some for place, some in self._runs.items() if place[0] == key}
            pictures = self._views(key)[view]
            first, run = t, pictures.read(range(t, min(t + ahead, len(pictures))))
            self._runs[key, view] = first, run
        return run[t - first]

    def read(self, group: Group) -> list[np.ndarray]:
        places = [image.split("/", 2) for image in group]
        return [self._picture(key, view, int(t)) for key, t, view in places]

    def inputs(
        self, rows: Sequence[int], draws: Sequence[np.random.Generator]
    ) -> tuple[dict[str, Any], list[Group], int]:
        steps = [self._step(int(row)) for row in rows]
        prompts = self.packer.processor.prompts(
            [(len(self.contract.views), self._episodes[key].text) for key, _ in steps]
        )
        samples, masks = [], []
        for key, t in steps:
            episode = self._episodes[key]
            action, real = episode.chunk(t, self.contract.horizon)
            samples.append(self._pipeline.forward({"state": episode.state[t], "action": action}))
            masks.append(real)
        count, chunk = self.spec.noise_draws, (self.contract.horizon, self.embodiment.action)
        inputs = {
            **prompts,
            "actions": torch.from_numpy(np.stack([s["action"] for s in samples])).float(),
            "action_mask": torch.from_numpy(np.stack(masks)),
            "state": torch.from_numpy(np.stack([s["state"] for s in samples])).float(),
            "embodiment": self.contract.robot,
            "flow_noise": torch.from_numpy(np.stack([d.standard_normal((count, *chunk)) for d in draws])).float(),
            "flow_uniform": torch.from_numpy(np.stack([d.random(count) for d in draws])).float(),
        }
        if self.spec.max_delay:
            drawn = np.stack([d.integers(0, self.spec.max_delay, count, endpoint=True) for d in draws])
            inputs["sent"] = torch.from_numpy(drawn)
        return inputs, [self.group(int(row)) for row in rows], len(rows)

    def items(self, inputs: dict[str, Any]) -> Items:
        real = inputs["action_mask"][:, None].expand(-1, self.spec.noise_draws, -1)
        if "sent" in inputs:
            real = real & (torch.arange(real.shape[2]) >= inputs["sent"][..., None])
        return {"action": float(real.sum()) * self.embodiment.action}

    def loss(self, model: nn.Module, inputs: dict[str, Any], items: Items) -> Tensor:
        return model(**inputs, num_items_in_batch=items["action"]).loss


def normalised(
    episodes: EpisodeSet, scheme: Scheme = "quantiles", statistics: Path | None = None
) -> ActionContract:
    """The contract of these episodes, normalised by their own statistics, or as a policy's contract says."""
    if statistics is not None:
        learned = ActionContract.load(statistics)
        episodes.contract.check(learned)
        return episodes.contract.normalised(
            learned.normalisation, learned.action_statistics, learned.state_statistics
        )
    before = pipeline_of(episodes.contract)
    return episodes.contract.normalised(scheme, *compute_statistics(episodes.samples(), before))
