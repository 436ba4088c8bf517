"""The main path, walked with the shipped nano: three steps of every stage, answers, a robot's episode, the demo.

Clips of two picture sizes in one data set, as data sets of several cameras have them. All of it by the documented
commands and functions.
"""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from vipa import cli

SIZES = ((112, 112), (160, 112), (112, 112), (112, 144))


@pytest.fixture(scope="module")
def hand3d(tmp_path_factory):
    from vipa.hand3d.pipeline.annotate import annotate
    from vipa.worlds.film import film_clip
    from vipa.worlds.seeds import TRAIN

    path = tmp_path_factory.mktemp("path") / "hand3d"
    annotate((replace(film_clip(TRAIN[i], size=size), split="train") for i, size in enumerate(SIZES)), path)
    return path


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    from vipa.robots.known.tabletop import collect
    from vipa.worlds.seeds import TRAIN

    path = tmp_path_factory.mktemp("path") / "demonstrations"
    collect(path, TRAIN[:4], {"touch": 1.0})
    return path


@pytest.fixture(scope="module")
def trained(hand3d, demonstrations, tmp_path_factory):
    """The folder with stage1, stage2 and stage3, each begun from the one before."""
    out, start = tmp_path_factory.mktemp("path"), "nano:foundation"
    for stage, data in (("stage1", hand3d), ("stage2", hand3d), ("stage3", demonstrations)):
        options = ["--start", start, "--steps", "3", "--log-every", "1"]
        cli.main(["train", stage, "--data", str(data), "--out", str(out / stage), *options])
        start = str(out / stage / "model")
    return out


def test_every_stage_trains_on_pictures_of_two_sizes(trained):
    for stage in ("stage1", "stage2", "stage3"):
        rows = [json.loads(line) for line in (trained / stage / "log.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == [1, 2, 3]
        assert np.isfinite([row["loss"] for row in rows]).all()
        cli.main(["model", "check", str(trained / stage / "model")])


def test_a_policy_trains_on_the_same_demonstrations_as_videos(trained, demonstrations, tmp_path):
    cli.main(["export", "episodes", str(demonstrations), str(tmp_path / "v3"), "--pictures", "video"])
    options = ["--start", str(trained / "stage2" / "model"), "--steps", "3", "--log-every", "1"]
    cli.main(["train", "stage3", "--data", str(tmp_path / "v3"), "--out", str(tmp_path / "run"), *options])
    ours, theirs = (
        [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
        for run in (trained / "stage3", tmp_path / "run")
    )
    np.testing.assert_allclose(theirs, ours, rtol=0.02)


@pytest.mark.parametrize(("benchmark", "stage"), [("hand3d", "stage1"), ("trajectories", "stage2")])
def test_trained_models_answer_about_pictures_of_two_sizes(benchmark, stage, trained, hand3d, tmp_path):
    from vipa.hand3d.dataset.reader import Hand3D

    data, model, out = Hand3D(hand3d), trained / stage / "model", tmp_path / "result.json"
    options = ["--data", str(hand3d), "--out", str(out), "--split", "train", "--limit", "24"]
    cli.main(["evaluate", benchmark, str(model), *options])
    rows = [json.loads(line) for line in out.with_name("result_answers.jsonl").read_text().splitlines()[1:]]
    assert len(rows) == 24
    shown = {frame.clip_id: frame.id for frame in data.frames()}
    assert len({data.image(shown[row["clip_id"]]).shape for row in rows}) > 1


def test_a_trained_policy_acts(trained, tmp_path):
    options = ["--tasks", "touch", "--episodes", "1", "--videos", "1"]
    cli.main(["evaluate", "tabletop", str(trained / "stage3" / "model"), "--out", str(tmp_path), *options])
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["scores"]["all"]["trials"] == 1
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == 1


def test_the_demo_at_its_smallest(tmp_path, capsys):
    small = {
        "train-clips": 3, "test-clips": 1, "demonstrations": 2, "stage1-steps": 1, "stage2-steps": 1,
        "stage3-steps": 1, "questions": 4, "motions": 4, "tasks": "touch", "episodes": 1,
    }  # fmt: skip
    out = tmp_path / "demo"
    command = ["demo", "--out", str(out), *(word for k, v in small.items() for word in (f"--{k}", str(v)))]
    cli.main(command)
    said = capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert said.splitlines()[0].endswith(str(out / "report.html"))
    assert "No clip was annotated" not in page
    assert len(re.findall("trained just now", page)) > 3
    for missing in ("No training log", "No Hand3D results", "No trajectory results", "No closed-loop results"):
        assert missing not in page
    cli.main(command)
    assert capsys.readouterr().out.count("done before") == len(list((out / "steps").glob("*.json")))
