"""The loop: what is frozen stays, what is interrupted resumes exactly."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from vipa.models import selfcheck
from vipa.models.starts import load_start
from vipa.training.checkpoints import save_progress
from vipa.training.known import TRAININGS, stage1
from vipa.training.loop import train
from vipa.training.parts import freeze_all_but
from vipa.training.runs import STAGE1_PARTS, STAGE2_PARTS, STAGE3_PARTS


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("parts", [STAGE1_PARTS, STAGE2_PARTS, STAGE3_PARTS])
def test_a_stage_trains_exactly_the_parameters_of_its_parts(start, parts):
    model, _ = load_start(start)
    learned = freeze_all_but(model, parts)
    have = model.parts()
    expected = {id(p) for part in parts for p in have[part].parameters()}
    assert {id(p) for p in learned} == expected
    assert sum(p.numel() for p in learned) == sum(
        p.numel() for p in {id(p): p for part in parts for p in have[part].parameters()}.values()
    )
    everything = [id(p) for part in have.values() for p in {id(p): p for p in part.parameters()}.values()]
    assert sorted(everything) == sorted({id(p) for p in model.parameters()}), "every parameter is in one part"


def test_frozen_parameters_do_not_change_and_trained_ones_do(run):
    before, _ = load_start(run.start)
    after, _ = load_start(train(run).model)
    changed = {name for name, p in after.named_parameters() if not torch.equal(p, before.get_parameter(name))}
    assert changed
    assert all(".fusion." in name for name in changed)


@pytest.mark.slow
def test_three_stages_account_for_every_tensor(start, hand3d_path, tmp_path):
    """Each hands on all tensors of its start; only those of its parts changed, and all of these that got gradients."""
    from vipa.robots.known.tabletop import collect
    from vipa.worlds.seeds import TRAIN

    collect(tmp_path / "episodes", TRAIN[:1], {"touch": 1.0})
    folder = start
    for number, data in enumerate((hand3d_path, hand3d_path, tmp_path / "episodes"), 1):
        run = TRAININGS.load(f"stage{number}").make(data, tmp_path / f"stage{number}", start=str(folder))
        spec = replace(run.data[0], batch=4)
        made = train(replace(run, data=(spec,), steps=2, threads=1, warmup=0.0, compile=False)).model
        before, _ = load_start(folder)
        after, _ = load_start(made)
        old, new = dict(before.named_parameters()), dict(after.named_parameters())
        assert old.keys() == new.keys()
        learned = {id(p) for part in run.trained for p in after.parts()[part].parameters()}
        own = {name for name, p in new.items() if id(p) in learned}
        assert {name for name in old if not torch.equal(old[name], new[name])} <= own
        still = {name for name in own if torch.equal(old[name], new[name])}
        assert len(still) < 0.1 * len(own), still
        folder = made


def test_an_interrupted_run_resumes_to_the_same_losses_and_weights(run, tmp_path, monkeypatch):
    whole = train(run)
    broken = replace(run, out=tmp_path / "broken")

    def save_then_stop(out, step, *rest):
        save_progress(out, step, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr("vipa.training.loop.save_progress", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    monkeypatch.setattr("vipa.training.loop.save_progress", save_progress)
    resumed = train(broken)
    assert losses(broken.out) == losses(run.out)
    a, b = load_start(whole.model)[0], load_start(resumed.model)[0]
    for (name, p), q in zip(a.named_parameters(), b.parameters()):
        assert torch.equal(p, q), name


def test_a_finished_run_is_not_trained_again_and_another_run_is_refused(run):
    first = train(run)
    stamp = (first.model / "config.json").stat().st_mtime_ns
    assert train(run).final_loss == first.final_loss
    assert (first.model / "config.json").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="another run: seed was 0, is 1"):
        train(replace(run, seed=1))


def test_a_trained_model_can_say_that_it_computes_what_it_did_when_it_was_saved(run):
    assert selfcheck.verify(train(run).model).sound


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_layers_learn_the_same(run, tmp_path):
    run = replace(run, trained=STAGE2_PARTS, precision="fp32")
    train(run)
    train(replace(run, out=tmp_path / "compiled", compile=True))
    assert losses(tmp_path / "compiled") == pytest.approx(losses(run.out), rel=1e-4)


def test_the_paper_sized_preset_needs_a_start(tmp_path):
    with pytest.raises(ValueError, match="--start"):
        stage1.make(tmp_path, tmp_path, "vipa-2b")


def test_an_unknown_start_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="no model here"):
        load_start(tmp_path)
    with pytest.raises(ValueError, match="nano has no stage"):
        load_start("nano:stage9")
