"""How fast the model trains and answers: `python speed/model.py --preset nano --device cpu`.

Random weights and random pictures; only speed is measured. Training: samples per second of forward, backward and
AdamW step in each stage, with the encoders run live and with their tokens cached. Inference: latency per action
chunk through `ActionRunner`, 4 Euler steps, for 1 to 3 views, eager, compiled and with CUDA graphs. MFU is the
model's own operations (`vipa model summary`) over time and over the rate that this machine reaches in one large
matrix product. Recorded in docs/results/model_speed.md.
"""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from vipa.models import ActionRunner, VipaForConditionalGeneration, preset_config
from vipa.models.summary import ViewCost, summarise
from vipa.training.runs import STAGE1_PARTS, STAGE2_PARTS, STAGE3_PARTS

STAGES = {"stage1": STAGE1_PARTS, "stage2": STAGE2_PARTS, "stage3": STAGE3_PARTS}
FRAMES = {"stage1": 2, "stage2": 1, "stage3": 1}
ANSWER = {"stage1": 16, "stage2": 56, "stage3": 0}  # tokens: "left and down, 0.44m"; 2 hands x 8 waypoints + 6
PROMPT = 48
SPATIAL_SIZE = {"nano": 112, "vipa-2b": 432}


@dataclass(frozen=True)
class Speed:
    """A complete run of the measurement.

    batch: samples per training step. views, modes: of inference. clock: `cpu` counts the time that the processor
    gave to this process, which on a shared machine with one thread is what a free core would need.
    """

    preset: Literal["nano", "vipa-2b"] = "nano"
    device: Literal["cpu", "cuda"] = "cpu"
    batch: int = 32
    noise_draws: int = 4
    views: tuple[int, ...] = (1, 2, 3)
    modes: tuple[Literal["none", "default", "cuda_graphs"], ...] = ("none",)
    train_steps: int = 5
    chunks: int = 30
    threads: int = 1
    clock: Literal["wall", "cpu"] = "wall"
    out: Path | None = None


def main(run: Speed) -> None:
    """Measure, print a Markdown report, and write it to `out`."""
    torch.manual_seed(0)
    torch.set_num_threads(run.threads)
    config = preset_config(run.preset)
    costs = summarise(config, STAGES, views=run.views, text_tokens=PROMPT, spatial_size=SPATIAL_SIZE[run.preset])
    with torch.device(run.device):
        model = VipaForConditionalGeneration(config)
    rate = matrix_rate(run)
    lines = [
        f"- {run.preset}, {costs.total:,} parameters, random weights; {machine(run)}; torch {torch.__version__}; "
        f"{run.clock} time",
        f"- one matrix product reaches {rate / 1e12:.3g} TFLOP/s in bf16",
        "",
        "| training | images | samples/s, encoders live | samples/s, tokens cached |",
        "|---|---|---|---|",
    ]
    for stage in STAGES:
        live, cached = (training(run, model, stage, cache) for cache in (False, True))
        lines.append(f"| {stage}, batch {run.batch} | {FRAMES[stage]} | {live:.1f} | {cached:.1f} |")
    lines += ["", "| inference | mode | p50 ms | p95 ms | MFU |", "|---|---|---|---|---|"]
    for cost in costs.costs:
        for mode in run.modes:
            p50, p95 = inference(run, model, cost.views, mode)
            share = utilisation(cost, p50, rate)
            lines.append(f"| {cost.views} views | {mode} | {p50 * 1e3:.1f} | {p95 * 1e3:.1f} | {share:.1%} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if run.out is not None:
        run.out.write_text(text)


def training(run: Speed, model: VipaForConditionalGeneration, stage: str, cached: bool) -> float:
    """Samples per second."""
    inputs = training_inputs(run, model, stage)
    if cached:
        pixels = {name: inputs.pop(name) for name in ("pixel_values", "spatial_pixel_values")}
        lengths = [FRAMES[stage]] * run.batch
        with torch.no_grad():
            semantic, spatial = model.encode_images(**pixels, clip_lengths=lengths)
        inputs |= {"semantic_features": semantic, "spatial_features": spatial}
    model.train().requires_grad_(False)
    for part in STAGES[stage]:
        model.parts()[part].requires_grad_(True)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-6, fused=True)

    def step() -> None:
        with torch.autocast(run.device, torch.bfloat16):
            loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run.batch / statistics.median(times(step, run.train_steps, run, warm=1))


def training_inputs(run: Speed, model: VipaForConditionalGeneration, stage: str) -> dict:
    """Random rows: images, prompt, answer; in stage 3 states and action chunks instead of an answer."""
    config, images = model.config, run.batch * FRAMES[stage]
    ids = random_prompts(model, run.batch, FRAMES[stage], PROMPT + ANSWER[stage], run.device)
    inputs = pictures(run, model, images) | {"input_ids": ids}
    if stage == "stage3":
        head = config.action_config
        actions = torch.randn(run.batch, head.horizon, head.action_length, device=run.device)
        state = torch.randn(run.batch, head.state_length, device=run.device)
        return inputs | {"actions": actions, "state": state, "noise_draws": run.noise_draws}
    labels = ids.clone()
    labels[:, : -ANSWER[stage]] = -100
    return inputs | {"labels": labels}


def inference(run: Speed, model: VipaForConditionalGeneration, views: int, mode: str) -> tuple[float, float]:
    """Seconds per chunk: median and 95th percentile. One observation; on a GPU the weights are bf16."""
    model.eval().requires_grad_(False)
    dtype = torch.bfloat16 if run.device == "cuda" else torch.float32
    model.to(dtype)
    ids = random_prompts(model, 1, views, PROMPT, run.device)
    runner = ActionRunner(model, ids, steps=4, compile=mode)
    given = {name: value.to(dtype) for name, value in pictures(run, model, views).items()}
    given["state"] = torch.randn(1, model.config.action_config.state_length, device=run.device, dtype=dtype)
    measured = sorted(times(lambda: runner(**given), run.chunks, run, warm=3))
    return statistics.median(measured), measured[min(len(measured) - 1, int(0.95 * len(measured)))]


def random_prompts(
    model: VipaForConditionalGeneration, rows: int, images: int, words: int, device: str
) -> torch.Tensor:
    """(rows, words + image tokens): four words, the images, the other words."""
    config = model.config
    text = torch.randint(16, 900, (rows, words), device=device)
    image = torch.full((rows, images * config.image_seq_length), config.image_token_id, device=device)
    return torch.cat([text[:, :4], image, text[:, 4:]], dim=1)


def pictures(run: Speed, model: VipaForConditionalGeneration, images: int) -> dict[str, torch.Tensor]:
    height, width = model.config.vision_config.image_size
    size = SPATIAL_SIZE[run.preset]
    return {
        "pixel_values": torch.randn(images, 3, height, width, device=run.device),
        "spatial_pixel_values": torch.rand(images, 3, size, size, device=run.device) * 2 - 1,
    }


def times(work: Callable[[], object], count: int, run: Speed, warm: int) -> list[float]:
    """Seconds of each of `count` calls after `warm` unmeasured ones."""
    clock = time.perf_counter if run.clock == "wall" else time.process_time
    measured = []
    for index in range(warm + count):
        synchronise(run.device)
        start = clock()
        work()
        synchronise(run.device)
        if index >= warm:
            measured.append(clock() - start)
    return measured


def matrix_rate(run: Speed) -> float:
    """Operations per second of a large bf16 matrix product: what MFU is measured against."""
    n = 8192 if run.device == "cuda" else 1024
    a, b = (torch.randn(n, n, device=run.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / statistics.median(times(lambda: a @ b, 10, run, warm=3))


def utilisation(cost: ViewCost, seconds: float, rate: float) -> float:
    return cost.total_tflop * 1e12 / seconds / rate


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def machine(run: Speed) -> str:
    if run.device == "cuda":
        return torch.cuda.get_device_name()
    names = [x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    return f"{names[0] if names else platform.processor()}, {run.threads} thread(s)"


if __name__ == "__main__":
    main(tyro.cli(Speed))
