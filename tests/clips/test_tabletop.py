import json

import numpy as np
import pytest

from vipa.clips.sources import load_source, source_names
from vipa.worlds import seeds
from vipa.worlds.source import read_clips, read_manifest, write_manifest


def test_it_is_found_by_its_name():
    assert "tabletop" in source_names()
    assert load_source("tabletop").LICENCE == "Apache-2.0"


def test_clips_are_filmed_again_from_the_manifest_the_same(tmp_path):
    write_manifest(tmp_path / "train", "train", 3, size=(64, 64), rate=8.0)
    write_manifest(tmp_path / "test", "test", 2, offset=5, seconds=2.0)
    first, again = list(read_clips(tmp_path)), list(read_clips(tmp_path))
    assert [c.id for c in first] == [c.id for c in again] == [
        "tabletop_30000005", "tabletop_30000006", "tabletop_10000000", "tabletop_10000001", "tabletop_10000002",
    ]  # fmt: skip
    assert [c.split for c in first] == ["test", "test", "train", "train", "train"]
    assert [c.rate for c in first] == pytest.approx([10, 10, 8, 8, 8])
    assert len(first[0]) == 20
    assert (first[2].intrinsics.width, first[2].intrinsics.height) == (64, 64)
    np.testing.assert_array_equal(first[2].frames.read([3]), again[2].frames.read([3]))


def test_clips_of_two_splits_share_no_seed(tmp_path):
    for split in ("train", "validation", "test"):
        write_manifest(tmp_path / split, split, 2)
    for clip in read_clips(tmp_path):
        assert seeds.split_of(int(clip.id.split("_")[1])) == clip.split


def test_a_missing_root_and_an_empty_one_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="write_manifest"):
        read_clips(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no tabletop\.json below"):
        read_clips(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 0}, "version 0"),
        ({"split": "foundation"}, "split 'foundation'"),
        ({"count": 0}, "count must be"),
        ({"count": 2.5}, "count must be"),
        ({"first_seed": 5}, "leave the split train"),
        ({"first_seed": 19_999_999}, "leave the split train"),
        ({"rate": -1}, "rate must be"),
        ({"seconds": "long"}, "seconds must be"),
        ({"colour": "red"}, "expected exactly the fields"),
    ],
)
def test_a_wrong_manifest_is_one_line_naming_file_and_field(tmp_path, change, message):
    path = write_manifest(tmp_path, "train", 2)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message) as error:
        read_clips(tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_manifest_is_not_json(tmp_path):
    path = write_manifest(tmp_path, "train", 2)
    path.write_text(path.read_text()[:30])
    with pytest.raises(ValueError, match="not a JSON file"):
        read_manifest(path)


def test_writing_a_wrong_manifest_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="split"):
        write_manifest(tmp_path, "dev", 2)
    with pytest.raises(ValueError, match="count"):
        write_manifest(tmp_path, "train", 0)
    assert not list(tmp_path.iterdir())
