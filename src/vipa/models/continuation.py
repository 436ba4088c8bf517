"""Real-time chunking: a chunk that goes on from actions that are already being played.

By in-painting, with any model (Black, Galliker and Levine 2025, "Real-Time Execution of Action Chunking Flow
Policies"): every Euler step's velocity is pulled towards flows that end in the known actions, fully for those that will
have been played before the new chunk arrives, less and less for the later ones that it may still change.

Conditioned, with a model that was trained for it (Black et al. 2025, "Training-Time Action Conditioning for Efficient
Real-Time Chunking"; `FlowActionHead.loss`): the actions that will have been played are given without noise at their own
tau of 1, and the others flow as ever. No gradient is taken, so a chunk costs what a plain one does.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vipa.models.inputs import check_action_inputs, embodiment_ids

Way = Literal["in_painting", "conditioned"]

STRONGEST = 5.0
"""Largest weight of the pull; the paper's, found for few Euler steps."""


def overlap_weights(sent: int, known: int, horizon: int) -> Float[Tensor, "horizon"]:
    """How much each action of the new chunk is held to the old: 1 before `sent`, falling until `known`, then 0.

    ValueError unless 0 <= sent <= known <= horizon.
    """
    if not 0 <= sent <= known <= horizon:
        raise ValueError(f"expected 0 <= sent <= known <= horizon, got {sent}, {known}, {horizon}")
    weights = torch.zeros(horizon)
    for i in range(known):
        c = 1.0 if i < sent else (known - i) / (known - sent + 1)
        weights[i] = c * math.expm1(c) / math.expm1(1.0)
    return weights


def continue_flow(
    velocity: Callable[[Tensor, float], Tensor],
    noise: Float[Tensor, "b h a"],
    known: Float[Tensor, "b k a"],
    sent: int,
    steps: int,
) -> Float[Tensor, "b h a"]:
    """A chunk whose first `sent` actions are those of `known`, and whose others follow from them.

    velocity(chunk, tau): d(chunk)/d(tau), differentiable. known: actions that the old chunk has for the new one's
    first k steps. With none the flow is the plain one.
    """
    chunk, (_, count, width) = noise.float(), known.shape
    weights = overlap_weights(sent, count, chunk.shape[1]).to(chunk.device)[:, None]
    target = torch.zeros_like(chunk)
    target[:, :count, :width] = known
    held = weights * (torch.arange(chunk.shape[2], device=chunk.device) < width)
    for step in range(steps):
        tau = step / steps
        with torch.enable_grad():
            start = chunk.detach().requires_grad_(bool(count))
            flow = velocity(start, tau)
            end = start + (1 - tau) * flow
            error = ((target - end) * held).detach()
            (pull,) = torch.autograd.grad(end, start, error) if count else (torch.zeros_like(chunk),)
        # (1 - tau) / tau / r^2 with r^2 = (1 - tau)^2 / (tau^2 + (1 - tau)^2), infinite at tau 0
        strength = min(STRONGEST, (tau**2 + (1 - tau) ** 2) / max(tau * (1 - tau), 1e-9))
        chunk = (start + (flow + strength * pull) / steps).detach()
    chunk[:, :sent, :width] = known[:, :sent]
    return chunk


def conditioned_flow(
    velocity: Callable[[Tensor, Tensor], Tensor],
    noise: Float[Tensor, "b h a"],
    known: Float[Tensor, "b k a"],
    sent: int,
    steps: int,
) -> Float[Tensor, "b h a"]:
    """A chunk whose first `sent` actions are those of `known`; velocity(chunk, tau (b, h)) was trained with such."""
    chunk, given = noise.float().clone(), torch.arange(noise.shape[1], device=noise.device) < sent
    chunk[:, :sent, : known.shape[2]] = known[:, :sent]
    for step in range(steps):
        tau = torch.where(given, 1.0, step / steps).expand(chunk.shape[:2])
        chunk = chunk + velocity(chunk, tau) * ~given[:, None] / steps
    return chunk


def continue_actions(
    model: Any,
    *,
    way: Way | None = None,
    known: Float[Tensor, "b k a"],
    sent: int,
    state: Tensor,
    noise: Tensor,
    embodiment: str | list[str] | Tensor | None = None,
    steps: int = 4,
    **inputs: Any,
) -> Float[Tensor, "b h a"]:
    """`VipaForConditionalGeneration.generate_actions` that goes on from `known` (normalised).

    See `continue_flow` and `conditioned_flow`. way: left out, `conditioned` where the model was trained with so many
    `sent`, else `in_painting`. ValueError where `conditioned` is asked of a model that was not.
    """
    trained = model.config.action_config.max_delay
    if way is None:
        way = "conditioned" if 0 < sent <= trained else "in_painting"
    if way == "conditioned" and sent > min(trained, known.shape[1]):
        raise ValueError(
            f"conditioned on {sent} of {known.shape[1]} known actions: this model was trained with at most {trained} "
            "(vipa train stage3 --max-delay); use in_painting"
        )
    embodiment = embodiment_ids(model.config, embodiment, len(state), state.device)
    check_action_inputs(model.config, state, embodiment, None, None)
    head = model.action_head
    with torch.no_grad():
        outputs = model.model(
            **inputs, append_queries=True, output_hidden_states=model.reads_layers, use_cache=False
        )
        condition = head.prepare_condition(model.condition(outputs))
    dtype, width = head.positions.dtype, head.config.state_length
    padded = torch.nn.functional.pad(state, (0, width - state.shape[-1])).to(dtype)

    def velocity(chunk: Tensor, tau: float | Tensor) -> Tensor:
        times = tau if isinstance(tau, Tensor) else torch.full((len(chunk),), tau, device=chunk.device)
        return head.velocity(chunk.to(dtype), times, padded, condition, embodiment).float()

    own = head.channel_mask(embodiment)[:, None]
    if way == "in_painting":
        return continue_flow(velocity, noise, known, sent, steps) * own
    with torch.no_grad():
        return conditioned_flow(velocity, noise * own, known, sent, steps) * own
