"""`vipa view` of robot episodes: a page that needs nothing else, and a Rerun recording, with a policy's chunks."""

import re

import numpy as np
import pytest

from small_robots import small_contract, write_demonstrations
from vipa.cli import main
from vipa.robots.known.tabletop import collect
from vipa.robots.lerobot_data import open_robot_data
from vipa.robots.policy import VipaPolicy
from vipa.robots.predictions import look_at, predict
from vipa.worlds.robot_env import VIEWS
from vipa.worlds.seeds import VALIDATION


@pytest.fixture
def arm(tmp_path):
    return write_demonstrations(tmp_path / "arm", small_contract("arm", 4, 3), 3)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held") / "out"
    collect(folder, VALIDATION[:1], {"touch": 1.0}, views=VIEWS)
    return folder


def test_the_page_shows_episodes_and_needs_nothing_but_itself(arm, tmp_path, capsys):
    main(["view", str(arm), "--clips", "2"])
    page = (arm / "episodes.html").read_text()
    assert str(arm / "episodes.html") in capsys.readouterr().out
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "move thing 1" in page and "move thing 2" not in page
    assert page.count("data:image/jpeg") == 2 * 6
    main(["view", str(arm), "--clip", "-1", "--out", str(tmp_path / "one.html")])
    assert "move thing 2" in (tmp_path / "one.html").read_text()
    with pytest.raises(SystemExit):
        main(["view", str(arm), "--clip", "e9"])
    assert "episode 'e9' is not there; there are 0 to 2, e0 and so on" in capsys.readouterr().err


def test_a_set_that_nobody_described_is_shown_by_its_names(arm):
    (arm / "contract.json").unlink()
    main(["view", str(arm), "--clips", "1"])
    assert "not stated" in (arm / "episodes.html").read_text()


def test_a_policy_s_chunks_stand_beside_what_was_recorded(held_out, tmp_path):
    main(["view", str(held_out), "--policy", "nano:stage3", "--out", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert "recorded (black), nano:stage3 (orange)" in page
    episode, policy = open_robot_data(held_out)[0], VipaPolicy.from_pretrained("nano:stage3", device="cpu")
    found = predict(policy, episode)
    assert found.starts == tuple(range(0, len(episode), 8))
    np.testing.assert_array_equal(
        found.chunks[-1], policy.infer(look_at(episode, found.starts[-1]))[: len(found.chunks[-1])]
    )
    assert found.errors(episode)[:3].mean() < 0.3, "nano imitates the expert, whose full step is 1"


def test_a_policy_of_another_robot_is_refused(arm, capsys):
    with pytest.raises(SystemExit):
        main(["view", str(arm), "--policy", "nano:stage3"])
    assert "robot 'arm' is not among" in capsys.readouterr().err


def test_a_rerun_recording_holds_pictures_numbers_and_chunks(held_out, tmp_path):
    pytest.importorskip("rerun")
    chunks = pytest.importorskip("rerun.chunk")
    main(["view", str(held_out), "--policy", "nano:stage3", "--clip", "0", "--out", str(tmp_path / "one.rrd")])
    rows: dict[str, list] = {}
    for chunk in chunks.RrdReader(tmp_path / "one.rrd").stream():
        rows.setdefault(chunk.entity_path, []).extend(chunk.to_record_batch().to_pylist())
    episode = open_robot_data(held_out)[0]
    assert len(rows["/views/agent"]) == len(episode)
    for kind in ("recorded", "predicted"):
        seen = sorted(rows[f"/action/delta_x/{kind}"], key=lambda row: row["episode"])
        assert len(seen) == len(episode)
    values = [next(v for k, v in row.items() if k.endswith("scalars"))[0] for row in seen]
    policy = VipaPolicy.from_pretrained("nano:stage3", device="cpu")
    np.testing.assert_allclose(values, np.concatenate(predict(policy, episode).chunks)[:, 0], atol=1e-6)
