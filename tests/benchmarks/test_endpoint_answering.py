"""A model behind an OpenAI-compatible server as a competitor, over real HTTP: what it is asked, and what counts."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from vipa import cli
from vipa.benchmarks.results import Hand3DResult
from vipa.hand3d.dataset.reader import Hand3D

pytest.importorskip("openai")


@pytest.fixture
def server():
    """A chat server on this machine; `reply` makes its answers, `requests` are what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            chat.requests.append(body)
            text = chat.reply(body["messages"][0]["content"][0]["text"])
            payload = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args):
            pass

    chat = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    chat.requests, chat.reply = [], lambda prompt: "left and down, 0.20m"
    threading.Thread(target=chat.serve_forever, daemon=True).start()
    yield chat
    chat.shutdown()
    chat.server_close()


def evaluate(server, data, out, *options):
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    words = ["--endpoint.url", url, "--endpoint.model", "some-vlm", "--split", "train", "--limit", "12", *options]
    cli.main(["evaluate", "hand3d", "endpoint", "--data", str(data), "--out", str(out), *words])
    return Hand3DResult.load(out)


def pictures(request):
    content = request["messages"][0]["content"][1:]
    data = [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in content]
    return [np.asarray(Image.open(io.BytesIO(d))) for d in data]


def test_a_competitor_gets_question_form_and_pictures_and_is_scored_like_any_other(server, hand3d_path, tmp_path):
    truth = {r.question: r for r in Hand3D(hand3d_path).visual("train")}

    def reply(prompt):
        question = next(line for line in prompt.splitlines() if line in truth)
        return f"I think it is {truth[question].answer}."

    asked = {r.question for r in truth.values()}
    server.reply = reply
    result = evaluate(server, hand3d_path, tmp_path / "a.json")
    assert len(server.requests) == 12
    for request in server.requests:
        text = request["messages"][0]["content"][0]["text"]
        question = next(line for line in text.splitlines() if line in asked)
        assert len(pictures(request)) == len(truth[question].frame_ids)
        assert ("12.384 degrees" if truth[question].aspect == "rotation" else "0.44m") in text
        assert request["temperature"] == 0.0
    assert (result.name, result.all.unparsable) == ("some-vlm", 0)
    assert result.protocol["answerer"]["endpoint"] == "some-vlm"
    assert result.made["machine"]["processor"]
    assert result.made["latency"]["calls"] >= 1


def test_what_says_nothing_is_counted_as_wrong_and_listed(server, hand3d_path, tmp_path):
    answers = iter(["", "I cannot tell.", *["left, 0.10m"] * 10])
    server.reply = lambda prompt: next(answers)
    result = evaluate(server, hand3d_path, tmp_path / "a.json", "--batch", "1")
    assert (len(server.requests), result.all.unparsable) == (12, 2)
    assert sorted(result.unparsed.values()) == ["", "I cannot tell."]


def test_a_blind_competitor_sees_grey_or_nothing(server, hand3d_path, tmp_path):
    evaluate(server, hand3d_path, tmp_path / "grey.json", "--pictures", "covered")
    grey = [picture for request in server.requests for picture in pictures(request)]
    assert len(grey) >= 12
    assert all(np.ptp(picture) <= 2 for picture in grey)
    server.requests.clear()
    result = evaluate(server, hand3d_path, tmp_path / "none.json", "--pictures", "none")
    assert [pictures(request) for request in server.requests] == [[]] * 12
    assert result.name == "some-vlm (pictures: none)"


def test_a_server_that_is_not_there_is_one_line(hand3d_path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01, raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["evaluate", "hand3d", "endpoint", "--data", str(hand3d_path), "--out", str(tmp_path / "a.json"),
             "--split", "train", "--endpoint.url", "http://127.0.0.1:9/v1", "--endpoint.model", "x",
             "--endpoint.retries", "1"]
        )  # fmt: skip
    assert ended.value.code == 2
    assert "http://127.0.0.1:9/v1: no answer after 2 attempts" in capsys.readouterr().err
