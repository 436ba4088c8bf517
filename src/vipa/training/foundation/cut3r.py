"""Training nano's 3D encoder from scratch on sequences of the tabletop world.

The command (about 20 minutes on one core, rendering apart):

    OMP_NUM_THREADS=1 python -m vipa.training.foundation.cut3r --out runs/cut3r
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vipa.models.cut3r import Cut3rConfig, Cut3rModel, Cut3rOutput, nano_cut3r_config
from vipa.models.cut3r.losses import cut3r_loss, quaternion_wxyz
from vipa.training.foundation.sequences import SequenceBatch, Sequences, batch_of, render_sequences
from vipa.training.progress import training_progress
from vipa.training.schedule import warmup_cosine
from vipa.worlds.seeds import FOUNDATION

FIRST_SEED = FOUNDATION.start + 1_000_000
"""Foundation sequences of the 3D encoder; lower seeds are the 2D model's pictures."""


@dataclass(frozen=True)
class Cut3rTraining:
    """A complete run; the same values give the same weights."""

    out: Path
    sequences: int = 12_000
    frames: int = 4
    size: int = 112
    steps: int = 4_000
    batch: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.03
    pose_weight: float = 5.0  # on the translation and rotation terms, small beside the points'
    seed: int = 0
    bf16: bool = True
    save_every: int = 1_000
    workers: int = 2  # processes that render what the cache lacks
    max_minutes: float | None = None  # a limit on the training itself; the schedule then follows the clock

    def seeds(self) -> range:
        return range(FIRST_SEED, FIRST_SEED + self.sequences)


def train_cut3r(run: Cut3rTraining, config: Cut3rConfig | None = None, data: Sequences | None = None) -> Path:
    """Render what is missing, train, log to `run.out`/log.jsonl, save to `run.out`/final; returns that folder.

    Resumes from `run.out`/checkpoint.pt where there is one.
    """
    run.out.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = render_sequences(run.out / "data", run.seeds(), run.frames, run.size, run.workers)
    torch.manual_seed(run.seed)
    model = Cut3rModel(config or nano_cut3r_config()).train()
    optimizer = torch.optim.AdamW(
        weight_decay_groups(model, run.weight_decay), lr=run.learning_rate, betas=(0.9, 0.98), fused=True
    )
    (run.out / "run.json").write_text(json.dumps(asdict(run) | {"out": run.out.name}, indent=1) + "\n")
    checkpoint, done, spent = run.out / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        done, spent = saved["step"], saved["seconds"]
    start = time.monotonic() - spent
    with (run.out / "log.jsonl").open("a") as log, training_progress("cut3r", run.steps, done) as advance:
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
            batch = _sample(data, run, step)
            terms = _losses(model, batch, run.bf16)
            optimizer.zero_grad(set_to_none=True)
            loss = terms["loss"] + (run.pose_weight - 1) * (terms["translation"] + terms["rotation"])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            advance(float(loss.detach()), run.batch * run.frames)
            if step % 25 == 24:
                record = {name: round(float(value.detach()), 5) for name, value in terms.items()}
                images = (step + 1 - done) * run.batch * run.frames / (time.monotonic() - start - spent)
                log.write(json.dumps({"step": step + 1, **record, "images_per_second": round(images, 1)}) + "\n")
                log.flush()
            if step % run.save_every == run.save_every - 1:
                _save(checkpoint, model, optimizer, step + 1, time.monotonic() - start)
    model.save_pretrained(run.out / "final")
    return run.out / "final"


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices decay; biases, norms and learned tokens do not."""
    matrices = [p for name, p in model.named_parameters() if p.ndim >= 2 and name.endswith("weight")]
    kept = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in kept]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _sample(data: Sequences, run: Cut3rTraining, step: int) -> SequenceBatch:
    """Random sequences, frames in random order, with brightness, contrast and noise of their own."""
    rng = np.random.default_rng([run.seed, step])
    rows = rng.choice(len(data), min(run.batch, len(data)), replace=False)
    order = rng.permutation(data.rgb.shape[1])
    batch = batch_of(data, rows, order)
    shape = (len(rows), 1, 1, 1, 1)
    gain, shift = (torch.from_numpy(rng.normal(size=shape).astype(np.float32)) for _ in range(2))
    images = (batch.images * (1 + 0.1 * gain) + 0.1 * shift).clamp(-1, 1)
    return SequenceBatch(images, batch.points_self, batch.points_world, batch.T_world_camera, batch.valid)


def _losses(model: Cut3rModel, batch: SequenceBatch, bf16: bool) -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output: Cut3rOutput = model(batch.images)
    T = batch.T_world_camera
    pose = torch.cat([T[..., :3, 3], quaternion_wxyz(T[..., :3, :3])], -1)
    return cut3r_loss(output, batch.points_self, batch.points_world, pose, batch.valid)


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float) -> None:
    temporary = path.with_suffix(".tmp")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
    torch.save(state, temporary)
    temporary.rename(path)


if __name__ == "__main__":
    import tyro

    print(train_cut3r(tyro.cli(Cut3rTraining)))
