"""The training loop: build, then for every step its micro-batches, the step, the log, the save."""

import logging
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vipa.data.loader import steps_of
from vipa.data.mixture import Batch
from vipa.io.json_log import JsonLog
from vipa.io.progress import training_progress
from vipa.models import VipaForConditionalGeneration
from vipa.training.averaging import MovingAverage
from vipa.training.checkpoints import (
    last_step,
    load_progress,
    require_finite,
    save_model,
    save_progress,
    state_of,
)
from vipa.training.meters import Meters
from vipa.training.optimiser import make_optimiser
from vipa.training.parallel import clip, distribute, exchange_rest, gradients_stay, whole
from vipa.training.parts import DTYPES
from vipa.training.processes import Processes, processes
from vipa.training.record import record_of, require_same, save_record
from vipa.training.runs import TrainRun
from vipa.training.schedule import warmup_cosine
from vipa.training.setup import TOKENS, Built, build, finish
from vipa.training.tracking import trackers
from vipa.training.validation import Watch, validate

log = logging.getLogger(__name__)

UNREADABLE = 0.01
"""Share of the rows that may be unreadable before a run stops."""


@dataclass(frozen=True)
class TrainResult:
    """Where the model is, and how the run went. log: one JSON line per `log_every` steps. steps: that were done; fewer
    than the run's where it was asked to stop (SIGTERM): then there is no model yet, and the same command goes on."""

    model: Path
    log: Path
    steps: int
    final_loss: float

    def __str__(self) -> str:
        return f"{self.steps} steps, loss {self.final_loss:.3f}, model at {self.model}"


class Learner(nn.Module):
    """What learns, as one module: the model and the readouts of its data. A call is the loss of a batch."""

    def __init__(self, built: Built):
        super().__init__()
        self.model, self.readouts = built.model, built.mixture.readouts
        mixtures = [mixture for mixture in (built.mixture, built.validation) if mixture is not None]
        self._components = [component for mixture in mixtures for component, _ in mixture.components]

    def forward(self, number: int, inputs: dict[str, Any], items: dict[str, float]) -> torch.Tensor:
        return self._components[number].loss(self.model, inputs, items)


def train(run: TrainRun, watch: Watch | None = None) -> TrainResult:
    """Run a stage from its start, or from where it was interrupted; a finished run is returned as it is.

    Writes run.out/{run.json, log.jsonl, progress/ while running, model/}. ValueError where run.out holds what
    another run saved, where data or model do not fit, and where the numbers stop being finite: before that step is
    taken, so that what was saved last stays good. watch: called where the run validates.
    """
    record = record_of(run)
    require_same(run.out, record)
    log_path, model_path = run.out / "log.jsonl", run.out / "model"
    if (model_path / "config.json").exists():
        return TrainResult(model_path, log_path, run.steps, _last_loss(log_path))
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    with processes(run.device) as team:
        built = build(run, team)
        if team.first:
            save_record(run.out, record)
        steps, loss, learned = _learn(run, built, team, log_path, watch)
        if learned is not None:
            shared = team.world > 1 and run.parallel == "fsdp"
            tensors = {name: whole(p.detach()).cpu() for name, p in learned.items()} if shared else None
            if team.first:
                model, masters = finish(run, built, tensors)
                save_model(model_path, model, built.processor, built.extras, masters)
                for left in ("progress", TOKENS):
                    shutil.rmtree(run.out / left, ignore_errors=True)
            team.wait()
    return TrainResult(model_path, log_path, steps, loss)


def _learn(
    run: TrainRun, built: Built, team: Processes, log_path: Path, watch: Watch | None
) -> tuple[int, float, dict[str, nn.Parameter] | None]:
    """The steps that are left; how many are done now, the last loss, and the model's learned parameters, or None where
    it was asked to stop."""
    model = built.model
    learner = Learner(built).to(team.device)
    called = distribute(learner, list(model.model.language_model.layers), run.parallel, team)
    learned = {name: p for name, p in learner.named_parameters() if p.requires_grad}
    optimizer = make_optimiser(
        learner, learning_rate=run.learning_rate, weight_decay=run.weight_decay, betas=run.betas, eps=run.eps
    )
    average = MovingAverage(learned, run.average) if run.average else None
    start = load_progress(run.out, state_of(learned, optimizer, average), team)
    write = _log(log_path, start, team)
    model.train()
    meters, loss = Meters(team.device), _last_loss(log_path)
    replaced: list[str] = []
    ahead = steps_of(built.mixture, start, run.steps, run.workers, pin=team.device.type == "cuda")
    with (
        trackers(run, team) as track,
        training_progress(run.name, run.steps, start, shown=team.first) as progress,
        stop_when_asked() as asked,
    ):
        for step in range(start, run.steps):
            with meters.waiting():
                parts = [[batch.to(team.device) for batch in batches] for batches in next(ahead)]
            for why in (why for batches in parts for batch in batches for why in batch.replaced):
                log.warning("%s: another row in its place", why)
                replaced.append(why)
            rows = (step + 1 - start) * sum(spec.batch for spec in run.data) // team.world
            if _too_many(replaced, rows):
                raise ValueError(_ended(run, f"{len(replaced)} of {rows} rows could not be read: {replaced[-1]}"))
            tokens = sum(int(b.inputs["input_ids"].numel()) for batches in parts for b in batches)
            if step == start and not run.compile:  # apart, for what counts operations changes their rounding
                of_one = sum(int(b.inputs["input_ids"].numel()) for b in parts[0])
                with meters.counting_operations(of_one, DTYPES[built.precision]):
                    _gradients(run, called, built, parts[:1], team, step, False)
                optimizer.zero_grad(set_to_none=True)
            loss, terms, samples, stop = _gradients(run, called, built, parts, team, step, asked())
            norm = clip(learned.values(), run.gradient_clip)
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise ValueError(_ended(run, f"loss {loss} and gradient norm {norm} at step {step + 1}"))
            for group in optimizer.param_groups:
                group["lr"] = run.learning_rate * warmup_cosine(step, run.steps, run.warmup)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if average is not None:
                average.update()
            meters.count(samples, tokens)
            done, last = step + 1, step + 1 == run.steps
            if done % run.log_every == 0 or last:
                line: dict[str, Any] = {"step": done, "loss": loss, **terms, "gradient_norm": norm}
                line["epochs"] = built.mixture.epochs(done)
                line |= {"lr": optimizer.param_groups[0]["lr"], **_diagnostics(model), **meters.line()}
                line |= {"unreadable": len(replaced)} if replaced else {}
                write(line)
                track(line)
                meters.start()
            if run.validate_every and built.validation and (done % run.validate_every == 0 or last):
                figures = validate(called, built, team, watch)
                write({"step": done, **figures})
                track({"step": done, **figures})
                meters.start()
            try:
                if last:
                    require_finite({name: p.detach() for name, p in learned.items()})
                elif done % run.save_every == 0 or stop:
                    save_progress(run.out, done, state_of(learned, optimizer, average), team, run.keep)
            except ValueError as error:
                raise type(error)(_ended(run, f"{error} after step {done}")) from None
            progress(loss, samples)
            if stop and not last:
                return done, loss, None
    if average is not None:
        average.put()
    names = {id(p): name for name, p in model.named_parameters()}
    return run.steps, loss, {names[id(p)]: p for p in learned.values() if id(p) in names}


def _gradients(
    run: TrainRun,
    called: nn.Module,
    built: Built,
    parts: list[list[Batch]],
    team: Processes,
    step: int,
    asked: bool,
) -> tuple[float, dict[str, float], int, bool]:
    """Gradients of one step: (loss, loss per component, samples, whether a process was asked to stop).

    Every term is a sum over this process's micro-batches divided by what the whole step has of it, over all processes,
    so that it does not matter how a step is shared out. Randomness follows from (seed, step).
    """
    torch.manual_seed(run.seed * 1_000_003 + step)
    names = [(b.number, term) for b in parts[0] for term in b.items]
    own = [sum(batches[i].items[term] for batches in parts) for i, term in names]
    *totals, stop = team.sum([*own, float(asked)])
    items: dict[int, dict[str, float]] = {}
    for (number, term), total in zip(names, totals):
        items.setdefault(number, {})[term] = max(total, 1.0)
    mixture = built.mixture
    losses = [0.0] * len(mixture.components)
    samples = 0
    for micro, batches in enumerate(parts):
        for batch in batches:
            stay = not (micro == len(parts) - 1 and batch is batches[-1])
            with gradients_stay(called, stay):
                with torch.autocast(team.device.type, torch.bfloat16, enabled=built.precision == "bf16"):
                    loss = called(batch.number, batch.inputs, items[batch.number])
                weight = mixture.components[batch.number][0].spec.weight
                (loss * (weight * team.world)).backward()  # gradients are averaged over processes
            losses[batch.number] += float(loss.detach())
            samples += batch.samples
    exchange_rest(called, team)
    *losses, count = team.sum([*losses, float(samples)])
    kinds = [component.spec for component, _ in mixture.components]
    total = sum(spec.weight * loss for spec, loss in zip(kinds, losses))
    terms = {f"loss_{spec.kind}": loss for spec, loss in zip(kinds, losses)} if len(kinds) > 1 else {}
    return total, terms, int(count), bool(stop)


def _too_many(replaced: list[str], rows: int) -> bool:
    """Whether more rows could not be read than chance and a few broken files explain."""
    return len(replaced) > max(3, UNREADABLE * rows)


def _diagnostics(model: VipaForConditionalGeneration) -> dict[str, float]:
    return {name: float(whole(torch.as_tensor(value))) for name, value in model.fusion_diagnostics().items()}


def _log(path: Path, start: int, team: Processes) -> Callable[[dict[str, Any]], None]:
    """What appends a line, and nothing in other processes than the first. Later steps than `start` are repeated."""
    return JsonLog(path, keep=lambda row: row["step"] <= start).add if team.first else lambda line: None


@contextmanager
def stop_when_asked() -> Iterator[Callable[[], bool]]:
    """Yields whether SIGTERM came: the run then saves after its step and ends, as schedulers want it."""
    came: list[int] = []
    try:
        before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    except ValueError:  # not in the main thread: whoever runs it is asked instead
        yield lambda: False
        return
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(run: TrainRun, what: str) -> str:
    """What a run that cannot go on says."""
    saved = last_step(run.out)
    kept = (
        f"the last good save is of step {saved} in {run.out / 'progress'}, from which the same command goes on"
        if saved
        else f"nothing was saved yet (save_every {run.save_every})"
    )
    return (
        f"{run.name}: {what}; this step was not kept. {kept[0].upper()}{kept[1:]}. If it ends here again, lower the "
        "learning rate (in another --out) or look at the data of this step"
    )


def _last_loss(path: Path) -> float:
    losses = [row["loss"] for row in JsonLog(path).rows if "loss" in row] if path.exists() else []
    return float(losses[-1]) if losses else float("nan")
