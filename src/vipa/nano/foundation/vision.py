"""Dense pretraining of nano's image encoder: what each patch shows, its colour, and its box in the image."""

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import InternVLVisionConfig, InternVLVisionModel

from vipa.io.files import atomic_write
from vipa.io.json_log import JsonLog
from vipa.io.progress import training_progress
from vipa.models.pixels import semantic_pixels
from vipa.nano.foundation.picture_set import PAINTS, THINGS, Pictures
from vipa.training.checkpoints import load_progress, save_progress, state_of
from vipa.training.optimiser import make_optimiser
from vipa.training.parts import arithmetic
from vipa.training.processes import Processes, device_of
from vipa.training.schedule import warmup_cosine


@dataclass(frozen=True)
class VisionTraining:
    """A complete run of the dense pretraining."""

    out: Path
    steps: int = 2000
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    gradient_clip: float = 1.0
    background_weight: float = 0.3
    box_weight: float = 4.0
    seed: int = 0
    save_every: int = 200
    device: str = "auto"


class DenseHeads(nn.Module):
    """Linear readouts of every patch token; thrown away after the pretraining."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.thing = nn.Linear(width, 1 + len(THINGS))
        self.paint = nn.Linear(width, 1 + len(PAINTS))
        self.box = nn.Linear(width, 4)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens = self.norm(tokens)
        return self.thing(tokens), self.paint(tokens), self.box(tokens)


def train_vision(
    run: VisionTraining,
    config: InternVLVisionConfig,
    data: Pictures,
    held: Pictures,
    start: Mapping[str, Tensor] | None = None,
) -> Path:
    """Train from scratch, or from the weights `start`; log to `run.out`/log.jsonl, save the encoder there, return the
    folder.

    Resumes from `run.out`/progress where there is one.
    """
    device = device_of(run.device)
    torch.manual_seed(run.seed)
    model = InternVLVisionModel(config)
    if start is not None:
        model.load_state_dict(start)
    model.set_attn_implementation("eager")  # learning in bfloat16 on a CPU: 0.25 s a step against SDPA's 0.56
    heads = DenseHeads(config.hidden_size)
    learner = nn.ModuleList([model, heads]).to(device)
    learned = dict(learner.named_parameters())
    optimizer = make_optimiser(
        learner, learning_rate=run.learning_rate, weight_decay=run.weight_decay, betas=run.betas, eps=run.eps
    )
    alone = Processes(0, 1, device)
    done = load_progress(run.out, state_of(learned, optimizer, None), alone)
    tensors = {name: torch.from_numpy(getattr(data, name)).to(device) for name in ("rgb", "thing", "paint", "box")}
    run.out.mkdir(parents=True, exist_ok=True)
    atomic_write(run.out / "run.json", json.dumps(asdict(run) | {"out": str(run.out.name)}, indent=1))
    began = time.monotonic()
    log = JsonLog(run.out / "log.jsonl", keep=lambda row: row.get("step", run.steps + 1) <= done)
    with training_progress("vision", run.steps, done) as progress:
        for step in range(done, run.steps):
            generator = torch.Generator().manual_seed(run.seed * 1_000_003 + step)
            rows = torch.randint(len(data), (run.batch,), generator=generator)
            batch = {name: tensor[rows.to(device)] for name, tensor in tensors.items()}
            batch = _mirrored(batch, (torch.rand(len(rows), generator=generator) < 0.5).to(device))
            torch.manual_seed(run.seed * 1_000_003 + step)
            loss, terms = _losses(run, model, heads, batch, jitter=True)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = float(nn.utils.clip_grad_norm_(learner.parameters(), run.gradient_clip))
            if not math.isfinite(norm):
                raise ValueError(
                    f"vision: the gradient norm is {norm} at step {step + 1}; this step was not kept: lower the "
                    "learning rate (in another --out)"
                )
            for group in optimizer.param_groups:
                group["lr"] = run.learning_rate * warmup_cosine(step, run.steps, run.warmup)
            optimizer.step()
            if step % 20 == 19:
                rate = (step + 1 - done) * run.batch / (time.monotonic() - began)
                numbers = {name: float(value) for name, value in terms.items()}
                log.add({"step": step + 1, "loss": float(loss.detach()), **numbers, "samples_per_second": rate})
            if (step + 1) % run.save_every == 0 and step + 1 < run.steps:
                save_progress(run.out, step + 1, state_of(learned, optimizer, None), alone)
            progress(float(loss.detach()), run.batch)
        summary = _evaluate(run, model, heads, held)
        log.add({"held_out": summary})
    model.save_pretrained(run.out)
    shutil.rmtree(run.out / "progress", ignore_errors=True)
    return run.out


def _mirrored(batch: dict[str, Tensor], which: Tensor) -> dict[str, Tensor]:
    """Some pictures (n,) seen in a mirror: left hands are then right ones."""
    side = round(batch["thing"].shape[1] ** 0.5)
    left, right = (1 + THINGS.index(f"{name} hand") for name in ("left", "right"))

    def turn(patches: Tensor) -> Tensor:
        return patches.unflatten(1, (side, side)).flip(2).flatten(1, 2)

    thing, paint, box = (turn(batch[name]) for name in ("thing", "paint", "box"))
    hands = torch.where(thing == left, right, torch.where(thing == right, left, thing)).to(thing.dtype)
    box = torch.cat([torch.where(thing[..., None] > 0, 1 - box[..., :1], box[..., :1]), box[..., 1:]], -1)
    mirror = {"rgb": batch["rgb"].flip(2), "thing": hands, "paint": paint, "box": box}
    return {k: torch.where(which.view(-1, *[1] * (mirror[k].ndim - 1)), mirror[k], batch[k]) for k in mirror}


def _losses(
    run: VisionTraining, model: InternVLVisionModel, heads: DenseHeads, batch: dict[str, Tensor], jitter: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    images = semantic_pixels(batch["rgb"])
    if jitter:  # brightness and contrast: colours keep their names
        n = len(images)
        gain, shift = (0.15 * torch.randn(2, n, 1, 1, 1)).to(images.device)
        images = images * (1 + gain) + shift
    device = images.device
    with torch.autocast(device.type, torch.bfloat16, enabled=arithmetic("auto", device) == "bf16"):
        tokens = model(images).last_hidden_state[:, 1:]
    thing, paint, box = heads(tokens.float())
    thing_target, paint_target = batch["thing"].long(), batch["paint"].long()
    weights = torch.ones(thing.shape[-1], device=device)
    weights[0] = run.background_weight
    paint_weights = torch.ones(paint.shape[-1], device=device)
    paint_weights[0] = run.background_weight
    thing_loss = F.cross_entropy(thing.flatten(0, 1), thing_target.flatten(), weights)
    paint_loss = F.cross_entropy(paint.flatten(0, 1), paint_target.flatten(), paint_weights)
    some = thing_target > 0
    box_loss = (box - batch["box"].float()).abs()[some].mean()
    loss = thing_loss + paint_loss + run.box_weight * box_loss
    with torch.no_grad():
        terms = {
            "thing_accuracy": (thing.argmax(-1) == thing_target)[some].float().mean(),
            "paint_accuracy": (paint.argmax(-1) == paint_target)[paint_target > 0].float().mean(),
            "box_error": box_loss.detach(),
        }
    return loss, terms


@torch.no_grad()
def _evaluate(
    run: VisionTraining, model: InternVLVisionModel, heads: DenseHeads, held: Pictures
) -> dict[str, float]:
    model.eval()
    sums: dict[str, float] = {}
    batches = torch.arange(len(held)).split(100)
    for rows in batches:
        batch = {
            name: torch.from_numpy(getattr(held, name))[rows].to(model.device)
            for name in ("rgb", "thing", "paint", "box")
        }
        _, terms = _losses(run, model, heads, batch, jitter=False)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value) / len(batches)
    return sums
