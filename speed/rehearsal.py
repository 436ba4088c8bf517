"""A dress rehearsal of vipa-2b at full size on a CPU: `python speed/rehearsal.py --work FOLDER [--tokenizer FOLDER]`.

Random weights in the layouts that are released (InternVL3.5-2B as its `-HF` folder, CUT3R 512 as its authors' .pth),
a few clips and episodes of the tabletop world; then what a user runs: import, assembly, the three stages by
`vipa train`, each killed after its first save and gone on with, `vipa model check`, a question, a motion and an action
chunk. Every part is a process of its own whose peak memory is measured. Parts that are done are not done again.

tokenizer: InternVL3.5's own, such as scripts/internvl_tokenizer.py makes; without it a stand-in of the same size.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENTRIES = 151_674
IMAGE_ID = 151_671
CONSTRUCTOR = (
    "ARCroco3DStereo(ARCroco3DStereoConfig(state_size=768, state_pe='2d', pos_embed='RoPE100', rgb_head=True, "
    "pose_head=True, patch_embed_cls='ManyAR_PatchEmbed', img_size=(512, 512), head_type='dpt', "
    "output_mode='pts3d+pose', depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf), pose_mode=('exp', -inf, inf), "
    "enc_embed_dim=1024, enc_depth=24, enc_num_heads=16, dec_embed_dim=768, dec_depth=12, dec_num_heads=12, "
    "landscape_only=False))"
)
"""Of the form that the authors' file has in `args.model`."""


# The parts, each in its own process


def make_vlm(work: Path, tokenizer: Path | None) -> None:
    """work/vlm: InternVL3.5-2B's `-HF` layout in bfloat16, weights of shards of 2 GB."""
    import torch
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    from vipa.models.configuration import VLM_FIELDS
    from vipa.models.presets import vipa_2b_config

    whole = vipa_2b_config()
    config = InternVLConfig(**{name: getattr(whole, name) for name in VLM_FIELDS})
    torch.manual_seed(0)
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    model.apply(model._init_weights)
    for name, parameter in model.named_parameters():  # which no module initialises
        if name.endswith(("lambda_1", "lambda_2")):
            torch.nn.init.constant_(parameter, 0.1)
        elif name.endswith("cls_token"):
            torch.nn.init.zeros_(parameter)
    model.tie_weights()
    model.save_pretrained(work / "vlm", max_shard_size="2GB")
    if tokenizer is None:
        stand_in().save_pretrained(work / "vlm")
    else:
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(tokenizer).save_pretrained(work / "vlm")


def stand_in() -> Any:
    """A tokenizer of InternVL3.5's size and ids: bytes, InternVL's special tokens, and words that nobody writes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AddedToken, PreTrainedTokenizerFast

    words = sorted(pre_tokenizers.ByteLevel.alphabet())
    words += [f"unused{i}" for i in range(151_643 - len(words))]
    inner = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|special_{i}|>" for i in range(23))]
    special += ["<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>"]
    inner.add_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<|endoftext|>", eos_token="<|im_end|>")


def make_cut3r(work: Path, _: Path | None) -> None:
    """work/cut3r_512_dpt_4_64.pth: every tensor of the released file, in float32, and its `args`."""
    import torch

    from vipa.models.cut3r import Cut3rModel, cut3r_512_config

    torch.manual_seed(1)
    model = Cut3rModel(cut3r_512_config())
    args = argparse.Namespace(model=CONSTRUCTOR, epochs=10, lr=1e-6)
    torch.save({"args": args, "model": model.state_dict(), "epoch": 10}, work / "cut3r_512_dpt_4_64.pth")


def make_data(work: Path, _: Path | None) -> None:
    """work/hand3d and work/episodes, of the tabletop world."""
    from dataclasses import replace

    from vipa.hand3d.pipeline.annotate import annotate
    from vipa.robots.known.tabletop import collect
    from vipa.worlds.film import film_clip
    from vipa.worlds.seeds import TRAIN

    report = annotate((replace(film_clip(TRAIN[i]), split="train") for i in range(4)), work / "hand3d")
    print(report.summary())
    print(collect(work / "episodes", TRAIN[:4]))


def assemble(work: Path, _: Path | None) -> None:
    """work/start, as docs/model.md makes it, with an action head for the episodes' robot."""
    import torch

    from vipa.models import ActionHeadConfig, VipaForConditionalGeneration, VipaProcessor, add_motion_tokens
    from vipa.robots.lerobot_data import open_robot_data

    contract = open_robot_data(work / "episodes").contract
    action = ActionHeadConfig(
        horizon=contract.horizon, embodiments={contract.robot: [len(contract.state), len(contract.action)]}
    )
    torch.manual_seed(2)
    model = VipaForConditionalGeneration.from_parts(work / "vlm", work / "cut3r", dtype="auto", action=action)
    processor = VipaProcessor.from_vlm(work / "vlm")
    tokenizer: Any = processor.tokenizer
    assert len(tokenizer) == ENTRIES and tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>") == IMAGE_ID
    add_motion_tokens(model, tokenizer)
    model.save_pretrained(work / "start", max_shard_size="2GB")
    processor.save_pretrained(work / "start")
    for name, part in model.parts().items():
        held = {str(p.dtype).removeprefix("torch.") for p in part.parameters()}
        print(f"{name}: {sum(p.numel() for p in part.parameters()):,} {sorted(held)}")


def answer(work: Path, _: Path | None) -> None:
    """One question, one motion and one action chunk of the model that stage 3 left."""
    import torch

    from vipa.hand3d.dataset.reader import Hand3D
    from vipa.hands.conventions import Conventions
    from vipa.models import MotionGrammar
    from vipa.models.starts import load_start
    from vipa.robots.contract import CONTRACT, ActionContract
    from vipa.robots.lerobot_data import open_robot_data
    from vipa.robots.transforms import Normalise

    folder = work / "stage3" / "model"
    model, processor = load_start(folder, dtype="auto")
    data = Hand3D(work / "hand3d")
    asked = next(r for r in data.visual("train") if len(r.frame_ids) == 2)
    images = [data.image(frame) for frame in asked.frame_ids]
    inputs = processor([images], [processor.prompt(asked.question, len(images))])
    words = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    length = inputs["input_ids"].shape[1]
    print("question:", asked.question, "->", repr(processor.tokenizer.decode(words[0, length:])))

    motion = next(r for r in data.action("train") if r.trajectories)
    inputs = processor([[data.image(motion.frame_id)]], [processor.prompt(motion.prompt)])
    length = inputs["input_ids"].shape[1]
    end = processor.tokenizer.eos_token_id
    grammar = MotionGrammar(model.config, length, eos_token_id=end, waypoints=(2, 2), hands=("right",))
    ids = model.generate(**inputs, logits_processor=[grammar], max_new_tokens=grammar.max_new_tokens)
    codec = Conventions.from_json(model.config.conventions, str(folder)).codec
    assert codec is not None
    print("motion:", motion.prompt, "->", processor.decode_motion(ids[0, length:], codec))

    episode = open_robot_data(work / "episodes")[0]
    contract = ActionContract.load(folder / CONTRACT)
    state = Normalise.of(contract).forward({"state": episode.state[0], "action": episode.action[:1]})["state"]
    views = [episode.views[view].read([0])[0] for view in contract.views]
    inputs = processor([views], [processor.prompt(episode.text, len(views))], views=True)
    chunk = model.generate_actions(
        **inputs, state=torch.from_numpy(state)[None].float(), embodiment=contract.robot
    )
    assert chunk.isfinite().all()
    print("action chunk:", tuple(chunk.shape), chunk[0, 0].tolist())


PARTS: dict[str, Callable[[Path, Path | None], None]] = {
    "vlm": make_vlm,
    "released": make_cut3r,
    "data": make_data,
    "start": assemble,
    "answer": answer,
}


# The order of them, with measurements


@dataclass(frozen=True)
class Measured:
    """seconds of wall time; memory_gb: most resident memory, files mapped into memory included; 1e9 bytes."""

    seconds: float
    memory_gb: float
    output: str


def measured(command: list[str], log: Path, stop: Callable[[], bool] = lambda: False) -> Measured:
    """Runs a command; where `stop` says so, it is killed with SIGKILL. RuntimeError where it fails by itself."""
    began, killed = time.monotonic(), False
    with log.open("ab") as file:
        child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if not killed and stop():
                os.kill(child.pid, signal.SIGKILL)
                killed = True
            time.sleep(0.2)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode and not killed:
        raise RuntimeError(f"{' '.join(command)}: exit code {child.returncode}; {log.read_text()[-3000:]}")
    return Measured(time.monotonic() - began, usage.ru_maxrss * 1024 / 1e9, log.read_text()[-3000:])


def stage_command(work: Path, stage: str, number: int, threads: int) -> list[str]:
    """What a user types. The language model learns by LoRA: whole it needs 28 GB for weights, gradients and AdamW."""
    start = work / "start" if number == 1 else work / f"stage{number - 1}" / "model"
    command = [sys.executable, "-m", "vipa", "train", stage, "--preset", "vipa-2b", "--start", str(start)]
    command += ["--data", str(work / ("hand3d" if number < 3 else "episodes")), "--out", str(work / stage)]
    command += [
        "--steps",
        "2",
        "--data.0.batch",
        "2",
        "--accumulate",
        "2",
        "--recompute",
        "--threads",
        str(threads),
    ]
    command += ["--save-every", "1", "--log-every", "1", "--device", "cpu", "--workers", "1"]
    return command + (["--lora.rank", "32"] if number > 1 else [])


def train_stage(work: Path, number: int, threads: int, results: dict[str, Any]) -> None:
    """Killed after the save of its first step, then gone on with."""
    stage = f"stage{number}"
    command = stage_command(work, stage, number, threads)
    saved = work / stage / "progress" / "step-00000001" / "complete.json"
    log = work / f"{stage}.log"
    if not (work / stage / "log.jsonl").exists():
        first = measured(command, log, stop=saved.exists)
        results[stage] = {"first": {"seconds": first.seconds, "memory_gb": first.memory_gb}}
    second = measured(command, log)
    lines = [json.loads(line) for line in (work / stage / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2], lines
    results[stage] |= {
        "second": {"seconds": second.seconds, "memory_gb": second.memory_gb},
        "log": lines,
        "command": " ".join(command[1:]).replace(str(work), "WORK"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--threads", type=int, default=2, help="of the trainings")
    parser.add_argument("--part", choices=sorted(PARTS), help="one part alone, in this process")
    parser.add_argument("--until", help="the last thing to do")
    given = parser.parse_args()
    work: Path = given.work
    work.mkdir(parents=True, exist_ok=True)
    if given.part:
        PARTS[given.part](work, given.tokenizer)
        return
    path = work / "rehearsal.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    own = [sys.executable, __file__, "--work", str(work)]
    own += ["--tokenizer", str(given.tokenizer)] if given.tokenizer else []
    vipa = [sys.executable, "-m", "vipa"]
    pth = work / "cut3r_512_dpt_4_64.pth"
    order: dict[str, list[str] | int] = {
        "vlm": [*own, "--part", "vlm"],
        "released": [*own, "--part", "released"],
        "import": [*vipa, "import-weights", "cut3r", str(pth), "--out", str(work / "cut3r")],
        "data": [*own, "--part", "data"],
        "start": [*own, "--part", "start"],
        "stage1": 1,
        "stage2": 2,
        "stage3": 3,
        "check": [*vipa, "model", "check", str(work / "stage3" / "model")],
        "answer": [*own, "--part", "answer"],
    }
    for name, what in order.items():
        if not results.get(name, {}).get("done"):
            print(f"{name} ...", flush=True)
            if isinstance(what, int):
                train_stage(work, what, given.threads, results)
            else:
                done = measured(what, work / f"{name}.log")
                results[name] = {"seconds": done.seconds, "memory_gb": done.memory_gb, "output": done.output}
            results[name]["done"] = True
            path.write_text(json.dumps(results, indent=1))
        print(name, json.dumps({k: v for k, v in results[name].items() if k != "output"}), flush=True)
        if name == given.until:
            break


if __name__ == "__main__":
    main()
