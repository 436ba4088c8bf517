"""Conversations of a JSON-lines file as training data: this project's export, and what is wrong with other files."""

import json

import numpy as np
import pytest
from PIL import Image

from vipa.data.kinds import open_component
from vipa.data.spec import DataSpec
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.export.conversations import export_conversations
from vipa.models.packing import Packer
from vipa.models.starts import load_start


@pytest.fixture(scope="module")
def packer(start):
    _, processor = load_start(start)
    return Packer(processor)


def opened(path, packer):
    return open_component(DataSpec("conversations", path, batch=2), packer, 0)


def test_what_is_exported_is_learned_from_as_the_data_set_itself(hand3d_path, packer, tmp_path):
    export_conversations(hand3d_path, tmp_path, tables=("visual",))
    there = opened(tmp_path / "visual_train.jsonl", packer)
    own = open_component(DataSpec("hand3d_visual", hand3d_path, batch=2), packer, 0)
    assert len(there) == len(own) == Hand3D(hand3d_path).count("visual", "train")
    for row in (0, 7, len(own) - 1):
        text = own.index.turn(row)
        same = next(r for r in range(len(there)) if there.index.turn(r) == text)
        for a, b in zip(own.read(own.group(row)), there.read(there.group(same)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_line_that_is_no_conversation_is_named(packer, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    good = {
        "image": "a.png",
        "conversations": [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "a"}],
    }
    assert opened(written(tmp_path / "good.jsonl", good), packer).index.turn(0) == ("what?", "a")
    for number, (change, said) in enumerate(
        (
            ({"image": "b.png"}, "b.png: no such image"),
            ({"image": None}, "no 'image'"),
            ({"conversations": good["conversations"][:1]}, "questions and answers in turn"),
            ({"conversations": good["conversations"][::-1]}, "a pair is from 'human' and 'gpt'"),
            ({"conversations": [{"value": "x"}, {}]}, "'from'"),
        )
    ):
        with pytest.raises(ValueError, match=rf"line 2: .*{said}"):
            opened(written(tmp_path / f"{number}.jsonl", good, good | change), packer)
    (tmp_path / "half.jsonl").write_text('{"image": "a.png"')
    with pytest.raises(ValueError, match=r"half.jsonl, line 1"):
        opened(tmp_path / "half.jsonl", packer)
    with pytest.raises(ValueError, match="no such file"):
        opened(tmp_path / "none.jsonl", packer)


def written(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
