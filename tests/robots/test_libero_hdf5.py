"""LIBERO's public HDF5 files become LeRobot v3: upright pictures, observations with the action that follows them, no
rows without movement."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from vipa.cli import main
from vipa.robots.known import find
from vipa.robots.lerobot_data import open_robot_data
from vipa.robots.libero_hdf5 import moving

STILL = (3, 4, 9)  # actions without movement; the gripper closes at 8 and moves the fingers alone at 12


def write_libero(path: Path, demos: int = 2, rows: int = 16, late: bool = True) -> dict[str, np.ndarray]:
    """A file of the public layout, and what it is of: `state` (demos, rows + 1, 8) at each time and `action`.

    late: observations are those after their action, as the authors' script keeps them; `states` are those before.
    """
    rng = np.random.default_rng(0)
    state = rng.normal(size=(demos, rows + 1, 8))
    joints = rng.normal(size=(demos, rows + 1, 9))
    action = rng.uniform(-0.5, 0.5, (demos, rows, 7))
    action[:, :, 6] = np.where(np.arange(rows) < 8, -1, 1)
    action[:, STILL, :6] = 0
    action[:, 12, :6], action[:, 12, 6] = 0, -1
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": ["put the bowl on the plate"]})
        data.attrs["macros_image_convention"] = "opengl"
        for d in reversed(range(demos)):
            group = data.create_group(f"demo_{d}")
            seen = slice(1, None) if late else slice(0, -1)
            for name, value in {
                "ee_states": state[d, seen, :6], "ee_pos": state[d, seen, :3], "ee_ori": state[d, seen, 3:6],
                "gripper_states": state[d, seen, 6:], "joint_states": joints[d, seen, :7],
                "agentview_rgb": pictures(rows + 1, 40)[seen][:, ::-1, ::-1],
                "eye_in_hand_rgb": pictures(rows + 1, 90)[seen][:, ::-1, ::-1],
            }.items():  # fmt: skip
                group.create_dataset(f"obs/{name}", data=value)
            group.create_dataset("actions", data=action[d])
            clock = np.arange(rows)[:, None] / 20
            group.create_dataset("states", data=np.hstack([clock, joints[d, :-1], rng.normal(size=(rows, 9))]))
            group.create_dataset("dones", data=(np.arange(rows) == rows - 1).astype(np.uint8))
    return {"state": state, "action": action}


def pictures(count: int, colour: int) -> np.ndarray:
    """Of the time: a bright top left corner, and a level that says which one it is."""
    out = np.full((count, 16, 16, 3), colour, np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    out[:, :8, :8] += 100
    return out


@pytest.mark.parametrize("late", [True, False])
def test_observations_meet_the_action_that_follows_them(tmp_path, late, capsys):
    truth = write_libero(tmp_path / "raw" / "put_the_bowl_on_the_plate_demo.hdf5", late=late)
    out = tmp_path / "v3"
    main(["robots", "convert", "libero", str(tmp_path / "raw"), "--out", str(out), "--pictures", "image"])
    assert "2 episodes" in capsys.readouterr().out
    opened = open_robot_data(out)
    assert opened.contract == find("libero").contract()
    times = [t for t in range(1 if late else 0, 16) if t not in STILL]
    for d, episode in enumerate(opened):
        assert episode.id == f"put_the_bowl_on_the_plate_{d}"
        assert (episode.text, episode.success, episode.rate) == ("put the bowl on the plate", True, 20.0)
        np.testing.assert_allclose(episode.state, truth["state"][d, times], atol=1e-6)
        np.testing.assert_allclose(episode.action, truth["action"][d, times], atol=1e-6)
        for view, colour in (("agentview", 40), ("wrist", 90)):
            seen = episode.views[view].read(range(len(episode)))
            np.testing.assert_array_equal(seen, pictures(17, colour)[times])


def test_a_row_is_left_out_where_neither_arm_nor_gripper_moves():
    action = np.zeros((6, 7))
    action[:, 6] = [-1, -1, 1, 1, 1, -1]
    action[3, 0] = 0.5
    assert moving(action).tolist() == [False, False, False, True, False, True]
    action[0, 1] = 0.5
    assert moving(action).tolist() == [True, False, True, True, False, True]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def without(name: str):
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file[name]

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut, "cannot be read as HDF5"),
        (without("data/demo_1/obs/ee_states"), "data/demo_1/obs/ee_states is missing"),
        (without("data"), "no data/demo_0"),
    ],
)
def test_a_file_of_another_form_is_one_line_that_names_it(tmp_path, capsys, spoil, words):
    path = tmp_path / "a_demo.hdf5"
    write_libero(path)
    spoil(path)
    with pytest.raises(SystemExit) as stopped:
        main(["robots", "convert", "libero", str(path), "--out", str(tmp_path / "v3")])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.count("\n") == 1 and str(path) in error and words in error
