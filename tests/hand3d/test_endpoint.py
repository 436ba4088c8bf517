import json
import re
import sys
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from vipa.clips.example import example_clip
from vipa.hand3d.config import AnnotateConfig, EndpointConfig, ObjectsConfig, WordsConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.estimators.endpoint import Endpoint, EndpointError, json_answer
from vipa.hand3d.measure.relations import CameraMovement, Relation
from vipa.hand3d.pipeline.annotate import annotate
from vipa.hand3d.words.describe import same_meaning, texts_by_template

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Retries of the client begin after half a second otherwise."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01, raising=False)


class Server:
    """A chat server on this machine that answers by `reply`, after the faults that are queued."""

    def __init__(self):
        self.faults, self.requests, self.reply = deque(), [], lambda prompt: "yes"
        self.retry_after = "0"
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(body)
                fault = server.faults.popleft() if server.faults else None
                if fault == "cut":
                    self.connection.close()
                    return
                if fault == "slow":
                    time.sleep(1.0)
                if fault == "half":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b'{"choices"')
                    return
                text = server.reply(body["messages"][0]["content"][0]["text"])
                good = json.dumps({"choices": [{"message": {"content": text}}]})
                empty = json.dumps({"choices": [{"message": {"content": ""}}]})
                payload = {"malformed": "<html>", "empty": empty}.get(fault, good).encode()
                self.send_response(fault if isinstance(fault, int) else 200)
                if fault == 429:
                    self.send_header("Retry-After", server.retry_after)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *args): ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def config(server, **changes) -> EndpointConfig:
    fields = {"model": "tiny", "timeout": 30.0, "retries": 6, "wait": 0.01, **changes}
    return EndpointConfig(url=server.url, **fields)


IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize("fault", [429, 500, 503, "malformed", "empty", "cut", "half", "slow"])
def test_a_passing_fault_is_survived(server, fault):
    server.faults.extend([fault, fault])
    endpoint = Endpoint(config(server, timeout=0.3) if fault == "slow" else config(server))
    assert endpoint.ask("?", [IMAGE], str.upper) == "YES"
    assert endpoint.asked == 3 or fault == "slow"
    assert server.requests[0]["messages"][0]["content"][1]["image_url"]["url"].startswith(
        "data:image/jpeg;base64,"
    )


def test_a_lasting_fault_ends_with_its_reason(server):
    server.faults.extend([500] * 20)
    with pytest.raises(EndpointError, match="after 3 attempts; last: HTTP 500"):
        Endpoint(config(server, retries=2)).ask("?", [], str)
    server.faults.clear()
    server.faults.append(401)
    with pytest.raises(EndpointError, match="HTTP 401"):
        Endpoint(config(server)).ask("?", [], str)
    assert len(server.requests) == 4  # a refusal for good is not asked again


def test_an_answer_that_fails_its_check_is_asked_again(server):
    answers = deque(["no list", "[1", '["cup"]'])
    server.reply = lambda prompt: answers.popleft()
    assert Endpoint(config(server)).ask("?", [], json_answer) == ["cup"]
    assert [request["temperature"] for request in server.requests] == [0.0, 0.7, 0.7]


def test_the_budget_is_kept_and_answers_are_remembered(server, tmp_path):
    endpoint = Endpoint(config(server, requests=1, cache=str(tmp_path)))
    assert [endpoint.ask("a", [IMAGE], str) for _ in range(3)] == ["yes"] * 3
    assert (endpoint.asked, endpoint.hits, len(server.requests)) == (1, 2, 1)
    with pytest.raises(EndpointError, match="budget of 1"):
        endpoint.ask("b", [], str)
    assert Endpoint(config(server, cache=str(tmp_path))).ask("a", [IMAGE], str) == "yes"
    assert len(server.requests) == 1


def test_the_clients_own_retries_count_in_the_budget(server):
    server.faults.extend([500] * 20)
    with pytest.raises(EndpointError, match="budget of 2 requests is spent"):
        Endpoint(config(server, requests=2)).ask("?", [], str)
    assert len(server.requests) == 2


def test_a_server_that_says_when_to_come_back_is_obeyed(server):
    server.retry_after = "0.4"
    server.faults.append(429)
    start = time.perf_counter()
    assert Endpoint(config(server)).ask("?", [], str) == "yes"
    assert time.perf_counter() - start >= 0.4


def test_without_the_client_one_line_says_which_extra_has_it(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("pip install 'vipa[endpoint]'")):
        Endpoint(config(server))


def test_a_rate_limit_spreads_the_requests(server):
    endpoint = Endpoint(config(server, rate=600.0))
    start = time.perf_counter()
    for i in range(4):
        endpoint.ask(str(i), [], str)
    assert time.perf_counter() - start >= 0.29


def test_an_endpoint_without_url_is_refused():
    with pytest.raises(ValueError, match="url and model"):
        Endpoint(EndpointConfig())


def reply(prompt: str) -> str:
    if "List the objects" in prompt:
        return 'Here: ["red cup", "The Plate"]'
    if "frames of one video" in prompt:
        return '```json\n[{"text": "move the red cup", "start": 0, "end": 5.5, "hand": "right"}]\n```'
    return "Could you tell me this: " + prompt.split("Question: ")[1]


def test_a_run_over_a_faulty_endpoint_completes_and_records_what_failed(server, tmp_path):
    server.reply = reply
    server.faults.extend([500, "cut", "empty", 429, "malformed", "half"])
    clips = [example_clip(i, texts=()) for i in range(3)]
    words = WordsConfig(texts="endpoint", reworded=1.0)
    objects = ObjectsConfig(names="endpoint")
    settings = AnnotateConfig(objects=objects, words=words, endpoint=config(server, cache=str(tmp_path / "cache")))
    report = annotate(clips, tmp_path / "out", settings)
    assert (report.done, report.refused) == (3, ())
    data = Hand3D(tmp_path / "out")
    records = list(data.visual())
    assert {r.wording for r in records} == {"tiny"}
    assert all(r.question.startswith("Could you tell me this") for r in records)
    assert {r.text for r in data.action()} == {"move the red cup"}
    asked = len(server.requests)
    annotate(clips, tmp_path / "out", settings)
    assert len(server.requests) == asked


def test_a_dead_endpoint_refuses_clips_with_the_reason_and_keeps_templates(server, tmp_path):
    server.faults.extend([500] * 10_000)
    dead = config(server, retries=0)
    texts = AnnotateConfig(words=WordsConfig(texts="endpoint"), endpoint=dead)
    report = annotate([example_clip(texts=())], tmp_path / "a", texts)
    assert report.done == 0
    assert "HTTP 500" in report.refused[0][1]
    asked = AnnotateConfig(words=WordsConfig(reworded=1.0), endpoint=dead)
    assert annotate([example_clip()], tmp_path / "b", asked).done == 1
    data = Hand3D(tmp_path / "b")
    assert {r.wording for r in data.visual()} == {"template; no answer after 1 attempts; last: HTTP 500"}
    note = json.loads(next(data.clips()).notes)["wording"]
    assert note.startswith(f"{data.count('visual')} questions kept their template, most often: no answer after")


def test_answers_that_mean_nothing_are_refused_and_counted_on_their_clip(server, tmp_path):
    server.reply = lambda prompt: "lorem ipsum dolor" if "red cup" in prompt else prompt.split("Question: ")[1]
    asked = AnnotateConfig(words=WordsConfig(reworded=1.0), endpoint=config(server, retries=0))
    assert annotate([example_clip()], tmp_path, asked).done == 1
    data = Hand3D(tmp_path)
    refused = [r for r in data.visual() if "red cup" in r.question]
    assert {r.wording for r in refused} == {
        "template; no answer after 1 attempts; last: unusable answer: 'right' is missing"
    }
    assert {r.wording for r in data.visual() if "red cup" not in r.question} == {"tiny"}
    assert json.loads(next(data.clips()).notes)["wording"].startswith(f"{len(refused)} questions kept")


def test_only_questions_that_kept_their_meaning_pass():
    r = Relation("spatial_relation", np.ones(3), "left", "red cup")
    assert same_meaning(r, "Could you say where the red cup is, as seen from the left hand?") is None
    assert "missing" in same_meaning(r, "Where is the cup from the left hand?")
    assert "missing" in same_meaning(r, "Where is the red cup from the right hand?")
    assert "added" in same_meaning(r, "Where is the red cup, up or down, from the left hand?")
    assert "number" in same_meaning(r, "Where is the red cup from the left hand, 3 cm away?")
    task = Relation(
        "task_completion", np.ones(3), "right", "red cup", task="put the red cup on the blue plate", goal="touch"
    )
    assert same_meaning(task, "How should the right hand move to put the red cup on the blue plate?") is None
    assert "lost" in same_meaning(task, "How should the right hand move for the red cup?")
    stop = Relation("task_completion", np.ones(3), "right", task="fold the towel", goal="stop")
    assert same_meaning(stop, "To fold the towel, where will the right hand go next?") is None
    assert same_meaning(stop, "How must the right hand move to reach the towel and fold it?") is not None
    turn = CameraMovement(np.ones(3), np.ones(3), "rotation")
    assert same_meaning(turn, "By what angle did the camera rotate?") is None
    assert same_meaning(turn, "Where did the camera travel to?") is not None


def test_contacts_tell_texts_where_a_clip_has_none():
    texts = texts_by_template(example_clip(texts=()))
    assert [(t.text, t.hand) for t in texts] == [("reach for the red cup", "right"), ("move the red cup", "right")]
    assert (texts[0].end, texts[1].end) == (2.0, 5.0)
