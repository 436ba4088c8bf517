"""Full-size arithmetic without weights: parameters, trained per stage, operations and memory, on the meta device."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from vipa.models.configuration import VipaConfig
from vipa.models.modeling import VipaForConditionalGeneration


@dataclass(frozen=True)
class ViewCost:
    """One observation with so many views: forward only; multiply and add are two operations, attention in full."""

    views: int
    tokens: int  # of the language model, action queries included
    encoders_tflop: float
    language_tflop: float
    action_head_tflop: float  # all Euler steps
    cache_gb: float  # keys and values at 2 bytes

    @property
    def total_tflop(self) -> float:
        return self.encoders_tflop + self.language_tflop + self.action_head_tflop


@dataclass(frozen=True)
class ModelSummary:
    """What a configuration amounts to. Gigabytes are 1e9 bytes."""

    parameters: dict[str, int]  # per part
    trained: dict[str, int]  # per stage
    weights_gb: float  # bf16
    training_gb: dict[str, float]  # per stage: weights, gradients and AdamW; activations come on top
    costs: tuple[ViewCost, ...]

    @property
    def total(self) -> int:
        return sum(self.parameters.values())

    def text(self) -> str:
        """A table for people."""
        lines = [f"{'part':<18}{'parameters':>16}"]
        lines += [f"{name:<18}{count:>16,}" for name, count in self.parameters.items()]
        lines += [f"{'all':<18}{self.total:>16,}   {self.weights_gb:.2f} GB in bf16", ""]
        lines.append(f"{'stage':<18}{'trained':>16}   memory before activations")
        lines += [f"{s:<18}{n:>16,}   {self.training_gb[s]:.2f} GB" for s, n in self.trained.items()]
        lines += [
            "",
            f"{'views':<8}{'tokens':>8}{'encoders':>12}{'language':>12}{'head':>10}{'all GFLOP':>12}{'cache':>12}",
        ]
        for cost in self.costs:
            lines.append(
                f"{cost.views:<8}{cost.tokens:>8}{1e3 * cost.encoders_tflop:>12,.1f}{1e3 * cost.language_tflop:>12,.1f}"
                f"{1e3 * cost.action_head_tflop:>10,.1f}{1e3 * cost.total_tflop:>12,.1f}{1e3 * cost.cache_gb:>9.1f} MB"
            )
        return "\n".join(lines)


def summarise(
    config: VipaConfig,
    stages: dict[str, tuple[str, ...]],
    *,
    views: tuple[int, ...] = (1, 2, 3),
    text_tokens: int = 48,
    euler_steps: int = 4,
    spatial_size: int | None = None,
) -> ModelSummary:
    """Sizes and costs of a configuration; no weight is allocated and nothing is computed.

    stages: stage -> the parts that it trains. text_tokens: of the prompt besides images. spatial_size: pixels of
    the spatial encoder's input (None: its own).
    Memory in training: 2 bytes per weight, and per trained one 2 for its gradient and 12 for AdamW in fp32 (master
    copy and two moments).
    """
    with torch.device("meta"):
        model = VipaForConditionalGeneration(config).to(torch.bfloat16).eval().requires_grad_(False)
    parts = model.parts()
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    total = sum(parameters.values())
    trained = {
        stage: sum(parameters[name] for name in names if name in parameters) for stage, names in stages.items()
    }
    return ModelSummary(
        parameters=parameters,
        trained=trained,
        weights_gb=2 * total / 1e9,
        training_gb={stage: (2 * total + 14 * count) / 1e9 for stage, count in trained.items()},
        costs=_costs(model, views, text_tokens, euler_steps, spatial_size),
    )


@torch.no_grad()
def _costs(
    model: VipaForConditionalGeneration,
    views: tuple[int, ...],
    text_tokens: int,
    steps: int,
    spatial_size: int | None,
) -> tuple[ViewCost, ...]:
    """Each part is counted once, for one view or one Euler step; the language model for every number of views."""
    config, inner = model.config, model.model
    text, action, meta = config.text_config, config.action_config, {"device": "meta", "dtype": torch.bfloat16}
    size = spatial_size or (config.spatial_config.image_size if config.spatial_config else 0)
    reads = config.spatial_fusion_config.reads_spatial
    with FlopCounterMode(display=False) as encoders:
        inner.get_image_features(
            torch.empty(1, 3, *config.vision_config.image_size, **meta),
            torch.empty(1, 3, size, size, **meta) if reads else None,
        )
    step_flops = 0
    if action is not None:
        layers = (text.num_hidden_layers + 1,) if model.reads_layers else ()
        hidden = torch.empty(*layers, 1, action.queries, text.hidden_size, **meta)
        embodiment = torch.zeros(1, dtype=torch.long, device="meta")
        with FlopCounterMode(display=False) as head:
            model.action_head.sample(hidden, torch.empty(1, action.state_length, **meta), embodiment, steps=1)
        step_flops = head.get_total_flops()
    costs = []
    for count in views:
        length = count * config.image_seq_length + text_tokens + (action.queries if action is not None else 0)
        with FlopCounterMode(display=False) as language:
            inner(
                inputs_embeds=torch.empty(1, length, text.hidden_size, **meta),
                attention_mask=torch.empty(1, 1, length, length, device="meta", dtype=torch.bool),
                position_ids=torch.empty(1, length, device="meta", dtype=torch.long),
                use_cache=False,
            )
        cache = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * length * 2
        costs.append(
            ViewCost(
                views=count,
                tokens=length,
                encoders_tflop=count * encoders.get_total_flops() / 1e12,
                language_tflop=language.get_total_flops() / 1e12,
                action_head_tflop=steps * step_flops / 1e12,
                cache_gb=cache / 1e9,
            )
        )
    return tuple(costs)
