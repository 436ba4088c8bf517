import io
import json
import re
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vipa import cli
from vipa.clips.clip import ClipError
from vipa.clips.drawing import save_video
from vipa.clips.example import example_clip
from vipa.clips.video import ArrayFrames
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.stats import stats_text
from vipa.hand3d.export.cloud import clip_images, fuse
from vipa.hand3d.export.conversations import export_conversations
from vipa.hand3d.export.lerobot_v3 import IMAGE, export_lerobot
from vipa.hand3d.export.rerun_view import view
from vipa.hand3d.pipeline.annotate import annotate


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
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "<script" not in page
    records = list(Hand3D(made).visual())
    assert all(r.answer in page for r in records)
    with pytest.raises(ValueError, match="is not in"):
        view(made, tmp_path / "no.html", clip_id="made/none")


def test_the_gallery_begins_with_what_is_doubtful(made, tmp_path):
    path = copytree(made, tmp_path / "doubtful")
    table = path / Hand3D(path).manifest["tables"]["visual"]["train"][0]["file"]
    kept = pq.read_table(table)
    rows = [row | {"hand_confidence": 0.9, "object_confidence": None} for row in kept.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, kept.schema), table)
    (path / "report.json").unlink()
    first, _, rest = view(path, tmp_path / "sure.html").read_text().partition("</section>")
    assert "Nothing: no clip was refused" in first
    assert rest.count("<section ") == 2

    rows[3] |= {"hand_confidence": 0.12, "question": "Is <b>this</b> one sure?"}
    rows[5] |= {"wording": "template; no answer after 2 attempts"}
    pq.write_table(pa.Table.from_pylist(rows, kept.schema), table)
    report = {"refused": [["made/broken", "clip 'broken': no <frames>"]], "left_out": {"relations": {"hidden": 7}}}
    (path / "report.json").write_text(json.dumps(report))
    first = view(path, tmp_path / "page.html").read_text().partition("</section>")[0]
    assert "no &lt;frames&gt;" in first
    assert "hidden" in first
    worst, second = first.split("<article")[1:]
    assert "hand confidence 0.12" in worst
    assert "Is &lt;b&gt;this&lt;/b&gt; one sure?" in worst
    assert worst.count("<img") == len(rows[3]["frame_ids"])
    assert f'href="#{rows[3]["clip_id"]}"' in worst  # one click to all records of its clip
    assert "not in other words: no answer after 2 attempts" in second
    assert second.count("<img") == len(rows[5]["frame_ids"])


def test_a_clip_that_is_asked_nothing_and_a_guessed_camera_are_doubtful_and_can_be_looked_at(tmp_path):
    notes = {"field of view": "75.0 degrees (45 to 115), guessed", "camera poses": "turn otherwise"}
    still = example_clip()
    hand = replace(still.hands[0], joints_camera=np.repeat(still.hands[0].joints_camera[:1], len(still), 0))
    poses = np.repeat(np.eye(4)[None], len(still), 0)
    clip = replace(still, hands=(hand,), T_world_camera=poses, objects=None, contacts=None, texts=(), notes=notes)
    annotate([clip], tmp_path)
    data = Hand3D(tmp_path)
    assert data.count("visual") == data.count("action") == 0
    assert data.count("frames") == 3 and data.image(next(data.frames()).id).any()
    page = view(tmp_path, tmp_path / "page.html").read_text()
    first, _, rest = page.partition("</section>")
    assert "nothing is asked of it" in first
    assert "45 to 115), guessed: distances may be as wrong" in first
    assert "poses that are not used: turn otherwise" in first
    assert rest.count("<img") == 3


def test_a_long_clip_fills_a_page_and_no_more(made, tmp_path):
    from vipa.hand3d.export.gallery import FRAMES, _evenly

    frames = list(Hand3D(made).frames())
    many = [replace(frames[0], index=i) for i in range(3600)]
    shown = [f.index for f in _evenly(many)]
    assert (len(shown), shown[0], shown[-1]) == (FRAMES, 0, 3599)
    assert _evenly(frames) == frames


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
            if style == "llava":  # the first LLaVA's loader opens one image a record
                assert isinstance(line["image"], list) == entry["annotation"].endswith("_several.json")
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
    stats = json.loads((tmp_path / "meta/stats.json").read_text())
    assert set(stats) == {"observation.state", "action", IMAGE}
    pixels = np.stack([clip.frames.read([2 * i])[0] for i in range(29)])[:, ::4, ::4] / 255
    np.testing.assert_allclose(stats[IMAGE]["std"], pixels.std((0, 1, 2))[:, None, None], rtol=1e-6)
    np.testing.assert_allclose(stats["action"]["mean"], action.mean(0), atol=1e-6)
    assert stats["action"]["count"] == stats[IMAGE]["count"] == [29]
    episodes = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert (episodes[0]["dataset_to_index"], episodes[0]["tasks"]) == (29, ["Put the red cup on the plate."])
    tasks = pd.read_parquet(tmp_path / "meta/tasks.parquet")
    assert tasks.loc["Put the red cup on the plate.", "task_index"] == 0


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A CUT3R of two layers with random weights."""
    from vipa.models.cut3r import Cut3rModel
    from vipa.nano.sizes import nano_cut3r_config

    config = nano_cut3r_config()
    config.encoder_depth = config.decoder_depth = 2
    config.image_size = 64
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("cut3r")
    Cut3rModel(config).save_pretrained(folder)
    return folder


def recorded(path):
    """entity -> list of (seconds or None where static, {component: value}) of a Rerun recording."""
    chunks = pytest.importorskip("rerun.chunk")
    found = {}
    for chunk in chunks.RrdReader(path).stream():
        rows = chunk.to_record_batch().to_pylist()
        for row in rows:
            time = row.get("video")
            values = {k.rsplit(":", 1)[-1]: v for k, v in row.items() if ":" in k and v is not None}
            found.setdefault(chunk.entity_path, []).append(
                (None if time is None else time.total_seconds(), values)
            )
    return found


def test_a_rerun_recording_holds_what_is_known_of_a_clip_along_its_time(made, weights, tmp_path, monkeypatch):
    pytest.importorskip("rerun")
    clip = example_clip(0, depth=ArrayFrames(np.full((60, 48, 64), 0.7, np.float32)), depth_is_metric=True)
    data = Hand3D(made)
    frames = [f for f in data.frames() if f.clip_id == "made/made_0"]
    cloud = fuse(clip_images(made, "made/made_0"), weights)
    source = SimpleNamespace(read_clips=lambda root, options: [ClipError("bad", "no"), example_clip(1), clip])
    monkeypatch.setattr("vipa.hand3d.export.rerun_view.load_source", {"made": source}.__getitem__)
    files = ["--root", str(tmp_path), "--weights", str(weights), "--out", str(tmp_path / "clip.rrd")]
    cli.main(["view", str(made), "--clip", "made/made_0", *files])
    seen = recorded(tmp_path / "clip.rrd")
    times = [f.time for f in frames]

    def rows(entity, component):
        return [(t, v[component]) for t, v in sorted(seen[entity], key=lambda r: r[0] or 0.0) if component in v]

    cameras = rows("/world/camera", "translation")
    assert [t for t, _ in cameras] == pytest.approx(times)
    np.testing.assert_allclose(
        [v[0] for _, v in cameras], [np.reshape(f.T_world_camera, (4, 4))[:3, 3] for f in frames], atol=1e-6
    )
    assert len(rows("/world/camera/image", "blob")) == len(frames)
    depth = rows("/world/camera/points", "positions")
    assert [t for t, _ in depth] == pytest.approx(times)
    assert {len(v) for _, v in depth} == {48 * 64}
    np.testing.assert_allclose(np.array(depth[0][1])[:, 2], 0.7, atol=1e-6)
    hand = rows("/world/camera/right_hand", "strips")
    np.testing.assert_allclose(hand[0][1][0][0], np.reshape(frames[0].right_joints, (21, 3))[0], atol=1e-6)
    assert [v for _, v in rows("/world/camera/left_hand", "strips")] == [[]] * len(frames)
    assert rows("/world/camera/objects", "labels")[0][1] == ["red cup", "plate"]
    motions = {m.frame_id: m.right for m in data.action() if m.clip_id == "made/made_0"}
    for frame, (_, strips) in zip(frames, rows("/world/camera/motion_right", "strips")):
        if frame.id in motions:
            np.testing.assert_allclose(strips[0], motions[frame.id], atol=1e-6)
        else:
            assert strips == []  # a motion does not stay when its image is gone
    texts = " ".join(v[0] for _, v in rows("/questions", "text"))
    assert all(r.question in texts and r.answer in texts for r in data.visual() if r.clip_id == "made/made_0")
    fused = rows("/world/fused/points", "positions")
    assert fused[0][0] is None and len(fused[0][1]) == len(cloud.cloud.points)
    assert len(rows("/world/fused/camera_path", "strips")[0][1][0]) == len(frames)


def test_the_cloud_of_a_clip_is_a_file_that_other_programs_read(made, weights, tmp_path, capsys):
    cli.main(
        ["view", str(made), "--clip", "made/made_1", "--weights", str(weights), "--out", str(tmp_path / "a.ply")]
    )
    header = (tmp_path / "a.ply").read_bytes().split(b"end_header")[0].decode()
    count = int(re.search(r"element vertex (\d+)", header)[1])
    assert f"({count} points)" in capsys.readouterr().out
    frames = sum(f.clip_id == "made/made_1" for f in Hand3D(made).frames())
    assert 0.65 * frames * 64 * 64 < count <= frames * 64 * 64


def test_the_cloud_of_a_video_file_needs_no_data_set(weights, tmp_path, capsys):
    frames = example_clip(0).frames.read(range(40))
    video = save_video(list(frames), tmp_path / "clip.mp4", 10)
    cli.main(["view", str(video), "--weights", str(weights), "--out", str(tmp_path / "clip.ply")])
    count = int(re.search(r"\((\d+) points\)", capsys.readouterr().out)[1])
    assert 0.65 * 32 * 64 * 64 < count <= 32 * 64 * 64  # of 40 frames, 32
    with pytest.raises(SystemExit):
        cli.main(["view", str(video)])
    assert "a video gives a point cloud only" in capsys.readouterr().err


def test_a_cloud_needs_weights_and_an_ending_that_is_known(made, tmp_path, capsys):
    for out, words in (("a.ply", "--weights is missing"), ("a.obj", "must be .html, .rrd or .ply")):
        with pytest.raises(SystemExit):
            cli.main(["view", str(made), "--out", str(tmp_path / out)])
        assert words in capsys.readouterr().err
