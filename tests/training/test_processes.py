"""A training is the same however it is computed: micro-batches, loaders, processes, interruptions."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import load_file

from vipa.cli import main
from vipa.data.spec import DataSpec
from vipa.hand3d.pipeline.annotate import annotate
from vipa.training.known import stage1
from vipa.training.loop import train
from vipa.training.runs import STAGE3_PARTS
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import TRAIN, VALIDATION

PORT = 29_400 + os.getpid() % 1000


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_alike(a: Path, b: Path) -> None:
    """Losses to 1e-6 and weights to 1e-5."""
    assert losses(b) == pytest.approx(losses(a), rel=1e-6, abs=1e-6)
    there = weights(b)
    for name, tensor in weights(a).items():
        torch.testing.assert_close(there[name], tensor, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    from vipa.robots.known.tabletop import collect

    folder = tmp_path_factory.mktemp("demonstrations")
    collect(folder, TRAIN[:1], {"touch": 1.0})
    return folder


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """What the encoders see, once for all runs."""
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture
def visual(hand3d_path, tmp_path, tokens):
    """Answers of uneven lengths, learned by the fusion and the language model."""
    run = stage1.make(hand3d_path, tmp_path / "whole")
    spec = replace(run.data[0], batch=12, turns=4)
    run = replace(run, data=(spec,), cache=tokens, learning_rate=1e-5, precision="fp32")
    return replace(run, steps=4, log_every=1, threads=1)


def test_micro_batches_and_loaders_change_nothing(visual, tmp_path):
    train(visual)
    train(replace(visual, out=tmp_path / "accumulated", accumulate=5))
    assert_alike(visual.out, tmp_path / "accumulated")
    train(replace(visual, out=tmp_path / "loaded", workers=2))
    assert losses(tmp_path / "loaded") == losses(visual.out)
    there = weights(tmp_path / "loaded")
    assert all(torch.equal(there[name], tensor) for name, tensor in weights(visual.out).items())


def test_micro_batches_of_a_robots_steps_change_nothing(visual, demonstrations, tmp_path):
    """Chunks that run past an episode's end count less; noise is each step's own."""
    spec = DataSpec("episodes", demonstrations, batch=6, noise_draws=2)
    run = replace(visual, data=(spec,), start="nano:stage2", trained=STAGE3_PARTS, steps=3)
    train(run)
    train(replace(run, out=tmp_path / "accumulated", accumulate=3))
    assert_alike(run.out, tmp_path / "accumulated")


def command(data: Path, out: Path, *more: str, processes: int = 1) -> list[str]:
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(PORT), "-m"]
    start = [sys.executable, *(launch if processes > 1 else ["-m"]), "vipa", "train", "stage1"]
    fields = [
        "--steps",
        "20",
        "--learning-rate",
        "1e-5",
        "--precision",
        "fp32",
        "--log-every",
        "1",
        "--threads",
        "1",
    ]
    return [*start, "--data", str(data), "--out", str(out), *fields, *more]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns_and_go_on_as_one(hand3d_path, tmp_path, parallel):
    subprocess.run(command(hand3d_path, tmp_path / "one"), check=True)
    more = ("--parallel", parallel, "--accumulate", "2", "--save-every", "8")
    subprocess.run(command(hand3d_path, tmp_path / "two", *more, processes=2), check=True)
    assert_alike(tmp_path / "one", tmp_path / "two")
    for first, second in ((2, 1), (1, 2)):
        out = tmp_path / f"{first}-{second}"
        running = subprocess.Popen(command(hand3d_path, out, *more, processes=first), start_new_session=True)
        until(lambda out=out: (out / "progress" / "step-00000008").exists(), running)
        kill_with_children(running)
        subprocess.run(command(hand3d_path, out, *more, processes=second), check=True)
        assert_alike(tmp_path / "one", out)


def kill_with_children(running: subprocess.Popen) -> None:
    """The processes that torchrun starts are no group of its own."""
    from psutil import Process  # of accelerate

    everyone = [Process(running.pid), *Process(running.pid).children(recursive=True)]
    for process in everyone:
        process.kill()
    running.wait()


def until(done, running: subprocess.Popen, limit: float = 120.0) -> None:
    end = time.monotonic() + limit
    while not done():
        assert running.poll() is None, f"ended with {running.returncode}"
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_a_run_killed_at_ten_moments_ends_with_the_same_weights_to_the_bit(hand3d_path, tmp_path):
    more = ("--workers", "2", "--save-every", "2")
    began = time.monotonic()
    subprocess.run(command(hand3d_path, tmp_path / "whole", *more), check=True)
    seconds = time.monotonic() - began
    moments = random.Random(0)
    for _ in range(10):
        running = subprocess.Popen(command(hand3d_path, tmp_path / "killed", *more), start_new_session=True)
        try:
            running.wait(timeout=moments.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    subprocess.run(command(hand3d_path, tmp_path / "killed", *more), check=True)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    there = weights(tmp_path / "killed")
    assert all(torch.equal(there[name], tensor) for name, tensor in weights(tmp_path / "whole").items())


def test_a_run_that_is_asked_to_stop_saves_first(hand3d_path, tmp_path, tokens, capsys):
    log = tmp_path / "run" / "log.jsonl"

    def ask() -> None:
        while not (log.exists() and len(log.read_text().splitlines()) >= 2):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=ask, daemon=True).start()
    arguments = command(hand3d_path, tmp_path / "run", "--steps", "2000", "--cache", str(tokens))
    with pytest.raises(SystemExit) as ended:
        main(arguments[arguments.index("train") :])
    assert ended.value.code == 143
    done = len(losses(tmp_path / "run"))
    assert f"saved after {done} of 2000 steps; the same command goes on" in capsys.readouterr().out
    assert (tmp_path / "run" / "progress" / f"step-{done:08d}" / "complete.json").exists()


@pytest.mark.slow
def test_nothing_is_lost_by_sigterm_or_by_a_file_system_that_takes_no_large_file(hand3d_path, tmp_path):
    """Asked to stop in a step that is not to be saved; then with a limit on files as of a full disk; then as it should
    be: the weights are those of a run that nothing happened to."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    subprocess.run(command(hand3d_path, whole), check=True)
    mine = command(hand3d_path, out, "--save-every", "7")
    running = subprocess.Popen(mine, stdout=subprocess.DEVNULL)
    until(lambda: (out / "log.jsonl").exists() and len(losses(out)) >= 2, running)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=120) == 143
    done = len(losses(out))
    folder = out / "progress" / f"step-{done:08d}"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))

    failed = subprocess.run(mine, capture_output=True, text=True, preexec_fn=limited)
    assert failed.returncode == 2
    last = failed.stderr.strip().splitlines()[-1]
    assert "cannot be written (File too large)" in last
    assert "make room, then the same command goes on" in last
    assert "Traceback" not in failed.stderr
    assert sorted(path.name for path in (out / "progress").iterdir()) == [folder.name]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    subprocess.run(mine, check=True)
    assert losses(out) == losses(whole)
    there = weights(out)
    assert all(torch.equal(there[name], tensor) for name, tensor in weights(whole).items())


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_say_of_held_out_records_what_one_says(tmp_path, parallel):
    """Of a model that is shared out only the losses; it goes on learning as if nothing had been asked."""
    data = tmp_path / "data"
    clips = ((TRAIN[0], "train"), (VALIDATION[0], "validation"))
    annotate((replace(film_clip(seed), split=split) for seed, split in clips), data)
    more = ("--steps", "4", "--validate-every", "2", "--validate-answers", "4", "--parallel", parallel)
    subprocess.run(command(data, tmp_path / "one", *more), check=True)
    subprocess.run(command(data, tmp_path / "two", *more, processes=2), check=True)

    def said(folder):
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [row[figure] for row in rows if figure in row]

    figure = "validation_hand3d_visual" if parallel == "fsdp" else "validation_distance_error"
    assert len(said(tmp_path / "one")) == 2
    assert said(tmp_path / "two") == pytest.approx(said(tmp_path / "one"), rel=0.1 if parallel == "fsdp" else 1e-5)
    there = weights(tmp_path / "two")
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(there[name], tensor, rtol=0, atol=1e-5)


def test_a_full_disk_during_a_save_leaves_the_save_before(visual, monkeypatch):
    from vipa.training import checkpoints

    wrote = checkpoints.dcp.save

    def full(state, **kwargs):
        if "step-00000004" in str(kwargs["storage_writer"].path):
            raise OSError(28, "No space left on device")
        return wrote(state, **kwargs)

    run = replace(visual, steps=5, save_every=2)
    monkeypatch.setattr(checkpoints.dcp, "save", full)
    with pytest.raises(
        ValueError, match=r"step-00000004: cannot be written \(No space left on device\).* make room"
    ):
        train(run)
    assert checkpoints.last_step(run.out) == 2
    monkeypatch.undo()
    assert train(run).steps == 5
