"""From a TrainRun to what the loop needs: model, processor, data with its images, and what travels along."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from vipa.data.component import Component
from vipa.data.demonstrations import Demonstrations
from vipa.data.images import EncodedImages, Images, Pixels
from vipa.data.kinds import open_component
from vipa.data.mixture import Mixture, Share
from vipa.hands.conventions import Conventions
from vipa.io.child_process import cores
from vipa.io.hashing import network_content
from vipa.models import FusionConfig, VipaForConditionalGeneration, VipaProcessor
from vipa.models.fit import Embodiment, fit_action_head
from vipa.models.packing import Packer
from vipa.models.starts import beside, load_start
from vipa.robots.contract import CONTRACT, ActionContract, Scheme, Statistics, contract_name, read_contracts
from vipa.training.masters import masters_of, take_masters
from vipa.training.parts import (
    add_lora,
    arithmetic,
    attend_by,
    cast,
    compile_regions,
    freeze_all_but,
    hold,
    merge_lora,
    recompute,
)
from vipa.training.processes import Processes
from vipa.training.record import data_hash
from vipa.training.runs import TrainRun

log = logging.getLogger(__name__)

TOKENS = "encoder_tokens"
"""Folder below a run's `out`."""


@dataclass(frozen=True)
class Built:
    """Model on the run's device, processor, mixtures, and the JSON files that are saved with the model. adapters: what
    `merge_lora` takes, or None. dtype: of the start's weights. precision: of the
    arithmetic."""

    model: VipaForConditionalGeneration
    processor: VipaProcessor
    mixture: Mixture
    validation: Mixture | None
    extras: dict[str, Any]
    adapters: Any
    dtype: torch.dtype
    precision: Literal["fp32", "bf16"]
    embodiments: tuple[Embodiment, ...] = ()


def build(run: TrainRun, team: Processes) -> Built:
    """ValueError where data and model do not fit."""
    model, processor = _start(run)
    dtype = model.dtype
    packer = Packer(processor)
    extras: dict[str, Any] = {}
    components: list[Component] = []
    for spec in (*run.data, *(run.validation if run.validate_every else ())):
        component = open_component(spec, packer, model.lm_head.in_features)
        _learn_conventions(model, component, run.start)
        components.append(component)
    demonstrations = [c for c in components[: len(run.data)] if isinstance(c, Demonstrations)]
    for component in demonstrations:
        if component.still:
            said = "%s: hardly any spread, so normalised by a shift only: %s"
            log.warning(said, component.spec.path, ", ".join(component.still))
    contracts = _contracts(demonstrations)
    _normalise_held_out(components[len(run.data) :], contracts)
    _share_readouts(components[: len(run.data)], components[len(run.data) :])
    _require_learned(run.start, contracts)
    embodiments = tuple(component.embodiment for component in demonstrations)
    if embodiments:
        for line in fit_action_head(model, embodiments, run.seed):
            log.warning("%s", line)
    for robot, contract in contracts.items():
        extras[contract_name(robot, list(contracts))] = json.loads(contract.to_json())
    adapters = _prepare(run, model, team.device)
    precision = arithmetic(run.precision, team.device, dtype)
    attend_by(model, run.attention, precision, team.device)
    if run.recompute:
        recompute(model)
    if run.compile:
        compile_regions(model)
    passes = [run.steps * c.spec.batch / len(c) if i < len(run.data) else 0 for i, c in enumerate(components)]
    fed = [(c, _images(run, model, processor, c, team, often)) for c, often in zip(components, passes)]
    learned, held_out = fed[: len(run.data)], fed[len(run.data) :]
    mixture = Mixture(learned, run.seed, Share(team.rank, team.world, run.accumulate))
    validation = Mixture(held_out, run.seed, Share(team.rank, team.world)) if held_out else None
    return Built(model, processor, mixture, validation, extras, adapters, dtype, precision, embodiments)


def _start(run: TrainRun) -> tuple[VipaForConditionalGeneration, VipaProcessor]:
    torch.manual_seed(run.seed)
    return load_start(run.start, dtype="auto")


def _prepare(run: TrainRun, model: VipaForConditionalGeneration, device: torch.device) -> Any:
    """What learns and what does not, each as the run holds it; returns the adapters."""
    dtype = model.dtype
    freeze_all_but(model, run.trained)
    adapters = add_lora(model, run.lora) if run.lora.rank else None
    hold(model, run.frozen, device)
    take_masters(model, run.start, dtype)
    return adapters


def finish(
    run: TrainRun, built: Built, learned: dict[str, torch.Tensor] | None
) -> tuple[VipaForConditionalGeneration, dict[str, torch.Tensor]]:
    """The model as it is saved: adapters merged, all of it in the start's precision, in which what was frozen is what
    it was, and which `dtype="auto"` reads back; and what that rounds (`masters_of`). learned: its parameters, where
    the model's own are shared out."""
    model, adapters = built.model, built.adapters
    if learned is not None:
        model, _ = _start(run)
        if built.embodiments:
            fit_action_head(model, built.embodiments, run.seed)
        adapters = _prepare(run, model, torch.device("cpu"))
        model.config.conventions = built.model.config.conventions
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in learned:
                    parameter.copy_(learned[name])
    if adapters is not None:
        merge_lora(model, adapters)
    masters = masters_of(model, built.dtype)
    cast(model, built.dtype)
    return model, masters


def _images(
    run: TrainRun,
    model: VipaForConditionalGeneration,
    processor: VipaProcessor,
    component: Component,
    team: Processes,
    passes: float,
) -> Images:
    """As the run wants them, which passes the data so often. Where they are encoded once, the first process does it;
    the encoders must be frozen."""
    fusion = model.config.spatial_fusion_config
    assert isinstance(fusion, FusionConfig)
    pixels = Pixels(component, processor, fusion.reads_spatial)
    learns = sorted({"vision", "spatial"} & set(run.trained))
    if run.images == "pixels" or (run.images == "auto" and (component.spec.augment or learns)):
        return pixels
    if component.spec.augment:
        raise ValueError("images: `tokens` are encoded once and cannot be augmented; take `pixels`, or augment 0")
    if learns:
        raise ValueError(f"images: `tokens` are of frozen encoders, this run trains {learns}; take `pixels`")
    cache, spec = run.cache or run.out / TOKENS, component.spec
    encoders = [tower for tower in (model.model.vision_tower, model.model.spatial_tower) if tower is not None]
    made_by = "-".join(network_content(tower)[:8] for tower in encoders)
    folder = cache / f"{spec.kind}-{spec.split}-{data_hash(spec)}-{made_by}-{model.config.encoder_precision}"
    if run.images == "auto" and passes <= 1 and not EncodedImages.there(folder):
        return pixels

    workers = cores() if team.device.type == "cuda" else run.workers  # all of them feed a GPU, nothing else runs

    def encoded() -> EncodedImages:
        return EncodedImages.of(
            folder, model, processor, component.groups(), component.read, views=component.views, workers=workers
        )

    if team.first:
        encoded()
    team.wait()
    return encoded()


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


def _contracts(components: Sequence[Demonstrations]) -> dict[str, ActionContract]:
    """Robot -> contract of these data sets. ValueError where two of one robot are normalised differently."""
    found: dict[str, ActionContract] = {}
    for component in components:
        contract = component.contract
        if found.setdefault(contract.robot, contract) != contract:
            raise ValueError(
                f"data {component.spec.path}: another contract or other statistics of {contract.robot!r} than the data "
                "set before it; put their episodes into one folder, or give them two names"
            )
    return found


def _normalise_held_out(components: Sequence[Component], contracts: dict[str, ActionContract]) -> None:
    """Demonstrations as those are that are learned from. ValueError where none is of their robot and meaning."""
    for component in components:
        if isinstance(component, Demonstrations):
            own, path = component.contract, component.spec.path
            if (learned := contracts.get(own.robot)) is None:
                raise ValueError(f"held out {path}: of {own.robot!r}, learned from are {', '.join(contracts)}")
            if lines := own.mismatches(learned):
                raise ValueError(
                    f"held out {path}: another contract than what is learned from: {'; '.join(lines)}"
                )
            component.normalise(learned)


def _share_readouts(learned: Sequence[Component], held_out: Sequence[Component]) -> None:
    """What is learned beside the model for a kind of data reads its held-out data too."""
    readouts = {component.spec.kind: component.readout for component in reversed(learned)}
    for component in held_out:
        component.readout = readouts.get(component.spec.kind, component.readout)


def _require_learned(start: str, contracts: dict[str, ActionContract]) -> None:
    """ValueError where a robot's numbers mean something else, or are normalised otherwise, than the start learned."""
    try:
        first = beside(start, CONTRACT)
    except ValueError:  # two parts that are to be joined
        return
    for robot, learned in (read_contracts(first) if first.exists() else {}).items():
        if (contract := contracts.get(robot)) is None:
            continue
        if lines := contract.mismatches(learned):
            raise ValueError(
                f"start {start}: it learned another contract of {robot!r} than the data's ({'; '.join(lines)}); give "
                "the data's robot another name"
            )
        if contract.normalised(*_statistics(learned)) != replace(learned, horizon=contract.horizon):
            raise ValueError(f"start {start}: it learned {robot!r} behind other transforms than the data's")
        if _statistics(contract) != _statistics(learned):
            raise ValueError(
                f"start {start}: it learned {robot!r} normalised by other statistics than the data's; take its own "
                f"(--data.N.statistics {first}), or give the data's robot another name"
            )


def _statistics(contract: ActionContract) -> tuple[Scheme, Statistics | None, Statistics | None]:
    return contract.normalisation, contract.action_statistics, contract.state_statistics
