"""vla-eval's protocol, through its own server loop and its own messages."""

import zlib

import numpy as np
import pytest

pytest.importorskip("vla_eval", reason="the extra `vla-eval` is not installed")

from anyio.from_thread import start_blocking_portal
from serving_kit import IMAGE, WRIST
from vla_eval.model_servers.serve import serve_async
from vla_eval.protocol.messages import Message, MessageType, pack_message, unpack_message
from vla_eval.specs import GRIPPER_CLOSE_POS, POSITION_DELTA, ROTATION_AA
from websockets.sync.client import connect

from vipa.robots.policy import Observation
from vipa.robots.serving.vla_eval_server import VipaModelServer, action_specs

TASK = {"name": "touch"}


@pytest.fixture(scope="module")
def port():
    server = VipaModelServer("nano:stage3", execute=3, views="agent=agentview", max_batch_size=2)
    with start_blocking_portal() as portal:
        future, port = portal.start_task(serve_async, server, "127.0.0.1", 0)
        yield port
        future.cancel()


class Client:
    def __init__(self, port):
        self.socket = connect(f"ws://127.0.0.1:{port}", compression=None)

    def send(self, kind, payload):
        self.socket.send(pack_message(Message(kind, payload)))

    def ask(self, kind, payload):
        self.send(kind, payload)
        return unpack_message(self.socket.recv(20))


def seen(**changes):
    start = {"images": {"agentview": IMAGE, "wrist": WRIST}, "states": np.zeros(8), "task_description": "touch it"}
    return start | changes


def test_an_episode_plays_the_policy_s_chunks(port, nano):
    client = Client(port)
    told = client.ask(MessageType.HELLO, {}).payload
    assert told["observation_params"] == {"send_state": True, "send_wrist_image": True}
    client.send(MessageType.EPISODE_START, {"task": TASK})
    actions = [client.ask(MessageType.OBSERVATION, seen()).payload["actions"] for _ in range(4)]
    episode = zlib.crc32(b'{"name": "touch"}') >> 1
    chunks = [
        nano.infer(Observation({"agent": IMAGE, "wrist": WRIST}, np.zeros(8), "touch it", (episode, step)))
        for step in (0, 3)
    ]
    np.testing.assert_allclose(actions, [*chunks[0][:3], chunks[1][0]], rtol=0, atol=1e-5)
    client.socket.close()


def test_a_bad_observation_is_an_error_and_not_the_end(port):
    client = Client(port)
    client.send(MessageType.EPISODE_START, {"task": TASK})
    for changes, words in (
        ({"images": {}}, "agentview: missing"),
        ({"states": np.full(8, np.nan)}, "state: x, y"),
        ({"task_description": ""}, "task_description: expected words"),
    ):
        answer = client.ask(MessageType.OBSERVATION, seen(**changes))
        assert answer.type == MessageType.ERROR and words in answer.payload["error"]
    assert client.ask(MessageType.OBSERVATION, seen()).type == MessageType.ACTION
    client.socket.close()


def test_the_tabletop_s_contract_is_what_vla_eval_calls_libero_s(nano):
    expected = {"position": POSITION_DELTA, "rotation": ROTATION_AA, "gripper": GRIPPER_CLOSE_POS}
    ours = action_specs(nano.contract)
    assert ours.keys() == expected.keys()
    assert all(ours[name].is_compatible(spec)[0] for name, spec in expected.items())


def test_more_actions_than_a_chunk_has_are_refused():
    with pytest.raises(ValueError, match=r"execute=9 must be within 1 \.\. 8"):
        VipaModelServer(execute=9)
