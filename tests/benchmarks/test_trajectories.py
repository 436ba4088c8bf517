from dataclasses import fields, replace

import numpy as np
import pytest

from vipa.benchmarks import trajectories_benchmark as benchmark
from vipa.benchmarks.results import TrajectoryResult
from vipa.hand3d.dataset.records import ActionRecord
from vipa.hands.motion_codec import MotionCodec

CODEC = MotionCodec()
LINE = np.linspace([0.0, 0.0, 0.4], [0.2, 0.0, 0.4], 9)


def record(number, points, side="right", clip="clip", task="instructional_generation"):
    values = dict.fromkeys((f.name for f in fields(ActionRecord)), None)
    values |= {"id": str(number), "clip_id": clip, "task": task, "rate": 4.0}
    values |= {side: points[1:].tolist(), f"past_{side}": points[:1].tolist()}
    return ActionRecord(**values)


def test_errors_of_a_trajectory_shifted_sideways_are_the_shift():
    said = {"right": LINE[1:] + [0.0, 0.03, 0.04]}
    average, final = benchmark.displacement_errors(said, {"right": LINE[1:]})
    assert (average, final) == pytest.approx((0.05, 0.05))


def test_errors_are_averaged_over_hands():
    true = {"left": LINE, "right": LINE}
    average, final = benchmark.displacement_errors({"left": LINE, "right": LINE + [0.1, 0, 0]}, true)
    assert (average, final) == pytest.approx((0.05, 0.05))


def test_a_short_answer_stays_at_its_last_waypoint_and_a_long_one_is_cut():
    average, final = benchmark.displacement_errors({"right": LINE[:5]}, {"right": LINE})
    assert final == pytest.approx(0.1)
    assert average == pytest.approx(np.mean([0] * 5 + [0.025, 0.05, 0.075, 0.1]))
    longer = np.concatenate([LINE, LINE + 1])
    assert benchmark.displacement_errors({"right": longer}, {"right": LINE}) == (0.0, 0.0)


def test_staying_is_as_wrong_as_the_hand_moves():
    records = [record(0, LINE)]
    result = benchmark.score(records, benchmark.StayAnswerer(CODEC)(records), CODEC)[0]
    assert result.final_error == pytest.approx(0.2, abs=1e-3)
    assert result.average_error == pytest.approx(np.linspace(0.025, 0.2, 8).mean(), abs=1e-3)


def test_mean_from_start_is_exact_when_every_hand_moves_alike():
    records = [record(i, LINE + [0, 0.01 * i, 0]) for i in range(5)]
    for from_start, exact in ((True, True), (False, False)):
        answers = benchmark.MeanAnswerer(records, CODEC, from_start=from_start)(records)
        errors = [s.average_error for s in benchmark.score(records, answers, CODEC)]
        assert (max(errors) < 1e-3) == exact


def test_mean_of_unequal_lengths_uses_what_there_is():
    records = [record(0, LINE), record(1, LINE[:5] + [0, 0.02, 0])]
    mean = benchmark.MeanAnswerer(records, CODEC, from_start=False).means["right"]
    np.testing.assert_allclose(mean[:4, 1], 0.01)
    np.testing.assert_allclose(mean[4:, 1], 0.0)


@pytest.mark.parametrize(
    "answer", ["", "Take the cup.", CODEC.to_text({"left": LINE}), "<motion><right_hand></motion>"]
)
def test_an_answer_without_the_motion_is_scored_as_far_off_as_the_volume_allows(answer):
    scored = benchmark.score([record(0, LINE)], [answer], CODEC)[0]
    assert not scored.parsed
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0, 1)])
    for corner in corners:
        average, final = benchmark.displacement_errors({"right": np.tile(corner, (8, 1))}, {"right": LINE[1:]})
        assert scored.average_error >= average - 1e-12
        assert scored.final_error >= final - 1e-12


def test_no_training_records_is_said():
    with pytest.raises(ValueError, match="train split"):
        benchmark.MeanAnswerer([], CODEC, from_start=True)


def test_baselines_run_on_filmed_clips(hand3d_path, tmp_path):
    from vipa.hand3d.dataset.reader import Hand3D

    train = [r for r in Hand3D(hand3d_path).action("train") if benchmark.has_motion(r)]
    assert train
    stay = benchmark.evaluate_trajectories(
        benchmark.StayAnswerer(CODEC), hand3d_path, tmp_path / "trajectories_stay.json", split="train"
    )
    assert stay.records == len(train)
    assert stay.unparsable == 0
    assert 0.0 < stay.average_error.value < stay.final_error.value < 1.0
    assert TrajectoryResult.load(tmp_path / "trajectories_stay.json") == stay
    mean = benchmark.evaluate_trajectories(
        benchmark.MeanAnswerer(train, CODEC, from_start=False), hand3d_path, tmp_path / "mean.json", split="train"
    )
    assert mean.records == len(train)


def test_errors_at_a_second_count_only_its_waypoints_and_the_best_sample_is_the_nearest():
    codec = MotionCodec()
    truth = np.stack([np.linspace(0, 0.3, 16), np.zeros(16), np.full(16, 0.5)], -1)
    asked = replace(record(0, np.concatenate([truth[:1], truth])), rate=8.0)
    near = truth + [0.02, 0, 0]
    far = truth.copy()
    far[8:] += [0.0, 0.1, 0.0]  # right in the first second, 10 cm off in the second
    answer = "\n".join(codec.to_text({"right": path}) for path in (near, far)) + "\nno motion"
    (scored,) = benchmark.score([asked], [answer], codec)
    assert scored.valid == pytest.approx(2 / 3)
    assert list(scored.horizons) == ["1", "2"]
    worst = benchmark.worst_errors({"right": truth[:8]}, codec)
    average, final, best_average, best_final = scored.horizons["1"]
    assert average == pytest.approx((0.02 + 0.0 + worst[0]) / 3, abs=1e-3)
    assert final == pytest.approx((0.02 + 0.0 + worst[1]) / 3, abs=1e-3)
    assert (best_average, best_final) == (pytest.approx(0.0, abs=1e-3), pytest.approx(0.0, abs=1e-3))
    assert (scored.best_average, scored.best_final) == (
        pytest.approx(0.02, abs=1e-3),
        pytest.approx(0.02, abs=1e-3),
    )
    result = benchmark.summarise("x", {"split": "test"}, [scored])
    assert (result.samples, [h.seconds for h in result.horizons]) == (3, [1.0, 2.0])
    assert "best of 3" in str(result)
