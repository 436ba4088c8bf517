"""A run's folder: what may go on in it, what is refused, and that nothing good is overwritten."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from vipa.data.spec import DataSpec
from vipa.training import loop
from vipa.training.checkpoints import last_step, save_progress
from vipa.training.loop import train
from vipa.training.record import data_hash


@pytest.fixture
def stopped(run, monkeypatch):
    """A run that was interrupted after its first save, with three of six steps done."""

    def save_then_stop(out, step, *rest):
        save_progress(out, step, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_progress", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    monkeypatch.setattr(loop, "save_progress", save_progress)
    return run


def saved(run, step):
    """The tensors that were saved after so many steps, and that these are the last."""
    assert last_step(run.out) == step
    files = (run.out / "progress" / f"step-{step:08d}").glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def steps_logged(run):
    return [json.loads(line)["step"] for line in (run.out / "log.jsonl").read_text().splitlines()]


def test_how_a_run_is_computed_and_where_its_files_lie_may_change_when_it_goes_on(stopped, tmp_path, monkeypatch):
    moved = tmp_path / "moved"
    shutil.copytree(stopped.start, moved / "start")
    shutil.copytree(stopped.data[0].path, moved / "data")
    shutil.copytree(stopped.out, moved / "run")
    monkeypatch.chdir(moved)
    spec = replace(stopped.data[0], path=Path("data"))
    other = replace(
        stopped,
        start="start",
        data=(spec,),
        out=Path("run"),
        log_every=2,
        save_every=5,
        threads=None,
        device="cpu",
    )
    train(other)
    assert steps_logged(other) == [1, 2, 3, 4, 6]


def test_what_decides_the_result_is_refused_by_name(stopped):
    for change, said in (
        ({"seed": 1}, "seed was 0, is 1"),
        ({"steps": 7}, "steps was 6, is 7"),
        ({"betas": (0.9, 0.999)}, r"betas\[1\] was 0.98, is 0.999"),
        ({"gradient_clip": 0.5}, "gradient_clip was 1.0, is 0.5"),
        ({"precision": "fp32"}, "precision was auto, is fp32"),
        ({"data": (replace(stopped.data[0], turns=2),)}, r"data\[0\].turns was 3, is 2"),
    ):
        with pytest.raises(ValueError, match=said):
            train(replace(stopped, **change))


def test_data_that_changed_in_its_place_is_refused(stopped, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(stopped.data[0].path, copy)
    file = next(copy.glob("*.npz"))
    with np.load(file) as arrays:
        np.savez(file, **{name: 255 - a if name == "rgb" else a for name, a in arrays.items()})
    with pytest.raises(ValueError, match=r"data\[0\].content was .* \(the data changed\)"):
        train(replace(stopped, data=(replace(stopped.data[0], path=copy),)))


def test_other_weights_at_the_same_start_are_refused(stopped, start, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "start"
    shutil.copytree(start, copy)
    tensors = load_file(copy / "model.safetensors")
    tensors["model.fusion.alpha"] += 0.1
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"start was .* \(other weights\)"):
        train(replace(stopped, start=str(copy)))


def test_annotating_again_with_other_words_makes_another_data_set(hand3d_path, tmp_path):
    from vipa.hand3d.dataset.reader import Hand3D

    def hash_of(path):
        return data_hash(DataSpec("hand3d_visual", path, batch=1))

    shutil.copytree(hand3d_path, tmp_path / "same", ignore=shutil.ignore_patterns("work"))
    assert hash_of(tmp_path / "same") == hash_of(hand3d_path)
    table = next((tmp_path / "same" / "visual").glob("train-*"))
    import pyarrow.parquet as pq

    rows = pq.read_table(table)
    pq.write_table(rows.set_column(rows.column_names.index("answer"), "answer", rows["question"]), table)
    assert Hand3D(tmp_path / "same").manifest == Hand3D(hand3d_path).manifest
    assert hash_of(tmp_path / "same") != hash_of(hand3d_path)


def test_a_start_that_fails_leaves_the_folder_to_the_corrected_command(run):
    for wrong, said in (
        ({"trained": ("fusions",)}, "fusions"),
        ({"start": "nano:stage9"}, "no stage"),
        ({"start": "nowhere"}, "no model here"),
        ({"device": "card"}, "device 'card' cannot be used here"),
        ({"data": (DataSpec("foundation", Path("nowhere"), 2),)}, "no foundation data"),
        ({"data": (DataSpec("hand3d_visual", Path("nowhere"), 2),)}, "annotate first"),
        ({"data": (DataSpec("episodes", Path("nowhere"), 2),)}, "no episodes data"),
    ):
        with pytest.raises(ValueError, match=said):
            train(replace(run, **wrong))
        assert not run.out.exists()
    assert train(run).steps == 6


def test_a_run_that_saved_nothing_leaves_the_folder_free(run, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_gradients", stop)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    monkeypatch.undo()
    train(replace(run, learning_rate=2e-3))
    assert json.loads((run.out / "run.json").read_text())["decides"]["learning_rate"] == 2e-3


def test_numbers_that_stop_being_finite_end_the_run_before_the_step_and_keep_the_last_good_save(run, monkeypatch):
    """The gradient of step 6, a step to be saved, is not a number, though its loss is finite."""
    run = replace(run, steps=8, save_every=2)
    taken = loop._gradients

    def step_with_a_bad_gradient(run, called, mixture, parts, team, step, asked):
        out = taken(run, called, mixture, parts, team, step, asked)
        if step == 5:
            next(p for p in called.parameters() if p.grad is not None).grad.fill_(float("nan"))
        return out

    monkeypatch.setattr(loop, "_gradients", step_with_a_bad_gradient)
    for _ in range(2):  # the same command fails in the same way, from the same save
        with pytest.raises(
            ValueError, match=r"gradient norm nan at step 6; .*last good save is of step 4 .*learning rate"
        ):
            train(run)
        assert all(bool(tensor.isfinite().all()) for tensor in saved(run, 4).values())
    monkeypatch.undo()
    train(run)
    assert steps_logged(run) == list(range(1, 9))


def test_a_learning_rate_that_blows_up_saves_nothing(run):
    with pytest.raises(ValueError, match=r"step \d; this step was not kept"):
        train(replace(run, learning_rate=1e38, save_every=1))
    if step := last_step(run.out):
        assert all(bool(tensor.isfinite().all()) for tensor in saved(run, step).values())
    assert not (run.out / "model").exists()


def test_damaged_progress_is_named(stopped):
    file = next((stopped.out / "progress" / "step-00000003").glob("*.safetensors"))
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[-5] ^= 1
    for damage in (b"", b"version https://git-lfs.github.com/spec/v1\n", good[:-100], bytes(flipped)):
        file.write_bytes(damage)
        with pytest.raises(
            ValueError, match=r"step-00000003: damaged .*cannot be gone on from; delete .* to start over"
        ):
            train(stopped)


def test_damage_of_the_last_save_goes_back_to_the_one_before(run, tmp_path, monkeypatch, caplog):
    run = replace(run, save_every=2, steps=7)
    whole = train(replace(run, out=tmp_path / "whole"))

    def save_then_stop(out, step, *rest):
        save_progress(out, step, *rest)
        if step == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_progress", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    monkeypatch.undo()
    folders = sorted((run.out / "progress").iterdir())
    assert [folder.name for folder in folders] == ["step-00000004", "step-00000006"], "the last two are kept"
    next(folders[-1].glob("*.safetensors")).write_bytes(b"")
    again = train(run)
    assert "step-00000006: damaged" in caplog.text
    assert steps_logged(run) == list(range(1, 8))
    assert again.final_loss == whole.final_loss
    assert not (run.out / "progress").exists()
