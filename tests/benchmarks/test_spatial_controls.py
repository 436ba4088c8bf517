"""`vipa evaluate hand3d --spatial`: what the model's 3D tokens are in each control, and what the result says of it."""

import json

import pytest
import torch
from vipa.data.tokens import EncodedImages

from vipa import cli
from vipa.benchmarks.answering import ModelAnswerer, Questions
from vipa.hand3d.dataset.reader import Hand3D


@pytest.fixture(scope="module")
def some(hand3d_path):
    """Questions of all clips, about one frame and about several."""
    records = list(Hand3D(hand3d_path).visual("train"))
    return records[:: max(1, len(records) // 6)][:6]


def spatial_features(answerer, records) -> torch.Tensor:
    """What reaches the fusion while these are answered."""
    seen = []
    hook = answerer.model.model.fusion.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    control, answerer.model.model.fusion.control = answerer.model.model.fusion.control, None
    Questions(answerer)(records)
    hook.remove()
    answerer.model.model.fusion.control = control
    return torch.cat(seen)


def test_shuffled_tokens_are_those_of_another_clip_whatever_else_is_asked(hand3d_path, some):
    answerer = ModelAnswerer("nano:stage1", hand3d_path, "cpu", spatial="shuffled")
    clip_of = {frame.id: frame.clip_id for frame in Hand3D(hand3d_path).frames()}
    donors = [answerer._others(tuple(record.frame_ids)) for record in some]
    for record, frames in zip(some, donors):
        assert len(frames) == len(record.frame_ids)
        assert {clip_of[f] for f in frames}.isdisjoint({record.clip_id})
        assert len({clip_of[f] for f in frames}) == 1
    encoded = EncodedImages.of(answerer.model, answerer.processor, donors, answerer._read)
    expected = encoded.inputs(donors, torch.device("cpu"))["spatial_features"]
    torch.testing.assert_close(spatial_features(answerer, some), expected, atol=1e-4, rtol=1e-4)
    one_by_one = torch.cat([spatial_features(answerer, [record]) for record in some])
    torch.testing.assert_close(one_by_one, expected, atol=1e-4, rtol=1e-4)


def test_zeroed_and_none_do_not_depend_on_the_images_3d_tokens(hand3d_path, some, monkeypatch):
    """Noise in the place of the 3D tokens changes answers with the real ones, and none of these."""
    inputs = EncodedImages.inputs

    def noisy(self, *args):
        found = inputs(self, *args)
        spatial = found["spatial_features"]
        return found | {
            "spatial_features": 5 * torch.randn(spatial.shape, generator=torch.Generator().manual_seed(0))
        }

    for spatial, changes in (("real", True), ("zeroed", False), ("none", False)):
        asked = Questions(ModelAnswerer("nano:stage1", hand3d_path, "cpu", spatial=spatial))
        before = asked(some)
        with monkeypatch.context() as patched:
            patched.setattr(EncodedImages, "inputs", noisy)
            assert (asked(some) != before) == changes, spatial


def test_a_control_is_an_option_and_part_of_the_record(hand3d_path, tmp_path, capsys):
    out = tmp_path / "hand3d.json"
    words = [
        "evaluate",
        "hand3d",
        "nano:stage1",
        "--data",
        str(hand3d_path),
        "--out",
        str(out),
        "--split",
        "train",
    ]
    results = {}
    for spatial in ("real", "zeroed", "shuffled", "none"):
        options = ["--limit", "10", *(() if spatial == "real" else ("--spatial", spatial))]
        cli.main([*words, *options])  # the same file: answers of another control are not taken for its own
        results[spatial] = json.loads(out.read_text())
        assert results[spatial]["protocol"]["answerer"].get("spatial", "real") == spatial
    errors = {name: result["scores"][0]["error"]["value"] for name, result in results.items()}
    assert len(set(errors.values())) == 4
    assert "nano:stage1" not in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words[:2], "constant", *words[3:], "--spatial", "zeroed"])
    assert stopped.value.code == 2
    assert "has no 3D tokens" in capsys.readouterr().err
