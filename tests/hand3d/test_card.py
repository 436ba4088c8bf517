import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow.parquet as pq
import pytest
from datasets import get_dataset_config_names, load_dataset

from vipa.cli import main
from vipa.clips.example import example_clip
from vipa.hand3d.config import AnnotateConfig, EndpointConfig, MixConfig, PointsConfig
from vipa.hand3d.dataset.card import push_to_hub
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.pipeline.annotate import annotate

REPO = "someone/hands"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set with several splits, made where the configuration names folders of this machine."""
    folder = tmp_path_factory.mktemp("private place")
    config = AnnotateConfig(
        points=PointsConfig(weights=str(folder)),
        endpoint=EndpointConfig(url="http://secret.host/v1", model="namer", cache=str(folder / "answers")),
        mix=MixConfig(validation=0.3, test=0.3),
    )
    annotate([example_clip(i, seconds=3.0) for i in range(8)], folder / "out", config)
    return folder / "out"


class Hub:
    """A stand-in for the hub on this machine: takes one repository and one commit without large files."""

    def __init__(self):
        self.created, self.files, self.commits = [], {}, 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(hub.take(self.path, body))

            def answer(self, value):
                payload = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *args): ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def take(self, path, body):
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.url}/datasets/{REPO}"}
        if path.startswith("/api/validate-yaml"):
            return {"errors": [], "warnings": []}
        if path.startswith(f"/api/datasets/{REPO}/preupload/main"):
            named = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in named]}
        assert path.startswith(f"/api/datasets/{REPO}/commit/main"), path
        self.commits += 1
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return {"commitUrl": f"{self.url}/datasets/{REPO}/commit/{'0' * 40}", "commitOid": "0" * 40}


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield hub
    hub.http.shutdown()
    hub.http.server_close()


def test_every_table_and_split_of_the_card_is_what_load_dataset_opens(made, tmp_path):
    data = Hand3D(made)
    assert len(data.manifest["tables"]["visual"]) > 1
    assert sorted(get_dataset_config_names(str(made))) == ["action", "clips", "frames", "visual"]
    for table, by_split in data.manifest["tables"].items():
        opened = load_dataset(str(made), table, cache_dir=str(tmp_path))
        assert {s: part.num_rows for s, part in opened.items()} == {s: data.count(table, s) for s in by_split}
    split = next(iter(data.manifest["tables"]["visual"]))
    row = load_dataset(str(made), "visual", split=split, cache_dir=str(tmp_path))[0]
    image = load_dataset(str(made), "frames", split=split, cache_dir=str(tmp_path)).filter(
        lambda frame: frame["id"] == row["frame_ids"][0]
    )[0]["image"]
    assert image.size == (64, 48)


def test_the_hub_gets_the_tables_the_card_and_the_manifest_and_nothing_else(made, hub, tmp_path):
    assert push_to_hub(made, REPO) == f"{hub.url}/datasets/{REPO}/commit/{'0' * 40}"
    assert (hub.created[0]["type"], hub.created[0]["visibility"], hub.commits) == ("dataset", "private", 1)
    shards = {f"{p.parent.name}/{p.name}" for p in made.glob("*/*.parquet")}
    assert set(hub.files) == {*shards, "README.md", "hand3d.json"}
    assert all(hub.files[name] == (made / name).read_bytes() for name in shards)
    for name, content in hub.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    there, here = Hand3D(tmp_path), Hand3D(made)
    assert list(there.visual()) == list(here.visual())
    assert f'load_dataset("{REPO}", "visual"' in (tmp_path / "README.md").read_text()


def test_the_verb_uploads_as_a_private_data_set(made, hub, capsys):
    main(["export", "hub", str(made), REPO])
    assert f"uploaded: {hub.url}/datasets/{REPO}/commit/" in capsys.readouterr().out
    assert (hub.created[0]["visibility"], hub.commits) == ("private", 1)


def test_nothing_of_this_machine_goes_to_the_hub(made, hub):
    push_to_hub(made, REPO)
    for name in hub.files:
        text = hub.files[name].decode("latin1")
        if name.endswith(".parquet"):
            columns = pq.read_table(made / name)
            text = str([columns[c].to_pylist() for c in columns.column_names if c != "image"])
        assert str(made.parent) not in text and "secret.host" not in text, name
    config = json.loads(hub.files["hand3d.json"])["config"]
    assert (config["endpoint"]["model"], config["points"]["weights"]) == ("namer", made.parent.name)
