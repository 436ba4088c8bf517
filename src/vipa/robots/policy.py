"""A VIPA model as a policy; what a policy is, and how its chunks are played: `playing`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vipa.io.hashing import digest
from vipa.models import ActionHeadConfig, ActionRunner, VipaForConditionalGeneration, VipaProcessor
from vipa.models.continuation import Way, continue_actions
from vipa.models.inference import Compile
from vipa.models.loading import fingerprint
from vipa.robots.checkpoint import open_checkpoint
from vipa.robots.contract import ActionContract
from vipa.robots.playing import BlankImages, ChunkExecutor, EnsembleExecutor, Observation, Policy, checked_chunks
from vipa.robots.transforms import Normalise, Pipeline, pipeline_of
from vipa.robots.views import MissingViews, complete, mask_absent

__all__ = [  # what is played, too: a policy's user finds all of it here
    "BlankImages",
    "ChunkExecutor",
    "EnsembleExecutor",
    "Observation",
    "Policy",
    "VipaPolicy",
    "checked_chunks",
]

RUNNERS = 16
"""Prompts whose runners a policy keeps."""
LEAST_KEPT = 16
"""Tokens before the images from which on keeping their keys and values pays."""


@dataclass
class VipaPolicy:
    """A loaded VIPA model as a policy.

    contract: with normalisation and statistics, as the checkpoint has it; its robot is the model's embodiment.
    before: transforms ahead of the normaliser, as in training; None: the contract's own. steps: Euler steps. seed: of
    the flow's noise. missing_views: an observation without one of several views is refused, or that view masked.
    compile: see `ActionRunner`; the runners of the last prompts are kept. Its identity is that of the weights when
    the policy was made, and they must not change after. ValueError where the contract has no statistics, or has them
    behind other transforms.
    """

    model: VipaForConditionalGeneration
    processor: VipaProcessor
    contract: ActionContract
    before: Pipeline | None = None
    steps: int = 4
    seed: int = 0
    missing_views: MissingViews = "refuse"
    compile: Compile = "none"
    identity: dict[str, Any] = field(init=False)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | None = None,
        revision: str | None = None,
        check: bool = True,
        robot: str | None = None,
        **options: Any,
    ) -> "VipaPolicy":
        """The policy of a model after stage 3: a folder, a name on the hub, or nano:stage3; see `open_checkpoint`.

        robot: whose policy, of a model that was trained on several. options: `before`, `steps`, `seed` and
        `missing_views` of this class. ValueError where there is no policy, or where the model no longer computes what
        it computed when it was saved.
        """
        loaded = open_checkpoint(source, device=device, revision=revision, check=check, robot=robot)
        return cls(loaded.model, loaded.processor, loaded.contract, **options)

    def __post_init__(self) -> None:
        before = pipeline_of(self.contract) if self.before is None else self.before
        self._pipeline = Pipeline((*before.transforms, Normalise.of(self.contract, before)))
        self._width = len(before.dimensions(self.contract)[1])
        self.identity = {
            "weights": fingerprint(self.model),
            "contract": digest(self.contract.to_json()),
            "transforms": self._pipeline.hash,
            "euler_steps": self.steps,
            "seed": self.seed,
        }
        self._runner = lru_cache(maxsize=RUNNERS)(self._new_runner)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which makes its own runners."""
        return {name: value for name, value in vars(self).items() if name != "_runner"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._runner = lru_cache(maxsize=RUNNERS)(self._new_runner)

    def inputs(self, observations: Sequence[Observation]) -> tuple[dict[str, torch.Tensor], bool]:
        """The model's text and images, one user turn a row with the contract's views before the instruction; and
        whether every view is there."""
        views = self.contract.views
        pictures = [complete(o.images, views, self.missing_views) for o in observations]
        prompts = self.processor.prompts([(len(views), o.text) for o in observations])
        present = [real for _, real in pictures]
        if not (whole := all(map(all, present))):
            prompts = mask_absent(prompts, present, self.model.config.image_token_id)
        inputs = prompts | self.processor.pixels([image for images, _ in pictures for image in images])
        return {name: value.to(self.model.device) for name, value in inputs.items()}, whole

    def infer(
        self,
        observation: Observation,
        *,
        playing: Float[np.ndarray, "k a"] | None = None,
        sent: int = 0,
        way: Way | None = None,
    ) -> Float[np.ndarray, "horizon a"]:
        """One robot's chunk, in its own units. playing, sent, way: as of `go_on`."""
        if playing is None:
            return self([observation])[0]
        return self.go_on([observation], np.asarray(playing)[None], sent, way)[0]

    def go_on(
        self,
        observations: Sequence[Observation],
        playing: Float[np.ndarray, "batch k a"],
        sent: int,
        way: Way | None = None,
    ) -> Float[np.ndarray, "batch horizon a"]:
        """Chunks by real-time chunking (`models/continuation.py`), in the contract's units.

        playing: what the chunks that are being played have for the new ones' first k steps; the first `sent` of them
        will have been played when these come, and are kept. way: left out, `conditioned` where the model was trained
        with so many, and otherwise `in_painting`. ValueError where they do not fit.
        """
        playing, device = np.asarray(playing, dtype=np.float64), self.model.device
        expected = (len(observations), len(self.contract.action))
        if playing.ndim != 3 or playing.shape[::2] != expected or not np.isfinite(playing).all():
            raise ValueError(f"playing: shape {playing.shape[1:]}; expected finite actions (k, {expected[1]})")
        sample = self._pipeline.forward({"state": np.stack([o.state for o in observations]), "action": playing})
        inputs, _ = self.inputs(observations)
        chunk = continue_actions(
            self.model,
            way=way,
            known=torch.from_numpy(sample["action"]).float().to(device),
            sent=sent,
            state=torch.from_numpy(sample["state"]).float().to(device),
            embodiment=self.contract.robot,
            steps=self.steps,
            noise=self._noise(observations),
            clip_lengths=[1] * len(inputs["pixel_values"]),
            **inputs,
        )
        return self._own_units(chunk, sample)

    def warm_up(self, batches: Sequence[int] = (1,), size: int = 224) -> None:
        """Runs batches of grey pictures, so that no robot waits for what only the first call does."""
        images = {view: np.full((size, size, 3), 127, np.uint8) for view in self.contract.views}
        statistics = self.contract.state_statistics
        state = np.zeros(len(self.contract.state)) if statistics is None else np.array(statistics.mean)
        for batch in sorted(set(batches)):
            self([Observation(images, state, "wait")] * batch)

    def __call__(self, observations: Sequence[Observation]) -> Float[np.ndarray, "batch horizon a"]:
        sample = self._pipeline.forward({"state": np.stack([o.state for o in observations])})
        state, noise = torch.from_numpy(sample["state"]).float().to(self.model.device), self._noise(observations)
        inputs, whole = self.inputs(observations)
        if whole:
            chunk = self._runner(tuple(o.text for o in observations), self.model.device)(
                state=state,
                noise=noise,
                pixel_values=inputs["pixel_values"],
                spatial_pixel_values=inputs["spatial_pixel_values"],
            )
        else:
            chunk = self.model.generate_actions(
                state=state,
                embodiment=self.contract.robot,
                steps=self.steps,
                noise=noise,
                **{"clip_lengths": [1] * len(inputs["pixel_values"]), **inputs},
            )
        return self._own_units(chunk, sample)

    def _own_units(
        self, chunk: torch.Tensor, sample: dict[str, np.ndarray]
    ) -> Float[np.ndarray, "batch horizon a"]:
        """Of a normalised chunk; sample: what the transforms made of the observation."""
        action = chunk[..., : self._width].float().cpu().numpy()
        return self._pipeline.inverse({**sample, "action": action})["action"]

    def _noise(self, observations: Sequence[Observation]) -> torch.Tensor:
        """The flow's start, of each observation by its key: the same whatever other robots the head knows."""
        head = self.model.config.action_config
        assert isinstance(head, ActionHeadConfig)
        shape = (self.contract.horizon, self._width)
        rows = [np.random.default_rng([self.seed, *o.key]).standard_normal(shape) for o in observations]
        noise = torch.from_numpy(np.stack(rows)).float().to(self.model.device)
        return torch.nn.functional.pad(noise, (0, head.action_length - self._width))

    def _new_runner(self, texts: tuple[str, ...], device: torch.device) -> ActionRunner:
        """For these instructions, with every view."""
        prompts = self.processor.prompts([(len(self.contract.views), text) for text in texts])
        return ActionRunner(
            self.model,
            **{name: value.to(device) for name, value in prompts.items()},
            embodiment=self.contract.robot,
            steps=self.steps,
            compile=self.compile,
            keeps=LEAST_KEPT,
        )
