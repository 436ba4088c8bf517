"""What a training says of records that it does not learn from: losses, and errors of its answers."""

import json
from dataclasses import replace

import pytest

from small_robots import small_contract, write_demonstrations
from vipa.benchmarks.answering import ModelAnswerer, Motions, Questions
from vipa.benchmarks.hand3d_benchmark import evaluate_hand3d
from vipa.benchmarks.report.curves import Curve, read_curve
from vipa.benchmarks.trajectories_benchmark import evaluate_trajectories
from vipa.benchmarks.watching import watch_of
from vipa.cli import main
from vipa.data.images import EncodedImages, Pixels
from vipa.hand3d.pipeline.annotate import annotate
from vipa.robots.known.tabletop import collect
from vipa.training import loop
from vipa.training.checkpoints import save_progress
from vipa.training.known import TRAININGS
from vipa.training.loop import train
from vipa.training.processes import processes
from vipa.training.setup import build
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import TRAIN, VALIDATION


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Hand3D of a clip to learn from, and one to validate on."""
    folder = tmp_path_factory.mktemp("validation")
    clips = ((TRAIN[0], "train"), (VALIDATION[0], "validation"))
    annotate((replace(film_clip(seed), split=split) for seed, split in clips), folder)
    return folder


def stage(name, data, out, **changes):
    run = TRAININGS.load(name).make(data, out)
    spec = replace(run.data[0], batch=4)
    some = {"steps": 2, "threads": 1, "log_every": 1, "validate_every": 1, "validate_answers": 4}
    some |= {"cache": data.with_name("tokens")}  # what the encoders see, once for all runs
    return replace(run, data=(spec,), validation=(replace(spec, split="validation"),), **some | changes)


def lines(out):
    """Without what depends on the clock."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    clock = ("samples_per_second", "tokens_per_second", "data_wait", "memory_gb", "utilisation")
    return [{name: value for name, value in row.items() if name not in clock} for row in rows]


@pytest.mark.parametrize("name", ["stage1", "stage2"])
def test_the_last_figures_are_those_of_the_benchmark_on_the_saved_model(data, tmp_path, name):
    run = stage(name, data, tmp_path / "run", precision="fp32", learning_rate=1e-5)
    result = train(run, watch_of(run))
    said = [row for row in lines(run.out) if any(key.startswith("validation_") for key in row)]
    assert [row["step"] for row in said] == [1, 2]
    answerer, asked = ModelAnswerer(result.model, data), {"split": "validation", "limit": 4}
    if name == "stage1":
        benchmark = evaluate_hand3d(Questions(answerer), data, tmp_path / "r.json", **asked).all
        assert said[-1]["validation_distance_error"] == pytest.approx(benchmark.error.value)
        assert said[-1]["validation_direction_score"] == pytest.approx(benchmark.direction_score.value)
        assert said[-1]["validation_unparsable"] == benchmark.unparsable / 4
    else:
        benchmark = evaluate_trajectories(Motions(answerer), data, tmp_path / "r.json", **asked)
        assert said[-1]["validation_motion_error"] == pytest.approx(benchmark.average_error.value)
    assert said[-1][f"validation_hand3d_{'visual' if name == 'stage1' else 'action'}"] > 0


def test_a_run_that_goes_on_says_the_same_of_held_out_records(data, tmp_path, monkeypatch):
    run = stage("stage1", data, tmp_path / "whole", steps=3, save_every=2)
    train(run, watch_of(run))
    broken = replace(run, out=tmp_path / "broken")

    def save_then_stop(*args):
        save_progress(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_progress", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train(broken, watch_of(broken))
    monkeypatch.undo()
    train(broken, watch_of(broken))
    assert lines(broken.out) == lines(run.out)
    unwatched = replace(run, out=tmp_path / "unwatched", validate_every=0)
    train(unwatched)
    rows = [row for row in lines(run.out) if "loss" in row]
    assert lines(unwatched.out) == rows, "validation changes nothing of what is learned"


def test_the_command_validates_on_the_validation_split_and_never_on_the_test_split(
    data, hand3d_path, tmp_path, capsys
):
    fields = ["--steps", "1", "--data.0.batch", "2", "--validation.0.batch", "2", "--threads", "1"]
    fields += ["--validate-every", "1", "--validate-answers", "2"]
    main(["train", "stage1", "--data", str(data), "--out", str(tmp_path / "run"), *fields])
    assert "validation_distance_error" in lines(tmp_path / "run")[-1]
    for more, said in (
        (["--data", str(hand3d_path)], "no hand3d_visual records of the split validation"),
        (["--data", str(data), "--validation.0.split", "test"], "never of `test`"),
    ):
        with pytest.raises(SystemExit):
            main(["train", "stage1", *more, "--out", str(tmp_path / "wrong"), *fields])
        assert said in capsys.readouterr().err


def test_demonstrations_that_are_held_out_are_read_as_those_that_are_learned_from(data, tmp_path):
    """Beside questions, which stage 3 may also learn from."""
    collect(tmp_path / "data", TRAIN[:2], {"touch": 1.0}, size=32)
    collect(tmp_path / "held", VALIDATION[:1], {"push": 1.0}, size=32)
    also = (f"hand3d_visual={data}",)
    run = TRAININGS.load("stage3").make(tmp_path / "data", tmp_path / "run", held_out=tmp_path / "held", also=also)
    assert [(spec.path, spec.batch) for spec in run.data] == [(tmp_path / "data", 32), (data, 2)]
    assert run.validate_every == 2_200
    run = replace(run, steps=2, log_every=1, threads=1, data=(replace(run.data[0], batch=4), run.data[1]))
    with processes("cpu") as team:
        built = build(replace(run, out=tmp_path / "built"), team)
    (learned, _), (held, _) = built.mixture.components[0], built.validation.components[0]
    assert held.spec.path == tmp_path / "held" and held.contract == learned.contract
    train(run)
    curve = read_curve(run.out / "log.jsonl")
    assert [step for step, _ in curve.learned] == [1, 2] and [step for step, _ in curve.held_out] == [2]
    assert 0 < curve.held_out[0][1] < 10
    assert (
        curve.learned[0][1] == lines(run.out)[0]["loss_episodes"] and lines(run.out)[0]["loss_hand3d_visual"] > 0
    )

    arm = write_demonstrations(tmp_path / "arm", small_contract("arm", 4, 3), 1)
    other = replace(run, validation=(replace(run.validation[0], path=arm),), out=tmp_path / "other")
    with pytest.raises(ValueError, match=r"held out .*arm: of 'arm', learned from are tabletop gripper"):
        train(other)


def test_a_curve_of_a_mixture_is_of_what_is_held_out(tmp_path):
    learned = {"step": 10, "loss": 3.0, "loss_episodes": 1.0, "loss_foundation": 9.0}
    rows = (learned, {"step": 10, "validation_episodes": 1.5, "validation_distance_error": 0.1})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_curve(tmp_path / "log.jsonl") == Curve(((10, 1.0),), ((10, 1.5),))


def test_pictures_are_encoded_once_where_they_are_passed_more_than_once_or_another_run_left_them(data, tmp_path):
    def kinds(steps, cache):
        run = stage("stage2", data, tmp_path / "run", steps=steps, cache=tmp_path / cache)
        assert run.images == "auto"
        with processes("cpu") as team:
            built = build(run, team)
        return [type(images) for _, images in (*built.mixture.components, *built.validation.components)]

    assert kinds(1, "short") == [Pixels, Pixels]
    assert not (tmp_path / "short").exists()
    assert kinds(10_000, "cache") == [EncodedImages, Pixels]
    assert kinds(1, "cache") == [EncodedImages, Pixels]
