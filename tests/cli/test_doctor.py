"""`vipa doctor`: each line says found or missing, with the one command that adds what is missing."""

import json
import time

import pytest

import vipa
from vipa import cli
from vipa.cli import _checks


def doctor(capsys, *topics: str) -> str:
    cli.main(["doctor", "--only", *topics])
    return capsys.readouterr().out


def findings(topic: str) -> dict:
    return {finding.name: finding for finding in _checks.CHECKS[topic]()}


def test_it_says_what_is_there(capsys):
    said = doctor(capsys, "hands", "video")
    assert "reads video in         H.264, H.265, VP9, AV1" in said
    assert "read of hamer, hawor, vitra_recon, wilor" in said
    assert "tracker mediapipe" in said


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(_checks, "_installed", lambda package: False)
    tracker = findings("hands")["tracker mediapipe"]
    assert (tracker.state, tracker.advice) == ("optional", "pip install 'vipa[video]'")
    optional = findings("optional")
    for extra, package in (("serve", "msgpack"), ("endpoint", "openai"), ("ray", "ray"), ("video", "mediapipe")):
        finding = optional[f"extra [{extra}]"]
        assert finding.state == "optional" and package in finding.found
        assert f"pip install 'vipa[{extra}]'" in finding.advice


def test_a_package_without_its_model_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(_checks, "_installed", lambda package: True)
    monkeypatch.setattr(vipa, "__file__", str(tmp_path / "__init__.py"))
    tracker = findings("hands")["tracker mediapipe"]
    assert tracker.state == "missing" and "hand_landmarker.task" in tracker.found and tracker.advice


def test_mano_is_looked_for_where_commands_do(monkeypatch, tmp_path):
    monkeypatch.setenv("VIPA_MANO", str(tmp_path))
    (tmp_path / "mano_right.npz").touch()
    mano = findings("hands")["MANO"]
    assert mano.found == f"no left hand in {tmp_path}" and mano.advice.startswith("vipa import-weights mano ")
    (tmp_path / "mano_left.npz").touch()
    assert findings("hands")["MANO"].state == "ok"


def test_cut3r_is_found_by_its_configuration(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert _checks._cut3r().advice == "vipa import-weights cut3r cut3r_512_dpt_4_64.pth --out weights/cut3r-512"
    folder = tmp_path / "weights" / "cut3r-512"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("[]")
    assert "none in" in _checks._cut3r().found
    (folder / "config.json").write_text(json.dumps({"model_type": "cut3r"}))
    assert "has no model.safetensors" in _checks._cut3r().found
    (folder / "model.safetensors").write_bytes(b"0" * 2_000_000)
    assert (_checks._cut3r().state, _checks._cut3r().found) == ("ok", "2 MB at weights/cut3r-512")


@pytest.mark.parametrize("missing", ["hevc", "libdav1d"])
def test_a_build_that_cannot_read_a_format_is_said(monkeypatch, missing):
    import av

    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {missing})
    finding = findings("video")["reads video in"]
    assert finding.state == "optional" and finding.found == f"without {_checks.FORMATS[missing]}"
    assert finding.advice.startswith("pip install")


def test_looking_is_fast():
    began = time.process_time()
    for topic in ("python", "video", "hands", "optional", "weights", "disk"):
        list(_checks.CHECKS[topic]())
    assert time.process_time() - began < 2
