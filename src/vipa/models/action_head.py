"""The action head: a diffusion transformer that turns noise into an action chunk by flow matching (section 3.2.2).

Layout of the GR00T family: one attention per layer, even layers attend to the condition, odd ones within
[state, noisy actions]; the timestep modulates every norm; encoders of state and action, and the decoder, have
weights per embodiment.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from vipa.models.attention import attend
from vipa.models.configuration import ActionHeadConfig
from vipa.models.noise import draw


class PerEmbodimentLinear(nn.Module):
    """A linear layer with weights per embodiment."""

    def __init__(self, embodiments: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(embodiments, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(embodiments, outputs))
        self.initialise()

    def initialise(self) -> None:
        init.normal_(self.weight, std=self.weight.shape[1] ** -0.5)
        init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "b n i"], embodiment: Int[Tensor, "b"]) -> Float[Tensor, "b n o"]:
        if len(self.weight) == 1:
            return F.linear(x, self.weight[0].T, self.bias[0])
        return torch.baddbmm(self.bias[embodiment][:, None], x, self.weight[embodiment])


class TimestepEmbedding(nn.Module):
    """tau in [0, 1) -> bucket -> sinusoids -> two-layer MLP."""

    def __init__(self, config: ActionHeadConfig):
        super().__init__()
        self.buckets, self.channels = config.timestep_buckets, config.timestep_channels
        self.inner = nn.Linear(config.timestep_channels, config.width)
        self.outer = nn.Linear(config.width, config.width)

    def sinusoids(self, tau: Float[Tensor, "*b"]) -> Float[Tensor, "*b c"]:
        """Cosines, then sines of the bucket at geometric frequencies from 1 to 1 / 10000."""
        step = (tau * self.buckets).floor().clamp(0, self.buckets - 1)
        half = self.channels // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=tau.device) / half)
        angles = step[..., None].float() * frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1)

    def forward(self, tau: Float[Tensor, "*b"]) -> Float[Tensor, "*b w"]:
        return self.outer(F.silu(self.inner(self.sinusoids(tau).to(self.inner.weight.dtype))))


class DiffusionLayer(nn.Module):
    """Attention (to the condition, or to the sequence itself) and a feed-forward; AdaLN before the attention."""

    def __init__(self, config: ActionHeadConfig, condition_width: int | None):
        super().__init__()
        width = config.width
        self.heads, self.crosses = config.heads, condition_width is not None
        source = condition_width or width
        self.modulation = nn.Linear(width, 2 * width)
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(source, width)
        self.value = nn.Linear(source, width)
        self.output = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "b n w"],
        time: Float[Tensor, "b #n w"],
        condition: Float[Tensor, "b q c"],
        condition_mask: Bool[Tensor, "b q"] | None,
    ) -> Float[Tensor, "b n w"]:
        scale, shift = self.modulation(F.silu(time)).chunk(2, dim=-1)
        normed = self.norm_attention(x) * (1 + scale) + shift
        source = condition if self.crosses else normed
        query, key, value = (
            tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for tensor in (self.query(normed), self.key(source), self.value(source))
        )
        mask = condition_mask[:, None, None] if self.crosses and condition_mask is not None else None
        attended = attend(query, key, value, mask)
        x = x + self.dropout(self.output(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))


class FlowActionHead(nn.Module):
    """Velocity of a noisy action chunk given state, condition and tau; its training loss and its Euler sampler.

    Actions and states are normalised (robots/ owns the statistics). Shorter embodiments are padded with zeros to
    the longest one's length.
    """

    def __init__(self, config: ActionHeadConfig, condition_width: int, condition_layers: int):
        super().__init__()
        self.config = config
        width, count = config.width, len(config.embodiments)
        self.state_encoder = nn.ModuleList(
            [PerEmbodimentLinear(count, config.state_length, width), PerEmbodimentLinear(count, width, width)]
        )
        self.action_encoder = nn.ModuleList(
            [
                PerEmbodimentLinear(count, config.action_length, width),
                PerEmbodimentLinear(count, 2 * width, width),
                PerEmbodimentLinear(count, width, width),
            ]
        )
        self.action_decoder = nn.ModuleList(
            [PerEmbodimentLinear(count, width, width), PerEmbodimentLinear(count, width, config.action_length)]
        )
        self.positions = nn.Parameter(torch.empty(1 + config.horizon, width))
        self.time = TimestepEmbedding(config)
        self.norm_condition = nn.LayerNorm(condition_width)
        self.layers = nn.ModuleList(
            [DiffusionLayer(config, condition_width if i % 2 == 0 else None) for i in range(config.layers)]
        )
        crossing = (config.layers + 1) // 2
        per_layer = config.connection == "per_layer"
        self.connection = nn.Parameter(torch.empty(crossing, condition_layers)) if per_layer else None
        self.final_modulation = nn.Linear(width, 2 * width)
        self.final_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.register_buffer("action_lengths", torch.zeros(count, dtype=torch.long), persistent=False)
        self.initialise()

    def initialise(self) -> None:
        """Small random positions; the timestep's modulations start at zero, so that every norm starts plain."""
        init.normal_(self.positions, std=0.02)
        init.copy_(self.action_lengths, torch.tensor([action for _, action in self.config.embodiments.values()]))
        if self.connection is not None:
            # Soft mixtures: each cross-attending layer leans to the language layer at its own relative depth.
            rows, columns = self.connection.shape
            depth = torch.linspace(0, 1, rows)[:, None] - torch.linspace(0, 1, columns)[None]
            init.copy_(self.connection, -(depth.abs()) * 4)
        for layer in (*self.layers, self):
            modulation = layer.final_modulation if layer is self else layer.modulation
            init.zeros_(modulation.weight)
            init.zeros_(modulation.bias)

    def velocity(
        self,
        noisy: Float[Tensor, "b h a"],
        tau: Float[Tensor, "b"] | Float[Tensor, "b h"],
        state: Float[Tensor, "b s"],
        condition: list[Tensor],
        embodiment: Int[Tensor, "b"],
        condition_mask: Bool[Tensor, "b q"] | None = None,
    ) -> Float[Tensor, "b h a"]:
        """d(chunk)/d(tau) at tau; `condition` is what `prepare_condition` returned.

        tau: of the chunk, or of each of its actions (1: given without noise); the state goes with the last one.
        """
        time = self.time(tau if tau.ndim == 2 else tau[:, None])
        first, second = self.state_encoder
        state_token = second(F.silu(first(state[:, None], embodiment)), embodiment)
        first, second, third = self.action_encoder
        encoded = first(noisy, embodiment)
        encoded = second(torch.cat([encoded, time.expand_as(encoded)], dim=-1), embodiment)
        action_tokens = third(F.silu(encoded), embodiment)
        x = torch.cat([state_token, action_tokens], dim=1) + self.positions
        times = torch.cat([time[:, -1:], time], dim=1) if tau.ndim == 2 else time
        for i, layer in enumerate(self.layers):
            x = layer(x, times, condition[min(i // 2, len(condition) - 1)], condition_mask)
        shift, scale = self.final_modulation(F.silu(time)).chunk(2, dim=-1)
        x = self.final_norm(x[:, 1:]) * (1 + scale) + shift
        first, second = self.action_decoder
        return second(F.silu(first(x, embodiment)), embodiment)

    def prepare_condition(self, hidden: Tensor) -> list[Float[Tensor, "b q c"]]:
        """Condition of each cross-attending layer (one shared tensor with the `last` connection).

        hidden: (b, queries, c) with `last`, (language layers + 1, b, queries, c) with `per_layer`.
        """
        if self.connection is None:
            return [self.norm_condition(hidden)]
        normed = self.norm_condition(hidden)
        return list(torch.einsum("il,lbqc->ibqc", self.connection.softmax(-1), normed))

    def loss(
        self,
        hidden: Tensor,
        actions: Float[Tensor, "b h a"],
        state: Float[Tensor, "b s"],
        embodiment: Int[Tensor, "b"],
        action_mask: Bool[Tensor, "b h"] | None = None,
        noise_draws: int = 1,
        generator: torch.Generator | None = None,
        condition_mask: Bool[Tensor, "b q"] | None = None,
        flow_noise: Float[Tensor, "b n h a"] | None = None,
        flow_uniform: Float[Tensor, "b n"] | None = None,
        sent: Int[Tensor, "b n"] | None = None,
        items: float | None = None,
    ) -> Float[Tensor, ""]:
        """Mean squared error of the velocity `actions - noise` over real steps and the embodiment's own numbers.

        noise_draws: (noise, tau) pairs per sample, sharing one condition. a~ = (1 - tau) eps + tau a. flow_noise,
        flow_uniform: these draws, made before (normal, uniform in [0, 1)). sent: of each draw, how many first actions
        are given without noise, at their own tau of 1, and not learned: those already sent when the chunk comes
        (training-time real-time chunking; `continuation.py`). items: divide the sum by this instead of by how many
        numbers there are.
        """
        noise_draws = noise_draws if flow_noise is None else flow_noise.shape[1]
        actions, state = (
            self._padded(actions, self.config.action_length),
            self._padded(state, self.config.state_length),
        )
        weight = self.channel_mask(embodiment)[:, None].expand_as(actions)
        if action_mask is not None:
            weight = weight & action_mask[..., None].bool()
        condition = [c.repeat_interleave(noise_draws, 0) for c in self.prepare_condition(hidden)]
        actions, state, weight, embodiment = (
            x.repeat_interleave(noise_draws, 0) for x in (actions, state, weight, embodiment)
        )
        if condition_mask is not None:
            condition_mask = condition_mask.repeat_interleave(noise_draws, 0)
        if flow_noise is None or flow_uniform is None:
            noise = draw(torch.randn, *actions.shape, device=actions.device, generator=generator)
            tau = self.tau_of(draw(torch.rand, len(actions), device=actions.device, generator=generator))
        else:
            noise = self._padded(flow_noise.flatten(0, 1), self.config.action_length)
            tau = self.tau_of(flow_uniform.flatten())
        noise = noise * self.channel_mask(embodiment)[:, None]
        if sent is not None:
            given = torch.arange(actions.shape[1], device=actions.device) < sent.flatten()[:, None]
            tau, weight = torch.where(given, 1.0, tau[:, None]), weight & ~given[..., None]
        at = tau[..., None] if tau.ndim == 2 else tau[:, None, None]
        noisy = (1 - at) * noise + at * actions
        dtype = self.positions.dtype
        velocity = self.velocity(noisy.to(dtype), tau, state.to(dtype), condition, embodiment, condition_mask)
        error = (velocity.float() - (actions.float() - noise)).square()
        return (error * weight).sum() / (weight.sum().clamp_min(1) if items is None else items)

    @torch.no_grad()
    def sample(
        self,
        hidden: Tensor,
        state: Float[Tensor, "b s"],
        embodiment: Int[Tensor, "b"],
        steps: int = 4,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "b h a"] | None = None,
        condition_mask: Bool[Tensor, "b q"] | None = None,
    ) -> Float[Tensor, "b h a"]:
        """Action chunk by `steps` Euler steps from noise (tau 0) to tau 1; float32, padded numbers are zero."""
        shape = (len(state), self.config.horizon, self.config.action_length)
        if noise is None:
            noise = draw(torch.randn, *shape, device=state.device, generator=generator)
        dtype = self.positions.dtype
        chunk = noise.float() * self.channel_mask(embodiment)[:, None]
        condition = self.prepare_condition(hidden)
        state = self._padded(state, self.config.state_length).to(dtype)
        for step in range(steps):
            tau = torch.full((len(state),), step / steps, device=state.device)
            chunk = (
                chunk + self.velocity(chunk.to(dtype), tau, state, condition, embodiment, condition_mask) / steps
            )
        return chunk * self.channel_mask(embodiment)[:, None]

    def tau_of(self, uniform: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Times of training, in [0, 1), of uniform draws."""
        if self.config.tau == "uniform":
            return uniform
        # Beta(1.5, 1) has the distribution function x^1.5, so its inverse maps uniform draws to it.
        return ((0.999 - uniform ** (1 / 1.5)) / 0.999).clamp_min(0)

    def channel_mask(self, embodiment: Int[Tensor, "b"]) -> Bool[Tensor, "b a"]:
        """Which numbers of a padded action are the embodiment's own."""
        return (
            torch.arange(self.config.action_length, device=embodiment.device)
            < self.action_lengths[embodiment, None]
        )

    @staticmethod
    def _padded(x: Tensor, length: int) -> Tensor:
        return F.pad(x, (0, length - x.shape[-1])) if x.shape[-1] < length else x
