"""What `--dry-run` says: counts against sums from public configurations, memory against shared-out parameters."""

from dataclasses import replace
from math import ceil

import pytest
import torch
from torch.distributed.tensor import DTensor

from vipa.cli import main
from vipa.models import VipaForConditionalGeneration, preset_config
from vipa.models.presets import vipa_2b_config
from vipa.training.estimate import estimate
from vipa.training.known import TRAININGS
from vipa.training.loop import train
from vipa.training.parallel import distribute
from vipa.training.parts import freeze_all_but, hold
from vipa.training.processes import Processes
from vipa.training.runs import Lora

VOCABULARY = 154_752  # 151,674 entries and 3,076 motion tokens, in whole 64s


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def qwen3(width: int, feed_forward: int, layers: int = 28, heads: int = 16, kv: int = 8, head: int = 128) -> int:
    """Tied embeddings, no biases, norms of queries and keys."""
    attention = width * head * (2 * heads + 2 * kv) + 2 * head
    return VOCABULARY * width + layers * (attention + 3 * width * feed_forward + 2 * width) + width


def cross_attention_fusion(vision: int = 1024, spatial: int = 768, space: int = 1024) -> int:
    """Two norms, query, key, value, output, norm of the branch, alpha."""
    norms = 2 * (vision + spatial) + 2 * vision
    return norms + linear(vision, space) + 2 * linear(spatial, space) + linear(space, vision) + 1


def action_head(condition: int, width: int = 1024, layers: int = 16, state: int = 8, action: int = 7) -> int:
    """GR00T N1's sizes, one embodiment, chunks of 16."""

    def layer(source: int) -> int:
        attention = 2 * linear(width, width) + 2 * linear(source, width)
        modulation, feed_forward = linear(width, 2 * width), linear(width, 4 * width) + linear(4 * width, width)
        return modulation + attention + 2 * width + feed_forward

    outside = linear(state, width) + linear(width, width)
    outside += linear(action, width) + linear(2 * width, width) + linear(width, width)
    outside += linear(width, width) + linear(width, action)
    outside += (1 + 16) * width + linear(256, width) + linear(width, width) + 2 * condition
    return outside + layers // 2 * (layer(condition) + layer(width)) + linear(width, 2 * width)


TRAINED = {
    "stage1": cross_attention_fusion(),
    "stage2": cross_attention_fusion() + qwen3(2048, 6144),
    "stage3": qwen3(2048, 6144) + 64 * 2048 + action_head(2048),
}


def run_of(stage: str, tmp_path, preset="vipa-2b", start="vipa-2b"):
    return TRAININGS.load(stage).make(tmp_path / "data", tmp_path / "out", preset, start)


@pytest.fixture
def eight_ranks():
    """A process group whose other seven members do not exist."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", rank=0, world_size=8, store=FakeStore())
    yield Processes(0, 8, torch.device("cpu"))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "stage",
    [pytest.param("stage1", marks=pytest.mark.slow), "stage2", pytest.param("stage3", marks=pytest.mark.slow)],
)
def test_vipa_2b_trains_the_public_sums_and_a_rank_holds_what_is_estimated(stage, tmp_path, eight_ranks):
    run = replace(run_of(stage, tmp_path), parallel="fsdp")
    said = estimate(run, world=8)
    assert sum(own for _, own in said.parameters.values()) == TRAINED[stage]

    with torch.device("meta"):
        model = VipaForConditionalGeneration(preset_config("vipa-2b"))
    freeze_all_but(model, run.trained)
    hold(model, "bf16", torch.device("meta"))
    distribute(model, list(model.model.language_model.layers), "fsdp", eight_ranks)
    own = [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]
    assert sum(p.nbytes for p in own) == pytest.approx(said.weight_bytes, rel=1e-3)
    learned = [p for p in model.parameters() if p.requires_grad]
    assert all(isinstance(p, DTensor) for p in learned if p.ndim)
    rank = sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in learned)
    # The weights of a single robot are one row each, which one rank has whole: 5 M of stage 3's.
    assert rank == pytest.approx(TRAINED[stage] / 8, rel=2e-2 if stage == "stage3" else 2e-3)
    assert said.optimiser_bytes == pytest.approx(8 * rank, rel=1e-3)
    assert said.gradient_bytes == pytest.approx(4 * rank, rel=1e-3)


@pytest.mark.slow
def test_operations_of_stage_2_are_those_of_its_matrices(tmp_path):
    said = estimate(run_of("stage2", tmp_path), world=1)
    tokens, answered = 256 + 48 + 56, 56
    matrices = qwen3(2048, 6144) - VOCABULARY * 2048
    language = 6 * (matrices * tokens + VOCABULARY * 2048 * answered)
    encoders = 2 * (304e6 * 1025 + 303e6 * 729 + 2 * 113e6 * 750)  # InternViT, CUT3R's encoder and two decoders
    assert said.tokens == tokens
    assert said.operations == pytest.approx(language + encoders, rel=0.12)  # attention comes on top


@pytest.mark.parametrize("stage", [pytest.param("stage1", marks=pytest.mark.slow), "stage3"])
def test_vipa_1b_fits_a_gpu_of_24_gb(stage, tmp_path):
    config = vipa_2b_config(vocabulary=VOCABULARY, motion_token_start=151_674)
    config.text_config.hidden_size, config.text_config.intermediate_size = 1024, 3072  # InternVL3.5-1B
    config.save_pretrained(tmp_path)
    run = run_of(stage, tmp_path, "vipa-1b", str(tmp_path))
    said = estimate(run, world=1)
    assert said.total_bytes < 20e9  # and 4 GB for what is not counted
    assert sum(own for _, own in said.parameters.values()) == (
        cross_attention_fusion() if stage == "stage1" else qwen3(1024, 3072) + 64 * 1024 + action_head(1024)
    )
    assert (said.samples, run.recompute) == ({"stage1": 32, "stage3": 128}[stage], True)


def test_the_large_presets_are_the_papers(tmp_path):
    """Section 4 of the paper."""
    for preset in ("vipa-1b", "vipa-2b"):
        first, second, third = (run_of(stage, tmp_path, preset) for stage in ("stage1", "stage2", "stage3"))
        for run, pairs in ((first, 300_368), (second, 1_030_850)):
            assert (run.data[0].batch, run.data[0].turns, run.steps) == (32, 1, ceil(pairs / 32))
            assert (run.learning_rate, run.weight_decay, run.warmup) == (1e-5, 0.01, 0.03)
        assert (third.data[0].batch, third.data[0].noise_draws, third.steps) == (128, 1, 30_000)
        assert (third.learning_rate, third.weight_decay, third.warmup) == (5e-5, 1e-5, 0.05)
        assert first.trained == ("fusion",)
        assert second.trained == ("fusion", "language")
        assert third.trained == ("language", "action_queries", "action_head")
        assert all(run.lora.rank == 0 and run.average == 0 for run in (first, second, third))


def test_recomputing_and_smaller_micro_batches_hold_less_and_packing_computes_less(start, tmp_path):
    run = run_of("stage2", tmp_path, "nano", str(start))
    run = replace(run, data=(replace(run.data[0], batch=32, turns=1),))
    plain = estimate(run, world=1)
    again = estimate(replace(run, recompute=True), world=1)
    halves = estimate(replace(run, accumulate=2), world=1)
    packed = estimate(replace(run, data=(replace(run.data[0], turns=8),)), world=1)
    adapted = estimate(replace(run, lora=Lora(rank=4)), world=1)
    assert again.activation_bytes < plain.activation_bytes / 2
    assert again.operations > 1.1 * plain.operations
    assert halves.activation_bytes * 2 == plain.activation_bytes
    assert (plain.rows, halves.rows, packed.rows) == (32, 16, 4)
    assert packed.operations < 0.75 * plain.operations
    assert adapted.optimiser_bytes < plain.optimiser_bytes / 4


def test_a_dry_run_prints_everything_and_writes_nothing(start, tmp_path, capsys):
    out = tmp_path / "out"
    main(["train", "stage3", "--data", "d", "--out", str(out), "--start", str(start), "--dry-run", "--steps", "7"])
    said = capsys.readouterr().out
    for line in ("learning_rate: 0.0005", "steps: 7", "all, roughly", "samples/s", "action_head"):
        assert line in said
    assert not out.exists()
    with pytest.raises(SystemExit):
        main(["train", "stage1", "--data", "d", "--out", str(out), "--start", "nowhere", "--dry-run"])
    assert "no config.json here" in capsys.readouterr().err


def test_a_model_is_saved_in_the_precision_of_its_start(run, start, tmp_path):
    """A start in bfloat16 whose fusion learned in float32: one precision again, frozen tensors to the bit, and the
    model's own check holds."""
    from vipa.models import selfcheck
    from vipa.models.starts import load_start

    model, processor = load_start(start)
    model.bfloat16().save_pretrained(tmp_path / "start")
    processor.save_pretrained(tmp_path / "start")
    for number, changed in enumerate(({}, {"lora": Lora(rank=2), "trained": ("fusion", "language")})):
        out = tmp_path / f"run{number}"
        trained = train(replace(run, start=str(tmp_path / "start"), steps=2, out=out, **changed)).model
        before, after = (
            dict(load_start(f, dtype="auto")[0].named_parameters()) for f in (tmp_path / "start", trained)
        )
        assert {p.dtype for p in after.values()} == {torch.bfloat16}
        same = {name for name, p in before.items() if torch.equal(p, after[name])}
        assert all("fusion" in name or (number and "language_model" in name) for name in before.keys() - same)
        assert before.keys() - same
        verdict = selfcheck.verify(trained)
        assert verdict.sound
        assert verdict.weights is True
