"""From a TrainRun to what the loop needs: model, processor, data with encoded images, and what travels along."""

import json
from typing import Any

import torch

from vipa.data.demonstrations import Demonstrations
from vipa.data.kinds import open_component
from vipa.data.mixture import Component, Mixture
from vipa.data.tokens import EncodedImages
from vipa.hands.conventions import Conventions
from vipa.models import ActionHeadConfig, VipaForConditionalGeneration, VipaProcessor
from vipa.models.packed_attention import PACKED_TURNS
from vipa.models.packing import Packer
from vipa.models.starts import load_start
from vipa.robots.contract import CONTRACT, ActionContract
from vipa.training.runs import TrainRun


def build(
    run: TrainRun,
) -> tuple[VipaForConditionalGeneration, VipaProcessor, Mixture, dict[str, Any]]:
    """Model on the run's device, processor, mixture, and the JSON files that are saved with the model."""
    torch.manual_seed(run.seed)
    device = _device(run.device)
    model, processor = load_start(run.start)
    torch.nn.Module.to(model, device=device, dtype=torch.float32)
    model.set_attn_implementation({"text_config": PACKED_TURNS})
    packer = Packer(processor)
    extras: dict[str, Any] = {}
    components: list[Component] = []
    for spec in run.data:
        component = open_component(spec, packer, model.lm_head.in_features)
        if isinstance(component, Demonstrations):
            contract = component.contract
            extras[CONTRACT] = json.loads(contract.to_json())
            _fit_action_head(model, contract)
        _learn_conventions(model, component, run.start)
        components.append(component)
    encoded = [EncodedImages.of(model, processor, c.groups(), c.read, views=c.views) for c in components]
    return model, processor, Mixture(list(zip(components, encoded)), run.seed, device), extras


def _device(name: str) -> torch.device:
    """ValueError for one that this machine does not have. auto: a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device {name!r} cannot be used here ({reason}); `vipa doctor` says what this machine has"
        ) from None


def _learn_conventions(model: VipaForConditionalGeneration, component: Component, start: str) -> None:
    """The model keeps what its data mean by motion tokens and direction words. ValueError where it learned another
    meaning before, or has no such tokens."""
    config, taught, data = model.config, component.conventions, f"the data {component.spec.path}"
    if taught.codec is not None and (config.motion_token_start is None or config.motion_bins != taught.codec.bins):
        have = f"{config.motion_bins} bins an axis" if config.motion_token_start is not None else "none"
        raise ValueError(
            f"motion tokens: {data} has {taught.codec.bins} bins an axis, the vocabulary of {start} has {have}: "
            "annotate with as many bins, or make the start with such a codec (docs/model.md)"
        )
    learned = Conventions.from_json(config.conventions, start)
    learned.require(taught, f"the start {start}", data)
    config.conventions = learned.filled(taught).to_json()


def _fit_action_head(model: VipaForConditionalGeneration, contract: ActionContract) -> None:
    """ValueError where the model's action head is of another shape than the contract."""
    action = model.config.action_config
    if not isinstance(action, ActionHeadConfig):
        raise ValueError("this model has no action head: start stage 3 from a model made with one (docs/model.md)")
    expected = [len(contract.state), len(contract.action)]
    have = (action.embodiments or {}).get(contract.robot)
    if have != expected or action.horizon != contract.horizon:
        raise ValueError(
            f"action head: the demonstrations are of {contract.robot!r} with state and action lengths {expected} "
            f"and horizon {contract.horizon}; the model has {action.embodiments} and horizon {action.horizon}"
        )
