"""nano's 3D encoder, trained from scratch on sequences of the tabletop world (half an hour on two cores)."""

import json
import math
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vipa.io.child_process import cores
from vipa.io.files import atomic_write
from vipa.io.json_log import JsonLog
from vipa.io.progress import training_progress
from vipa.models.cut3r import Cut3rConfig, Cut3rModel, Cut3rOutput
from vipa.models.cut3r.losses import cut3r_loss, quaternion_wxyz
from vipa.models.loading import load_model
from vipa.models.starts import start_hash
from vipa.nano.foundation.correspondence import Correspondence
from vipa.nano.sizes import nano_cut3r_config
from vipa.training.checkpoints import State, last_step, load_progress, save_progress, state_of
from vipa.training.optimiser import make_optimiser
from vipa.training.parts import arithmetic
from vipa.training.processes import Processes, device_of
from vipa.training.runs import Precision
from vipa.training.schedule import warmup_cosine
from vipa.worlds.scene import scene_settings
from vipa.worlds.seeds import seeds_of
from vipa.worlds.sequences import FIRST_SEED, SequenceBatch, Sequences, batch_of, render_sequences


@dataclass(frozen=True)
class Cut3rTraining:
    """A complete run; the same values give the same weights."""

    out: Path
    sequences: int = 12_000
    frames: int = 4
    size: int = 112
    ambiguity: float = 0.0  # of the scenes
    steps: int = 4_000
    images_per_step: int = 32  # as many clips of 2 to `frames` frames as that makes
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.03
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    gradient_clip: float = 1.0
    pose_weight: float = 5.0  # on the translation and rotation terms, small beside the points'
    correspondence_weight: float = 1.0
    seed: int = 0
    precision: Precision = "auto"
    start: Path | None = None  # weights to begin with instead of random ones
    save_every: int = 1_000
    validate_every: int = 0  # steps between looks at sequences that it does not learn from (0: none)
    held_out: int = 48  # of those sequences
    device: str = "auto"
    workers: int | None = None  # processes that render what the cache lacks; one a core
    max_minutes: float | None = None  # a limit on the training itself; the schedule then follows the clock

    def seeds(self) -> range:
        return range(FIRST_SEED, FIRST_SEED + self.sequences)

    def film(self, folder: Path | None = None) -> Sequences:
        """What it learns from, rendered where `folder` (None: `out`) lacks it."""
        data, workers = (folder or self.out) / "data", self.workers or cores()
        return render_sequences(data, self.seeds(), self.frames, self.size, workers, self.ambiguity)

    def film_held_out(self) -> Sequences:
        """What it is looked at on."""
        data, seeds = self.out / "held_out", seeds_of("validation")[: self.held_out]
        return render_sequences(data, seeds, self.frames, self.size, self.workers or cores(), self.ambiguity)

    def weights(self) -> dict[str, float]:
        """Of the terms of the loss."""
        points, pose = ("points_self", "points_world"), ("translation", "rotation")
        weights = dict.fromkeys(points, 1.0) | dict.fromkeys(pose, self.pose_weight)
        return weights | {"correspondence": self.correspondence_weight}

    def train(self) -> str:
        return f"the 3D encoder is at {train_cut3r(self)}"


make = Cut3rTraining


def train_cut3r(run: Cut3rTraining, config: Cut3rConfig | None = None, data: Sequences | None = None) -> Path:
    """Render what is missing, train, log to `run.out`/log.jsonl, save to `run.out`/final; returns that folder.

    Resumes from `run.out`/progress where there is one; ValueError where that is another run's.
    """
    run.out.mkdir(parents=True, exist_ok=True)
    data = run.film() if data is None else data
    held_out = run.film_held_out() if run.validate_every else None
    device = device_of(run.device)
    torch.manual_seed(run.seed)
    if run.start is None:
        model = Cut3rModel(config or nano_cut3r_config())
    else:
        model = load_model(Cut3rModel, run.start, expected="cut3r")
    correspondence = Correspondence(model.config.decoder_width, model.config.patch_size)
    learner = nn.ModuleDict({"model": model.train(), "correspondence": correspondence}).to(device)
    optimizer = make_optimiser(
        learner, learning_rate=run.learning_rate, weight_decay=run.weight_decay, betas=run.betas, eps=run.eps
    )
    settings = asdict(run) | {"out": run.out.name, "start": run.start and run.start.name}
    settings |= {"start_hash": run.start and start_hash(run.start)} | scene_settings(run.ambiguity)
    if last_step(run.out):
        there = json.loads((run.out / "run.json").read_text())
        if _deciding(there) != _deciding(settings):
            raise ValueError(
                f"{run.out / 'progress'} is another run's: give its settings again, or choose another folder"
            )
    alone, clock = Processes(0, 1, device), torch.tensor(0.0, dtype=torch.float64)
    learned = dict(learner.named_parameters())

    def state() -> State:
        return state_of(learned, optimizer, None) | {"seconds": clock}

    done = load_progress(run.out, state(), alone)
    spent = float(clock)
    atomic_write(run.out / "run.json", json.dumps(settings, indent=1) + "\n")
    log = JsonLog(run.out / "log.jsonl", keep=lambda row: row["step"] <= done)
    start, seen = time.monotonic() - spent, 0
    with training_progress("cut3r", run.steps, done) as advance:
        for step in range(done, run.steps):
            seconds = time.monotonic() - start
            fraction = step / run.steps
            if run.max_minutes is not None:
                fraction = max(fraction, seconds / (60 * run.max_minutes))
            if fraction >= 1:
                break
            rate = warmup_cosine(round(fraction * 10_000), 10_000, run.warmup)
            for group in optimizer.param_groups:
                group["lr"] = run.learning_rate * rate
            batch = _sample(data, run, step, device)
            terms = _losses(learner, batch, run.precision)
            optimizer.zero_grad(set_to_none=True)
            loss = sum(weight * terms[name] for name, weight in run.weights().items())
            assert isinstance(loss, Tensor)
            loss.backward()
            norm = float(nn.utils.clip_grad_norm_(learner.parameters(), run.gradient_clip))
            if not math.isfinite(norm):
                raise ValueError(
                    f"cut3r: the gradient norm is {norm} at step {step + 1}; this step was not kept. The same command "
                    f"goes on from step {last_step(run.out)}; if it ends here again, lower the learning rate (in "
                    "another --out)"
                )
            optimizer.step()
            seen += batch.valid.shape[:2].numel()
            advance(float(loss.detach()), batch.valid.shape[:2].numel())
            if step % 25 == 24:
                record = {name: round(float(value.detach()), 5) for name, value in terms.items()}
                speed = seen / (time.monotonic() - start - spent)
                log.add({"step": step + 1, **record, "images_per_second": round(speed, 1)})
            if held_out and (step + 1 == run.steps or step % run.validate_every == run.validate_every - 1):
                log.add({"step": step + 1} | _look(learner, held_out, run.precision, device))
            if step % run.save_every == run.save_every - 1:
                clock.fill_(time.monotonic() - start)
                save_progress(run.out, step + 1, state(), alone)
    model.save_pretrained(run.out / "final")
    return run.out / "final"


def _deciding(settings: dict) -> dict:
    """What the weights follow from, as JSON has it."""
    how = ("out", "save_every", "validate_every", "held_out", "workers", "start", "device")
    return json.loads(json.dumps({name: value for name, value in settings.items() if name not in how}))


def _sample(data: Sequences, run: Cut3rTraining, step: int, device: torch.device) -> SequenceBatch:
    """Random clips of random length, frames in random order, with brightness and contrast of their own."""
    rng = np.random.default_rng([run.seed, step])
    frames = int(rng.integers(2, run.frames + 1))
    rows = rng.choice(len(data), min(max(run.images_per_step // frames, 1), len(data)), replace=False)
    batch = batch_of(data, rows, rng.permutation(run.frames)[:frames], device)
    drawn = rng.normal(size=(2, len(rows), 1, 1, 1, 1)).astype(np.float32)
    gain, shift = torch.from_numpy(drawn).to(device)
    return replace(batch, images=(batch.images * (1 + 0.1 * gain) + 0.1 * shift).clamp(-1, 1))


@torch.no_grad()
def _look(learner: nn.ModuleDict, data: Sequences, precision: Precision, device: torch.device) -> dict[str, float]:
    """The terms on all frames of held-out sequences, as `validation_` and their names."""
    learner.eval()
    found: dict[str, float] = defaultdict(float)
    for rows in np.array_split(np.arange(len(data)), max(1, len(data) // 8)):
        for name, value in _losses(learner, batch_of(data, rows, device=device), precision).items():
            found[f"validation_{name}"] += float(value) * len(rows) / len(data)
    learner.train()
    return {name: round(value, 5) for name, value in found.items()}


def _losses(learner: nn.ModuleDict, batch: SequenceBatch, precision: Precision) -> dict[str, Tensor]:
    """The terms by name."""
    device = batch.images.device
    with torch.autocast(device.type, torch.bfloat16, enabled=arithmetic(precision, device) == "bf16"):
        output: Cut3rOutput = learner["model"](batch.images)
    T = batch.T_world_camera
    pose = torch.cat([T[..., :3, 3], quaternion_wxyz(T[..., :3, :3])], -1)
    terms = cut3r_loss(output, batch.points_self, batch.points_world, pose, batch.valid)
    assert output.decoder_tokens is not None
    return terms | {"correspondence": learner["correspondence"](output.decoder_tokens, batch)}
