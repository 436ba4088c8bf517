"""Stage 3 on robots that the start does not know: fitted heads, several robots at once, transforms that travel."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_robots import small_contract, write_demonstrations
from vipa.data.demonstrations import normalised
from vipa.robots.lerobot_data import open_robot_data
from vipa.robots.policy import Observation, VipaPolicy
from vipa.robots.transforms import DeltaFromState, Normalise, Pipeline, as_data, pipeline_of
from vipa.training.known import stage3
from vipa.training.loop import train


def trained(folders, out, max_delay=0, **changes):
    run = stage3.make(tuple(folders), out, max_delay=max_delay)
    data = tuple(replace(spec, batch=2, noise_draws=1) for spec in run.data)
    return train(replace(run, data=data, steps=2, threads=1, **changes)).model


def restores(model: Path, folder: Path) -> VipaPolicy:
    """The policy of a folder's robot, when it has the folder's statistics, twice the same chunk, in the robot's own
    lengths, and numbers that its transforms take there and back."""
    episodes = open_robot_data(folder)
    contract = normalised(episodes)
    policy = VipaPolicy.from_pretrained(model, device="cpu", robot=contract.robot)
    assert policy.contract == contract
    view = next(iter(episodes[0].views.values())).read([0])[0]
    look = Observation(dict.fromkeys(contract.views, view), episodes[0].state[0], "move")
    again = VipaPolicy.from_pretrained(model, device="cpu", robot=contract.robot)
    np.testing.assert_array_equal(policy.infer(look), again.infer(look))
    assert policy.infer(look).shape == (contract.horizon, len(contract.action))
    before = pipeline_of(policy.contract)
    pipeline = Pipeline((*before.transforms, Normalise.of(policy.contract)))
    for episode in episodes:
        sample = {"state": episode.state[0], "action": episode.action[:4]}
        back = pipeline.inverse(pipeline.forward(sample))
        for name, values in sample.items():
            np.testing.assert_allclose(back[name], values, atol=1e-9)
    return policy


def test_a_policy_trained_for_late_chunks_is_asked_with_what_was_sent(tmp_path):
    folder = write_demonstrations(tmp_path / "arm", small_contract("arm", 4, 3), 2)
    policy = restores(trained([folder], tmp_path / "run", max_delay=2), folder)
    assert policy.model.config.action_config.max_delay == 2
    episode = open_robot_data(folder)[0]
    images = {view: np.zeros((32, 32, 3), np.uint8) for view in policy.contract.views}
    seen = Observation(images, episode.state[0], "move")
    new = policy.infer(seen, playing=episode.action[:3], sent=2)
    np.testing.assert_allclose(new[:2], episode.action[:2], atol=1e-5)
    np.testing.assert_array_equal(new, policy.infer(seen, playing=episode.action[:3], sent=2, way="conditioned"))
    with pytest.raises(ValueError, match=r"max_delay 9 leaves nothing"):
        trained([folder], tmp_path / "other", max_delay=9)


def test_two_robots_in_one_training_keep_their_contracts_statistics_and_transforms(tmp_path, caplog):
    """26 numbers at 50 Hz of five episodes, one of them still; and one episode of deltas from the state."""
    delta = as_data(DeltaFromState(((0, 0), (2, 1))))
    hand = write_demonstrations(
        tmp_path / "hand", small_contract("hand", 30, 26, rate=50.0, views=("front", "wrist")), 5, still=3
    )
    arm = write_demonstrations(tmp_path / "arm", small_contract("arm", 4, 3, transforms=delta), 1)
    model = trained([hand, arm], tmp_path / "run")
    assert "new row for 'hand': state 30, action 26, seed 0; kept: tabletop gripper" in caplog.text
    restores(model, hand)
    policy = restores(model, arm)
    assert policy.contract.action_statistics.pipeline != Pipeline().hash
    with pytest.raises(ValueError, match="a policy of 'hand', 'arm'; say which robot"):
        VipaPolicy.from_pretrained(model)
    with pytest.raises(ValueError, match="robot 'leg' is not among them"):
        VipaPolicy.from_pretrained(model, robot="leg")


def test_one_robot_in_two_data_sets_of_other_statistics_is_refused(tmp_path):
    a, b = (write_demonstrations(tmp_path / str(n), small_contract("arm", 4, 3), n) for n in (1, 2))
    with pytest.raises(ValueError, match="other statistics of 'arm' than the data set before it"):
        trained([a, b], tmp_path / "run")


@pytest.mark.slow
def test_two_robots_go_on_from_where_they_were_stopped_to_the_same_weights(tmp_path, monkeypatch):
    """`pytest -m slow tests/training/test_robots.py`"""
    from vipa.models.starts import load_start
    from vipa.training import loop

    hand = write_demonstrations(tmp_path / "hand", small_contract("hand", 30, 26, rate=50.0), 5, still=3)
    arm = write_demonstrations(tmp_path / "arm", small_contract("arm", 4, 3), 1)
    whole = trained([hand, arm], tmp_path / "whole", save_every=1)
    save = loop.save_progress

    def save_then_stop(*args, **kwargs):
        save(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_progress", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        trained([hand, arm], tmp_path / "parts", save_every=1)
    monkeypatch.setattr(loop, "save_progress", save)
    parts = trained([hand, arm], tmp_path / "parts", save_every=1)
    (a, _), (b, _) = (load_start(folder) for folder in (whole, parts))
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy(), err_msg=name)
    for name in ("action_contract.json", "action_contract.arm.json"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("episodes", "still", "changes"),
    [
        (1, None, {}),
        (5, None, {}),
        (2, 1, {}),
        (2, None, {"rate": 50.0}),
        (2, None, {"horizon": 16}),
        (2, None, {"transforms": as_data(DeltaFromState(((0, 0),)))}),
    ],
    ids=["one episode", "five episodes", "a still dimension", "50 Hz", "another horizon", "deltas"],
)
def test_a_small_set_trains_and_restores_exactly(tmp_path, episodes, still, changes):
    folder = write_demonstrations(
        tmp_path / "data", small_contract("arm", 4, 26, **changes), episodes, still=still
    )
    restores(trained([folder], tmp_path / "run"), folder)


def test_the_number_of_robots_is_that_of_the_folders(tmp_path):
    with pytest.raises(ValueError, match="2 folders of data and 1 robots"):
        stage3.make((tmp_path, tmp_path), tmp_path, robot=("tabletop",))
    with warnings.catch_warnings():
        assert [s.robot for s in stage3.make((tmp_path,), tmp_path, robot=("tabletop",)).data] == ["tabletop"]
