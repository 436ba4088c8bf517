"""`vipa ablate`: what arms share is planned once, tests are paired, and a killed run ends with the same results."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from vipa.benchmarks.ablation.answers import Answers, Values
from vipa.benchmarks.ablation.arms import ARMS, BUDGETS
from vipa.benchmarks.ablation.plan import Ablation, labelled_job, plan, plan_text
from vipa.benchmarks.ablation.tables import tables
from vipa.benchmarks.ablation.work import clips, stage_run
from vipa.benchmarks.labels import labels_of
from vipa.cli import ablate, main
from vipa.hand3d.dataset.reader import Hand3D
from vipa.io.child_process import cores
from vipa.io.jobs import in_order


def ablation(**changes) -> Ablation:
    return Ablation(**(asdict(BUDGETS["tiny"]) | changes))


def jobs_of(arm, **changes):
    """By name; of the evaluations the first."""
    planned = plan(ablation(arms=(arm,), seeds=(0,), **changes))
    return {job.name: job for p in planned for job in reversed(p.jobs)}


def test_controls_at_evaluation_share_every_training_with_the_full_arm():
    full, zeroed = jobs_of("full"), jobs_of("zeroed")
    for name in ("start", "clips", "stage1", "stage2", "stage3", "demonstrations"):
        assert full[name].key == zeroed[name].key
    for name in ("questions", "motions", "tabletop"):
        assert full[name].key != zeroed[name].key


def test_arms_differ_where_they_say_and_share_the_data():
    full, without = jobs_of("full"), jobs_of("no-encoder")
    assert full["clips"].key == without["clips"].key
    assert full["stage1"].key != without["stage1"].key
    assert full["stage1"].settings["trained"] == ("fusion", "language")
    assert without["stage1"].settings["trained"] == ("language",)
    alone = jobs_of("stage1-fusion")
    assert alone["start"].key == full["start"].key
    assert alone["stage1"].settings["trained"] == ("fusion",)
    assert jobs_of("stage1-both")["stage1"].key == full["stage1"].key  # which is nano's own way


def test_without_pretraining_the_fusion_learns_in_stage_3_and_no_motion_is_asked():
    jobs = jobs_of("no-pretraining")
    assert set(jobs) == {"start", "clips", "questions", "demonstrations", "stage3", "tabletop"}
    assert jobs["stage3"].settings["trained"][0] == "fusion"
    augmented = jobs_of("augmented")["stage3"].settings
    budget = BUDGETS["tiny"]
    assert augmented["run"]["steps"] == budget.stage1_steps + budget.stage2_steps + budget.stage3_steps
    assert augmented["data"] == {"augment": 1.0}


def test_other_labels_are_learned_from_and_everybody_is_asked_about_the_truth():
    full, other = jobs_of("full"), jobs_of("sensor-labels")
    taught = other["stage1"].needs["data"]
    assert taught.settings["labels"] == "sensor" and taught.key != full["clips"].key
    assert other["stage2"].needs["data"].key == taught.key
    for name in ("questions", "motions"):
        assert other[name].needs["data"].key == full[name].needs["data"].key == full["clips"].key
    assert other["stage1"].key != full["stage1"].key and other["start"].key == full["start"].key
    assert "content" in jobs_of("cut3r-labels")["stage1"].needs["data"].settings  # of the encoder that makes them
    assert "content" not in taught.settings


def test_arms_name_labels_that_there_are():
    known = labels_of("weights")
    assert {arm.labels for arm in ARMS.values()} == set(known)


def test_labels_are_of_the_tabletop_alone(tmp_path):
    with pytest.raises(ValueError, match="sensor-labels: it labels the tabletop's own clips; leave out --hand3d"):
        labelled_job(ablation(hand3d=tmp_path), ARMS["sensor-labels"])


def test_labels_of_a_depth_are_near_the_truth_and_not_it(tmp_path, monkeypatch):
    monkeypatch.setattr("vipa.benchmarks.ablation.work.cores", lambda: 1)
    settings = {"clips": {"train": 1}, "ambiguity": 0.0}
    clips(tmp_path / "truth", settings, {}, {})
    for kind, most in {"sensor": 0.02, "cut3r": 0.10, "cut3r-median": 0.10}.items():
        clips(
            tmp_path / kind,
            settings | {"labels": kind},
            {},
            {"start": "nano:foundation"} if "cut3r" in kind else {},
        )
        truth, said = (spatial_answers(tmp_path / name) for name in ("truth", kind))
        off = np.array([abs(truth[asked] - said[asked]) for asked in truth.keys() & said.keys()])
        assert len(off) > 5
        assert 0 < off.mean() < most


def spatial_answers(folder):
    """Metres, by what is asked."""
    records = [r for r in Hand3D(folder).visual("train") if r.category == "spatial_relation"]
    return {(r.clip_id, tuple(r.frame_ids), r.hand, r.object): r.distance for r in records}


def test_where_and_how_it_runs_changes_no_key(tmp_path):
    keys = {job.key for p in plan(ablation(seeds=(0,))) for job in p.jobs}
    moved = ablation(
        seeds=(0,), out=tmp_path, devices=("cpu", "cuda:0"), save_every=7, compile=True, validate_every=3
    )
    assert keys == {job.key for p in plan(moved) for job in p.jobs}
    longer = plan(ablation(seeds=(0,), stage2_steps=99))
    other = {job.key for p in longer for job in p.jobs if job.name == "stage1"}
    assert other < keys


def test_other_clips_are_asked_and_other_scenes_played_without_training_anew():
    """So that what was chosen on validation is measured on the test range once, as it is."""
    seen, unseen = (jobs_of("full", split=split) for split in ("validation", "test"))
    for name in ("start", "stage1", "stage2", "stage3"):
        assert seen[name].key == unseen[name].key
    for name in ("questions", "motions", "tabletop"):
        assert seen[name].key != unseen[name].key
    assert seen["questions"].needs["data"].key == seen["stage1"].needs["data"].key
    assert unseen["questions"].needs["data"].settings["clips"] == {"test": 3}


def test_larger_batches_come_with_a_larger_learning_rate(tmp_path):
    plain, larger = (jobs_of("full", batch_factor=n)["stage1"] for n in (1, 4))
    runs = [stage_run(dict(job.settings), tmp_path, tmp_path / "out", "start") for job in (plain, larger)]
    assert runs[1].data[0].batch == 4 * runs[0].data[0].batch
    assert runs[1].learning_rate == pytest.approx(2 * runs[0].learning_rate)
    assert plain.key != larger.key


def test_clips_are_the_same_on_one_core_and_on_several(tmp_path, monkeypatch):
    settings = {"clips": {"train": 3, "validation": 2}, "ambiguity": 1.0}
    for count in (1, 2):
        monkeypatch.setattr("vipa.benchmarks.ablation.work.cores", lambda count=count: count)
        clips(tmp_path / str(count), settings, {}, {})
    one, two = (Hand3D(tmp_path / name) for name in "12")
    for split, count in (("train", 3), ("validation", 2)):
        assert len({r.clip_id for r in one.visual(split)}) == count
        assert list(one.visual(split)) == list(two.visual(split))
        assert list(one.action(split)) == list(two.action(split))


def test_every_arm_is_planned_and_the_sum_counts_shared_parts_once():
    run = ablation(arms=tuple(ARMS), seeds=(0, 1))
    planned = plan(run)
    text = plan_text(run, planned)
    keys = {job.key for p in planned for job in p.jobs}
    assert len(in_order([job for p in planned for job in p.jobs])) == len(keys)
    assert all(key in text for key in keys)
    assert f"{len(keys)} parts" in text


def test_questions_are_drawn_by_category_in_stage_1_alone(tmp_path):
    drawn, plain = (
        {job.name: job for p in plan(run) for job in p.jobs}
        for run in (ablation(arms=("full",), seeds=(0,), temperature=t) for t in (4.0, 1.0))
    )
    runs = {
        name: stage_run(drawn[name].settings, Path("data"), Path("out"), "nano:foundation")
        for name in ("stage1", "stage2", "stage3")
    }
    assert {name: [spec.temperature for spec in run.data] for name, run in runs.items()} == {
        "stage1": [4.0],
        "stage2": [1.0],
        "stage3": [1.0],
    }
    assert [spec.temperature for spec in runs["stage1"].validation] == [1.0]
    assert drawn["stage1"].key != plain["stage1"].key
    assert drawn["clips"].key == plain["clips"].key
    text, _ = tables(answers(tmp_path, temperature=4.0))
    assert "1 4 (questions drawn with temperature 4)" in text


def test_what_another_seed_took_is_what_this_one_is_planned_to(tmp_path):
    one, other = (ablation(arms=("full",), seeds=(seed,), out=tmp_path) for seed in (0, 1))
    job = next(job for p in plan(one) for job in p.jobs if job.name == "stage1")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / f"{job.key}.json").write_text(json.dumps({"seconds": 4321.0, "units": job.units}))
    assert any("stage1" in line and "4321" in line for line in plan_text(other, plan(other)).splitlines())


def test_a_dry_run_trains_nothing(tmp_path, capsys):
    main(
        ["ablate", "small", "--dry-run", "--arms", "full", "neither", "--seeds", "0", "--out", str(tmp_path / "a")]
    )
    assert "without sharing" in capsys.readouterr().out
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [(["huge"], "budget 'huge' is unknown"), (["tiny", "--arms", "half", "--dry-run"], "arm 'half' is unknown")],
)
def test_unknown_names_are_one_line(words, message):
    with pytest.raises(ValueError, match=message):
        ablate.main(words)


def test_seeds_are_averaged_record_by_record():
    values = Values({0: {"a": 1.0, "b": 3.0}, 1: {"a": 3.0, "b": 3.0}}, {"a": "x", "b": "y"})
    assert values.records == {"a": 2.0, "b": 3.0}
    assert values.between_seeds == pytest.approx(np.std([2.0, 3.0], ddof=1))


KINDS = ("camera_rotation", "hand_movement", "spatial_relation")


def answers(out, seeds=(0,), **changes) -> Answers:
    """As if `full` had erred by 0.1, 0.2, 0.3 m in the questions of three kinds, and `no-encoder` by thrice that; all
    said too little, but of one clip nothing."""
    run = ablation(arms=("full", "no-encoder"), seeds=seeds, benchmarks=("questions",), out=out, **changes)
    planned = plan(run)
    for p in planned:
        folder = p.evaluations["questions"][0].folder(out / "store")
        folder.mkdir(parents=True)
        error = 0.1 if p.arm.name == "full" else 0.3
        rows = [
            {"id": f"{clip}/{kind}", "clip_id": clip, "kind": kind, "direction_score": 3}
            | {"error": error * k, "amount": 1.0, "said": None if clip == "d" else 1.0 - error * k}
            for clip in "abcd"
            for k, kind in enumerate(KINDS, start=1)
        ]
        (folder / "result_answers.jsonl").write_text("\n".join(json.dumps(row) for row in ({}, *rows)) + "\n")
    return Answers.of(run, planned)


def test_errors_are_told_by_kind_and_degrees_are_no_distances(tmp_path):
    text, record = tables(answers(tmp_path))
    full, without = (record["arms"][name] for name in ("full", "no-encoder"))
    assert full["distance"]["mean"]["value"] == pytest.approx(0.25)
    assert {kind: cell["records"] for kind, cell in full["kinds"].items()} == dict.fromkeys(KINDS, 4)
    assert full["kinds"]["camera_rotation"]["mean"]["value"] == pytest.approx(0.1)
    assert without["kinds"]["spatial_relation"]["against"]["mean"]["value"] == pytest.approx(0.6)
    assert (full["bias"]["mean"]["value"], full["bias"]["records"]) == (pytest.approx(-0.25), 6)
    assert without["bias"]["against"]["mean"]["value"] == pytest.approx(-0.5)
    assert "| distance error, m | against | said - true, m | against | direction, of 3 |" in text
    assert "| arm | camera rotation, degrees (4) | hand movement (4) | spatial relation (4) |" in text


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_successes_of_one_seed_are_mcnemars_and_of_several_also_over_seeds(seeds, tmp_path):
    run = ablation(arms=("full", "no-encoder"), seeds=seeds, benchmarks=("tabletop",), out=tmp_path)
    for p in plan(run):
        folder = p.evaluations["tabletop"][0].folder(tmp_path / "store")
        folder.mkdir(parents=True)
        better = p.arm.name == "full"
        rows = [{"task": "touch", "seed": k, "success": k < (8 if better else 3) - p.seed} for k in range(10)]
        (folder / "episodes.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    text, record = tables(Answers.of(run, plan(run)))
    against = record["arms"]["no-encoder"]["success"]["against"]
    assert (against["only_this"], against["only_first"]) == (0, 5 * len(seeds))
    assert against["mean"]["value"] == pytest.approx(-0.5)
    if len(seeds) == 1:
        assert against["p"] == pytest.approx(2 / 2**5)
        assert "0 : 5, p 0.062" in text
    else:
        assert against["p"] < 0.05
        assert "0 : 15, -0.500 [" in text


def test_answers_that_were_kept_give_the_same_tables_also_in_two_files(tmp_path, capsys):
    whole = answers(tmp_path / "whole", seeds=(0, 1))
    for seed in (0, 1):
        answers(tmp_path / str(seed), seeds=(seed,)).write(tmp_path / f"{seed}.json")
    main(["ablate", "tables", *(str(tmp_path / f"{seed}.json") for seed in (0, 1))])
    assert capsys.readouterr().out.strip() == tables(whole)[0].strip()


@pytest.mark.parametrize("others", [(0,), (0, 1)])
def test_of_arms_that_share_one_seed_the_table_says_so(others, tmp_path):
    answers(tmp_path / "a", seeds=(0, 1)).write(tmp_path / "a.json")
    several = Answers.read(tmp_path / "a.json")
    values = {
        figure: {
            arm: {s: rows[s] for s in (others if arm == "no-encoder" else (0, 1))} for arm, rows in arms.items()
        }
        for figure, arms in several.values.items()
    }
    text, record = tables(Answers(several.settings, several.about, values))
    assert record["arms"]["no-encoder"]["distance"]["against"]["seeds"] == list(others)
    assert ("seed 0 alone" in text) == (others == (0,))


def test_two_kinds_of_answers_of_one_arm_and_seed_do_not_stand_in_one_table(tmp_path):
    one = answers(tmp_path)
    values = {f: {a: {s: {**rows, "a/spatial_relation": 9.0} for s, rows in seeds.items()} for a, seeds in arms.items()}
              for f, arms in one.values.items()}  # fmt: skip
    assert Answers.merged({Path("x"): one, Path("y"): one}).values == one.values
    with pytest.raises(ValueError, match="y: arm full, seed 0 has other answers before"):
        Answers.merged({Path("x"): one, Path("y"): Answers(one.settings, one.about, values)})


def test_only_nano_has_a_job_on_every_core(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert ablation(preset="vipa-2b").places() == ("cpu",)
    assert set(ablation().places()) <= {f"cpu:{i}" for i in range(cores())}
    assert ablation(devices=("cpu:3",)).places() == ("cpu:3",)


def test_answers_of_other_worlds_do_not_stand_in_one_table(tmp_path):
    answers(tmp_path / "a").write(tmp_path / "a.json")
    answers(tmp_path / "b", ambiguity=0.0).write(tmp_path / "b.json")
    (tmp_path / "c.json").write_text('{"settings": {}, "records": []}')
    for words, message in (
        ("a b", r"b\.json: ambiguity not as in .*a\.json"),
        ("c", r"c\.json: not the answers of"),
    ):
        with pytest.raises(ValueError, match=message):
            Answers.merged({p: Answers.read(p) for p in (tmp_path / f"{name}.json" for name in words.split())})


@pytest.mark.slow  # python -m pytest -m slow tests/benchmarks/test_ablation.py: 10 minutes of two cores
def test_a_run_killed_at_five_moments_ends_with_the_same_results(tmp_path):
    """And so do two runs of the same seeds. SIGKILL, whatever it is at."""
    moments = random.Random(19)

    def command(out: Path) -> list[str]:
        words = ["--arms", "full", "no-encoder", "--seeds", "0", "--benchmarks", "questions", "tabletop"]
        return [sys.executable, "-m", "vipa", "ablate", "tiny", *words, "--out", str(out)]

    quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"OMP_NUM_THREADS": "1"}}
    started = time.monotonic()
    subprocess.run(command(tmp_path / "whole"), check=True, **quiet)
    whole = time.monotonic() - started
    killed = 0
    while killed < 5:
        process = subprocess.Popen(command(tmp_path / "killed"), **quiet)
        try:
            process.wait(moments.uniform(0.1, 0.25) * whole)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed >= 4, "it ended before it was killed often enough"
    subprocess.run(command(tmp_path / "killed"), check=True, **quiet)
    for name in ("ablation.md", "ablation.json", "answers.json"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "killed" / name).read_text()
    stores = [tmp_path / run / "store" for run in ("whole", "killed")]
    for path in sorted(stores[0].glob("*/*.jsonl")) + sorted(stores[0].glob("*/model/model.safetensors")):
        if path.name != "log.jsonl":
            assert path.read_bytes() == (stores[1] / path.relative_to(stores[0])).read_bytes(), path
    costs = [set(json.loads((tmp_path / run / "costs.json").read_text())) for run in ("whole", "killed")]
    assert costs[0] == costs[1]
