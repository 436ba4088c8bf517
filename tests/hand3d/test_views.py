import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vipa.clips.clip import ClipError
from vipa.hand3d.annotate import annotate
from vipa.hand3d.dataset import Hand3D
from vipa.hand3d.example import example_clip
from vipa.hand3d.exports import export_conversations
from vipa.hand3d.lerobot_export import IMAGE, export_lerobot
from vipa.hand3d.stats import stats_text
from vipa.hand3d.view import view


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("hand3d")
    annotate([example_clip(i) for i in range(2)], out)
    return out


def test_the_statistics_count_every_record(made):
    data, text = Hand3D(made), stats_text(Hand3D(made))
    for table, kinds in (("Table 1", data.visual()), ("Table 2", data.action())):
        total = sum(1 for _ in kinds)
        row = next(line for line in text.split(table)[1].splitlines() if line.startswith("| all |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert int(cells[-3]) == total == sum(int(c) for c in cells[1:-3])
    assert text in (made / "README.md").read_text()


def test_the_gallery_needs_nothing_but_itself(made, tmp_path):
    page = view(made, tmp_path / "page.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    records = list(Hand3D(made).visual())
    assert all(r.answer in page for r in records)
    with pytest.raises(ValueError, match="is not in"):
        view(made, tmp_path / "no.html", clip_id="made/none")


@pytest.mark.parametrize("style", ["internvl", "llava"])
def test_exported_conversations_have_the_loaders_fields(made, tmp_path, style):
    counts = export_conversations(made, tmp_path, style)
    data, seen = Hand3D(made), 0
    meta = json.loads((tmp_path / "meta.json").read_text())
    for entry in meta.values():
        text = Path(entry["annotation"]).read_text()
        lines = json.loads(text) if style == "llava" else [json.loads(line) for line in text.splitlines()]
        assert len(lines) == entry["length"]
        for line in lines:
            images = line["image"] if isinstance(line["image"], list) else [line["image"]]
            human, gpt = line["conversations"]
            assert (human["from"], gpt["from"]) == ("human", "gpt")
            assert human["value"].count("<image>") == len(images)
            for image in images:
                assert Path(entry["root"], image).read_bytes() == data.encoded_image(image.rsplit(".", 1)[0])
            if style == "internvl" and len(images) > 1:
                assert len(line["width_list"]) == len(line["height_list"]) == len(images)
            seen += 1
    assert seen == sum(counts.values()) == data.count("visual") + data.count("action")
    with pytest.raises(ValueError, match="unknown"):
        export_conversations(made, tmp_path, "other")


def test_the_lerobot_export_holds_wrists_and_where_they_go_next(tmp_path):
    clip = example_clip()
    counts = export_lerobot([clip, ClipError("bad", "no")], tmp_path, rate=5.0)
    assert counts == {"episodes": 1, "frames": 29, "refused": 1}
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert (info["codebase_version"], info["total_frames"], info["fps"]) == ("v3.0", 29, 5)
    table = pq.read_table(tmp_path / info["data_path"].format(chunk_index=0, file_index=0))
    assert set(table.column_names) == set(info["features"])
    state, action = (np.array(table[name].to_pylist()) for name in ("observation.state", "action"))
    np.testing.assert_allclose(state[3, 3:6], clip.hands[0].joints_camera[6, 0], atol=1e-6)
    ahead = np.linalg.inv(clip.T_world_camera[6]) @ clip.T_world_camera[8]
    np.testing.assert_allclose(action[3, 3:6], (ahead @ [*clip.hands[0].joints_camera[8, 0], 1])[:3], atol=1e-6)
    assert (state[:, 6:] == [0, 1]).all()
    image = Image.open(io.BytesIO(table[IMAGE][3]["bytes"].as_py()))
    np.testing.assert_array_equal(np.asarray(image), clip.frames.read([6])[0])
    episodes = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert (episodes[0]["dataset_to_index"], episodes[0]["tasks"]) == (29, ["Put the red cup on the plate."])
    tasks = pd.read_parquet(tmp_path / "meta/tasks.parquet")
    assert tasks.loc["Put the red cup on the plate.", "task_index"] == 0
