"""A VIPA model as a LeRobot policy."""

import logging
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from lerobot.configs import PreTrainedConfig
from lerobot.policies import PreTrainedPolicy
from torch import Tensor

from lerobot_policy_vipa.configuration_vipa import LeRobotVipaConfig
from lerobot_policy_vipa.contracts import contract_of
from vipa.models import VipaConfig, VipaForConditionalGeneration, VipaProcessor
from vipa.models.fit import Embodiment, fit_action_head
from vipa.models.loading import load_processor
from vipa.models.starts import beside, load_start
from vipa.robots.contract import CONTRACT, ActionContract
from vipa.robots.policy import Observation, VipaPolicy
from vipa.robots.transforms import Normalise, Pipeline, pipeline_of
from vipa.training.optimiser import weight_decay_groups
from vipa.training.parts import cast, freeze_all_but
from vipa.training.runs import STAGE3_PARTS

PARTS = "vipa"
"""Folder beside LeRobot's files: the model's configuration, processor and action contract, everything but weights."""


class LeRobotVipaPolicy(PreTrainedPolicy):
    """Takes and gives a robot's own numbers.

    Made anew, its model is the start's, fitted to the data set's robot. Loaded, it is as it was saved, with the
    contract that it was saved with, whatever data it is then trained on.
    """

    config_class = LeRobotVipaConfig
    name = "vipa"

    def __init__(self, config: LeRobotVipaConfig, dataset_meta: Any = None, **_: Any):
        super().__init__(config)
        config.validate_features()
        parts: Path | None = getattr(config, "_parts", None)
        if parts is not None:
            self.model = VipaForConditionalGeneration(VipaConfig.from_pretrained(parts))
            self.processor: VipaProcessor = load_processor(VipaProcessor, parts)
            self.contract = ActionContract.load(parts / CONTRACT)
        else:
            self.model, self.processor = load_start(config.start)
            if dataset_meta is not None:
                self.contract = contract_of(dataset_meta, config.robot, config.horizon)
                self._fit()
                if still := Normalise.of(self.contract).still:
                    logging.warning("hardly any spread, so normalised by a shift only: %s", ", ".join(still))
            else:
                self.contract = ActionContract.load(beside(config.start, CONTRACT))
        cast(self.model, torch.float32)
        before = pipeline_of(self.contract)
        self._pipeline = Pipeline((*before.transforms, Normalise.of(self.contract, before)))
        self._acting: VipaPolicy | None = None
        self._chunks = 0
        self._actions: deque[Tensor] = deque()
        self._keys = self._camera_keys()

    def _fit(self) -> None:
        state, action = pipeline_of(self.contract).dimensions(self.contract)
        embodiment = Embodiment(
            self.contract.robot, len(state), len(action), self.contract.horizon, self.config.max_delay
        )
        fit_action_head(self.model, (embodiment,), self.config.seed)

    def _camera_keys(self) -> dict[str, str]:
        """Of the contract's views. ValueError where the features have no such camera."""
        cameras, keys = list(self.config.image_features), {}
        for view in self.contract.views:
            known = [key for key in (view, f"observation.images.{view}", f"observation.{view}") if key in cameras]
            if not known and len(cameras) == len(self.contract.views) == 1:
                known = cameras
            if not known:
                raise ValueError(
                    f"policy vipa: its contract has the view {view!r}, the cameras are {', '.join(cameras)}; name them "
                    "alike with --rename_map"
                )
            keys[view] = known[0]
        return keys

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | None = None,
        revision: str | None = None,
        strict: bool = True,
        **kwargs: Any,
    ) -> "LeRobotVipaPolicy":
        folder = Path(pretrained_name_or_path)
        if not folder.is_dir():
            folder = Path(snapshot_download(str(pretrained_name_or_path), revision=revision))
        config = PreTrainedConfig.from_pretrained(folder) if config is None else config
        if not (folder / PARTS / CONTRACT).is_file():
            raise ValueError(
                f"{folder}: no {PARTS}/{CONTRACT}; convert a VIPA checkpoint with lerobot-vipa to-lerobot"
            )
        config._parts = folder / PARTS
        return super().from_pretrained(folder, config=config, strict=strict, **kwargs)

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        super()._save_pretrained(save_directory, state_dict=state_dict)
        parts = save_directory / PARTS
        self.model.config.save_pretrained(parts)
        self.processor.save_pretrained(parts)
        self.contract.save(parts / CONTRACT)

    def get_optim_params(self) -> list[dict[str, Any]]:
        freeze_all_but(self.model, self.config.trained or STAGE3_PARTS)
        return weight_decay_groups(self.model, self.config.optimizer_weight_decay)

    def train(self, mode: bool = True) -> "LeRobotVipaPolicy":
        """Weights may change from here on, so nothing that was computed of them is kept."""
        if mode:
            self._acting = None
        return super().train(mode)

    @property
    def acting(self) -> VipaPolicy:
        if self._acting is None:
            self._acting = VipaPolicy(
                self.model, self.processor, self.contract, steps=self.config.euler_steps, seed=self.config.seed
            )
        return self._acting

    def reset(self) -> None:
        """A new episode, which draws its noise from the beginning."""
        self._actions.clear()
        self._chunks = 0

    def forward(self, batch: dict[str, Any], reduction: str = "mean") -> tuple[Tensor, None]:
        """The flow-matching loss over the real actions of each sample."""
        if reduction != "mean":
            raise ValueError(f"policy vipa: reduction {reduction!r}; it has only the mean")
        device = batch["action"].device
        sample = self._pipeline.forward(
            {"state": _numbers(batch["observation.state"]), "action": _numbers(batch["action"])}
        )
        views = self._views(batch)
        prompts = self.processor.prompts([(len(views[0]), text) for text in batch["task"]])
        inputs = prompts | self.processor.pixels([image for seen in views for image in seen.values()])
        count, draws = len(views), self.config.noise_draws
        sent = torch.randint(0, self.config.max_delay + 1, (count, draws)) if self.config.max_delay else None
        output = self.model(
            **{name: value.to(device) for name, value in inputs.items()},
            clip_lengths=[1] * (count * len(views[0])),
            actions=torch.from_numpy(sample["action"]).float().to(device),
            action_mask=~batch["action_is_pad"],
            state=torch.from_numpy(sample["state"]).float().to(device),
            embodiment=self.contract.robot,
            noise_draws=draws,
            sent=None if sent is None else sent.to(device),
        )
        return output.loss, None

    def supports_rtc(self) -> bool:
        """`lerobot-rollout --inference.type=rtc`: see `predict_action_chunk`."""
        return True

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Any],
        inference_delay: int = 0,
        prev_chunk_left_over: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """(batch, horizon, a) in the robot's units.

        inference_delay: of what is left of the last chunk (k, a), how many actions will have been played when this one
        comes; they are kept. What follows them there may be LeRobot's padding, and is not looked at.
        """
        self.eval()
        texts, state = batch["task"], _numbers(batch["observation.state"])
        views = self._views(batch)
        seen = [
            Observation(images, numbers, text, (row, self._chunks))
            for row, (images, numbers, text) in enumerate(zip(views, state, texts, strict=True))
        ]
        self._chunks += 1
        sent = min(inference_delay, self.contract.horizon - 1)
        if sent and prev_chunk_left_over is not None:
            left = _numbers(prev_chunk_left_over)[:sent]
            chunk = self.acting.go_on(seen, np.repeat(left[None], len(seen), 0), len(left))
        else:
            chunk = self.acting(seen)
        return torch.from_numpy(chunk).float().to(batch["observation.state"].device)

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], **_: Any) -> Tensor:
        if not self._actions:
            chunk = self.predict_action_chunk(batch)[:, : self.config.n_action_steps]
            self._actions.extend(chunk.transpose(0, 1))
        return self._actions.popleft()

    def _views(self, batch: dict[str, Any]) -> list[dict[str, np.ndarray]]:
        """Of each sample, its pictures (h, w, 3) uint8, which LeRobot has as floats, channels first."""
        cameras = {
            view: (batch[key].detach().float() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            for view, key in self._keys.items()
        }
        return [dict(zip(cameras, pictures)) for pictures in zip(*cameras.values())]


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)
