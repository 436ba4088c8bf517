"""Both readers of the LeRobot layout on small sets with one property each: rows and frames by time, tasks, widths."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vipa.cli import main
from vipa.clips import Clip, ClipError
from vipa.clips.sources import load_source
from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.episodes import Episode
from vipa.robots.lerobot_data import open_robot_data, read_info, read_lerobot
from vipa.robots.lerobot_export import EpisodeWriter
from vipa.worlds.fixtures.writing import write_text, write_video

VIDEO, ROWS, FPS = "observation.images.ego", 30, 30


def grey(count: int) -> np.ndarray:
    """Frame i has the level 20 + 2 i."""
    return np.broadcast_to((20 + 2 * np.arange(count, dtype=np.uint8))[:, None, None, None], (count, 48, 64, 3))


def levels(frames, rows) -> list[int]:
    return [round((float(image.mean()) - 20) / 2) for image in frames.read(rows)]


def hand(x: float) -> list[float]:
    """21 joints, metres, half a metre ahead; the wrist at x."""
    fingers = [(x + (f - 2) * 0.02, -0.035 - 0.025 * k, 0.5) for f in range(5) for k in range(4)]
    return np.array([(x, 0.05, 0.5), *fingers]).ravel().tolist()


def write_set(
    root: Path,
    *,
    third: bool = False,
    times=None,
    frames: int = ROWS,
    rate: float = FPS,
    tasks=None,
    words=("pick up the cup", "put it down"),
    episode: dict | None = None,
    features: dict | None = None,
    columns: dict | None = None,
    shared: bool = False,
) -> Path:
    """Two episodes of a hand whose robot is the hand's wrist. times: of the rows; frames, rate: of each video;
    tasks: task_index of the rows; episode: more fields of episode 1; shared: v3 with both episodes in one video."""
    times = np.arange(ROWS) / FPS if times is None else np.asarray(times)
    n = len(times)
    feature = {"dtype": "float32", "shape": [2], "names": ["x", "gripper"]}
    info = {
        "codebase_version": "v3.0" if third else "v2.1",
        "fps": FPS,
        "features": {
            "joints": {"dtype": "float32", "shape": [63]},
            "observation.state": feature,
            "action": feature,
            VIDEO: {"dtype": "video"},
            **(features or {}),
        },
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        if third
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if third
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    camera = {"fx": 60, "fy": 60, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48}
    mapping = {"video": VIDEO, "right_joints_camera": "joints", "intrinsics": camera}
    write_text(root / "meta" / "info.json", json.dumps(info))
    write_text(root / "meta" / "vipa.json", json.dumps(mapping))
    entries = []
    for e in range(2):
        rows = {
            "joints": [hand(-0.2 + 0.004 * i) for i in range(n)],
            "observation.state": [[0.004 * i, 1.0] for i in range(n)],
            "action": [[0.004 * i, 0.0] for i in range(n)],
            "timestamp": times.tolist(),
            "episode_index": [e] * n,
            "task_index": [0] * n if tasks is None else list(tasks),
            **(columns or {}),
        }
        path = root / "data" / "chunk-000" / (f"file-{e:03d}.parquet" if third else f"episode_{e:06d}.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(rows), path)
        entry = {"episode_index": e, "length": n, "tasks": list(words[: 1 if tasks is None else 2])}
        if third:
            part = {f"videos/{VIDEO}/from_timestamp": e * n / FPS * shared}
            part |= {f"videos/{VIDEO}/to_timestamp": (e * shared + 1) * n / FPS}
            part |= {f"videos/{VIDEO}/chunk_index": 0, f"videos/{VIDEO}/file_index": e * (not shared)}
            entry |= {"data/chunk_index": 0, "data/file_index": e, **part}
        entries.append(entry | (episode or {} if e == 1 else {}))
        if third:
            video = root / "videos" / VIDEO / "chunk-000" / f"file-{e:03d}.mp4"
        else:
            video = root / "videos" / "chunk-000" / VIDEO / f"episode_{e:06d}.mp4"
        write_video(video, grey(frames), rate)
    jobs = [{"task_index": i, "task": word} for i, word in enumerate(words)]
    if third:
        for path, rows in (("tasks.parquet", jobs), ("episodes/chunk-000/file-000.parquet", entries)):
            (root / "meta" / path).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), root / "meta" / path)
    else:
        write_text(root / "meta" / "episodes.jsonl", "".join(json.dumps(e) + "\n" for e in entries))
        write_text(root / "meta" / "tasks.jsonl", "".join(json.dumps(j) + "\n" for j in jobs))
    return root


def clips(root: Path) -> list[Clip | ClipError]:
    return list(load_source("lerobot").read_clips(root))


def contract_of(width: int) -> ActionContract:
    dimensions = tuple(Dimension(f"d{i}", "none", "absolute") for i in range(width))
    return ActionContract("toy", dimensions, dimensions, "joints", "none", "none", float(FPS), 4, (VIDEO,))


def episodes(root: Path, width: int = 2) -> list[Episode]:
    return list(read_lerobot(root, contract_of(width)))


VERSIONS = pytest.mark.parametrize("third", [False, True], ids=["v2", "v3"])


# -- rows and frames --------------------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("clock", [0.0, 1.7e9, 0.004])
def test_a_row_has_the_frame_of_its_time_in_a_video_of_twice_the_rate(tmp_path, third, clock):
    root = write_set(tmp_path, third=third, times=clock + np.arange(ROWS) / FPS, frames=2 * ROWS, rate=2 * FPS)
    for clip in clips(root):
        assert levels(clip.frames, [0, 10, 29]) == [0, 20, 58]
        np.testing.assert_allclose(clip.timestamps, np.arange(ROWS) / FPS, atol=1e-6)
        assert clip.notes == {}
    for episode in episodes(root):
        assert levels(episode.views[VIDEO], [29, 0, 10]) == [58, 0, 20]


@VERSIONS
def test_rows_that_begin_later_have_the_frames_of_their_times(tmp_path, third):
    times = np.arange(10, 30) / FPS
    clip = clips(write_set(tmp_path, third=third, times=times, episode={"length": 20}, frames=30))[0]
    if third:  # its part of the video is 20 frames long, as many as there are rows
        assert levels(clip.frames, [0, 19]) == [0, 19]
    else:
        assert levels(clip.frames, [0, 19]) == [10, 29]
        assert "0.33 s before the first row" in clip.notes["video"]


def test_two_episodes_in_one_video_have_their_own_frames(tmp_path):
    root = write_set(tmp_path, third=True, frames=2 * ROWS, shared=True)
    assert [levels(clip.frames, [0, 29]) for clip in clips(root)] == [[0, 29], [30, 59]]
    assert [levels(e.views[VIDEO], [0, 29]) for e in episodes(root)] == [[0, 29], [30, 59]]


@pytest.mark.parametrize("clock", [1 / FPS, 1.7e9])
def test_rows_whose_clock_does_not_begin_at_zero_keep_to_their_part_of_a_shared_video(tmp_path, clock):
    """As in a public set of GR00T's, whose rows begin at one step, joined by LeRobot's own converter."""
    root = write_set(tmp_path, third=True, times=clock + np.arange(ROWS) / FPS, frames=2 * ROWS, shared=True)
    assert [levels(clip.frames, [0, 29]) for clip in clips(root)] == [[0, 29], [30, 59]]
    assert [levels(e.views[VIDEO], [0, 29]) for e in episodes(root)] == [[0, 29], [30, 59]]


@VERSIONS
@pytest.mark.parametrize(("frames", "rate"), [(20, FPS), (15, FPS / 2), (25, 25)])
def test_a_row_without_a_frame_within_half_a_frame_is_said(tmp_path, third, frames, rate):
    root = write_set(tmp_path, third=third, frames=frames, rate=rate)
    reason = str(clips(root)[0])
    assert "has no frame in" in reason
    assert ".mp4" in reason
    with pytest.raises(ValueError, match="has no frame in"):
        episodes(root)[0].views[VIDEO].read([0])


@VERSIONS
def test_a_video_that_goes_on_after_its_rows_is_said(tmp_path, third):
    root = write_set(tmp_path, third=third, frames=40, episode={f"videos/{VIDEO}/to_timestamp": 40 / FPS})
    clip = clips(root)[1]
    assert levels(clip.frames, [0, 29]) == [0, 29]
    assert clip.notes["video"] == "the video goes on 0.33 s after the last row"
    with pytest.raises(ValueError, match=r"goes on 0\.33 s after the last row"):
        episodes(root)[1].views[VIDEO].read([0])


def test_rows_do_not_take_the_next_episode_s_frames(tmp_path):
    root = write_set(tmp_path, third=True, frames=2 * ROWS, episode={f"videos/{VIDEO}/to_timestamp": 0.9})
    assert "lies beyond the episode's part" in str(clips(root)[1])


# -- tasks ------------------------------------------------------------------------------------------------------------


@VERSIONS
def test_an_episode_of_two_tasks_has_two_texts_and_is_two_robot_episodes(tmp_path, third):
    root = write_set(tmp_path, third=third, tasks=[0] * 12 + [1] * 18)
    first, second = clips(root)[0].texts
    assert (first.text, first.start, first.end) == ("pick up the cup", 0.0, pytest.approx(0.4))
    assert (second.text, second.start, second.end) == ("put it down", pytest.approx(0.4), pytest.approx(1.0))
    found = episodes(root)
    assert [(e.id, e.text, len(e)) for e in found[:2]] == [
        ("episode_000000_000000", "pick up the cup", 12),
        ("episode_000000_000012", "put it down", 18),
    ]
    assert levels(found[1].views[VIDEO], [0, 17]) == [12, 29]
    np.testing.assert_allclose(found[1].state[0], [0.048, 1.0], atol=1e-6)


def test_a_task_without_words_is_said(tmp_path):
    root = write_set(tmp_path, tasks=[7] * ROWS)
    clip = clips(root)[0]
    assert clip.texts == ()
    assert clip.notes["texts"] == "meta/ has no words for task 7"
    with pytest.raises(ValueError, match=r"episode_000000\.parquet: task_index is 7, which has no words"):
        episodes(root)


# -- widths -----------------------------------------------------------------------------------------------------------


@VERSIONS
def test_a_width_of_one_is_a_dimension_and_comes_back_as_it_was_written(tmp_path, third):
    scalars = {name: [0.5 * i for i in range(ROWS)] for name in ("observation.state", "action")}
    feature = {"dtype": "float32", "shape": [1], "names": None}
    root = write_set(
        tmp_path, third=third, columns=scalars, features={"observation.state": feature, "action": feature}
    )
    episode = episodes(root, width=1)[1]
    assert episode.state.shape == episode.action.shape == (ROWS, 1)
    writer = EpisodeWriter(tmp_path / "out", contract_of(1), "image")
    writer.add(episode)
    writer.finish()
    np.testing.assert_array_equal(open_robot_data(tmp_path / "out")[0].action, episode.action)


def test_widths_are_compared_with_the_table(tmp_path):
    columns = {"action": [[0.0] * 3] * ROWS, "joints": [[0.0] * 60] * ROWS}
    root = write_set(tmp_path, columns=columns)
    with pytest.raises(ValueError, match=r"episode_000000\.parquet: column 'action' has 3 numbers a row"):
        episodes(root)
    assert "'joints' has 60 numbers a row, meta/info.json says 63" in str(clips(root)[0])


@pytest.mark.parametrize("row", [0, 4])
def test_a_row_of_another_width_is_named(tmp_path, row):
    action = [[0.0, 0.0] for _ in range(ROWS)]
    action[row] = [0.0]
    joints = [hand(0.0) for _ in range(ROWS)]
    joints[row] = joints[row][:60]
    root = write_set(tmp_path, columns={"action": action, "joints": joints})
    with pytest.raises(ValueError, match=rf"column 'action' has 1 numbers in row {row}, 2 in others"):
        episodes(root)
    assert f"column 'joints' has 60 numbers in row {row}, 63 in others" in str(clips(root)[0])


def test_rows_of_null_are_unknown_hands(tmp_path):
    clip = clips(write_set(tmp_path, columns={"joints": [None, None, *(hand(0.0) for _ in range(28))]}))[0]
    assert clip.hands[0].confidence[:, 0].tolist() == [0.0] * 2 + [1.0] * 28


def test_an_episode_checks_dimensions():
    with pytest.raises(ValueError, match=r"state needs \(rows, dimensions\), it has shape \(5,\)"):
        Episode("e", {}, np.zeros(5), np.zeros((5, 1)), "touch", 10.0)


def test_rows_of_another_rate_than_info_json_says_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"rows are 0\.1000 s apart, meta/info\.json says 30 a second"):
        episodes(write_set(tmp_path, times=np.arange(ROWS) / 10))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        ({"motors": ["a", "b"]}, ["a", "b"]),
        ({"axes": ["a", "b"]}, ["a", "b"]),
        ([["a"], ["b"]], ["a", "b"]),
        ([["a", "b"]], ["a", "b"]),
        ({"left": ["x"], "right": ["x"]}, ["left.x", "right.x"]),
        ({"b": 1, "a": 0}, ["a", "b"]),
        ({"motors": {"b": 1, "a": 0}}, ["a", "b"]),
        (None, ["action_0", "action_1"]),
        ([], ["action_0", "action_1"]),
        (["a", "a"], ["action_0", "action_1"]),
        (["motors"], ["action_0", "action_1"]),
    ],
)
def test_names_are_flat_whatever_their_nesting(tmp_path, names, expected):
    feature = {"dtype": "float32", "shape": [2], "names": names}
    assert read_info(write_set(tmp_path, features={"action": feature})).dimension_names("action") == expected


# -- damaged files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "spoilt", "words"),
    [
        ("tasks.jsonl", lambda t: json.dumps(json.loads(t.splitlines()[0]), indent=2), "line 1: not JSON"),
        ("tasks.jsonl", lambda t: t + "[1]\n", "line 3: one JSON object a line is expected"),
        ("episodes.jsonl", lambda t: t[:-20], "line 2: not JSON"),
        ("episodes.jsonl", lambda t: t + t, "stands there twice"),
        ("episodes.jsonl", lambda t: t.replace('"episode_index"', '"index"'), "'episode_index'"),
        ("info.json", lambda t: t[:50], "not JSON"),
        ("info.json", lambda t: f"[{t}]", "an object {...} is expected, it holds a list"),
        ("info.json", lambda t: t.replace('"fps"', '"hz"'), "no fps"),
        ("info.json", lambda t: t.replace("v2.1", "v1.6"), "LeRobot v1.6 is not read here"),
    ],
)
def test_a_damaged_meta_file_is_named_with_its_line_by_both_readers_and_the_command(
    tmp_path, capsys, file, spoilt, words
):
    root = write_set(tmp_path)
    path = root / "meta" / file
    path.write_text(spoilt(path.read_text()))
    for read in (clips, episodes):
        with pytest.raises(ValueError, match=r"meta|LeRobot") as error:
            read(root)
        assert words in str(error.value)
        assert file.split(".")[0] in str(error.value) or "LeRobot" in words
    with pytest.raises(SystemExit) as leaving:
        main(["sources", "check", "lerobot", str(root), "--sheet", str(tmp_path / "s.png")])
    assert leaving.value.code == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


def test_an_index_that_names_another_file_is_said(tmp_path):
    root = write_set(tmp_path, third=True, episode={"data/file_index": 0})
    first, second = clips(root)
    assert isinstance(first, Clip)
    assert second.reason == f"episode 1 has no rows in {root / 'data' / 'chunk-000' / 'file-000.parquet'}"
    with pytest.raises(ValueError, match="episode 1 has no rows in"):
        episodes(root)


def test_rows_that_are_missing_are_said(tmp_path):
    root = write_set(tmp_path, episode={"length": ROWS + 5})
    assert "30 rows of episode 1, meta/ says 35" in str(clips(root)[1])


def test_a_damaged_table_is_named(tmp_path):
    root = write_set(tmp_path)
    path = root / "data" / "chunk-000" / "episode_000001.parquet"
    path.write_bytes(path.read_bytes()[:200])
    assert f"{path}: cannot be read" in str(clips(root)[1])
    path.write_bytes(b"")
    assert f"{path}: cannot be read" in str(clips(root)[1])
