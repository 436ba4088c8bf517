"""What is easily read wrongly in each data set; the numbers here are the formats' own, not the readers'."""

import json
import shutil
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import h5py
import numpy as np
import openpyxl
import pytest
from scipy.spatial.transform import Rotation

from vipa.clips import Clip, ClipError
from vipa.clips.depth import ArrayDepth, RegisteredDepth
from vipa.clips.sources import SourceOptions, load_source
from vipa.clips.sources.dexycb import YCB, object_name
from vipa.clips.sources.egodex import clean
from vipa.clips.sources.fpha import read_object_poses, sentence
from vipa.clips.sources.hoi4d import read_log
from vipa.clips.sources.oakink2 import _segments
from vipa.clips.sources.tasterob import read_captions
from vipa.geometry import Intrinsics, transform
from vipa.io.safe_pickle import load_npy, load_pickle


def first(name: str, fixture, root: Path | None = None) -> Clip:
    clip = next(iter(load_source(name).read_clips(root or fixture.root, fixture.options)))
    assert isinstance(clip, Clip), clip
    return clip


def test_h2o_gives_62_mano_numbers_a_hand_and_files_of_59_are_refused(fixture_of, tmp_path):
    fixture = fixture_of("h2o")
    shutil.copytree(fixture.root, tmp_path / "h2o")
    path = next((tmp_path / "h2o").rglob("hand_pose_mano/000000.txt"))
    values = np.array(path.read_text().split(), dtype=float)
    assert len(values) == 124
    right = first("h2o", fixture).hand("right").mano
    assert np.allclose(right.betas, values[62 + 52 :])
    assert np.allclose(right.pose[0], Rotation.from_rotvec(values[62 + 7 : 62 + 52].reshape(15, 3)).as_matrix())
    for path in (tmp_path / "h2o").rglob("hand_pose_mano/*.txt"):
        path.write_text(" ".join(map(str, values[:118])))
    out = next(iter(load_source("h2o").read_clips(tmp_path / "h2o", fixture.options)))
    assert isinstance(out, ClipError)
    assert "124 numbers expected, it has 118" in out.reason


def test_h2o_flag_zero_is_an_unknown_hand_not_a_hand_at_the_camera(fixture_of):
    hand = first("h2o", fixture_of("h2o")).hand("right")
    assert np.isnan(hand.joints_camera[2]).all()
    assert (hand.confidence[2] == 0).all()


def test_arctic_images_are_offset_from_the_annotation(fixture_of):
    clip = first("arctic", fixture_of("arctic"))
    assert len(clip) == 6  # though there are ten images
    assert [p.name for p in clip.frames.frames.paths][:2] == ["00003.jpg", "00004.jpg"]


def test_arctic_objects_are_in_millimetres_and_hands_in_metres(fixture_of):
    fixture = fixture_of("arctic")
    clip = first("arctic", fixture)
    raw = np.load(fixture.root / "raw_seqs" / "s01" / "box_use_01.object.npy")
    assert np.allclose(clip.objects[0].T_world_object[:, :3, 3], raw[:, 4:] / 1000)
    mano = load_npy(fixture.root / "raw_seqs" / "s01" / "box_use_01.mano.npy")
    wrist = transform(clip.T_world_camera, clip.hand("right").joints_camera)[:, 0]
    assert np.linalg.norm(wrist - mano["right"]["trans"], axis=-1).max() < 0.15  # metres, and not the wrist itself
    assert np.linalg.norm(wrist - mano["right"]["trans"], axis=-1).min() > 0.03


def test_arctic_frames_are_undistorted_so_that_a_distorted_pixel_moves(fixture_of):
    clip = first("arctic", fixture_of("arctic"))
    raw, flat = clip.frames.frames.read([0])[0].astype(int), clip.frames.read([0])[0].astype(int)
    truth = fixture_of("arctic").truth[clip.id].frames.read([0])[0].astype(int)
    seen = flat.sum(-1) > 0
    assert np.abs(flat - truth)[seen].mean() < 0.5 * np.abs(raw - truth)[seen].mean()


def test_dexycb_poses_are_45_pca_coefficients_and_not_angles(fixture_of):
    fixture = fixture_of("dexycb")
    clip = first("dexycb", fixture)
    with np.load(next(fixture.root.rglob("labels_000003.npz"))) as data:
        coefficients = data["pose_m"][0, 3:48]
    as_angles = Rotation.from_rotvec(coefficients.reshape(15, 3)).as_matrix()
    pose, truth = clip.hands[0].mano.pose[3], fixture.truth[clip.id].hands[0].mano.pose[3]
    assert np.abs(pose - truth).max() < 1e-6
    assert np.abs(as_angles - truth).max() > 0.05


def test_dexycb_missing_hands_are_minus_one_and_unknown(fixture_of):
    hand = first("dexycb", fixture_of("dexycb")).hands[0]
    assert np.isnan(hand.joints_camera[0]).all()
    assert np.isfinite(hand.joints_camera[1]).all()


def test_dexycb_class_ids_skip_nineteen():
    assert 19 not in YCB
    assert object_name(20) == "extra large clamp"
    assert object_name(5) == "mustard bottle"
    assert object_name(19) == "object 19"


def test_taco_hand_trans_is_the_wrist_in_the_world(fixture_of):
    fixture = fixture_of("taco")
    clip = first("taco", fixture)
    data = load_pickle(next(fixture.root.rglob("20230927_030/right_hand.pkl")))
    wrist = transform(clip.T_world_camera, clip.hand("right").joints_camera)[:, 0]
    assert np.allclose(wrist, [data[k]["hand_trans"] for k in sorted(data)])


def test_taco_depth_is_a_quarter_of_a_millimetre_and_models_are_centimetres(fixture_of):
    fixture = fixture_of("taco")
    clip, truth = first("taco", fixture), next(iter(fixture.truth.values()))
    assert np.nanmedian(clip.depth.read([0])) == pytest.approx(np.nanmedian(truth.depth.read([0])), abs=1e-4)
    assert 0.01 < clip.objects[0].extent.max() < 0.5


def test_oakink2_tsl_is_the_wrist_and_quaternions_begin_with_w(fixture_of):
    fixture = fixture_of("oakink2")
    clip = first("oakink2", fixture)
    data = load_pickle(next(p for p in fixture.root.rglob("*.pkl") if "A001" in p.name))
    i = data["frame_id_list"][0]
    wrist = transform(clip.T_world_camera, clip.hand("right").joints_camera)[0, 0]
    assert np.allclose(wrist, data["raw_mano"][i]["rh__tsl"][0])
    w, x, y, z = np.asarray(data["raw_mano"][i]["rh__pose_coeffs"])[0, 1]
    assert np.allclose(clip.hand("right").mano.pose[0, 0], Rotation.from_quat([x, y, z, w]).as_matrix())


def test_oakink2_step_keys_are_read_whatever_their_spacing(tmp_path):
    for kind, key in (("program_info", "((120, 480), None)"), ("desc_info", "((120,480),None)")):
        folder = tmp_path / "program" / kind
        folder.mkdir(parents=True)
        (folder / "s.json").write_text(json.dumps({key: {"seg_desc": "pour"}}))
    assert _segments(tmp_path, "s") == [((120, 480), None, "pour")]


def test_oakink2_only_the_hand_that_acts_is_in_a_step(fixture_of):
    fixture = fixture_of("oakink2")
    clips = [c for c in load_source("oakink2").read_clips(fixture.root, fixture.options) if isinstance(c, Clip)]
    assert [{h.side for h in c.hands} for c in clips] == [{"left", "right"}, {"left"}]


def test_egodex_camera_is_camera_to_world_and_the_choice_of_description_is_a_string(fixture_of, tmp_path):
    fixture = fixture_of("egodex")
    clip = first("egodex", fixture)
    path = fixture.root / "part1" / "put_away" / "0.hdf5"
    with h5py.File(path) as file:
        assert np.allclose(clip.T_world_camera, file["transforms/camera"][()], atol=1e-6)
        wrist = np.linalg.inv(file["transforms/camera"][()]) @ file["transforms/rightHand"][()]
        middle = np.linalg.inv(file["transforms/camera"][()]) @ file["transforms/rightMiddleFingerKnuckle"][()]
    assert np.abs(clip.hand("right").joints_camera[:, 0] - wrist[:, :3, 3]).max() < 1e-6
    assert np.abs(clip.hand("right").joints_camera[:, 9] - middle[:, :3, 3]).max() < 1e-6
    assert clip.texts[0].text == "Take the cup off the plate."
    shutil.copytree(fixture.root, tmp_path / "e")
    for changes, expected in (
        ({"which_llm_description": "1"}, "Put the cup on the plate."),
        ({"which_llm_description": "2", "llm_type": "other"}, "Put the cup on the plate."),
    ):
        with h5py.File(tmp_path / "e" / "part1" / "put_away" / "0.hdf5", "a") as file:
            file.attrs.update(changes)
        assert first("egodex", fixture, tmp_path / "e").texts[0].text == expected


def test_egodex_attributes_lose_their_nul_characters():
    assert clean(b"cup\0\0") == "cup"
    assert clean(np.array([b"a\0", b"b"])) == ["a", "b"]


def test_hoi4d_log_is_camera_to_world_as_it_stands(fixture_of, tmp_path):
    path = tmp_path / "output.log"
    path.write_text("0 0 1\n1 0 0 0.5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    assert np.allclose(read_log(path)[0, :3, 3], [0.5, 0, 0])
    path.write_text("0 0 1\n1 0 0 0.5\n0 1 0 0\n")
    with pytest.raises(ValueError, match=r"output\.log"):
        read_log(path)
    fixture = fixture_of("hoi4d")
    clip = first("hoi4d", fixture)
    log = next(fixture.root.rglob("output.log")).read_text().splitlines()
    assert np.allclose(clip.T_world_camera[0], [[float(x) for x in row.split()] for row in log[1:5]])


def test_hoi4d_translation_is_not_the_wrist_and_a_missing_pickle_is_an_unknown_frame(fixture_of):
    fixture = fixture_of("hoi4d")
    hand = first("hoi4d", fixture).hand("right")
    data = load_pickle(next(p for p in sorted(fixture.root.rglob("N0/*/*/*/0.pickle"))))
    assert 0.03 < np.linalg.norm(hand.joints_camera[0, 0] - data["trans"]) < 0.2
    assert np.isnan(hand.joints_camera[3]).all()


def test_hoi4d_tasks_are_the_official_ones(fixture_of):
    assert first("hoi4d", fixture_of("hoi4d")).texts[0].text == "fill the mug with water from a kettle"


FPHA_FILE = ["W", *(f"{f}MCP" for f in "TIMRP"), *(f"{f}{j}" for f in "TIMRP" for j in ("PIP", "DIP", "TIP"))]


def test_fpha_joints_are_reordered_and_seen_from_the_second_camera(tmp_path, fixture_of):
    fixture = fixture_of("fpha")
    shutil.copytree(fixture.root, tmp_path / "f")
    path = tmp_path / "f" / "Hand_pose_annotation_v1" / "Subject_1" / "pour_milk" / "1" / "skeleton.txt"
    file = np.stack([np.arange(21.0), np.zeros(21), np.full(21, 400.0)], 1)  # x tells the place in the file, mm
    path.write_text("".join(f"{t} " + " ".join(map(str, file.ravel())) + "\n" for t in range(3)))
    joints = first("fpha", fixture, tmp_path / "f").hand("right").joints_camera[0]
    place = np.rint(joints[:, 0] * 1000 - 25.7 - 0.39).astype(int)
    ours = ["W", *(f"{f}{j}" for f in "TIMRP" for j in ("MCP", "PIP", "DIP", "TIP"))]
    assert [FPHA_FILE[k] for k in place] == ours
    assert joints[0] == pytest.approx([0.0257 + 0.00039, 0.00122 - 0.0011, 0.403902], abs=2e-4)


def test_fpha_object_poses_are_column_by_column(tmp_path):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()
    T[:3, 3] = [10.0, 20.0, 400.0]
    (tmp_path / "object_pose.txt").write_text("0 " + " ".join(str(x) for x in T.T.ravel()) + "\n")
    got = read_object_poses(tmp_path / "object_pose.txt", [0, 1])
    assert got[0, :3, 3] == pytest.approx([0.0357, 0.0212, 0.4039], abs=2e-3)
    assert np.abs(got[0, :3, :3] - T[:3, :3]).max() < 0.01
    assert np.isnan(got[1]).all()


def test_fpha_sentences_use_the_renamings():
    assert [sentence(a) for a in ("put_salt", "open_dish_soap", "read_paper")] == [
        "put salt in",
        "open the liquid soap",
        "read the letter",
    ]


def test_depth_of_a_slanted_plane_is_right_from_the_other_camera():
    sensor = Intrinsics(120.0, 120.0, 79.5, 59.5, 160, 120, "calibrated")
    camera = Intrinsics(350.0, 350.0, 239.5, 134.5, 480, 270, "calibrated")
    T = np.eye(4)
    T[0, 3] = 0.0257
    u = np.arange(160)
    z = 1 / (1 - 0.3 * (u - sensor.cx) / sensor.fx)  # z = 1 + 0.3 x in the sensor's frame
    depth = RegisteredDepth(ArrayDepth(np.tile(z, (1, 120, 1)).astype(np.float32)), sensor, T, camera).read([0])[0]
    v = np.arange(480)
    exact = (1 - 0.3 * 0.0257) / (1 - 0.3 * (v - camera.cx) / camera.fx)
    error = np.abs(depth - exact)
    assert np.isfinite(depth[20:-20, 20:-20]).mean() > 0.99
    assert np.nanmax(error[20:-20, 20:-20]) < 1e-4
    assert np.nanmax(error) < 0.01  # the rim is outside the sensor's outermost pixels


def test_tasterob_ids_repeat_and_only_sheet_scene_and_id_name_a_clip(fixture_of, tmp_path):
    fixture = fixture_of("tasterob")
    texts = {c.id: c.texts[0].text for c in _clips("tasterob", fixture)}
    assert texts["SingleHand_Kitchen_7"] == "A hand picks up the cup."
    assert texts["SingleHand_Bedroom_7"] == "A hand folds the towel."
    assert texts["DoubleHand_Kitchen_7"] == "Two hands open the jar."
    book = openpyxl.Workbook()
    book.active.title = "Single-Hand"
    book.active.append(["caption", "ID", "Scene"])
    book.active.append(["wave", 12.0, "Dinning"])
    book.save(tmp_path / "captions.xlsx")
    assert read_captions(tmp_path / "captions.xlsx") == {("Single-Hand", "dinning", "12"): "wave"}


def test_tasterob_without_intrinsics_is_refused_and_never_guessed(fixture_of):
    fixture = fixture_of("tasterob")
    reasons = [c.reason for c in load_source("tasterob").read_clips(fixture.root) if isinstance(c, ClipError)]
    assert sum("--fov" in reason for reason in reasons) == 3


def _clips(name: str, fixture) -> list[Clip]:
    return [c for c in load_source(name).read_clips(fixture.root, fixture.options) if isinstance(c, Clip)]


def test_unknown_labels_are_left_out_and_the_clip_stays(fixture_of, tmp_path):
    fixture = fixture_of("h2o")
    shutil.copytree(fixture.root, tmp_path / "h2o")
    for path in (tmp_path / "h2o").rglob("action_label/*.txt"):
        path.write_text("99")
    for path in (tmp_path / "h2o").rglob("obj_pose_RT/*.txt"):
        path.write_text("99 " + " ".join(path.read_text().split()[1:]))
    clip = first("h2o", fixture, tmp_path / "h2o")
    assert clip.texts == ()
    assert clip.objects == ()


def test_recordings_are_cut_into_chunks_that_share_their_source_video(fixture_of):
    fixture = fixture_of("egodex")
    options = replace(fixture.options, seconds=0.1)
    clips = [c for c in load_source("egodex").read_clips(fixture.root, options) if isinstance(c, Clip)]
    assert [c.id for c in clips] == ["part1_put_away_0_000", "part1_put_away_0_001"]
    assert {c.source_video for c in clips} == {"part1/put_away/0"}
    whole = first("egodex", fixture)
    assert np.array_equal(clips[1].frames.read([0]), whole.frames.read([3]))
    assert np.array_equal(clips[1].T_world_camera, whole.T_world_camera[3:])
    assert clips[1].timestamps[0] == 0


def test_a_third_party_source_is_one_module(tmp_path, monkeypatch):
    (tmp_path / "their_source.py").write_text(
        "LICENCE = DOWNLOAD = LAYOUT = 'theirs'\ndef read_clips(root, options=None):\n    return iter(())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import vipa.clips.sources as sources

    point = EntryPoint("theirs", "their_source", "vipa.sources")
    monkeypatch.setattr("vipa.io.plugins.entry_points", lambda group: [point])
    assert "theirs" in sources.source_names()
    assert list(sources.load_source("theirs").read_clips(tmp_path, SourceOptions())) == []
