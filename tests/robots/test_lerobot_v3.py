"""Robot episodes from every form into LeRobot v3 and back, through `vipa export episodes`."""

import importlib.util
import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from small_sets import FPS, FRONT, ROWS, WRIST, contract, demonstration, grey, levels, recorded
from vipa.cli import main
from vipa.io.lerobot_layout import read_set
from vipa.io.lerobot_statistics import column_statistics
from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.episodes import Episode
from vipa.robots.lerobot_data import open_robot_data
from vipa.robots.lerobot_export import EpisodeWriter, export_episodes

AV1 = next((name for name in ("libsvtav1", "libaom-av1") if name in av.codecs_available), None)


def same(a: Episode, b: Episode) -> None:
    for name in ("text", "rate", "success", "task", "seed", "notes"):
        assert getattr(a, name) == getattr(b, name), name
    np.testing.assert_array_equal(a.state, b.state)
    np.testing.assert_array_equal(a.action, b.action)


@pytest.mark.parametrize("pictures", ["image", "video"])
def test_episodes_come_back_as_they_were_recorded(tmp_path, pictures):
    there = open_robot_data(recorded(tmp_path, pictures))
    assert there.contract == contract()
    assert [episode.id for episode in there] == ["push_0", "push_1", "push_2"]
    for seed, episode in enumerate(there):
        before = demonstration(seed)
        same(before, episode)
        for view in ("front", "wrist"):
            every = range(len(episode))
            seen = episode.views[view].read(every)
            if pictures == "image":
                np.testing.assert_array_equal(seen, before.views[view].read(every))
            assert seen.shape == (len(episode), 32, 32, 3)
    assert not list(tmp_path.rglob("*.tmp"))


def test_exact_images_become_videos_and_what_is_said_of_an_episode_comes_along(tmp_path, capsys):
    root, out = recorded(tmp_path / "images", "image"), tmp_path / "videos"
    main(["export", "episodes", str(root), str(out), "--pictures", "video"])
    assert "(3 episodes)" in capsys.readouterr().out
    assert len(list(out.rglob("*.mp4"))) == 6
    for a, b in zip(open_robot_data(root), open_robot_data(out), strict=True):
        same(a, b)
        assert a.id == b.id


def test_training_reads_the_pictures_of_the_rows_it_asks_for(tmp_path):
    from vipa.data.demonstrations import Demonstrations
    from vipa.data.spec import DataSpec
    from vipa.training.record import data_hash

    class Prompts:
        @property
        def processor(self):
            return self

        def prompts(self, pairs):
            return {"pairs": pairs}

    spec = DataSpec("episodes", recorded(tmp_path, "image"), batch=4)
    component = Demonstrations(spec, Prompts())
    assert len(component) == 6 + 7 + 8
    inputs, groups, _ = component.inputs(range(21), [np.random.default_rng(i) for i in range(21)])
    assert [text for _, text in inputs["pairs"]] == ["push 0"] * 6 + ["push 1"] * 7 + ["push 0"] * 8
    row = 0
    for seed in range(3):
        episode = demonstration(seed)
        for t in range(len(episode)):
            shown = component.read(groups[row])
            for view, image in zip(("front", "wrist"), shown, strict=True):
                np.testing.assert_array_equal(image, episode.views[view].read([t])[0])
            row += 1
    before = data_hash(spec)
    table = next(tmp_path.rglob("*.parquet"))
    table.write_bytes(table.read_bytes() + b" ")
    assert data_hash(spec) != before


def test_a_recorder_goes_on_and_writes_no_episode_twice(tmp_path):
    for until in (1, 3):
        writer = EpisodeWriter(tmp_path, contract())
        for seed in range(until):
            writer.add(demonstration(seed))
        writer.finish()
    there = open_robot_data(tmp_path)
    assert [e.seed for e in there] == [0, 1, 2]
    for seed, episode in enumerate(there):
        same(demonstration(seed), episode)
        assert episode.views["wrist"].read([0]).shape == (1, 32, 32, 3)
    with pytest.raises(ValueError, match="rate"):
        EpisodeWriter(tmp_path, ActionContract(**{**contract().__dict__, "rate": 5.0}))


# -- other versions ---------------------------------------------------------------------------------------------------


def video(path: Path, images: np.ndarray, codec: str, rate: float = FPS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_v21(root: Path, codec: str = "libx264", start: float = 0.0) -> Path:
    """Two episodes of two cameras, the second's task changes; per-episode statistics; start: of the rows' clock."""
    feature = {"dtype": "float32", "shape": [2], "names": {"motors": ["a", "b"]}}
    camera = {"dtype": "video", "shape": [64, 64, 3], "names": ["height", "width", "channel"]}
    info = {
        "codebase_version": "v2.1", "robot_type": "toy", "fps": FPS, "chunks_size": 1000,
        "total_episodes": 2, "total_frames": 2 * ROWS,
        "features": {"observation.state": feature, "action": feature, FRONT: camera, WRIST: camera},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }  # fmt: skip
    lines, statistics = [], []
    for e in range(2):
        rng = np.random.default_rng(e)
        values = {name: rng.normal(size=(ROWS, 2)).astype(np.float32) for name in ("observation.state", "action")}
        rows = {name: list(v) for name, v in values.items()}
        rows |= {"timestamp": start + np.arange(ROWS) / FPS, "episode_index": [e] * ROWS}
        rows |= {"task_index": [0] * (ROWS - 9) + [e] * 9}
        path = root / f"data/chunk-000/episode_{e:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(rows), path)
        for k, view in enumerate((FRONT, WRIST)):
            images = grey(ROWS)[:: 1 - 2 * k]
            video(root / f"videos/chunk-000/{view}/episode_{e:06d}.mp4", images, codec)
        lines.append({"episode_index": e, "tasks": ["reach", "lift"][: e + 1], "length": ROWS})
        of = {c: {n: np.ravel(x).tolist() for n, x in column_statistics(v).items()} for c, v in values.items()}
        statistics.append({"episode_index": e, "stats": of})
    meta = root / "meta"
    meta.mkdir()
    (meta / "info.json").write_text(json.dumps(info))
    (meta / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (meta / "episodes_stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in statistics))
    tasks = [{"task_index": i, "task": word} for i, word in enumerate(("reach", "lift"))]
    (meta / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    dimensions = tuple(Dimension(name, "radian", "absolute") for name in "ab")
    made = ActionContract("toy", dimensions, dimensions, "joints", "none", "none", float(FPS), 4, ("front", WRIST))
    made.save(root / "contract.json")
    return root


@pytest.mark.parametrize(
    "codec", ["libx264", pytest.param(AV1, marks=pytest.mark.skipif(AV1 is None, reason="no AV1"))]
)
@pytest.mark.parametrize("start", [0.0, 1.7e9])
def test_version_21_of_two_cameras_and_two_tasks_becomes_version_3_with_its_videos_bit_by_bit(
    tmp_path, codec, start
):
    root, out = write_v21(tmp_path / "v21", codec, start), tmp_path / "v3"
    main(["export", "episodes", str(root), str(out)])
    before, after = open_robot_data(root), open_robot_data(out)
    assert [e.text for e in after] == [e.text for e in before] == ["reach", "reach", "lift"]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a.state, b.state)
        np.testing.assert_array_equal(a.action, b.action)
        for view in ("front", WRIST):
            assert levels(a.views[view]) == levels(b.views[view])
    assert levels(after[2].views["front"]) == list(range(ROWS - 9, ROWS))
    assert levels(after[2].views[WRIST]) == list(range(8, -1, -1))
    for view in (FRONT, WRIST):
        for e in range(2):
            copy = out / f"videos/{view}/chunk-000/file-{e:03d}.mp4"
            assert copy.read_bytes() == (root / f"videos/chunk-000/{view}/episode_{e:06d}.mp4").read_bytes()
    old, new = read_set(root), read_set(out)
    for e in (0, 1, None):
        for name, value in old.statistics(e)["action"].items():
            np.testing.assert_allclose(new.statistics(e)["action"][name], value, atol=1e-7, err_msg=name)
    again = tmp_path / "again"  # version 3 is read and written too
    assert export_episodes(out, again) == 2
    assert (again / "data/chunk-000/file-001.parquet").read_bytes() == (
        out / "data/chunk-000/file-001.parquet"
    ).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("lerobot") is None, reason="the lerobot package is not here")
@pytest.mark.parametrize("start", [0.0, 1 / FPS])
def test_what_lerobot_s_own_converter_makes_of_version_21_is_read_the_same(tmp_path, start):
    """`pytest -m slow tests/robots/test_lerobot_v3.py` beside lerobot. The rows of a public set begin one step late."""
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

    old = write_v21(tmp_path / "old", AV1 or "libx264", start)
    shutil.copytree(old, tmp_path / "new")
    convert_dataset("made/there", root=tmp_path / "new", push_to_hub=False)
    shutil.copy(old / "contract.json", tmp_path / "new")
    assert json.loads((tmp_path / "new" / "meta" / "info.json").read_text())["codebase_version"] == "v3.0"
    for mine, theirs in zip(open_robot_data(old), open_robot_data(tmp_path / "new"), strict=True):
        same(theirs, mine)
        for view in ("front", WRIST):
            assert levels(theirs.views[view]) == levels(mine.views[view])


def test_a_video_whose_frames_do_not_stand_at_the_rows_times_is_encoded_anew(tmp_path):
    root = write_v21(tmp_path / "v21")
    path = root / f"videos/chunk-000/{FRONT}/episode_000000.mp4"
    video(path, grey(ROWS), "libx264", rate=FPS * 1.001)
    export_episodes(root, tmp_path / "v3")
    copy = tmp_path / f"v3/videos/{FRONT}/chunk-000/file-000.mp4"
    assert copy.read_bytes() != path.read_bytes()
    assert levels(open_robot_data(tmp_path / "v3")[0].views["front"]) == list(range(ROWS))


def lengthen(root: Path) -> None:
    lines = (root / "meta/episodes.jsonl").read_text().replace(f'"length": {ROWS}', f'"length": {ROWS + 1}')
    (root / "meta/episodes.jsonl").write_text(lines)


def version(number: str):
    def change(root: Path) -> None:
        path = root / "meta/info.json"
        path.write_text(path.read_text().replace("v2.1", number))

    return change


def late(root: Path) -> None:
    path = root / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    times = table["timestamp"].to_numpy().copy()
    times[-1] += 0.06
    pq.write_table(table.set_column(table.column_names.index("timestamp"), "timestamp", pa.array(times)), path)


FAULTS = {
    "a missing table": (
        lambda r: (r / "data/chunk-000/episode_000001.parquet").unlink(),
        "episode_000001.parquet",
    ),
    "a wrong number of rows": (lengthen, f"{ROWS} rows of episode 0, meta/ says {ROWS + 1}"),
    "a short video": (
        lambda r: video(r / f"videos/chunk-000/{WRIST}/episode_000001.mp4", grey(ROWS - 4), "libx264"),
        f"row {ROWS - 1} at 2.300 s has no frame in",
    ),
    "a long video": (
        lambda r: video(r / f"videos/chunk-000/{WRIST}/episode_000001.mp4", grey(ROWS + 4), "libx264"),
        "the video goes on 0.40 s after the last row: rows and video do not belong together",
    ),
    "a row at another time": (late, f"row {ROWS - 1} "),
    "version 1": (version("v1.6"), "LeRobot v1.6 is not read here"),
    "version 4": (version("v4.0"), "LeRobot v4.0 is not read here"),
    "a task without words": (
        lambda r: (r / "meta/tasks.jsonl").write_text(""),
        "task_index is 0, which has no words",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_that_names_it(tmp_path, capsys, fault):
    root = write_v21(tmp_path / "v21")
    spoil, words = FAULTS[fault]
    spoil(root)
    with pytest.raises(SystemExit) as stopped:
        main(["export", "episodes", str(root), str(tmp_path / "v3")])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


def test_a_version_3_set_whose_counts_disagree_is_refused(tmp_path):
    export_episodes(write_v21(tmp_path / "v21"), tmp_path / "v3")
    path = tmp_path / "v3/meta/info.json"
    path.write_text(path.read_text().replace(f'"total_frames": {2 * ROWS}', f'"total_frames": {2 * ROWS - 1}'))
    with pytest.raises(ValueError, match=f"total_frames is {2 * ROWS - 1}, the episodes have {2 * ROWS} rows"):
        read_set(tmp_path / "v3")


def test_a_folder_in_the_old_form_and_one_of_nothing_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no meta/info\.json; expected a LeRobot data set"):
        open_robot_data(tmp_path)
    (tmp_path / "episodes").mkdir()
    (tmp_path / "episodes" / "touch_1.parquet").touch()
    with pytest.raises(ValueError, match=r"an old form .* record them again \(vipa record\)"):
        open_robot_data(tmp_path)


def test_a_name_on_the_hub_is_a_data_set(tmp_path, monkeypatch):
    """Through the hub's own cache, filled as a download fills it; offline, so that no network is asked."""
    place, commit = tmp_path / "datasets--someone--arm", "0" * 40
    recorded(place / "snapshots" / commit, "image")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert [episode.seed for episode in open_robot_data(Path("someone/arm"))] == [0, 1, 2]
    main(["export", "episodes", "someone/arm", str(tmp_path / "out")])
    assert len(open_robot_data(tmp_path / "out")) == 3
    with pytest.raises(ValueError, match="nobody/arm: no data here, neither as a folder nor on the hub"):
        open_robot_data(Path("nobody/arm"))


def test_a_set_without_a_contract_says_what_is_missing(tmp_path):
    root = write_v21(tmp_path / "v21")
    (root / "contract.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"contract\.json is missing: a LeRobot data set does not say"):
        open_robot_data(root)
