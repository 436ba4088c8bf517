"""What a run would cost, without its weights: parameters, memory of a process, operations, time (`--dry-run`).

The model is made on the meta device from the start's config.json, frozen, adapted and held as the training does it.
One row of a typical sample passes it forward and backward: that counts the operations, and what is kept for the
gradient. Rough: allocators, buffers of communication and what a kernel needs for a moment come on top.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vipa.data.spec import DataSpec
from vipa.models import VipaForConditionalGeneration, preset_config
from vipa.models.configuration import VipaConfig
from vipa.models.packed_attention import PACKED_TURNS, TurnSlots
from vipa.training.parts import add_lora, cast, freeze_all_but, hold
from vipa.training.runs import TrainRun

UTILISATION = 0.4
"""Share of a device's rate that a training reaches: an assumption (what others report is 0.3 to 0.5)."""
RATES = {"A100, A800": 312e12, "H100, H200": 989e12, "RTX 4090": 165e12}
"""Operations a second of dense bfloat16 products, as their maker states them."""
SPATIAL_SIZE = {448: 432, 112: 112}  # pixels of the vision tower's input -> of the spatial encoder's
META: dict[str, Any] = {"device": "meta", "dtype": torch.bfloat16}


@dataclass(frozen=True)
class Sample:
    """A typical one: images, tokens of its words, and how many of these are answered."""

    images: int
    prompt: int
    answer: int


SAMPLES = {"hand3d_action": Sample(1, 48, 56), "episodes": Sample(1, 24, 0)}
TYPICAL = Sample(2, 48, 16)
"""Of `hand3d_visual` and all other kinds."""


@dataclass(frozen=True)
class Estimate:
    """parameters: of each part, all and those that learn. *_bytes: of one process. rows: of a micro-batch, each with
    one image prefix. operations: of one sample, forward and backward."""

    run: TrainRun
    world: int
    parameters: dict[str, tuple[int, int]]
    weight_bytes: int
    gradient_bytes: int
    optimiser_bytes: int
    working_bytes: int
    activation_bytes: int
    rows: int
    tokens: int
    operations: float

    @property
    def total_bytes(self) -> int:
        return (
            self.weight_bytes
            + self.gradient_bytes
            + self.optimiser_bytes
            + self.working_bytes
            + self.activation_bytes
        )

    @property
    def samples(self) -> int:
        """Of a step."""
        return sum(spec.batch for spec in self.run.data)

    def text(self) -> str:
        """For people."""
        lines = [f"{name}: {value}" for name, value in asdict(self.run).items()]
        lines += ["", f"{'part':<16}{'parameters':>16}{'trained':>16}"]
        lines += [f"{name:<16}{count:>16,}{own:>16,}" for name, (count, own) in self.parameters.items()]
        count, own = (sum(column) for column in zip(*self.parameters.values()))
        how = self.run.parallel if self.world > 1 else "one process"
        lines += [
            f"{'all':<16}{count:>16,}{own:>16,}",
            "",
            f"memory of each of {self.world} processes ({how}), GB of 1e9 bytes:",
            f"  {'weights':<34}{self.weight_bytes / 1e9:>8.2f}",
            f"  {'gradients':<34}{self.gradient_bytes / 1e9:>8.2f}",
            f"  {'AdamW (and average)':<34}{self.optimiser_bytes / 1e9:>8.2f}",
            f"  {'copies for bf16 and exchange':<34}{self.working_bytes / 1e9:>8.2f}",
            f"  {f'activations, {self.rows} rows of {self.tokens} tokens':<34}{self.activation_bytes / 1e9:>8.2f}",
            f"  {'all, roughly':<34}{self.total_bytes / 1e9:>8.2f}",
            "",
            f"operations: {self.operations / 1e12:.2f} T a sample, {self.samples} samples a step, {self.run.steps:,} "
            f"steps; at {UTILISATION:.0%} of a GPU's bf16 rate (an assumption), {self.world} of them:",
        ]
        for name, rate in RATES.items():
            speed = self.world * UTILISATION * rate / self.operations
            hours = self.run.steps * self.samples / speed / 3600
            lines.append(f"  {name:<12}{rate / 1e12:>5.0f} TFLOP/s{speed:>9.1f} samples/s{hours:>9.1f} hours")
        return "\n".join(lines)


def estimate(run: TrainRun, world: int | None = None) -> Estimate:
    """world: processes (None: WORLD_SIZE of the environment, else 1). ValueError where the start has no configuration,
    or a batch is smaller than its shares."""
    world = world or int(os.environ.get("WORLD_SIZE", 1))
    with torch.device("meta"):
        model = VipaForConditionalGeneration(config_of(run.start))
    freeze_all_but(model, run.trained)
    if run.lora.rank:
        add_lora(model, run.lora)
    hold(model, "bf16" if run.frozen == "start" else run.frozen, torch.device("meta"))
    parameters = {name: _counts(part) for name, part in model.parts().items()}
    shared = world if run.parallel == "fsdp" else 1
    learned = [p for p in model.parameters() if p.requires_grad]
    own = sum(share_of(p, shared) for p in learned)
    frozen = sum(p.nbytes for p in model.parameters() if not p.requires_grad)
    working = 2 * sum(p.numel() for p in learned if p.ndim > 1) if run.precision != "fp32" else 0
    if world > 1:  # buckets of DDP; of FSDP2 two layers' gathered weights and gradients
        largest = max(sum(p.nbytes for p in la.parameters()) for la in model.model.language_model.layers)
        trains = any(p.requires_grad for p in model.model.language_model.layers.parameters())
        working += 4 * own if shared == 1 else (4 * largest if trains else 0)
    cast(model, torch.bfloat16)
    total, kept, rows, tokens = 0.0, 0, 0, 0
    for spec in run.data:
        operations, of_row, length = _row(model.train(), spec, run.recompute)
        most = math.ceil(spec.batch / world / run.accumulate)
        rows = max(rows, math.ceil(most / spec.turns) if spec.kind != "episodes" else most)
        total += operations * spec.batch
        kept, tokens = max(kept, of_row * rows), max(tokens, length)
    return Estimate(
        run=run,
        world=world,
        parameters=parameters,
        weight_bytes=frozen + 4 * own,
        gradient_bytes=4 * own,
        optimiser_bytes=(8 + (4 if run.average else 0)) * own,
        working_bytes=working,
        activation_bytes=kept,
        rows=rows,
        tokens=tokens,
        operations=total / sum(spec.batch for spec in run.data),
    )


def config_of(start: str) -> VipaConfig:
    """The sizes of a start: a folder with config.json, NAME:STAGE of a preset, or a preset's name alone (`vipa-2b`),
    for which there need be no weights. ValueError for anything else."""
    path = Path(start) / "config.json"
    if path.is_file():
        return VipaConfig(**json.loads(path.read_text()))
    try:
        return preset_config(start.partition(":")[0])
    except ValueError as error:
        raise ValueError(f"start {start!r}: no config.json here, and {error}") from None


def share_of(parameter: nn.Parameter, world: int) -> int:
    """Numbers of a parameter that the fullest of `world` processes holds: single numbers are not shared out."""
    if parameter.ndim == 0:
        return 1
    return math.ceil(parameter.shape[0] / world) * math.prod(parameter.shape[1:])


def _counts(part: nn.Module) -> tuple[int, int]:
    own = list(part.parameters())
    return sum(p.numel() for p in own), sum(p.numel() for p in own if p.requires_grad)


def _row(model: Any, spec: DataSpec, recompute: bool) -> tuple[float, int, int]:
    """Of a row with its image prefix: operations per sample, bytes kept for the gradient, tokens."""
    sample = SAMPLES.get(spec.kind, TYPICAL)
    acts = spec.kind == "episodes"
    turns = 1 if acts else spec.turns
    kept = _Kept(model)
    with FlopCounterMode(display=False) as counter, kept:
        embeds = _embedded(model, sample, turns, acts)
        text = model.config.text_config
        kept.scores = (text.num_attention_heads, text.head_dim)
        before, flops = kept.bytes, counter.get_total_flops()
        hidden = _language(model, embeds, sample, turns, acts)
        language, again = kept.bytes - before, counter.get_total_flops() - flops
        kept.scores = None
        loss = _action_loss(model, hidden, spec) if acts else _text_loss(model, hidden, sample.answer * turns)
        kept_bytes = kept.bytes
        if loss.requires_grad:
            loss.backward()
    operations, layers = counter.get_total_flops(), model.config.text_config.num_hidden_layers
    if recompute:
        kept_bytes += layers * 4 * embeds.numel() + language // layers - language  # the inputs of each layer
        operations += again
    return operations / turns, kept_bytes, embeds.shape[1]


def _embedded(model: Any, sample: Sample, turns: int, acts: bool) -> Tensor:
    """(1, tokens, width): images through the encoders and the fusion, words, action queries."""
    inner, config = model.model, model.config
    height, width = config.vision_config.image_size
    reads = config.spatial_fusion_config.reads_spatial
    size: Any = SPATIAL_SIZE.get(height, height)
    with torch.no_grad():
        features = inner.encode_images(
            torch.empty(sample.images, 3, height, width, **META),
            torch.empty(sample.images, 3, size, size, **META) if reads else None,
            [1] * sample.images if acts else [sample.images],
        )
    pictures = inner.project(*features).flatten(0, 1)[None]
    words = inner.get_input_embeddings()(
        torch.zeros(1, turns * (sample.prompt + sample.answer), dtype=torch.long, device="meta")
    )
    queries = [inner.action_queries.weight[None]] if acts else []
    return torch.cat([pictures, words, *queries], dim=1)


def _language(model: Any, embeds: Tensor, sample: Sample, turns: int, acts: bool) -> Tensor:
    """Hidden states; turns attend as packed ones do."""
    length = embeds.shape[1]
    given: dict[str, Any] = {"attention_mask": torch.ones(1, 1, length, length, dtype=torch.bool, device="meta")}
    if not acts:
        model.set_attn_implementation({"text_config": PACKED_TURNS})
        words = sample.prompt + sample.answer
        segments = [0] * (length - turns * words) + [turn for turn in range(1, turns + 1) for _ in range(words)]
        slots, mask = TurnSlots.of(torch.tensor([segments]))
        given = {"attention_mask": mask.to("meta"), "turn_slots": slots.to(torch.device("meta"))}
    positions = torch.zeros(1, length, dtype=torch.long, device="meta")
    output = model.model.language_model(inputs_embeds=embeds, position_ids=positions, use_cache=False, **given)
    return output.last_hidden_state


def _text_loss(model: Any, hidden: Tensor, answered: int) -> Tensor:
    logits = model.lm_head(hidden[0, -answered:]).float()
    return F.cross_entropy(logits, torch.zeros(answered, dtype=torch.long, device="meta"), reduction="sum")


def _action_loss(model: Any, hidden: Tensor, spec: DataSpec) -> Tensor:
    action = model.config.action_config
    if action is None:
        raise ValueError("this model has no action head: start stage 3 from a model made with one (docs/model.md)")
    condition = hidden[:, -action.queries :]
    if model.reads_layers:
        condition = condition.expand(model.config.text_config.num_hidden_layers + 1, -1, -1, -1)
    shape = (action.horizon, action.action_length)
    return model.action_head.loss(
        condition,
        torch.empty(1, *shape, **META),
        torch.empty(1, action.state_length, **META),
        torch.zeros(1, dtype=torch.long, device="meta"),
        flow_noise=torch.empty(1, spec.noise_draws, *shape, device="meta"),
        flow_uniform=torch.empty(1, spec.noise_draws, device="meta"),
        sent=torch.zeros(1, spec.noise_draws, device="meta") if spec.max_delay else None,
    )


class _Kept(torch.autograd.graph.saved_tensors_hooks):
    """Counts bytes of what autograd saves, but for the weights, each storage once. scores: heads and their width while
    attention runs, whose scores the kernels of a GPU do not keep: they are left out."""

    def __init__(self, model: nn.Module):
        self._seen: dict[int, Any] = {}
        self._weights = {p.untyped_storage()._cdata for p in [*model.parameters(), *model.buffers()]}
        self.scores: tuple[int, int] | None = None
        self.bytes = 0
        unpack: Callable[[Tensor], Tensor] = lambda tensor: tensor  # noqa: E731
        super().__init__(self._pack, unpack)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._weights and storage._cdata not in self._seen:
            self._seen[storage._cdata] = storage  # alive, so that its place is not another's
            self.bytes += 0 if self._is_scores(tensor) else storage.nbytes()
        return tensor

    def _is_scores(self, tensor: Tensor) -> bool:
        """(rows, heads, queries, keys), and not (rows, heads, tokens, width) or that transposed."""
        if self.scores is None or tensor.ndim != 4:
            return False
        heads, width = self.scores
        return tensor.shape[1] == heads and width not in tensor.shape[2:]
