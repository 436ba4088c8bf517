"""A real set of robot episodes in version 3, and what the lerobot package makes of our sets and we of its.

Slow, and without that package mostly skipped: python -m pytest -m slow tests/robots/test_lerobot_package.py
"""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from small_sets import FPS, FRONT, ROWS, WRIST, grey, levels, recorded
from vipa.cli import main
from vipa.clips.lerobot_frames import episode_frames
from vipa.io.lerobot_layout import numbers, read_set
from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.lerobot_data import open_robot_data
from vipa.robots.lerobot_export import export_episodes

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "gr00t_robot_sim_PickNPlace"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not REAL.exists():
        pytest.skip("the real data set is not here")
    out = tmp_path_factory.mktemp("real") / "v3"
    main(["export", "episodes", str(REAL), str(out)])
    return out


def test_a_real_version_20_set_is_the_same_in_version_3(real):
    old, new = read_set(REAL), read_set(real)
    assert new.tasks == old.tasks
    shipped, ours = json.loads((REAL / "meta/stats.json").read_text()), new.statistics()
    for column in ("observation.state", "action", "next.reward", "annotation.human.action.task_description"):
        for name in ("min", "max", "mean", "std", "q01", "q99"):
            np.testing.assert_allclose(
                ours[column][name], shipped[column][name], atol=2e-5, err_msg=f"{column} {name}"
            )
    same = [c for c in new.features if c in old.features and c != "timestamp" and new.kept_as(c) != "video"]
    assert {"observation.state", "action", "next.done", "annotation.human.validity", "task_index"} <= set(same)
    for e in old.episodes:
        a, b = old.rows(e, [*same, "timestamp"]), new.rows(e, [*same, "timestamp"])
        for column in set(same) - {"index"}:
            np.testing.assert_array_equal(numbers(a, column, ""), numbers(b, column, ""))
        np.testing.assert_allclose(new.times(b), old.times(a) - old.times(a)[0], atol=1e-4)
        path = new.video("observation.images.ego_view", e).path
        assert path.read_bytes() == old.video("observation.images.ego_view", e).path.read_bytes()


@pytest.mark.skipif(importlib.util.find_spec("lerobot") is None, reason="the lerobot package is not here")
@pytest.mark.parametrize("form", ["real", "video", "image"])
def test_the_lerobot_package_reads_the_same_values(form, request, tmp_path):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    root = request.getfixturevalue("real") if form == "real" else tmp_path / "v3"
    if form != "real":
        recorded(root, form)
    theirs, ours = LeRobotDataset("made/here", root=root, video_backend="pyav"), read_set(root)

    assert theirs.meta.total_episodes == len(ours.episodes)
    for column, of in ours.statistics().items():
        for name, value in of.items():
            np.testing.assert_allclose(
                theirs.meta.stats[column][name], value, rtol=1e-6, err_msg=f"{column} {name}"
            )
    first = 0
    for e, entry in ours.episodes.items():
        n = entry["length"]
        columns = [c for c in ours.features if ours.kept_as(c) not in ("video", "image")]
        table = ours.rows(e, [*columns, "timestamp"])
        for column in columns:
            got = np.array([np.ravel(v) for v in theirs.hf_dataset.with_format(None)[first : first + n][column]])
            np.testing.assert_array_equal(got.astype(float), numbers(table, column, ""), err_msg=column)
        for i in range(0, n, max(1, n // 8)):
            item = theirs[first + i]
            assert item["task"] == ours.tasks[int(numbers(table, "task_index", "")[i, 0])]
            for view in ours.views:
                seen = episode_frames(ours, view, e, ours.times(table), range(n)).read([i])[0]
                got = (item[view].permute(1, 2, 0) * 255).round().numpy()
                assert np.abs(got - seen).max() <= 1
        first += n
    assert first == len(theirs)
    shutil.rmtree(tmp_path / "v3", ignore_errors=True)


@pytest.mark.skipif(importlib.util.find_spec("lerobot") is None, reason="the lerobot package is not here")
@pytest.mark.parametrize("videos", [True, False])
def test_a_set_that_the_lerobot_package_wrote_is_read_and_written_again(videos, tmp_path):
    """Two cameras, two tasks, several episodes a file, AV1 where they are videos."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    kept_as = "video" if videos else "image"
    numbers_of = {"dtype": "float32", "shape": (2,), "names": ["a", "b"]}
    camera = {"dtype": kept_as, "shape": (64, 64, 3), "names": ["height", "width", "channels"]}
    features = {"observation.state": numbers_of, "action": numbers_of, FRONT: camera, WRIST: camera}
    theirs = LeRobotDataset.create("made/there", fps=FPS, root=tmp_path / "theirs", features=features, robot_type="toy",
                                   use_videos=videos)  # fmt: skip
    said = []
    for e in range(3):
        rng = np.random.default_rng(e)
        state, action = rng.normal(size=(2, ROWS, 2)).astype(np.float32)
        for i in range(ROWS):
            frame = {"observation.state": state[i], "action": action[i], "task": f"task {e % 2}"}
            theirs.add_frame(frame | {FRONT: grey(ROWS)[i], WRIST: grey(ROWS)[::-1][i]})
        theirs.save_episode()
        said.append((state, action, f"task {e % 2}"))
    theirs.finalize()
    dimensions = tuple(Dimension(name, "radian", "absolute") for name in "ab")
    made = ActionContract(
        "toy", dimensions, dimensions, "joints", "none", "none", float(FPS), 4, ("front", "wrist")
    )
    made.save(tmp_path / "theirs" / "contract.json")
    export_episodes(tmp_path / "theirs", tmp_path / "ours")
    for root in (tmp_path / "theirs", tmp_path / "ours"):
        opened = open_robot_data(root)
        assert len(opened) == 3
        for episode, (state, action, text) in zip(opened, said, strict=True):
            np.testing.assert_array_equal(episode.state, state)
            np.testing.assert_array_equal(episode.action, action)
            assert episode.text == text
            assert levels(episode.views["front"]) == list(range(ROWS))
            assert levels(episode.views["wrist"]) == list(range(ROWS))[::-1]
    again = LeRobotDataset("made/here", root=tmp_path / "ours", video_backend="pyav")
    assert len(again) == 3 * ROWS
    assert again[ROWS + 3]["task"] == "task 1"
