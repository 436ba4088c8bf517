"""The training loop: build, then for every step loss, step, log, save."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vipa.data.mixture import Mixture
from vipa.io.json_log import JsonLog
from vipa.io.progress import training_progress
from vipa.models import VipaForConditionalGeneration
from vipa.training.checkpoints import load_progress, require_finite, save_model, save_progress
from vipa.training.optimiser import make_optimiser
from vipa.training.record import record_of, require_same, save_record
from vipa.training.runs import TrainRun
from vipa.training.schedule import warmup_cosine
from vipa.training.setup import build


@dataclass(frozen=True)
class TrainResult:
    """Where the model is, and how the run went. log: one JSON line per `log_every` steps."""

    model: Path
    log: Path
    steps: int
    final_loss: float


def train(run: TrainRun) -> TrainResult:
    """Run a stage from its start, or from where it was interrupted; a finished run is returned as it is.

    Writes run.out/{run.json, log.jsonl, progress.pt while running, model/}. ValueError where run.out holds what
    another run saved, where data or model do not fit, and where the numbers stop being finite: before that step is
    taken, so that what was saved last stays good.
    """
    record = record_of(run)
    require_same(run.out, record)
    log_path, model_path = run.out / "log.jsonl", run.out / "model"
    if (model_path / "config.json").exists():
        return TrainResult(model_path, log_path, run.steps, _last_loss(log_path))
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    model, processor, mixture, extras = build(run)
    parameters = [*freeze_all_but(model, run.trained), *mixture.readouts.parameters()]
    learner = nn.ModuleList([model, mixture.readouts])
    optimizer = make_optimiser(
        learner, learning_rate=run.learning_rate, weight_decay=run.weight_decay, betas=run.betas, eps=run.eps
    )
    saved = start = load_progress(run.out, learner, optimizer)
    save_record(run.out, record)
    log = JsonLog(log_path, keep=lambda row: row["step"] <= start)  # later steps are repeated
    model.train()
    if run.compile:
        for layer in model.model.language_model.layers:
            layer.compile(dynamic=True)
    loss = float("nan")
    with training_progress(run.name, run.steps, start) as progress:
        began, seen = time.monotonic(), 0
        for step in range(start, run.steps):
            loss, terms, samples = _step(run, model, mixture, step)
            norm = float(nn.utils.clip_grad_norm_(parameters, run.gradient_clip))
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise ValueError(_ended(run, f"loss {loss} and gradient norm {norm} at step {step + 1}", saved))
            for group in optimizer.param_groups:
                group["lr"] = run.learning_rate * warmup_cosine(step, run.steps, run.warmup)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seen += samples
            if (step + 1) % run.log_every == 0 or step + 1 == run.steps:
                line: dict[str, Any] = {"step": step + 1, "loss": loss, **terms, "gradient_norm": norm}
                line["epochs"] = mixture.epochs(step + 1)
                line |= {"lr": optimizer.param_groups[0]["lr"], **model.fusion_diagnostics()}
                line["samples_per_second"] = seen / (time.monotonic() - began)
                log.add(line)
            try:
                if (step + 1) % run.save_every == 0 and step + 1 < run.steps:
                    save_progress(run.out, step + 1, learner, optimizer)
                    saved = step + 1
                elif step + 1 == run.steps:
                    require_finite(model.state_dict())
            except ValueError as error:
                raise ValueError(_ended(run, f"{error} after step {step + 1}", saved)) from None
            progress(loss, samples)
    save_model(model_path, model, processor, extras)
    (run.out / "progress.pt").unlink(missing_ok=True)
    return TrainResult(model_path, log_path, run.steps, loss)


def freeze_all_but(model: VipaForConditionalGeneration, parts: tuple[str, ...]) -> list[nn.Parameter]:
    """Only the named parts take gradients; returns their parameters. ValueError for a part that is not there."""
    have = model.parts()
    unknown = [part for part in parts if part not in have]
    if unknown:
        raise ValueError(f"trained parts {unknown} are not in the model; it has {', '.join(have)}")
    model.requires_grad_(False)
    for part in parts:
        have[part].requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _step(
    run: TrainRun, model: VipaForConditionalGeneration, mixture: Mixture, step: int
) -> tuple[float, dict[str, float], int]:
    """Gradients of one step: (loss, loss per component, samples). Randomness follows from (seed, step)."""
    torch.manual_seed(run.seed * 1_000_003 + step)
    total, terms, count = 0.0, {}, 0
    for (component, _), (weight, inputs, samples) in zip(mixture.components, mixture.batches(step)):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=run.precision == "bf16"):
            loss = weight * component.loss(model, inputs)
        loss.backward()
        total += float(loss.detach())
        count += samples
        if len(mixture.components) > 1:
            terms[f"loss_{component.spec.kind}"] = float(loss.detach()) / weight
    return total, terms, count


def _ended(run: TrainRun, what: str, saved: int) -> str:
    """What a run that cannot go on says."""
    kept = (
        f"the last good save is {run.out / 'progress.pt'}, after step {saved}, from which the same command goes on"
        if saved
        else f"nothing was saved yet (save_every {run.save_every})"
    )
    return (
        f"{run.name}: {what}; this step was not kept. {kept[0].upper()}{kept[1:]}. If it ends here again, lower the "
        "learning rate (in another --out) or look at the data of this step"
    )


def _last_loss(path: Path) -> float:
    rows = JsonLog(path).rows
    return float(rows[-1]["loss"]) if rows else float("nan")
