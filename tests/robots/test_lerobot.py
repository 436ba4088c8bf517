"""LeRobot 2.x on a real GR00T demonstration set (five episodes), where it is present."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from vipa.robots.contract import ActionContract, Dimension, Statistics
from vipa.robots.lerobot_data import ACTION, STATE, read_info, read_lerobot

ROOT = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "gr00t_robot_sim_PickNPlace"
TEXT = "annotation.human.action.task_description"
VIEW = "observation.images.ego_view"
pytestmark = pytest.mark.skipif(not ROOT.exists(), reason="the real data set is not here")


@pytest.fixture(scope="module")
def contract() -> ActionContract:
    info = read_info(ROOT)

    def joints(column: str) -> tuple[Dimension, ...]:
        return tuple(Dimension(name, "radian", "absolute") for name in info.dimension_names(column))

    return ActionContract(
        robot="gr1",
        action=joints(ACTION),
        state=joints(STATE),
        frame="joints",
        rotation="none",
        gripper="none",
        rate=20.0,
        horizon=16,
        views=info.views,
    )


@pytest.fixture(scope="module")
def episodes(contract):
    return read_lerobot(ROOT, contract, TEXT)


def test_lengths_and_instructions_are_the_file_s(episodes):
    assert [len(e) for e in episodes] == [416, 470, 470, 412, 328]
    assert episodes[1].text == "pick the sweet potato from the counter and place it in the plate"


def test_recomputed_statistics_are_those_that_the_data_set_ships(episodes):
    shipped = json.loads((ROOT / "meta" / "stats.json").read_text())
    rows = {ACTION: [e.action for e in episodes], STATE: [e.state for e in episodes]}
    names = {"mean": "mean", "std": "std", "min": "minimum", "max": "maximum"}
    names |= {"q01": "quantile_01", "q99": "quantile_99"}
    for column, parts in rows.items():
        ours = Statistics.of(np.concatenate(parts), "x")
        for theirs, name in names.items():
            np.testing.assert_allclose(getattr(ours, name), shipped[column][theirs], atol=2e-5)


def test_frames_read_by_index_are_those_of_a_decode_from_the_start(episodes):
    with av.open(str(read_info(ROOT).video(VIEW, 0).path)) as container:
        decoded = [f.to_ndarray(format="rgb24") for _, f in zip(range(31), container.decode(video=0))]
    images = episodes[0].views[VIEW].read([30, 0, 17])
    np.testing.assert_array_equal(images, np.stack([decoded[30], decoded[0], decoded[17]]))


def test_a_contract_that_does_not_fit_is_refused_with_what_differs(contract):
    with pytest.raises(ValueError, match=r"rate: 30.0 in the contract, 20.0 in the data"):
        read_lerobot(ROOT, replace(contract, rate=30.0), TEXT)
    with pytest.raises(ValueError, match="view 'front' is not among"):
        read_lerobot(ROOT, replace(contract, views=("front",)), TEXT)


def test_another_version_is_refused(tmp_path):
    shutil.copytree(ROOT / "meta", tmp_path / "meta", copy_function=shutil.copyfile)
    (tmp_path / "meta").chmod(0o755)
    info = json.loads((tmp_path / "meta" / "info.json").read_text())
    (tmp_path / "meta" / "info.json").write_text(json.dumps(info | {"codebase_version": "v1.6"}))
    with pytest.raises(ValueError, match=r"LeRobot v1\.6 is not read here"):
        read_info(tmp_path)


def test_a_missing_episode_file_is_named(tmp_path, contract):
    shutil.copytree(ROOT / "meta", tmp_path / "meta", copy_function=shutil.copyfile)
    with pytest.raises(FileNotFoundError, match="episode_000000") as error:
        read_lerobot(tmp_path, replace(contract, views=()), TEXT)
    assert "not there" in str(error.value)
