"""Training nano's 3D encoder: what it is asked is true, a stopped run continues exactly, its report measures right."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pretend_cuda import PretendCuda
from vipa.benchmarks.cut3r_benchmark import MEASURES
from vipa.benchmarks.cut3r_errors import errors, evaluate_cut3r, rotation_angle
from vipa.cli import main
from vipa.models.cut3r import Cut3rConfig, Cut3rModel
from vipa.nano.foundation import spatial as cut3r
from vipa.nano.foundation.correspondence import Correspondence, shifts
from vipa.nano.foundation.spatial import Cut3rTraining, train_cut3r
from vipa.worlds.sequences import batch_of, render_sequences

SMALL = Cut3rConfig(
    encoder_width=32,
    encoder_depth=1,
    encoder_heads=2,
    decoder_width=32,
    decoder_depth=2,
    decoder_heads=2,
    state_heads=2,
    state_size=4,
    memory_size=4,
    memory_depth=1,
    transform_depth=1,
    ray_map_depth=0,
    head="linear",
    mlp_ratio=1,
    image_size=112,
)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    return render_sequences(
        tmp_path_factory.mktemp("sequences"), range(cut3r.FIRST_SEED, cut3r.FIRST_SEED + 8), workers=1
    )


def test_shifts_lead_to_where_the_camera_saw_the_point_before(sequences):
    """Against the poses themselves, in float64, one patch at a time."""
    shift, known = shifts(batch_of(sequences, np.array([3])), 16)
    frames, rows, columns = np.nonzero(known[0].numpy())
    assert len(frames) > 100
    K = sequences.K[3]
    for frame, row, column in zip(frames, rows, columns):
        u, v = 16 * column + 8, 16 * row + 8
        depth = sequences.depth[3, frame + 1, v, u] * 1e-4
        point = np.linalg.solve(K, [u, v, 1.0]) * depth
        world = sequences.T_world_camera[3, frame + 1] @ [*point, 1.0]
        before = K @ (np.linalg.inv(sequences.T_world_camera[3, 0]) @ world)[:3]
        expected = (before[:2] / before[2] - [u, v]) / 16
        assert shift[0, frame, row, column].numpy() == pytest.approx(expected, abs=1e-4)


def test_shifted_patches_look_as_they_did_before(sequences):
    batch = batch_of(sequences, np.arange(8))
    shift, known = shifts(batch, 16)
    centres = 16 * torch.stack(torch.meshgrid(torch.arange(7), torch.arange(7), indexing="xy"), -1) + 8

    def colours(places):
        """Of the first frame, at (b, later, 7, 7) pixels (x, y)."""
        x, y = places.round().long().clamp(0, 111).unbind(-1)
        return batch.images[torch.arange(8)[:, None, None, None], 0, :, y, x]

    now = batch.images[:, 1:, :, 8::16, 8::16].permute(0, 1, 3, 4, 2)
    before, same_place = (
        (now - colours(p)).abs().mean(-1)[known].mean() for p in (centres + 16 * shift, centres.expand_as(shift))
    )
    assert before < 0.6 * same_place


def test_right_answers_have_no_loss(sequences):
    batch = batch_of(sequences, np.arange(4))
    truth, _ = shifts(batch, 16)
    readout = Correspondence(2, 16)
    readout.requires_grad_(False).readout.weight.copy_(torch.eye(2))
    tokens = torch.cat([torch.zeros(4, 4, 1, 2), torch.cat([torch.zeros(4, 1, 49, 2), truth.flatten(2, 3)], 1)], 2)
    assert float(readout(tokens, batch)) == pytest.approx(0, abs=1e-6)
    assert float(readout(tokens + 0.3, batch)) == pytest.approx(0.3 * 2**0.5, abs=1e-5)


def test_a_stopped_training_continues_exactly(sequences, tmp_path, monkeypatch):
    run = Cut3rTraining(
        tmp_path / "whole", sequences=8, steps=6, images_per_step=8, save_every=2, precision="fp32"
    )
    whole = train_cut3r(run, SMALL, sequences)
    stopped, sample = replace(run, out=tmp_path / "stopped", validate_every=3, held_out=2), cut3r._sample

    def interrupted(data, run, step, device):
        if step == 5:
            raise KeyboardInterrupt
        return sample(data, run, step, device)

    monkeypatch.setattr(cut3r, "_sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_cut3r(stopped, SMALL, sequences)
    monkeypatch.setattr(cut3r, "_sample", sample)
    with pytest.raises(ValueError, match="another run's"):
        train_cut3r(replace(stopped, learning_rate=0.1), SMALL, sequences)
    again = train_cut3r(stopped, SMALL, sequences)
    first, second = (Cut3rModel.from_pretrained(folder).state_dict() for folder in (whole, again))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    log = [json.loads(line) for line in (stopped.out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [3, 6], "looks at held-out sequences, which change nothing"
    assert all(0 < row["validation_points_self"] < 10 for row in log)


def test_it_trains_on_the_device_as_on_the_cpu(sequences, tmp_path):
    run = Cut3rTraining(
        tmp_path / "cpu", sequences=8, steps=2, images_per_step=8, save_every=1, precision="fp32", device="cpu"
    )
    here = train_cut3r(run, SMALL, sequences)
    with PretendCuda():
        there = train_cut3r(replace(run, out=tmp_path / "cuda", device="cuda"), SMALL, sequences)
    first, second = (Cut3rModel.from_pretrained(folder).state_dict() for folder in (here, there))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-3, atol=1e-5)


def test_training_starts_from_weights(sequences, tmp_path):
    run = Cut3rTraining(tmp_path / "first", sequences=8, steps=1, images_per_step=8, precision="fp32")
    first = train_cut3r(run, SMALL, sequences)
    second = train_cut3r(replace(run, out=tmp_path / "second", start=first, learning_rate=0.0), data=sequences)
    old, new = (Cut3rModel.from_pretrained(folder).state_dict() for folder in (first, second))
    assert all(torch.equal(value, new[name]) for name, value in old.items())


def test_errors_of_the_truth_are_zero_and_of_a_shifted_camera_its_shift(sequences):
    truth = batch_of(sequences, np.arange(8))
    perfect = errors(truth.points_self, truth.points_world, truth.T_world_camera, truth)
    assert {name: float(e.abs().max()) for name, e in perfect.items()} == pytest.approx(
        {m: float(m == "depth_within_125") for m in MEASURES}, abs=0.05
    )
    shift = torch.tensor([0.006, 0.0, 0.008])
    poses = truth.T_world_camera.clone()
    poses[:, 1:, :3, 3] += shift
    off = errors(1.1 * truth.points_self, truth.points_world + shift, poses, truth)
    assert off["depth_abs_rel"].numpy() == pytest.approx(0.1, abs=1e-4)
    assert off["world_mm"].numpy() == pytest.approx(10, abs=1e-3)
    assert off["translation_mm"].numpy() == pytest.approx(10, abs=1e-3)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert float(torch.rad2deg(rotation_angle(quarter))) == pytest.approx(90, abs=1e-3)


def test_a_camera_that_stands_still_is_not_moving_and_not_missed_by_the_baselines(sequences):
    single = replace(
        sequences,
        rgb=sequences.rgb[:, [0, 0]],
        depth=sequences.depth[:, [0, 0]],
        T_world_camera=sequences.T_world_camera[:, [0, 0]],
    )
    torch.manual_seed(0)
    report = evaluate_cut3r(Cut3rModel(SMALL).eval(), single, 0.6, batch=3)
    assert not report.moving.any()
    assert report.predictors["constant"].rotation_deg == pytest.approx(0, abs=1e-4)
    assert report.predictors["reset"].translation_mm == pytest.approx(0, abs=1e-3)
    assert "Moving" not in report.text()


def test_the_report_is_written_by_the_command(tmp_path, capsys):
    out = tmp_path / "report.md"
    main(["evaluate", "cut3r", "--clips", "3", "--data", str(tmp_path / "data"), "--out", str(out)])
    text = out.read_text()
    assert "3 sequences of 4 frames" in text
    assert "nearer than reset by" in text
    page, made = text.rstrip().rsplit("\n\n", 1)
    assert page in capsys.readouterr().out
    assert made.startswith("Made at ")
    more = ["--clips", "1", "--split", "validation", "--ambiguity", "1"]
    main(["evaluate", "cut3r", "--data", str(tmp_path / "data"), "--out", str(out), *more])
    assert "validation seeds 20000000 to 20000000" in out.read_text()
    assert "ambiguity 1" in out.read_text()


def test_what_cannot_be_measured_is_refused(sequences, tmp_path, capsys):
    for args in (["--clips", "0"], ["--model", str(tmp_path)]):
        with pytest.raises(SystemExit):
            main(["evaluate", "cut3r", "--out", str(tmp_path / "r.md"), *args])
        assert args[1] in capsys.readouterr().err
    render_sequences(tmp_path, range(5, 6), frames=2, size=32, workers=1)
    with pytest.raises(ValueError, match="holds sequences of"):
        render_sequences(tmp_path, range(5, 6), workers=1)
