"""Every Python block of the documents is run, in order, with what it takes for granted."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): blocks
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if (blocks := BLOCK.findall(path.read_text()))
}


def nothing(folder: Path) -> dict:
    return {}


def filmed(folder: Path) -> dict:
    from vipa.worlds.source import write_manifest

    write_manifest(folder / "clips", "train", 1)
    return {"root": folder / "clips"}


def empty(folder: Path) -> dict:
    (folder / "manifest").mkdir()
    return {"root": folder / "manifest"}


def network(folder: Path) -> dict:
    """The shipped nano's encoder stands for the authors' weights."""
    import torch

    from vipa.models.cut3r import Cut3rProcessor
    from vipa.nano.shipped import NANO
    from vipa.worlds.stills import sequence

    shutil.copytree(NANO / "foundation" / "spatial", folder / "weights" / "cut3r-512")
    Cut3rProcessor(mode="square", size=112).save_pretrained(folder / "weights" / "cut3r-512")
    names = {"frames": list(sequence(7, frames=2).rgb), "intrinsics": None, "path": folder / "cloud.ply"}
    return names | {"video": torch.zeros(2, 1, 3, 112, 112)}


def mano(folder: Path) -> dict:
    import torch

    from vipa.hands.mano_files import save_mano
    from vipa.hands.mano_synthetic import synthetic_mano

    save_mano(synthetic_mano(), folder / "mano_right.npz")
    zeros = torch.zeros(2, 10, dtype=torch.float64)
    names = {"coefficients": torch.zeros(2, 45, dtype=torch.float64), "betas": zeros, "transl": zeros[:, :3]}
    return names | {"orientation": torch.eye(3, dtype=torch.float64).expand(2, 3, 3)}


def filmed_hand(folder: Path) -> dict:
    from vipa.worlds.film import film_clip

    return {"hand": next(hand for hand in film_clip(10_000_000).hands if hand.side == "right")}


def tracked(folder: Path) -> dict:
    """A filmed clip, and its true hands in the form of a tracker's file."""
    from vipa.worlds.film import film_clip

    clip = film_clip(10_000_000)
    found = [
        [
            {"pred_keypoints_3d": hand.joints_camera[i].tolist(), "pred_cam_t_full": [0, 0, 0],
             "scaled_focal_length": clip.intrinsics.fx, "is_right": hand.side == "right"}
            for hand in clip.hands if np.isfinite(hand.joints_camera[i]).all()
        ]
        for i in range(len(clip))
    ]  # fmt: skip
    (folder / "videos").mkdir()
    (folder / "videos" / "kitchen_03.json").write_text(json.dumps(found))
    return {"clip": clip}


def parts(folder: Path) -> dict:
    """nano's two halves, under the names of the paper's."""
    from vipa.nano.shipped import NANO

    for name, part in (("OpenGVLab/InternVL3_5-2B-HF", "vlm"), ("weights/cut3r", "spatial")):
        shutil.copytree(NANO / "foundation" / part, folder / name)
    return {}


def trained(folder: Path) -> dict:
    import torch

    from vipa.models.starts import load_start

    model, processor = load_start("nano:stage3")
    frames = np.zeros((2, 112, 112, 3), np.uint8)
    names = {"model": model, "processor": processor, "frame_1": frames[0], "frame_2": frames[1]}
    return names | {"state": torch.zeros(1, model.config.action_config.embodiments["tabletop gripper"][0])}


PREPARE = {
    "docs/cut3r.md": (network, nothing),
    "docs/hand3d.md": (filmed,),
    "docs/hands.md": (mano, filmed_hand, tracked),
    "docs/model.md": (parts, trained),
    "docs/serving.md": (nothing,),
    "docs/sources.md": (nothing,),
    "docs/worlds.md": (empty,),
    "docs/your-robot.md": (nothing,),
}
"""What each block takes for granted, besides what the blocks before it left."""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_code_of_a_document_runs(name, tmp_path, monkeypatch):
    assert len(PREPARE.get(name, ())) == len(DOCUMENTS[name]), "write above what each block takes for granted"
    names: dict = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIPA_MANO", str(tmp_path))
    for prepare, block in zip(PREPARE[name], DOCUMENTS[name]):
        names |= prepare(tmp_path)
        exec(compile(block, name, "exec"), names)
