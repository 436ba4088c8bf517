"""openpi's protocol from outside: answers, faults, limits, deadlines, batches, draining."""

import http.client
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra `serve` is not installed")

from serving_kit import Echo, Raw, images, request, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus

from vipa.robots.policy import Observation
from vipa.robots.serving.arrays import pack
from vipa.robots.serving.server import Limits


@pytest.fixture
def echo():
    policy = Echo()
    with serving(policy, limits=Limits(message=2**20, clients=8, slow=2.0, drain=10.0)) as (port, server):
        yield policy, port, server


def get(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def metric(port, name):
    return next(float(line.split()[-1]) for line in get(port, "/metrics")[1].splitlines() if line.startswith(name))


def until(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- the real model


@pytest.fixture(scope="module")
def served(nano):
    with serving(nano) as (port, _):
        yield port


def test_a_served_chunk_is_the_policy_s_own(nano, served):
    message = request(noise_key=[3, 5])
    with Raw(served) as client:
        answer = client.ask(message)
    own = nano.infer(Observation(images(message), np.zeros(8), message["prompt"], (3, 5)))
    assert answer["actions"].shape == (8, 7)
    np.testing.assert_allclose(answer["actions"], own, rtol=0, atol=1e-5)


def test_openpi_client_works_unchanged(nano, served):
    client_module = pytest.importorskip("openpi_client.websocket_client_policy")
    client = client_module.WebsocketClientPolicy("127.0.0.1", served)
    told = client.get_server_metadata()
    assert told["observation"]["observation/state"] == {"shape": [8], "dtype": "float32"}
    assert told["action_contract"]["robot"] == "tabletop gripper" and told["actions"]["shape"] == [8, 7]
    message = request(noise_key=[1, 2])
    own = nano.infer(Observation(images(message), np.zeros(8), message["prompt"], (1, 2)))
    np.testing.assert_allclose(client.infer(message)["actions"], own, rtol=0, atol=1e-5)
    with pytest.raises(RuntimeError, match="observation/state: missing"):
        client.infer({key: value for key, value in message.items() if key != "observation/state"})
    assert client.infer(message)["actions"].shape == (8, 7)  # an error is not the end


def test_vipa_serve_drains_on_sigterm():
    """A request that is being answered when SIGTERM comes is answered; then the server is gone, with exit code 0."""
    command = [sys.executable, "-m", "vipa", "serve", "nano:stage3", "--port", "0", "--max-batch", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    line = next(line for line in process.stdout if "serving" in line)
    port = int(line.partition("ws://127.0.0.1:")[2].partition(";")[0])
    with Raw(port) as client:
        client.ask(request())
        client.send(request())
        until(lambda: metric(port, "vipa_request_seconds_count") == 1.0)
        time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert client.answer()["actions"].shape == (8, 7)
        with pytest.raises(ConnectionClosed, match="the server is stopping"):
            client.answer()
    assert process.wait(20) == 0


# -- answers


def test_every_client_gets_its_own_answers(echo):
    policy, port, _ = echo
    policy.seconds = 0.002

    def ask(number):
        with Raw(port) as client:
            for k in range(40):
                answer = client.ask(request(number * 100 + k, request_id=k))
                assert answer["request_id"] == k and answer["actions"][0, 0] == number * 100 + k
                assert answer["actions"][7, 5:].tolist() == [0, k]  # its own count of requests is its noise's key

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert sum(policy.batches) == 320 and max(policy.batches) > 2
    assert metric(port, 'vipa_requests_total{outcome="ok"}') == 320
    assert metric(port, "vipa_batch_rows_sum") == 320


def test_one_client_alone_never_waits_for_others(echo):
    _, port, _ = echo
    with Raw(port) as client, Raw(port):
        client.ask(request())
        times = []
        for _ in range(30):
            start = time.perf_counter()
            client.ask(request())
            times.append(time.perf_counter() - start)
    assert np.median(times) < 0.02


def test_an_answer_after_its_deadline_never_comes(echo):
    policy, port, _ = echo
    with Raw(port) as client:
        policy.may_answer.clear()
        start = time.perf_counter()
        answer = client.ask(request(1, request_id=1, deadline_ms=100))
        assert 0.09 < time.perf_counter() - start < 1.0
        assert answer == "request 1: deadline: no answer within 100 ms"
        policy.may_answer.set()
        answer = client.ask(request(2, request_id=2))
        assert answer["request_id"] == 2 and answer["actions"][0, 0] == 2
        with pytest.raises(TimeoutError):
            client.answer(0.1)
    assert metric(port, 'vipa_requests_total{outcome="late"}') == 1


def test_a_request_that_waited_too_long_is_not_computed(echo):
    policy, port, _ = echo
    with Raw(port) as first, Raw(port) as second:
        policy.may_answer.clear()
        first.send(request())
        until(lambda: policy.batches == [1])
        assert "deadline" in second.ask(request(deadline_ms=50))
        policy.may_answer.set()
        first.answer()
        first.ask(request())
    assert policy.batches == [1, 1]


def test_a_full_queue_says_so_at_once():
    policy = Echo()
    with serving(policy, limits=Limits(queue=1, batch=1)) as (port, _):
        policy.may_answer.clear()
        with Raw(port) as a, Raw(port) as b, Raw(port) as c:
            a.send(request())
            until(lambda: policy.batches == [1])
            b.send(request())
            until(lambda: metric(port, "vipa_queued_requests") == 1)
            assert c.ask(request()) == "busy: 1 requests wait already"
            policy.may_answer.set()
            assert b.answer()["actions"].shape == a.answer()["actions"].shape == (8, 7)


def test_a_policy_that_fails_is_an_error_and_not_the_end(echo):
    _, port, _ = echo
    with Raw(port) as client:
        assert client.ask(request(prompt="break")) == "the policy failed: ZeroDivisionError: it broke"
        assert client.ask(request(4))["actions"][0, 0] == 4


def test_who_breaks_a_batch_gets_the_error_alone(echo):
    policy, port, _ = echo
    with Raw(port) as first, Raw(port) as good, Raw(port) as bad:
        for client in (first, good, bad):
            client.ask(request())
        policy.may_answer.clear()
        policy.batches.clear()
        first.send(request(1))
        until(lambda: policy.batches)
        good.send(request(2))
        bad.send(request(3, prompt="break"))
        until(lambda: metric(port, "vipa_queued_requests") == 2)
        policy.may_answer.set()
        assert "it broke" in bad.answer()
        assert [client.answer()["actions"][0, 0] for client in (first, good)] == [1, 2]
    assert policy.batches == [1, 2, 1, 1]


# -- faults


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\xc1garbage", "message: not msgpack"),
        ("text", "expected a binary msgpack message"),
        (pack([1, 2]), "a list; expected a map with observation/agent"),
        (b"", "not msgpack"),
        (request(**{"observation/state": np.zeros(3)}), "observation/state: shape"),
        (request(np.nan), "not finite"),
        (request(**{"observation/agent": None}), "observation/agent: missing"),
        (request(**{"observation/agent": np.zeros((9, 9, 3))}), "dtype float64"),
    ],
)
def test_a_bad_message_is_one_line_and_not_the_end(echo, message, words):
    _, port, _ = echo
    with Raw(port) as client:
        answer = client.ask(message)
        assert isinstance(answer, str) and words in answer and "\n" not in answer
        assert client.ask(request(7))["actions"][0, 0] == 7


def test_a_message_beyond_the_limit_closes_its_connection_with_a_reason(echo):
    _, port, _ = echo
    with Raw(port) as other, Raw(port) as client:
        with pytest.raises(ConnectionClosed, match="message too big"):
            client.ask(b"\0" * (2**20 + 1))
        assert other.ask(request(1))["actions"][0, 0] == 1


def open_socket(port, receives=2**16):
    """A handshaken TCP connection, to misuse. receives: bytes that the system keeps of what is not read."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    plain.connect(("127.0.0.1", port))
    plain.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert plain.recv(1000).startswith(b"HTTP/1.1 101")
    return plain


def frame(data):
    return b"\x82" + struct.pack("!BQ", 0x80 | 127, len(data)) + bytes(4) + data


def test_clients_that_vanish_leave_nothing(echo):
    policy, port, server = echo
    for cut in (1, 5, 1000, None):  # in the header, in the message, and while it is answered
        plain = open_socket(port)
        plain.sendall(frame(pack(request()))[:cut])
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plain.close()
    junk = socket.create_connection(("127.0.0.1", port))
    junk.sendall(os.urandom(500))
    junk.close()
    until(lambda: not server._clients)
    with Raw(port) as client:
        assert client.ask(request(3))["actions"][0, 0] == 3
    assert len(policy.batches) <= 2


def test_a_client_that_takes_no_answers_is_cut_and_holds_up_nobody():
    with serving(Echo(), limits=Limits(slow=0.5)) as (port, server):
        plain = open_socket(port, receives=2048)
        message = frame(pack({f"{k:02}" * 20: 0 for k in range(12)}))  # asks for nothing, and gets 500 letters

        def flood():
            with suppress(OSError):
                for _ in range(20_000):
                    plain.sendall(message)

        thread = threading.Thread(target=flood)
        thread.start()
        with Raw(port) as other:
            for k in range(20):
                assert other.ask(request(k))["actions"][0, 0] == k
            until(lambda: len(server._clients) == 1, 25)
        thread.join(10)
        assert not thread.is_alive()


def test_many_connections_come_and_go(echo):
    _, port, server = echo
    for k in range(100):
        plain = open_socket(port)
        if k % 2:
            plain.sendall(frame(pack(request())))
        plain.close()
    until(lambda: not server._clients)
    with Raw(port) as client:
        assert client.ask(request(3))["actions"][0, 0] == 3


# -- who comes in, and the end


def test_more_clients_than_the_limit_are_told_so():
    with serving(Echo(), limits=Limits(clients=1)) as (port, _):
        with Raw(port), pytest.raises(ConnectionClosed, match="the server is full: 1 clients"):
            Raw(port)
        until(lambda: metric(port, "vipa_clients") == 0)
        Raw(port).socket.close()


def test_without_the_token_nobody_comes_in_but_to_ask_for_health():
    with serving(Echo(), token="s3cret") as (port, _):
        for headers in ({}, {"Authorization": "Api-Key wrong"}, {"Authorization": "s3cret"}):
            with pytest.raises(InvalidStatus, match="401"):
                Raw(port, additional_headers=headers)
            assert get(port, "/metrics", **headers)[0] == 401
        assert get(port, "/healthz") == (200, "ok\n")
        for kind in ("Api-Key", "Bearer"):
            assert get(port, "/metrics", Authorization=f"{kind} s3cret")[0] == 200
        with Raw(port, additional_headers={"Authorization": "Api-Key s3cret"}) as client:
            assert client.ask(request(1))["actions"][0, 0] == 1


def test_metrics_are_in_prometheus_form(echo):
    _, port, _ = echo
    with Raw(port) as client:
        client.ask(request())
        client.ask(b"\xc1")
        status, text = get(port, "/metrics")
    assert status == 200
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    values = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
    assert values['vipa_requests_total{outcome="ok"}'] == values['vipa_requests_total{outcome="refused"}'] == 1
    assert values["vipa_request_seconds_count"] == values['vipa_request_seconds_bucket{le="+Inf"}'] == 2
    assert values["vipa_clients"] == 1 and values["vipa_connections_total"] == 1


def test_what_was_begun_is_answered_and_nothing_new_is(echo):
    policy, port, server = echo
    with Raw(port) as first, Raw(port) as second:
        second.ask(request())
        policy.may_answer.clear()
        first.send(request(5))
        until(lambda: policy.batches == [1, 1])
        server.stop_now()
        until(lambda: server._stopping.is_set())
        assert second.ask(request(6)) == "busy: the server is stopping"
        with pytest.raises((OSError, ConnectionClosed)):
            Raw(port)
        policy.may_answer.set()
        assert first.answer()["actions"][0, 0] == 5
        for client in (first, second):
            with pytest.raises(ConnectionClosed, match="the server is stopping"):
                client.answer()
