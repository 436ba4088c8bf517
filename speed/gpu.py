"""vipa-2b at full size on one GPU, stage by stage: `python speed/gpu.py --out speed/results/gpu.json`.

Random weights made on the GPU, clips and episodes of the tabletop world, the batches and micro-batches that
docs/training.md gives for one GPU of 80 GB; what is timed is the training loop itself, pictures read and encoded in
every step.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rehearsal import make_data, stand_in

from vipa.models import ActionHeadConfig, VipaForConditionalGeneration, add_motion_tokens
from vipa.models.presets import processor_of, vipa_2b_config
from vipa.robots.lerobot_data import open_robot_data
from vipa.training import loop, setup
from vipa.training.known import TRAININGS
from vipa.training.parts import cast
from vipa.training.processes import Processes, device_of
from vipa.training.runs import TrainRun

ACCUMULATE = {"stage1": 2, "stage2": 8, "stage3": 16}
STEPS = {"stage1": 12, "stage2": 12, "stage3": 6}
SPATIAL_SIZE = 432


def start(run: TrainRun, device: torch.device, data: Path) -> tuple[VipaForConditionalGeneration, Any]:
    """Random bfloat16 weights of vipa-2b with motion tokens, and their processor."""
    contract = open_robot_data(data / "episodes").contract
    config = vipa_2b_config()
    sizes = {contract.robot: [len(contract.state), len(contract.action)]}
    config.action_config = ActionHeadConfig(horizon=contract.horizon, embodiments=sizes)
    torch.manual_seed(run.seed)
    with torch.device(device):
        model = VipaForConditionalGeneration(config)
    cast(model, torch.bfloat16)
    model.config.encoder_precision = "bf16"
    tokenizer = stand_in()
    processor = processor_of(model.config, tokenizer, SPATIAL_SIZE)
    add_motion_tokens(model, processor.tokenizer)
    return model, processor


def measured(stage: str, data: Path, out: Path, steps: int) -> dict[str, Any]:
    """The loop's own figures of the last half of `steps` steps."""
    folder = data / ("episodes" if stage == "stage3" else "hand3d")
    run = TRAININGS.load(stage).make(folder, out / stage, preset="vipa-2b", start="random")
    run = replace(run, steps=steps, accumulate=ACCUMULATE[stage], log_every=steps // 2, validation=(), workers=8)
    team = Processes(0, 1, device_of("auto"))
    setup._start = lambda run: start(run, team.device, data)
    if team.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    run.out.mkdir(parents=True)
    built = setup.build(run, team)
    loop._learn(run, built, team, run.out / "log.jsonl", None)
    line = json.loads((run.out / "log.jsonl").read_text().splitlines()[-1])
    batch = {"samples": sum(spec.batch for spec in run.data), "turns": run.data[0].turns}
    return batch | {"accumulate": run.accumulate, "steps": steps} | line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stages", nargs="+", default=list(STEPS))
    given = parser.parse_args()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "stages": {}}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        make_data(data, None)
        for stage in given.stages:
            began = time.monotonic()
            try:
                results["stages"][stage] = measured(stage, data, data / "runs", STEPS[stage])
            except (RuntimeError, ValueError) as error:
                results["stages"][stage] = {"error": str(error)[-500:]}
            results["stages"][stage]["seconds_in_all"] = time.monotonic() - began
            torch.cuda.empty_cache()
            given.out.write_text(json.dumps(results, indent=1) + "\n")
            print(stage, json.dumps(results["stages"][stage]), flush=True)


if __name__ == "__main__":
    main()
