"""A request that does not fit the contract is one line that names its key."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("msgpack", reason="the extra `serve` is not installed")

from vipa.robots.contract import ActionContract
from vipa.robots.known import find
from vipa.robots.known.tabletop import tabletop_contract
from vipa.robots.serving.requests import Keys, Reader, parse_views

IMAGE = np.zeros((16, 20, 3), np.uint8)
TWO = tabletop_contract(("agent", "wrist"))


def message(**changes):
    names = {"agent": "observation/agent", "wrist": "observation/wrist", "state": "observation/state"}
    start = {
        "observation/agent": IMAGE,
        "observation/wrist": IMAGE,
        "observation/state": np.zeros(8),
        "prompt": "go",
    }
    return start | {names.get(name, name): value for name, value in changes.items()}


def read(missing="refuse", **changes):
    return Reader(TWO, Keys.of(TWO), missing).read(message(**changes), (3, 4))


def test_a_request_becomes_an_observation():
    request = read(request_id="a7", deadline_ms=250, state=list(range(8)), more="ignored")
    assert (request.id, request.deadline) == ("a7", 0.25)
    observation = request.observation
    assert list(observation.images) == ["agent", "wrist"] and observation.text == "go"
    assert observation.state.tolist() == list(range(8)) and observation.key == (3, 4)
    assert read(noise_key=[5, 6]).observation.key == (5, 6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wrist": None}, "observation/wrist: missing; this message has 'observation/agent'"),
        ({"state": None, "prompt": None}, "observation/state, prompt: missing"),
        ({"agent": IMAGE.astype(np.float32)}, "observation/agent: dtype float32; expected uint8"),
        ({"agent": IMAGE.transpose(2, 0, 1)}, "channels come last"),
        ({"agent": IMAGE[..., :1]}, r"shape \(16, 20, 1\)"),
        ({"agent": IMAGE[:2]}, "20 x 2 pixels"),
        ({"agent": b"jpeg"}, "a bytes; expected a uint8 array"),
        ({"state": np.zeros(7)}, r"shape \(7,\); expected \(8,\)"),
        ({"state": np.zeros((1, 8))}, r"shape \(1, 8\)"),
        ({"state": np.full(8, np.nan)}, "x, y, z, .* not finite"),
        ({"state": np.array([0, 0, np.inf, 0, 0, 0, 0, 0])}, "observation/state: z not finite"),
        ({"state": np.zeros(8, bool)}, "dtype bool"),
        ({"state": "zero"}, "a str; expected an array of numbers"),
        ({"prompt": ""}, "prompt: expected words"),
        ({"prompt": b"go"}, "prompt: expected words, got bytes"),
        ({"prompt": "look: <IMG_CONTEXT>"}, "prompt: it holds <IMG_CONTEXT>"),
        ({"prompt": "go" * 2000}, "4000 characters"),
        ({"deadline_ms": -1}, "deadline_ms: expected a positive"),
        ({"deadline_ms": float("nan")}, "deadline_ms: expected a positive"),
        ({"noise_key": [1, -1]}, "noise_key: expected two"),
        ({"request_id": [1]}, "request_id: expected"),
    ],
)
def test_what_does_not_fit_is_named(changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        read(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, "text", [1], IMAGE])
def test_a_message_that_is_no_map_is_named(value):
    with pytest.raises(ValueError, match="expected a map with observation/agent"):
        Reader(TWO, Keys.of(TWO)).read(value, (0, 0))


def test_views_may_be_absent_where_they_are_masked_but_not_all():
    assert list(read("mask", wrist=None).observation.images) == ["agent"]
    with pytest.raises(ValueError, match="observation/agent, observation/wrist: missing"):
        read("mask", wrist=None, agent=None)


def test_keys_follow_openpi_s_unless_others_are_given():
    assert Keys.of(TWO).views == {"agent": "observation/agent", "wrist": "observation/wrist"}
    keys = Keys.of(TWO, parse_views(["agent=observation/image", ""]))
    assert keys.views == {"agent": "observation/image", "wrist": "observation/wrist"}
    with pytest.raises(ValueError, match=r"views front: not the model's; it sees agent, wrist"):
        Keys.of(TWO, {"front": "x"})
    with pytest.raises(ValueError, match="not VIEW=KEY"):
        parse_views(["agent"])


def test_a_robot_s_own_file_may_say_the_keys_and_they_travel_with_its_contract():
    libero = find("libero").contract()
    again = ActionContract.from_json(libero.to_json())
    assert again == libero
    assert Keys.of(again).views == {"agentview": "observation/image", "wrist": "observation/wrist_image"}
    own = replace(TWO, keys={"wrist": "cam/1", "state": "joints", "prompt": "task"})
    assert Keys.of(own) == Keys({"agent": "observation/agent", "wrist": "cam/1"}, "joints", "task")
    assert Keys.of(own, {"wrist": "x"}).views["wrist"] == "x"
    assert "keys" not in json.loads(TWO.to_json())
    with pytest.raises(ValueError, match="keys name front; known: agent, wrist, state, prompt"):
        replace(TWO, keys={"front": "x"})
