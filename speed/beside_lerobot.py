"""A chunk of nano:stage3, in process, served and inside LeRobot, beside LeRobot's own ACT and SmolVLA of default size.

    OMP_NUM_THREADS=1 python speed/beside_lerobot.py     # where lerobot and packages/lerobot_policy_vipa are installed

Everything takes its turn in every round, SmolVLA in every fourth, so that a busy machine slows all alike; wall time,
and the processor time of this process for what runs in it. ACT and SmolVLA have random weights: only speed is measured.
Adds to the JSON file.
"""

import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import tyro
from serving import MODEL, Client, message, own_answer, server

from vipa.io.files import atomic_write
from vipa.robots.policy import VipaPolicy
from vipa.worlds.robot_env import VIEWS

Work = Callable[[], object]


def act(height: int, width: int) -> tuple[Any, dict[str, torch.Tensor]]:
    """ACT as LeRobot makes it (one camera, 8 state and 7 action numbers, chunks of 100), and an observation."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy

    config = ACTConfig(
        device="cpu",
        pretrained_backbone_weights=None,
        input_features={
            "observation.images.agent": PolicyFeature(FeatureType.VISUAL, (3, height, width)),
            "observation.state": PolicyFeature(FeatureType.STATE, (8,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
    )
    seen = {"observation.images.agent": torch.rand(1, 3, height, width), "observation.state": torch.randn(1, 8)}
    return ACTPolicy(config).eval(), seen


SMOLVLM = {
    "text_config": {
        "model_type": "llama", "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32,
        "num_attention_heads": 15, "num_key_value_heads": 5, "head_dim": 64, "vocab_size": 49280,
    },
    "vision_config": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "image_size": 512, "patch_size": 16,
    },
    "scale_factor": 4, "image_token_id": 49190,
}  # fmt: skip
"""Sizes of SmolVLM2-500M, which SmolVLA is built on (SmolLM2-360M and SigLIP-B/16 at 512 pixels)."""

SMOLVLA = "LeRobot SmolVLA, 512 x 512, in every fourth round"


def smolvla(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """SmolVLA as LeRobot makes it (one camera, chunks of 50, 10 steps of the flow), without anything from the hub: its
    language model's sizes are given here, and words are already numbers."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.smolvla import smolvlm_with_expert
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
    from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
    from transformers import SmolVLMConfig
    from transformers.cache_utils import DynamicLayer

    crop = DynamicLayer.crop  # LeRobot 0.6.1 says how much to keep, transformers since then asks how much to drop
    DynamicLayer.crop = lambda layer, keep: crop(layer, min(0, keep - layer.get_seq_length()))
    SmolVLMConfig(**SMOLVLM).save_pretrained(folder)
    tokenizer = SimpleNamespace(fake_image_token_id=49189, global_image_token_id=49152)
    smolvlm_with_expert.AutoProcessor = SimpleNamespace(
        from_pretrained=lambda _: SimpleNamespace(tokenizer=tokenizer)
    )
    config = SmolVLAConfig(
        device="cpu",
        vlm_model_name=str(folder),
        input_features={
            "observation.images.agent": PolicyFeature(FeatureType.VISUAL, (3, 112, 112)),
            "observation.state": PolicyFeature(FeatureType.STATE, (8,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
    )
    seen = {
        "observation.images.agent": torch.rand(1, 3, 112, 112),
        "observation.state": torch.randn(1, 8),
        "observation.language.tokens": torch.randint(0, 49152, (1, config.tokenizer_max_length)),
        "observation.language.attention_mask": torch.ones(1, config.tokenizer_max_length, dtype=torch.bool),
    }
    return SmolVLAPolicy(config).float().eval(), seen


def inside_lerobot(folder: Path) -> tuple[Any, dict[str, Any]]:
    from lerobot_policy_vipa.converting import to_lerobot
    from lerobot_policy_vipa.modeling_vipa import LeRobotVipaPolicy

    if not (folder / "config.json").exists():
        to_lerobot(MODEL, folder, size=112)
    sent = message()
    seen = {
        **{
            f"observation.images.{view}": torch.from_numpy(sent[f"observation/{view}"]).permute(2, 0, 1)[None]
            / 255
            for view in VIEWS
        },
        "observation.state": torch.from_numpy(sent["observation/state"])[None].float(),
        "task": [sent["prompt"]],
    }
    return LeRobotVipaPolicy.from_pretrained(folder), seen


def figures(turns: list[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = np.array(turns).T * 1e3
    p10, p50, p95 = np.quantile(wall, [0.1, 0.5, 0.95])
    return {
        "p10_ms": round(p10, 1),
        "p50_ms": round(p50, 1),
        "p95_ms": round(p95, 1),
        "cpu_p50_ms": round(float(np.median(cpu)), 1),
    }


def main(
    rounds: int = 100,
    out: Path = Path("docs/results/beside_lerobot.json"),
    folder: Path = Path("runs/nano_lerobot"),
    beside: str = "",
) -> None:
    """beside: what else ran on the machine, for the record."""
    threads = int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads()))
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    policy, (wrapped, seen) = VipaPolicy.from_pretrained(MODEL), inside_lerobot(folder)
    (small, small_seen), (large, large_seen) = act(112, 112), act(480, 640)
    vla, vla_seen = smolvla(folder.with_name("smolvlm"))
    beyond: list[float] = []
    with server(threads=threads) as process:
        client = Client(process.port)

        def served() -> None:
            start = time.perf_counter()
            answer = client.infer(message())
            beyond.append(time.perf_counter() - start - answer["server_timing"]["infer_ms"] / 1e3)

        work: dict[str, Work] = {
            "nano:stage3 in process, 112 x 112": lambda: own_answer(policy, message()),
            "nano:stage3 served, 112 x 112": served,
            "nano:stage3 inside LeRobot, 112 x 112": lambda: wrapped.predict_action_chunk(seen),
            "LeRobot ACT, 112 x 112": lambda: small.predict_action_chunk(small_seen),
            "LeRobot ACT, 480 x 640": lambda: large.predict_action_chunk(large_seen),
            SMOLVLA: lambda: vla.predict_action_chunk(vla_seen),
        }
        turns: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
        for turn in range(-4, rounds):
            for name, run in work.items():
                if name == SMOLVLA and turn % 4:
                    continue
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                if turn >= 0:
                    turns[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        client.close()
    parameters = {"nano": policy.model, "ACT": large, "SmolVLA": vla}
    low, middle = np.quantile(np.array(beyond[4:]) * 1e3, [0.1, 0.5])
    result = {
        "rounds": rounds,
        "torch": torch.__version__,
        "lerobot": version("lerobot"),
        "beside": beside,
        "parameters": {name: sum(p.numel() for p in model.parameters()) for name, model in parameters.items()},
        "served_beyond_the_policy_s_own_time": {"p10_ms": round(low, 2), "p50_ms": round(middle, 2)},
        **{name: figures(times) for name, times in turns.items()},
    }
    everything = json.loads(out.read_text()) if out.exists() else {}
    atomic_write(out, json.dumps(everything | {f"{threads} threads": result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
