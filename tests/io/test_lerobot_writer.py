"""What the LeRobot writer leaves, read back by the layout's reader and by nothing but pyarrow and numpy."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from vipa.clips.lerobot_frames import episode_frames
from vipa.io.lerobot_layout import numbers, read_set
from vipa.io.lerobot_statistics import column_statistics, combined
from vipa.io.lerobot_writer import LeRobotWriter, numbers_feature, picture_feature

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
FEATURES = {
    "action": numbers_feature(["x", "y"], "float64"),
    "next.done": {"dtype": "bool", "shape": [1], "names": None},
    "note": {"dtype": "string", "shape": [1], "names": None},
    FRONT: picture_feature(32, 48, "image"),
    WRIST: picture_feature(32, 32, "video"),
}
LENGTHS = (7, 5, 9)


def episode(index: int) -> tuple[dict, dict, list[str]]:
    """columns, pictures, tasks of one; its task changes at row 3. The wrist camera shows a grey of 10 times the row."""
    rng, n = np.random.default_rng(index), LENGTHS[index]
    columns = {
        "action": rng.normal(size=(n, 2)),
        "next.done": np.arange(n) == n - 1,
        "note": [f"row {i}" for i in range(n)],
    }
    front = rng.integers(0, 256, (n, 32, 48, 3), dtype=np.uint8)
    wrist = np.broadcast_to((10 * np.arange(n, dtype=np.uint8))[:, None, None, None], (n, 32, 32, 3))
    return columns, {FRONT: front, WRIST: wrist}, ["reach"] * 3 + [f"lift {index}"] * (n - 3)


def open_writer(root: Path, **changes) -> LeRobotWriter:
    return LeRobotWriter(root, **{"rate": 20, "features": FEATURES, "robot": "toy", **changes})


def write(root: Path, count: int = 3) -> LeRobotWriter:
    writer = open_writer(root)
    for i in range(len(writer), count):
        writer.add(*episode(i))
    writer.finish()
    return writer


def content(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    write(root)
    return root


def test_rows_pictures_and_tasks_come_back(written):
    data = read_set(written)
    assert data.views == (FRONT, WRIST)
    assert data.tasks == {0: "reach", 1: "lift 0", 2: "lift 1", 3: "lift 2"}
    for i, n in enumerate(LENGTHS):
        columns, pictures, tasks = episode(i)
        table = data.rows(i, ["action", "next.done", "note", "task_index", "timestamp", "index"])
        np.testing.assert_array_equal(numbers(table, "action", ""), columns["action"])
        assert table["next.done"].to_pylist() == columns["next.done"].tolist()
        assert table["note"].to_pylist() == columns["note"]
        assert [data.tasks[t] for t in table["task_index"].to_pylist()] == tasks
        assert data.episodes[i]["tasks"] == ["reach", f"lift {i}"]
        assert table["index"].to_pylist() == list(range(sum(LENGTHS[:i]), sum(LENGTHS[: i + 1])))
        times = data.times(table)
        np.testing.assert_allclose(times, np.arange(n) / 20, atol=1e-6)
        front, wrist = (episode_frames(data, view, i, times, range(n)).read(range(n)) for view in (FRONT, WRIST))
        np.testing.assert_array_equal(front, pictures[FRONT])
        assert np.abs(wrist.astype(int) - pictures[WRIST]).max() <= 2


def test_statistics_are_those_of_numpy_over_the_rows(written):
    data, rows = read_set(written), [episode(i) for i in range(3)]
    for i, (columns, pictures, _) in enumerate(rows):
        own = data.statistics(i)
        np.testing.assert_allclose(own["action"]["mean"], columns["action"].mean(0), atol=1e-12)
        pixels = pictures[FRONT][:, ::4, ::4].reshape(-1, 3) / 255
        np.testing.assert_allclose(own[FRONT]["std"].ravel(), pixels.std(0), atol=1e-12)
        np.testing.assert_allclose(own[FRONT]["q90"].ravel(), np.quantile(pixels, 0.9, axis=0), atol=1 / 255)
    whole, values = data.statistics(), np.concatenate([columns["action"] for columns, _, _ in rows])
    expected = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    expected |= {"q01": np.quantile(values, 0.01, axis=0), "q99": np.quantile(values, 0.99, axis=0)}
    for name, value in expected.items():
        np.testing.assert_allclose(whole["action"][name], value, atol=1e-12, err_msg=name)
    assert whole["action"]["count"].tolist() == whole[FRONT]["count"].tolist() == [sum(LENGTHS)]
    assert whole[FRONT]["mean"].shape == (3, 1, 1)
    assert "note" not in whole


def test_statistics_of_parts_combine_to_those_of_all_rows():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 3)) * 10**n for n in (1, 2, 5)]
    of_all = column_statistics(np.concatenate(parts))
    for name, value in combined([{"x": column_statistics(part)} for part in parts])["x"].items():
        np.testing.assert_allclose(value, of_all[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("broken", ["_write_tasks", "_write_entries", "_write_info"])
def test_a_recording_stopped_while_it_wrote_an_episode_goes_on_to_the_same_set(
    written, tmp_path, monkeypatch, broken
):
    write(tmp_path, 1)

    def stop(self):
        raise KeyboardInterrupt

    writer = open_writer(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(LeRobotWriter, broken, stop)
        with pytest.raises(KeyboardInterrupt):
            writer.add(*episode(1))
    for left in ("data/chunk-000/.file-001.parquet.7.tmp", "meta/episodes/chunk-000/.file-000.parquet.7.tmp"):
        (tmp_path / left).write_bytes(b"half")
    again = open_writer(tmp_path)
    assert len(again) == (2 if broken == "_write_info" else 1)
    assert (
        len(list((tmp_path / "data").rglob("*file*")))
        == len(list((tmp_path / "videos").rglob("*file*")))
        == len(again)
    )
    read_set(tmp_path)
    write(tmp_path)
    assert content(tmp_path) == content(written)


def test_more_episodes_than_a_file_of_meta_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("vipa.io.lerobot_writer.EPISODES_A_FILE", 2)
    features = {"action": numbers_feature(["x"])}
    for _ in range(5):  # opened anew each time
        writer = open_writer(tmp_path, features=features)
        writer.add({"action": np.full((3, 1), len(writer))}, {}, "reach")
    paths = sorted((tmp_path / "meta" / "episodes").rglob("*.parquet"))
    assert [pq.read_table(path)["episode_index"].to_pylist() for path in paths] == [[0, 1], [2, 3], [4]]
    assert [int(read_set(tmp_path).statistics(i)["action"]["max"][0]) for i in range(5)] == [0, 1, 2, 3, 4]
    assert pd.read_parquet(tmp_path / "meta" / "tasks.parquet").index.tolist() == ["reach"]


def test_another_set_in_the_folder_is_refused_with_what_differs(written, tmp_path):
    with pytest.raises(ValueError, match=r"another data set: fps was 20, is 10"):
        open_writer(written, rate=10)
    with pytest.raises(ValueError, match=r"robot_type was toy, is arm"):
        open_writer(written, robot="arm")
    with pytest.raises(ValueError, match=r"its first tasks are \['reach'\]"):
        open_writer(written, tasks=["push"])
    (tmp_path / "photo.jpg").write_text("")
    with pytest.raises(ValueError, match="holds something else"):
        open_writer(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action": np.zeros((7, 3))}, "'action' has 3 numbers a row, its feature 2"),
        ({"action": np.full((7, 2), np.nan)}, "'action' holds values that are not finite"),
        ({"action": np.zeros((6, 2))}, r"columns of \[6, 7, 7\] rows"),
        ({"reward": np.zeros((7, 1))}, "other columns than the data set: reward"),
        ({FRONT: np.zeros((7, 32, 32, 3), np.uint8)}, r"front': an image is \(32, 32, 3\)"),
        ({WRIST: np.zeros((6, 32, 32, 3), np.uint8)}, "wrist' has 6 images for 7 rows"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused_and_leaves_the_set_as_it_was(tmp_path, change, words):
    writer = write(tmp_path, 1)
    before = content(tmp_path / "meta")
    columns, pictures, tasks = episode(0)
    for name, value in change.items():
        (pictures if name in pictures else columns)[name] = value
    with pytest.raises(ValueError, match=words):
        writer.add(columns, pictures, tasks)
    assert content(tmp_path / "meta") == before
    writer.add(*episode(1))
    assert len(read_set(tmp_path).episodes) == 2
