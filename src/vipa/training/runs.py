"""`TrainRun`: one training, complete; and what each stage of the paper trains (section 4).

What a stage trains is declared here and nowhere else; `tests/training` counts the parameters. The runs themselves are
in `known/`, one file each.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vipa.data.spec import DataSpec

Preset = Literal["nano", "vipa-1b", "vipa-2b"]
Precision = Literal["auto", "fp32", "bf16"]
Attention = Literal["sdpa", "flash_attention_2", "flex_attention", "eager"]


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters in the place of the language model's own linear layers (arXiv 2106.09685). They are merged into
    the weights when the training ends. rank: 0 is none. alpha: of the scale alpha / rank."""

    rank: int = 0
    alpha: int = 64


NO_LORA = Lora()


@dataclass(frozen=True)
class TrainRun:
    """One training, complete: saved beside what it produced.

    start: `nano:foundation`, `nano:stage1`, `nano:stage2`, or a folder with a model. trained: parts of the model
    (`VipaForConditionalGeneration.parts`); everything else is frozen. steps: optimiser steps. warmup: fraction of
    the steps. betas, eps: of AdamW; only matrices decay (`training.optimiser`). gradient_clip: largest norm of the
    gradient. precision: of the language model's and the heads' arithmetic; auto: `parts.arithmetic`. Weights learn in
    fp32, and the encoders' precision is the start's (`VipaConfig.encoder_precision`). frozen: how frozen parts are
    held; `start`: as the start stores them. lora: adapters instead of the language model's own weights. average: decay
    of a moving average of what learns, which becomes the model (0: none).

    How it is computed, which changes rounding at most: accumulate: micro-batches of a step in each process. images:
    `pixels` are encoded in every step, `tokens` once, below `cache` (None: below `out`, until the run ends); auto:
    `tokens` where the run passes the data more than once or the cache has them. workers: processes that load data
    ahead. recompute: activations, for less memory. attention: of the language model, by transformers' name; only `sdpa`
    takes packed turns one by one. parallel: of several processes, `ddp` or `fsdp`. threads: CPU threads (None: torch's
    own choice). compile: the language model's layers by torch.compile, which needs a C++ compiler and about a minute,
    and then nearly halves a step of nano on a CPU.

    save_every, keep: steps between saves of progress, and how many are kept. validation: data that is not learned
    from, never of a test split, looked at after every `validate_every` steps (0: never): losses of its first batches,
    and errors of the answers to `validate_answers` of its records. trackers: accelerate's, such as `tensorboard`.
    """

    name: str
    start: str
    out: Path
    data: tuple[DataSpec, ...]
    trained: tuple[str, ...]
    steps: int
    learning_rate: float
    weight_decay: float
    warmup: float
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    gradient_clip: float = 1.0
    precision: Precision = "auto"
    frozen: Literal["start", "fp32", "bf16"] = "start"
    lora: Lora = NO_LORA
    average: float = 0.0
    seed: int = 0
    accumulate: int = 1
    images: Literal["pixels", "tokens", "auto"] = "pixels"
    cache: Path | None = None
    workers: int = 0
    recompute: bool = False
    attention: Attention = "sdpa"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    save_every: int = 500
    keep: int = 2
    log_every: int = 10
    validation: tuple[DataSpec, ...] = ()
    validate_every: int = 0
    validate_answers: int = 64
    trackers: tuple[str, ...] = ()
    device: str = "auto"
    threads: int | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if not self.data or min(self.save_every, self.log_every, self.accumulate, self.keep) < 1:
            raise ValueError(
                f"run {self.name!r}: it needs data, and save_every, log_every, accumulate and keep of at least 1, got "
                f"{len(self.data)} components, {self.save_every}, {self.log_every}, {self.accumulate}, {self.keep}"
            )
        if any(spec.split == "test" for spec in self.validation):
            raise ValueError(f"run {self.name!r}: validation is of the split `validation`, never of `test`")
        if min(self.validate_every, self.validate_answers) < 0 or (self.validate_every and not self.validation):
            raise ValueError(
                f"run {self.name!r}: validate_every {self.validate_every} needs `validation`, data that is not learned "
                f"from, and validate_answers of at least 0, got {self.validate_answers}"
            )
        if not 0 <= self.average < 1 or self.workers < 0:
            raise ValueError(
                f"run {self.name!r}: average must be in 0..1 and workers at least 0, got {self.average}, {self.workers}"
            )
        if self.steps < 1 or not 0 <= self.warmup <= 1 or self.learning_rate <= 0:
            raise ValueError(
                f"run {self.name!r}: steps must be >= 1, warmup in 0..1 and learning_rate > 0, got "
                f"{self.steps}, {self.warmup}, {self.learning_rate}"
            )


STAGE1_PARTS = ("fusion",)
NANO_STAGE1_PARTS = ("fusion", "language")
"""Not the paper's: at nano's size the fusion alone improved directions but not distances (docs/results/nano.md)."""
STAGE2_PARTS = ("fusion", "language")
STAGE3_PARTS = ("language", "action_queries", "action_head")


def as_nano(run: TrainRun) -> TrainRun:
    """Each picture through the frozen encoders once: on two cores their passes would be a good part of a step."""
    return replace(run, images="auto")


def on_gpus(run: TrainRun, preset: Preset) -> TrainRun:
    """How the larger presets are computed. vipa-1b is for one GPU of 24 GB: eight samples at a time, activations
    recomputed (docs/training.md has the estimates)."""
    if preset == "vipa-1b":
        run = replace(run, accumulate=run.data[0].batch // 8, recompute=True)
    return run if preset == "nano" else replace(run, workers=4)


def start_of(preset: Preset, stage: str) -> str:
    """Where a preset's training starts when nothing is said: nano after a stage. ValueError for other presets."""
    if preset == "nano":
        return f"nano:{stage}"
    raise ValueError(
        f"preset {preset!r} needs --start: a folder made by `VipaForConditionalGeneration.from_parts` "
        f"(stage 1) or by the stage before (see docs/model.md). For --dry-run its sizes are enough: --start {preset}"
    )
