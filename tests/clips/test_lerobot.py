import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vipa.clips import Clip, ClipError
from vipa.clips.sources import load_source
from vipa.geometry import transform
from vipa.worlds.fixtures.lerobot import VIDEO
from vipa.worlds.fixtures.writing import write_text, write_video


@pytest.fixture
def version_2(fixture_of, tmp_path):
    """The fixture's first episode in the older layout, joints in the world: (root, truth)."""
    fixture = fixture_of("lerobot")
    truth = next(iter(fixture.truth.values()))
    root, n = tmp_path / "v2", len(truth)
    world = transform(truth.T_world_camera, truth.hands[0].joints_camera)
    rows = [
        {
            "joints": world[i].ravel().tolist(),
            "pose": truth.T_world_camera[i].ravel().tolist(),
            "timestamp": i / 30,
            "task_index": 3,
        }
        for i in range(n)
    ]
    data = root / "data" / "chunk-000" / "episode_000000.parquet"
    data.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), data)
    write_video(root / "videos" / "chunk-000" / VIDEO / "episode_000000.mp4", truth.frames.read(range(n)), 30)
    info = {
        "codebase_version": "v2.1",
        "fps": 30,
        "chunks_size": 1000,
        "features": {"joints": {}, "pose": {}},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    mapping = json.loads((fixture.root / "meta" / "vipa.json").read_text())
    columns = {"video": VIDEO, "left_joints_world": "joints", "T_world_camera": "pose"}
    write_text(root / "meta" / "info.json", json.dumps(info))
    write_text(root / "meta" / "vipa.json", json.dumps({**columns, "intrinsics": mapping["intrinsics"]}))
    write_text(root / "meta" / "episodes.jsonl", '{"episode_index": 0, "length": 6}\n{"episode_index": 1}\n')
    write_text(root / "meta" / "tasks.jsonl", '{"task_index": 3, "task": "pick up the cup"}\n')
    return root, truth


def test_the_older_layout_gives_the_same_clip_and_joints_leave_the_world(version_2):
    root, truth = version_2
    clip, missing = load_source("lerobot").read_clips(root)
    assert isinstance(clip, Clip), clip
    assert np.abs(clip.hands[0].joints_camera - truth.hands[0].joints_camera).max() < 1e-9
    assert clip.texts[0].text == "pick up the cup"
    assert isinstance(missing, ClipError)
    assert "episode_000001.parquet is missing" in missing.reason


def test_columns_must_be_named_and_the_error_lists_them(version_2):
    root, _ = version_2
    (root / "meta" / "vipa.json").unlink()
    with pytest.raises(ValueError, match="columns are joints, pose"):
        load_source("lerobot").read_clips(root)


def test_a_column_that_is_not_there_is_named(version_2):
    root, _ = version_2
    path = root / "meta" / "vipa.json"
    path.write_text(path.read_text().replace('"joints"', '"elbows"'))
    out = next(iter(load_source("lerobot").read_clips(root)))
    assert isinstance(out, ClipError)
    assert "no column 'elbows'" in out.reason
