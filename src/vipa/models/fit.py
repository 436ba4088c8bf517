"""An action head for a robot that a checkpoint does not know yet: a new row of weights, or a new head."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vipa.models.action_head import FlowActionHead, PerEmbodimentLinear
from vipa.models.configuration import ActionHeadConfig
from vipa.models.modeling import VipaForConditionalGeneration
from vipa.models.presets import find_preset, preset_names


@dataclass(frozen=True)
class Embodiment:
    """What a head must have for a robot. state, action: lengths of what the model reads and gives. max_delay: what its
    training will say of the head (`ActionHeadConfig`)."""

    robot: str
    state: int
    action: int
    horizon: int
    max_delay: int = 0


def fit_action_head(
    model: VipaForConditionalGeneration, robots: Sequence[Embodiment], seed: int = 0
) -> tuple[str, ...]:
    """Gives the model a head for these robots, in place; what was done, one line each, none where it had them.

    A head of their horizon keeps its shared weights and every row of weights whose lengths stay; the others are drawn
    from `seed`. Where rows must be longer than before, the old ones are padded with zeros, which changes no output.
    Another horizon, or no head yet, is a new head: of the old one's size, or of the preset's that the language model
    is of. ValueError where the robots differ in their horizon, or one is named twice with other lengths.
    """
    wanted: dict[str, list[int]] = {}
    for robot in robots:
        lengths = [robot.state, robot.action]
        if wanted.setdefault(robot.robot, lengths) != lengths:
            raise ValueError(
                f"action head: robot {robot.robot!r} has state and action lengths {wanted[robot.robot]} in one data "
                f"set and {lengths} in another; give them two names"
            )
    if len(horizons := {robot.horizon for robot in robots}) != 1:
        said = ", ".join(f"{robot.robot} {robot.horizon}" for robot in robots)
        raise ValueError(f"action head: one head has one horizon, got {said}: change `horizon` in a contract")
    horizon, old = horizons.pop(), model.config.action_config
    keeps = isinstance(old, ActionHeadConfig) and old.horizon == horizon
    before = dict(old.embodiments) if keeps else {}
    new = {name: lengths for name, lengths in wanted.items() if before.get(name) != lengths}
    max_delay = max(robot.max_delay for robot in robots)
    if keeps and not new:
        old.max_delay = max_delay
        return ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = old if isinstance(old, ActionHeadConfig) else _preset_head(model)
        config = _changed(size, horizon, before | wanted, max_delay)
        head = _new_head(model, config)
        if not isinstance(old, ActionHeadConfig):
            queries = nn.Embedding(config.queries, model.config.text_config.hidden_size)
            nn.init.normal_(queries.weight, std=model.config.text_config.initializer_range)
            model.model.action_queries = queries.to(model.lm_head.weight)
    if keeps:
        _take_over(head, model.action_head, before, set(new))
    model.action_head, model.config.action_config = head.train(model.training), config
    return tuple(_said(config, old, name, keeps, seed) for name in new)


def _said(config: ActionHeadConfig, old: ActionHeadConfig | None, name: str, keeps: bool, seed: int) -> str:
    state, action = config.embodiments[name]
    row = f"{name!r}: state {state}, action {action}, seed {seed}"
    if keeps:
        others = [other for other in old.embodiments if other != name]
        return f"action head: new row for {row}" + (f"; kept: {', '.join(others)}" if others else "")
    why = f"the old one's was {old.horizon}" if old is not None else "there was none"
    return f"action head: a new one of horizon {config.horizon} ({why}), with {row}"


def _preset_head(model: VipaForConditionalGeneration) -> ActionHeadConfig:
    """Of the preset whose language model this is; the usual sizes for one of no preset."""
    own = model.config.text_config
    for name in preset_names():
        known = find_preset(name).config()
        text = known.text_config
        if (text.hidden_size, text.num_hidden_layers) == (own.hidden_size, own.num_hidden_layers):
            assert isinstance(known.action_config, ActionHeadConfig)
            return known.action_config
    return ActionHeadConfig()


def _changed(
    config: ActionHeadConfig, horizon: int, embodiments: dict[str, list[int]], max_delay: int
) -> ActionHeadConfig:
    new = {"horizon": horizon, "embodiments": embodiments, "max_delay": max_delay}
    return ActionHeadConfig(**config.to_dict() | new)


def _new_head(model: VipaForConditionalGeneration, config: ActionHeadConfig) -> FlowActionHead:
    text, weight = model.config.text_config, model.lm_head.weight
    head = FlowActionHead(config, text.hidden_size, text.num_hidden_layers + 1)
    return head.apply(model._init_weights).to(weight)


@torch.no_grad()
def _take_over(head: FlowActionHead, old: FlowActionHead, before: dict[str, list[int]], drawn: set[str]) -> None:
    """Shared weights, and the rows of the robots that are not `drawn`."""
    places = {name: i for i, name in enumerate(head.config.embodiments)}
    kept = [(i, places[name]) for i, name in enumerate(before) if name not in drawn]
    mine, theirs = dict(head.named_modules()), dict(old.named_modules())
    rows = {name for name, module in mine.items() if isinstance(module, PerEmbodimentLinear)}
    for name, parameter in old.named_parameters():
        if name.rpartition(".")[0] not in rows:
            head.get_parameter(name).copy_(parameter)
    for name in rows:
        for i, place in kept:
            for part in ("weight", "bias"):
                to, source = getattr(mine[name], part)[place], getattr(theirs[name], part)[i]
                to.zero_()[tuple(slice(size) for size in source.shape)] = source
