"""nano's recipe: every part once, keyed by what decides it, and all of it by one command that may be stopped."""

import json
import os
import signal
import subprocess
import sys

import pytest

from vipa.nano.recipe import STAGE_NAMES, NanoRecipe, recipe_jobs


def keys(tmp_path, **changes):
    return {name: job.key for name, job in recipe_jobs(NanoRecipe(out=tmp_path, **changes)).items()}


def test_parts_follow_from_what_they_need(tmp_path):
    plain = keys(tmp_path)
    films = {"pictures", "sequences", "clips", "asked", "demonstrations", "held out"}
    assert set(list(plain)[:6]) == films, "what is filmed comes first"
    assert list(plain)[6:9] == ["foundation", "spatial", "parts"]
    other = keys(tmp_path, views=("agent",))
    seen = {"demonstrations", "held out", "stage3", "results"}
    assert {name for name in plain if plain[name] != other[name]} == seen
    tested = keys(tmp_path, split="test")
    assert {name for name in plain if plain[name] != tested[name]} == {"asked", "results"}
    flat = keys(tmp_path, ambiguity=0.0)
    assert all(plain[name] != flat[name] for name in plain)
    grounded = keys(tmp_path, grounding=0.3)
    assert {name for name in plain if plain[name] != grounded[name]} == {*STAGE_NAMES, "results"}
    assert plain == keys(tmp_path / "elsewhere", devices=("cuda:0",))
    going_on = keys(tmp_path, start="nano:foundation")
    assert {name for name in plain if plain[name] == going_on[name]} == films
    longer = keys(tmp_path, scale="gpu")
    assert {name for name in plain if plain[name] == longer[name]} == films


def test_parts_on_gpus_share_the_cores_that_load_data(tmp_path, monkeypatch):
    monkeypatch.setattr("vipa.benchmarks.ablation.plan.cores", lambda: 16)
    for devices, workers in (
        (("cuda:0",), 15),
        (("cuda:0",) * 4, 3),
        (("cuda:0",) * 20, 1),
        (("cpu:0", "cpu:1"), 0),
    ):
        jobs = recipe_jobs(NanoRecipe(out=tmp_path, scale="gpu", devices=devices))
        assert [jobs[name].options["workers"] for name in STAGE_NAMES] == [workers] * 3


@pytest.mark.slow  # python -m pytest -m slow tests/nano/test_recipe.py: 4 minutes of two cores
def test_the_whole_recipe_runs_and_goes_on_after_it_was_killed(tmp_path):
    command = [sys.executable, "-m", "vipa", "train", "nano", "--scale", "tiny", "--grounding", "0.5"]
    command += ["--out", str(tmp_path)]
    quiet = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "text": True}
    first = subprocess.Popen(command, stdout=subprocess.PIPE, **quiet)
    assert first.stdout is not None
    for line in first.stdout:  # until a stage is under way
        if "stage1-" in line:
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = subprocess.run(command, capture_output=True, check=True, **quiet)
    begun = [line for line in again.stdout.splitlines() if line.startswith("[")]
    assert len(begun) == 4, "three stages and their evaluation were left"
    places = json.loads((tmp_path / "parts.json").read_text())
    results = tmp_path / places["results"]
    for name in (
        "hand3d_stage1.json",
        "trajectories_stage2.json",
        "tabletop_policy/result.json",
        "logs/stage3.jsonl",
    ):
        assert (results / name).exists()
    for stage in STAGE_NAMES:
        log = [json.loads(line) for line in (results / "logs" / f"{stage}.jsonl").read_text().splitlines()]
        assert any(name.startswith("validation_") for line in log for name in line), stage
    contract = json.loads((tmp_path / places["stage3"] / "model" / "action_contract.json").read_text())
    assert contract["views"] == ["agent", "wrist"]
    last = subprocess.run(command, capture_output=True, check=True, **quiet)
    assert "[" not in "".join(line[:1] for line in last.stdout.splitlines())
