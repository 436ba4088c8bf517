"""Scores of answers on records whose truth is known; a Hand3D data set of four filmed clips for the whole run."""

import itertools
import json
from dataclasses import fields, replace

import numpy as np
import pytest

from vipa.benchmarks import hand3d_benchmark as benchmark
from vipa.benchmarks.results import Hand3DResult
from vipa.benchmarks.statistics import clustered_interval
from vipa.hand3d.dataset.records import VisualRecord
from vipa.hand3d.measure.relations import CameraMovement, Relation
from vipa.hand3d.words.questions import answer_text


def record(number, relation, clip="clip"):
    camera = isinstance(relation, CameraMovement)
    values = dict.fromkeys((f.name for f in fields(VisualRecord)), None)
    values |= {
        "id": str(number),
        "clip_id": clip,
        "category": relation.category,
        "displacement": list(relation.translation if camera else relation.displacement),
        "gamma": relation.gamma,
        "distance": relation.distance,
        "answer": answer_text(relation),
    }
    if camera:
        values |= {"rotation": list(relation.rotation), "aspect": relation.aspect, "degrees": relation.degrees}
    else:
        values |= {"hand": relation.hand, "object": relation.object, "contact": relation.contact}
    return VisualRecord(**values)


def relation(x, y, z, category="spatial_relation"):
    return Relation(category, np.array([x, y, z]), "right", "red cup")


def turn(degrees):
    return CameraMovement(np.deg2rad([0.0, degrees, 0.0]), np.zeros(3), "rotation")


TRUTH = record(0, relation(-0.2, 0.2, 0.1))  # "left and down and forward, 0.30m"


@pytest.mark.parametrize(
    ("answer", "error", "points"),
    [
        ("left and down and forward, 0.30m", 0.0, 3),
        ("left and down, 0.40m", 0.1, 2),
        ("right and down and forward, 0.20m", 0.1, 2),
        ("right and up and backward, 0.30m", 0.0, 0),
        ("still, 0.00m", 0.3, 0),
        ("left and down and forward, 0.30m, in contact", 0.0, 3),
    ],
)
def test_answers_score_as_the_table_says(answer, error, points):
    scored = benchmark.score([TRUTH], [answer])[0]
    assert scored.parsed
    assert scored.error == pytest.approx(error, abs=1e-9)
    assert scored.direction_score == points


def test_an_axis_that_is_truly_not_named_wants_no_word():
    flat = record(0, relation(0.3, 0.0, 0.0))
    answers = ("right, 0.30m", "right and up, 0.30m", "left, 0.30m")
    assert [benchmark.score([flat], [a])[0].direction_score for a in answers] == [3, 2, 2]


@pytest.mark.parametrize("answer", ["", "a red cup", "left and right, 0.10m", "left, 12.000 degrees", "left, m"])
def test_unparsable_answers_score_worst_of_all_possible_answers(answer):
    records = [TRUTH, record(1, relation(0.0, 0.0, 0.9)), record(2, relation(0.1, 0.0, 0.0))]
    bad = benchmark.score(records, [answer] * 3)
    assert not any(s.parsed for s in bad)
    for said in np.linspace(0, 0.9, 10):
        fine = benchmark.score(records, [f"still, {said:.2f}m"] * 3)
        assert all(b.error >= f.error - 1e-9 and b.direction_score <= f.direction_score for b, f in zip(bad, fine))


def test_camera_rotations_are_measured_in_degrees_and_kept_out_of_the_metres():
    records = [record(0, turn(20.0)), record(1, relation(0.3, 0.0, 0.0))]
    result = benchmark.summarise("x", {}, benchmark.score(records, ["right, 15.000 degrees", "right, 0.20m"]))
    errors = {s.kind: s.error.value for s in result.scores}
    assert errors["camera_rotation"] == pytest.approx(5.0)
    assert errors["all"] == pytest.approx(0.1)
    assert result.all.direction_score.value == 3


def test_no_constant_answer_beats_the_constant_baseline_on_its_own_records():
    rng = np.random.default_rng(0)
    records = [record(i, relation(*rng.normal([0.1, -0.05, 0.0], 0.2))) for i in range(60)]
    best = benchmark.ConstantAnswerer(records)
    ours = benchmark.summarise("x", {}, benchmark.score(records, best(records))).all
    for signs in itertools.product((-1, 0, 1), repeat=3):
        pairs = (("left", "right"), ("up", "down"), ("backward", "forward"))
        words = " and ".join(pair[s > 0] for pair, s in zip(pairs, signs) if s) or "still"
        for amount in (0.1, 0.3, 0.5):
            answers = [f"{words}, {amount:.2f}m"] * len(records)
            other = benchmark.summarise("y", {}, benchmark.score(records, answers)).all
            assert other.direction_score.value <= ours.direction_score.value + 1e-9
            assert other.error.value >= ours.error.value - 0.005  # its median is rounded to the centimetre


def test_histograms_count_every_record_once():
    rng = np.random.default_rng(1)
    records = [record(i, relation(*rng.normal(0, 0.4, 3))) for i in range(100)]
    result = benchmark.summarise("x", {}, benchmark.score(records, ["left and down, 0.20m"] * 100))
    assert sum(result.score_counts) == sum(result.error_counts) == 100


def test_clustered_interval_is_wider_when_records_of_a_clip_agree():
    rng = np.random.default_rng(2)
    values = np.repeat(rng.normal(size=30), 10)
    clips = [str(i) for i in np.repeat(np.arange(30), 10)]
    alone = [str(i) for i in range(300)]
    together, apart = clustered_interval(values, clips), clustered_interval(values, alone)
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])
    assert apart[0] < values.mean() < apart[1]


def test_clustered_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        low, high = clustered_interval(rng.exponential(size=80), [str(i) for i in range(80)], samples=400)
        hits += low <= 1.0 <= high
    assert 0.88 <= hits / 200 <= 1.0


class Parrot:
    """Answers from a table; can be told to fail after some batches."""

    name = "parrot"

    def __init__(self, answers, fail_after=None):
        self.answers, self.fail_after, self.calls = answers, fail_after, 0

    @property
    def identity(self):
        return {"model": "parrot"}

    def __call__(self, records):
        self.calls += 1
        if self.fail_after is not None and self.calls > self.fail_after:
            raise KeyboardInterrupt
        return [self.answers[r.id] for r in records]


def test_true_answers_score_full_marks_on_filmed_clips(hand3d_path, tmp_path):
    from vipa.hand3d.dataset.reader import Hand3D

    truth = {r.id: r.answer for r in Hand3D(hand3d_path).visual()}
    result = benchmark.evaluate_hand3d(Parrot(truth), hand3d_path, tmp_path / "hand3d_truth.json", split="train")
    assert result.all.error.value <= 0.005  # answers are rounded to the centimetre
    assert result.all.direction_score.value == 3
    assert result.all.unparsable == 0
    assert Hand3DResult.load(tmp_path / "hand3d_truth.json") == replace(result, protocol=result.protocol)


def test_an_interrupted_run_continues_and_gives_the_same_result(hand3d_path, tmp_path):
    from vipa.hand3d.dataset.reader import Hand3D

    answers = {r.id: "left, 0.10m" for r in Hand3D(hand3d_path).visual()}
    run = {"split": "train", "batch_size": 8, "limit": 40}
    whole = benchmark.evaluate_hand3d(Parrot(answers), hand3d_path, tmp_path / "whole.json", **run)
    with pytest.raises(KeyboardInterrupt):
        benchmark.evaluate_hand3d(Parrot(answers, fail_after=2), hand3d_path, tmp_path / "cut.json", **run)
    with (tmp_path / "cut_answers.jsonl").open("a") as file:
        file.write('{"id": "half a li')
    rest = Parrot(answers)
    assert benchmark.evaluate_hand3d(rest, hand3d_path, tmp_path / "cut.json", **run) == whole
    assert rest.calls == 3
    lines = [json.loads(line) for line in (tmp_path / "cut_answers.jsonl").read_text().splitlines()]
    assert len(lines) == 41
    assert lines[1]["answer"] == "left, 0.10m"


def test_an_answer_is_never_worse_than_none_at_all():
    records = [TRUTH, record(1, relation(0.0, 0.0, 0.9))]
    absurd, none = (benchmark.score(records, [answer] * 2) for answer in ("left, 300 metres", "who knows"))
    assert [a.error for a in absurd] == [n.error for n in none] == [pytest.approx(0.6), pytest.approx(0.9)]


def test_axes_sources_and_ranges_say_what_was_counted_by_hand():
    truths = [(0.3, 0.0, 0.0), (-0.3, 0.0, 0.0), (0.0, 0.05, 0.0), (0.0, 0.0, 0.5)]
    records = [replace(record(i, relation(*t), f"clip {i}"), source="ab"[i % 2]) for i, t in enumerate(truths)]
    answers = ["right, 0.40m", "right and up, 0.20m", "down, 0.05m", "no idea"]
    result = benchmark.summarise("x", {}, benchmark.score(records, answers))
    assert [axis.value for axis in result.all.axes] == [0.5, 0.5, 0.75]
    assert result.unparsed == {"3": "no idea"}
    a, b = result.sources
    assert (a.kind, a.records, a.unparsable, a.direction_score.value) == ("a", 2, 0, 3)
    assert (b.kind, b.records, b.unparsable, b.direction_score.value) == ("b", 2, 1, 0.5)
    assert b.error.value == pytest.approx((0.1 + 0.5) / 2)
    found = {(r.low, r.high): r for r in result.ranges if r.records}
    near, middle, far = found[0.0, 0.1], found[0.3, 0.4], found[0.4, 0.6]
    assert (near.records, middle.records, far.records) == (1, 2, 1)
    assert near.bias.value == pytest.approx(0.0)
    assert (middle.error.value, middle.bias.value) == (pytest.approx(0.1), pytest.approx(0.0))
    assert (far.error.value, far.bias) == (pytest.approx(0.5), None)


def test_means_and_histograms_are_numpy_s_and_intervals_scipy_s():
    import scipy.stats

    rng = np.random.default_rng(7)
    truths = rng.normal(0, 0.3, (120, 3))
    said = [f"left, {abs(np.linalg.norm(t) + e):.2f}m" for t, e in zip(truths, rng.normal(0, 0.1, 120))]
    records = [record(i, relation(*t), f"{i:03d}") for i, t in enumerate(truths)]
    result = benchmark.summarise("x", {}, benchmark.score(records, said))
    errors = np.array([abs(float(a.split()[1][:-1]) - np.linalg.norm(t)) for a, t in zip(said, truths)])
    assert result.all.error.value == pytest.approx(errors.mean())
    theirs = scipy.stats.bootstrap((errors,), np.mean, method="percentile", n_resamples=4000, rng=1)
    interval = theirs.confidence_interval
    np.testing.assert_allclose(
        [result.all.error.low, result.all.error.high], [interval.low, interval.high], atol=0.004
    )
    binned = scipy.stats.binned_statistic(errors, errors, "count", bins=np.linspace(0, 0.5, 26)).statistic
    binned[-1] += (errors > 0.5).sum()
    assert list(result.error_counts) == list(binned)


def test_a_blind_model_answers_the_same_whatever_the_pictures_show(hand3d_path, start, tmp_path):
    from vipa.benchmarks.answering import ModelAnswerer
    from vipa.hand3d.dataset.reader import Hand3D

    records = [r for r in Hand3D(hand3d_path).visual("train") if len(r.frame_ids) == 2][:3]
    moved = [replace(r, frame_ids=other.frame_ids) for r, other in zip(records, reversed(records))]
    for pictures in ("covered", "none"):
        model = ModelAnswerer(start, hand3d_path, pictures=pictures)
        assert model.identity["pictures"] == pictures
        assert model.questions(moved) == model.questions(records)
