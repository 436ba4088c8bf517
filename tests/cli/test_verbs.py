"""Verbs on small real input and on wrong input: what they write, and that mistakes are one line."""

import json

import pytest

from vipa import cli


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two filmed clips, annotated through the command line."""
    from vipa.worlds.source import write_manifest

    root = tmp_path_factory.mktemp("clips")
    write_manifest(root, "train", 2)
    cli.main(["annotate", "tabletop", str(root), "--out", str(root / "data")])
    return root / "data"


def fails(capsys, *args):
    """The one line that a mistake prints."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(arg) for arg in args])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_annotating_again_changes_nothing_and_says_the_same(data, capsys):
    before = json.loads((data / "hand3d.json").read_text())
    capsys.readouterr()
    cli.main(["annotate", "tabletop", str(data.parent), "--out", str(data)])
    assert "2 clips done, 0 refused" in capsys.readouterr().out
    assert json.loads((data / "hand3d.json").read_text()) == before


def test_stats_add_up(data, capsys):
    from vipa.hand3d.dataset.reader import Hand3D

    capsys.readouterr()
    cli.main(["stats", str(data)])
    text = capsys.readouterr().out
    for table in ("clips", "visual", "action"):
        row = next(line for line in text.splitlines() if line.startswith(f"| {table} |"))
        assert f"{Hand3D(data).count(table):,}" in row


def test_view_writes_one_page_that_needs_nothing_else(data):
    cli.main(["view", str(data), "--clips", "2"])
    page = (data / "gallery.html").read_text()
    assert page.count("<section id=") == 2
    assert page.count("<img") >= 2
    assert "http" not in page
    assert "<script" not in page


def test_conversations_are_exported_once_a_record(data, tmp_path, capsys):
    from vipa.hand3d.dataset.reader import Hand3D

    cli.main(["export", "conversations", str(data), str(tmp_path), "--style", "internvl"])
    assert "written" in capsys.readouterr().out
    lines = [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == Hand3D(data).count("visual") + Hand3D(data).count("action")
    images = [
        image
        for line in lines
        for image in (line["image"] if isinstance(line["image"], list) else [line["image"]])
    ]
    assert all((tmp_path / "images" / image).is_file() for image in images)


def test_motions_are_exported_as_a_lerobot_set_of_the_clips(data, tmp_path, capsys):
    from vipa.hand3d.dataset.reader import Hand3D
    from vipa.io.lerobot_layout import read_set

    for _ in range(2):  # the second finds all done
        cli.main(["export", "lerobot", str(data), str(tmp_path / "v3"), "--root", str(data.parent), "--rate", "5"])
        assert "episodes 2" in capsys.readouterr().out
    there = read_set(tmp_path / "v3")
    assert (there.rate, there.robot) == (5.0, "human_hand")
    texts = {text["text"] for clip in Hand3D(data).clips() for text in clip.texts}
    assert {task for entry in there.episodes.values() for task in entry["tasks"]} <= texts
    (tmp_path / "empty").mkdir()
    line = fails(capsys, "export", "lerobot", data, tmp_path / "b", "--root", tmp_path / "empty")
    assert "no tabletop.json below" in line


def test_constant_baseline_is_evaluated_from_the_command_line(data, tmp_path, capsys):
    out = tmp_path / "hand3d_constant.json"
    cli.main(["evaluate", "hand3d", "constant", "--data", str(data), "--out", str(out), "--split", "train"])
    assert json.loads(out.read_text())["scores"][0]["kind"] == "all"
    assert "direction" in capsys.readouterr().out


def test_missing_folders_and_unknown_names_are_said(data, tmp_path, capsys):
    assert "nowhere" in fails(capsys, "annotate", "vitra", tmp_path / "nowhere", "--out", tmp_path / "x")
    assert "tabletop" in fails(capsys, "annotate", "no_such_source", tmp_path, "--out", tmp_path / "x")
    assert "annotate first" in fails(capsys, "stats", tmp_path)
    assert "annotate first" in fails(capsys, "view", tmp_path)
    assert "stage1" in fails(capsys, "train", "stage9")
    assert "no model here" in fails(
        capsys, "evaluate", "hand3d", tmp_path / "none", "--data", data, "--out", tmp_path / "r.json"
    )
    assert "no_such_clip" in fails(capsys, "view", data, "--clip", "no_such_clip")


def test_a_folder_of_another_demo_is_refused(tmp_path, capsys):
    (tmp_path / "demo.json").write_text("{}")
    assert "other settings" in fails(capsys, "demo", "--out", tmp_path)


def test_a_damaged_checkpoint_is_noticed(tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    from vipa.models import VipaForConditionalGeneration, preset_config, selfcheck

    assert "missing" in fails(capsys, "model", "check", tmp_path)
    model = VipaForConditionalGeneration(preset_config("nano"))
    model.save_pretrained(tmp_path)
    selfcheck.record(model, tmp_path)
    cli.main(["model", "check", str(tmp_path)])
    assert "as recorded" in capsys.readouterr().out
    weights = load_file(tmp_path / "model.safetensors")
    name = next(name for name in weights if name.endswith("mlp.down_proj.weight"))
    save_file(weights | {name: weights[name] + 0.1}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SystemExit) as stopped:
        cli.main(["model", "check", str(tmp_path)])
    assert stopped.value.code == 1
    assert "NOT as recorded" in capsys.readouterr().out
