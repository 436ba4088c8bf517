"""Every verb that reads weights says in one line which file is not what its name says."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vipa import cli
from vipa.benchmarks.closed_loop import write_video
from vipa.hand3d.config import ObjectsConfig, PointsConfig
from vipa.nano.shipped import NANO

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9126144\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """The shipped encoder with a Git LFS pointer for its weights, beside what a model's folder has."""
    folder = tmp_path / "pointer"
    shutil.copytree(NANO / "foundation" / "spatial", folder)
    shutil.copy(NANO / "action_contract.json", folder)
    (folder / "model.safetensors").write_text(POINTER)
    return folder


def as_type(folder: Path, kind: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": kind}))


VERBS = {
    "view": ("cut3r", "view {out}/v.mp4 --out {out}/c.ply --weights {folder}"),
    "evaluate cut3r": ("cut3r", "evaluate cut3r --model {folder} --out {out}/r.md"),
    "evaluate hand3d": ("vipa", "evaluate hand3d {folder} --data {out} --out {out}/r.json"),
    "evaluate trajectories": ("vipa", "evaluate trajectories {folder} --data {out} --out {out}/r.json"),
    "evaluate tabletop": ("vipa", "evaluate tabletop {folder} --out {out}/r"),
    "train": ("vipa", "train stage1 --data {out} --out {out}/run --start {folder}"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_pointer_instead_of_weights(folder, tmp_path, capsys, verb):
    kind, line = VERBS[verb]
    as_type(folder, kind)
    write_video(tmp_path / "v.mp4", [np.zeros((32, 32, 3), np.uint8)] * 3, 10)
    with pytest.raises(SystemExit) as end:
        cli.main(line.format(folder=folder, out=tmp_path).split())
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 2
    assert f"{folder}/model.safetensors: this is a Git LFS pointer" in said


def test_model_check_and_import_name_a_damaged_file(folder, tmp_path, capsys):
    as_type(folder, "vipa")
    shutil.copy(NANO / "stage1.safetensors", folder / "selfcheck.safetensors")
    for command, file in (
        (["model", "check", str(folder)], folder / "model.safetensors"),
        (["import-weights", "cut3r", str(folder / "model.safetensors"), "--out", str(tmp_path / "o")], folder),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(command)
        said = capsys.readouterr().err.strip()
        assert end.value.code == 2
        assert said.count("\n") == 0
        assert str(file) in said


def test_point_maps_and_boxes_name_it_too(folder):
    from vipa.hand3d.estimators.base import open_boxes, open_points

    with pytest.raises(ValueError, match=r"model\.safetensors: this is a Git LFS pointer"):
        open_points(PointsConfig(estimator="cut3r", weights=str(folder)))
    as_type(folder, "grounding-dino")
    with pytest.raises(ValueError, match=r"this is a Git LFS pointer"):
        open_boxes(ObjectsConfig(boxes="grounding-dino", detector=str(folder)))


def test_what_is_no_policy_is_said():
    from vipa.robots.policy import VipaPolicy

    with pytest.raises(ValueError, match="not trained"):
        VipaPolicy.from_pretrained("nano:stage1")
    with pytest.raises(ValueError, match="no model here"):
        VipaPolicy.from_pretrained("runs/absent")
