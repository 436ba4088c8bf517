"""A checkpoint as a policy: where it comes from, what it refuses, missing views, warm-up."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from vipa.models.selfcheck import FILE, record
from vipa.robots.contract import CONTRACT
from vipa.robots.policy import Observation, VipaPolicy
from vipa.worlds.robot_env import VIEWS

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def nano():
    return VipaPolicy.from_pretrained("nano:stage3", device="cpu")


@pytest.fixture(scope="module")
def folder(nano, tmp_path_factory):
    path = tmp_path_factory.mktemp("policy")
    nano.model.save_pretrained(path)
    nano.processor.save_pretrained(path)
    nano.contract.save(path / CONTRACT)
    record(nano.model, path)
    return path


def look(text="touch the red cup", **images):
    return Observation(images or dict(zip(VIEWS, IMAGES)), np.zeros(8), text, (1, 2))


def test_a_folder_is_the_same_policy_as_what_was_saved(nano, folder):
    loaded = VipaPolicy.from_pretrained(folder, device="cpu")
    assert loaded.identity == nano.identity
    np.testing.assert_allclose(loaded.infer(look()), nano.infer(look()), rtol=0, atol=1e-6)


def test_one_observation_is_a_batch_of_one(nano):
    np.testing.assert_array_equal(nano.infer(look()), nano([look()])[0])
    assert nano.infer(look()).shape == (8, 7)


def test_another_seed_is_another_chunk_and_another_key_too(nano):
    other = replace(look(), key=(1, 3))
    seeded = VipaPolicy(nano.model, nano.processor, nano.contract, seed=1)
    assert not np.allclose(nano.infer(look()), nano.infer(other))
    assert not np.allclose(nano.infer(look()), seeded.infer(look()))


def test_a_model_that_is_not_what_was_saved_is_refused(folder, tmp_path):
    changed = shutil.copytree(folder, tmp_path / "changed")
    policy = VipaPolicy.from_pretrained(folder, device="cpu")
    with torch.no_grad():
        policy.model.action_head.positions.add_(0.5)
    policy.model.save_pretrained(changed)
    with pytest.raises(ValueError, match="not the model that was saved"):
        VipaPolicy.from_pretrained(changed, device="cpu")
    VipaPolicy.from_pretrained(changed, device="cpu", check=False)


def test_without_a_record_there_is_nothing_to_check(folder, tmp_path):
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / FILE).unlink()
    VipaPolicy.from_pretrained(bare, device="cpu")


def test_what_is_no_policy_is_named(folder, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for source, words in (
        ("nano:stage2", "action head is not trained"),
        (tmp_path / "absent", "no model here"),
        ("./absent/model", "no model here"),
        (tmp_path, "no action_contract.json beside the model"),
    ):
        with pytest.raises(ValueError, match=words):
            VipaPolicy.from_pretrained(source)
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / CONTRACT).write_text("{")
    with pytest.raises(ValueError, match=r"action_contract\.json"):
        VipaPolicy.from_pretrained(broken)


def test_a_name_on_the_hub_is_fetched_into_its_cache(folder, tmp_path, monkeypatch):
    """Through the hub's own cache, filled as a download fills it; offline, so that no network is asked."""
    commit = "0" * 40
    snapshots = tmp_path / "models--someone--policy"
    shutil.copytree(folder, snapshots / "snapshots" / commit)
    (snapshots / "refs").mkdir()
    (snapshots / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    policy = VipaPolicy.from_pretrained("someone/policy", device="cpu")
    assert policy.contract == VipaPolicy.from_pretrained(folder, device="cpu").contract
    with pytest.raises(ValueError, match="nobody/policy: no model here, neither as a folder nor on the hub"):
        VipaPolicy.from_pretrained("nobody/policy")


def test_warming_up_changes_nothing(nano):
    before = nano.infer(look())
    nano.warm_up((1, 2), size=32)
    np.testing.assert_array_equal(nano.infer(look()), before)


# -- missing views


@pytest.fixture(scope="module")
def two(nano):
    contract = replace(nano.contract, views=VIEWS)
    return VipaPolicy(nano.model, nano.processor, contract, missing_views="mask")


def test_missing_views_are_refused_unless_they_are_to_be_masked(nano, two):
    strict = VipaPolicy(nano.model, nano.processor, two.contract)
    with pytest.raises(ValueError, match="views missing: wrist; there are agent"):
        strict.infer(look(agent=IMAGES[0]))
    with pytest.raises(ValueError, match="views missing: agent, wrist; there are front"):
        two.infer(look(front=IMAGES[0]))
    with pytest.raises(ValueError, match="views missing: agent; there are wrist"):
        nano.infer(look(wrist=IMAGES[0]))


@pytest.mark.parametrize("there", ["agent", "wrist"])
def test_a_masked_view_is_as_if_its_tokens_were_cut_out_and_the_rest_stayed_in_place(two, there):
    """The oracle removes the tokens and the picture, and keeps every other token's position."""
    chunk = two.infer(look(**{there: IMAGES[0]}))
    whole, _ = two.inputs([look(agent=IMAGES[0], wrist=IMAGES[0])])
    absent = 1 - ("agent", "wrist").index(there)
    ids = whole["input_ids"][0]
    places = (ids == two.processor.image_token_id).nonzero()[:, 0].chunk(2)[absent]
    kept = torch.ones(len(ids), dtype=torch.bool).index_fill(0, places, False)
    image = slice(1 - absent, 2 - absent)
    inputs = {
        "input_ids": ids[None, kept],
        "attention_mask": torch.ones(
            1, int(kept.sum()), dtype=torch.long
        ),  # without it a gap means another document
        "position_ids": torch.arange(len(ids))[None, kept],
        "pixel_values": whole["pixel_values"][image],
        "spatial_pixel_values": whole["spatial_pixel_values"][image],
    }
    cut = VipaPolicy(two.model, two.processor, two.contract)
    cut.inputs = lambda observations: (inputs, False)
    np.testing.assert_allclose(chunk, cut.infer(look()), rtol=0, atol=1e-5)


def test_a_masked_row_leaves_the_rows_beside_it_alone(two):
    whole, partly = look(agent=IMAGES[0], wrist=IMAGES[1]), look("push the blue can to the left", wrist=IMAGES[1])
    both = two([whole, partly])
    np.testing.assert_allclose(both[0], two.infer(whole), rtol=0, atol=1e-5)
    np.testing.assert_allclose(both[1], two.infer(partly), rtol=0, atol=1e-5)
    assert not np.allclose(
        both[1], two.infer(look("push the blue can to the left", agent=IMAGES[1], wrist=IMAGES[1]))
    )
