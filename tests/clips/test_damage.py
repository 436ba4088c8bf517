"""What is damaged or short costs no more than itself: one file a frame, the depth, a camera pose."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vipa.clips import Clip, ClipError
from vipa.clips.depth import DepthImages, depth_images, depth_video
from vipa.clips.sources import load_source
from vipa.io.safe_pickle import load_npy
from vipa.worlds.fixtures.writing import write_depth_video, write_video

HANDS = {
    "hoi4d": "refinehandpose_right/**/N0/**/2.pickle",
    "h2o": "0/cam4/hand_pose/000004.txt",
    "dexycb": "20200709_141750/**/labels_000002.npz",
}
DEPTH = {
    "taco": "20230927_030/egocentric_depth.avi",
    "hoi4d": "N0/**/depth_video.avi",
    "h2o": "0/cam4/depth/*.png",
    "dexycb": "20200709_141750/**/aligned_depth_to_color_*.png",
    "fpha": "pour_milk/1/depth/*.png",
    "folder": "*.depth/*.png",
}


@pytest.fixture
def copied(fixture_of, tmp_path):
    def copy(name: str):
        fixture = fixture_of(name)
        root = Path(shutil.copytree(fixture.root, tmp_path / name))

        def first() -> Clip | ClipError:
            return next(iter(load_source(name).read_clips(root, fixture.options)))

        return root, first

    return copy


def one_number(path: Path) -> None:
    if path.suffix == ".pickle":
        path.write_bytes(
            pickle.dumps({**pickle.loads(path.read_bytes()), "poseCoeff": np.array([0.5], np.float32)})
        )
    elif path.suffix == ".npz":
        np.savez(path, **{**np.load(path), "joint_3d": np.zeros(1), "pose_m": np.zeros(1)})
    else:
        path.write_text("0.5")


@pytest.mark.parametrize("name", HANDS)
@pytest.mark.parametrize("harm", ["empty", "cut", "text", "one number"])
def test_one_bad_file_of_a_hand_is_an_unknown_frame_and_a_note_that_names_it(name, harm, copied):
    root, first = copied(name)
    before = first()
    (path,) = root.rglob(HANDS[name])
    whole = path.read_bytes()
    if harm == "one number":
        one_number(path)
    else:
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"<html>not found</html>"}[harm])
    clip = first()
    assert isinstance(clip, Clip), clip
    frame = int("".join(c for c in path.stem if c.isdigit()))
    assert any(path.name in note for note in clip.notes.values()), clip.notes
    known = np.isfinite(clip.hands[0].joints_camera).all((1, 2))
    expected = np.isfinite(before.hands[0].joints_camera).all((1, 2))
    expected[frame] = False
    assert known.tolist() == expected.tolist()


@pytest.mark.parametrize("name", HANDS)
def test_where_every_file_is_bad_the_reason_names_the_first(name, copied):
    root, first = copied(name)
    sample = next(root.rglob(HANDS[name]))
    paths = sorted(sample.parent.glob(f"*{sample.suffix}"))
    for path in paths:
        path.write_bytes(b"")
    error = first()
    assert isinstance(error, ClipError)
    assert paths[0].name in error.reason


def test_a_damaged_object_pose_is_an_unknown_frame(copied):
    root, first = copied("hoi4d")
    (path,) = root.rglob("N0/**/objpose/2.json")
    path.write_text('{"dataList": [{"center": 1}]}')
    clip = first()
    known = np.isfinite(clip.objects[0].T_world_object).all((1, 2))
    assert known.tolist() == [True, True, False, True, True, True]
    assert "2.json" in clip.notes["objpose"]


def test_a_damaged_entry_of_tacos_hand_is_an_unknown_frame(copied):
    root, first = copied("taco")
    (path,) = root.rglob("20230927_030/right_hand.pkl")
    data = pickle.loads(path.read_bytes())
    data["00003"] = {"hand_pose": data["00003"]["hand_pose"][:5], "hand_trans": data["00003"]["hand_trans"]}
    path.write_bytes(pickle.dumps(data))
    clip = first()
    assert np.isfinite(clip.hand("right").joints_camera).all((1, 2)).tolist() == [
        True,
        True,
        False,
        True,
        True,
        True,
    ]
    assert "00003" in clip.notes["right_hand.pkl"]


def test_a_cut_line_of_fphas_skeleton_is_a_frame_less(copied):
    root, first = copied("fpha")
    (path,) = root.rglob("pour_milk/1/skeleton.txt")
    path.write_text(path.read_text()[:-60])
    clip = first()
    assert len(clip) == 2
    assert "line 3: 64 numbers expected" in clip.notes["skeleton.txt"]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("h2o", "0/cam4/cam_pose/000003.txt"),
        ("h2o", "0/cam4/rgb/000003.png"),
        ("dexycb", "20200709_141750/**/color_000003.jpg"),
    ],
)
@pytest.mark.parametrize("harm", ["missing", "empty"])
def test_a_frame_without_picture_or_camera_pose_is_left_out(name, pattern, harm, copied):
    root, first = copied(name)
    before = first()
    (path,) = root.rglob(pattern)
    path.unlink() if harm == "missing" else path.write_bytes(b"")
    clip = first()
    rest = [0, 1, 2, 4, 5]
    assert clip.timestamps == pytest.approx(before.timestamps[rest])
    assert np.allclose(clip.hands[0].joints_camera, before.hands[0].joints_camera[rest], equal_nan=True)
    assert np.array_equal(clip.frames.read([3]), before.frames.read([4]))
    assert np.array_equal(clip.depth.read([3]), before.depth.read([4]), equal_nan=True)
    assert len(clip.notes) > len(before.notes) or harm == "missing"


def test_one_camera_pose_that_is_no_pose_costs_its_frame_and_most_cost_the_clip(copied):
    root, first = copied("taco")
    (path,) = root.rglob("20230927_030/egocentric_frame_extrinsic.npy")
    whole = load_npy(path)
    for bad in (np.full((4, 4), np.nan), np.zeros((4, 4)), 2 * np.eye(4)):
        poses = whole.copy()
        poses[2] = bad
        np.save(path, poses)
        clip = first()
        assert len(clip) == 5
        assert "frame 2 is not" in clip.notes["frames without pose"]
    np.save(path, np.where(np.arange(6)[:, None, None] < 4, np.nan, whole))
    assert "camera poses cannot be used" in str(first())


@pytest.mark.parametrize("name", DEPTH)
def test_depth_that_ends_early_is_unknown_beyond_its_end(name, copied):
    root, first = copied(name)
    before = first()
    paths = sorted(root.rglob(DEPTH[name]))
    if paths[0].suffix == ".png":
        paths[-1].unlink()
    else:
        write_depth_video(paths[0], rewound(before)[:-1], 30)
    clip = first()
    assert isinstance(clip, Clip), clip
    n = len(clip)
    assert np.isnan(clip.depth.read([n - 1])).all()
    assert np.array_equal(clip.depth.read(range(n - 1)), before.depth.read(range(n - 1)), equal_nan=True)


@pytest.mark.parametrize("name", DEPTH)
@pytest.mark.parametrize("harm", ["empty", "another size"])
def test_depth_that_cannot_be_used_costs_the_depth_and_not_the_clip(name, harm, copied):
    root, first = copied(name)
    paths = sorted(root.rglob(DEPTH[name]))
    for path in paths:
        if harm == "empty":
            path.write_bytes(b"")
        elif path.suffix == ".png":
            Image.fromarray(np.full((24, 32), 600, np.uint16)).save(path)
        else:
            write_depth_video(path, np.full((6, 24, 32), 600, np.uint16), 30)
    clip = first()
    assert isinstance(clip, Clip), clip
    assert clip.depth is None
    assert paths[0].name in clip.notes["depth"]


@pytest.mark.parametrize("name", DEPTH)
def test_depth_of_eight_bits_is_refused_by_every_reader(name, copied):
    root, first = copied(name)
    for path in sorted(root.rglob(DEPTH[name])):
        if path.suffix == ".png":
            with Image.open(path) as image:
                small = (np.asarray(image) // 16).astype(np.uint8)
            Image.fromarray(small).save(path)
        else:
            images = np.full((6, 64, 64, 3), 60, np.uint8)
            write_video(path.with_suffix(".mp4"), images, 30).rename(path)
    error = first()
    assert isinstance(error, ClipError), error
    assert "must be 16-bit grey" in error.reason


def rewound(clip: Clip) -> np.ndarray:
    """The depth video's own units (frames, height, width) again; HOI4D's has a frame more than its clip."""
    units = 4000 if clip.source == "taco" else 1000
    depth = np.rint(np.nan_to_num(clip.depth.read(range(len(clip)))) * units).astype(np.uint16)
    return depth


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "F", "1", "LA"])
def test_pictures_of_other_types_are_no_depth(mode, tmp_path):
    image = Image.fromarray(np.full((8, 8), 200, np.uint8)).convert(mode)
    path = tmp_path / ("a.tiff" if mode == "F" else "a.png")
    image.save(path)
    with pytest.raises(ValueError, match=f"16-bit grey, this picture's type is {mode}"):
        depth_images([path], 1e-3, (8, 8), {})
    with pytest.raises(ValueError, match="16-bit grey"):
        DepthImages((path,), 1e-3, (8, 8)).read([0])


def test_one_odd_picture_among_sound_ones_is_an_unknown_frame(tmp_path):
    for i in range(3):
        Image.fromarray(np.full((8, 8), 600, np.uint16)).save(tmp_path / f"{i}.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "1.png")  # an optimiser's, of a picture of zeros
    notes: dict[str, str] = {}
    depth = depth_images([tmp_path / f"{i}.png" for i in range(3)], 1e-3, (8, 8), notes)
    assert np.isnan(depth.read([1])).all()
    assert depth.read([0, 2]) == pytest.approx(0.6)
    assert "1.png" in notes["depth"]


def test_a_longer_depth_video_is_paired_from_the_first_frame_on(tmp_path):
    write_depth_video(
        tmp_path / "d.avi",
        (np.arange(5, dtype=np.uint16) * 100 + 100)[:, None, None].repeat(16, 1).repeat(16, 2),
        30,
    )
    notes: dict[str, str] = {}
    depth = depth_video(tmp_path / "d.avi", 1e-3, (16, 16), 3, notes)
    assert depth.read([2, 0])[:, 0, 0] == pytest.approx([0.3, 0.1])
    assert "5 frames, the video 3" in notes["depth"]


def test_damaged_arrays_of_a_folders_video_name_the_file(copied):
    root, _ = copied("folder")
    path = next(root.rglob("*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    results = list(load_source("folder").read_clips(root))
    assert any(isinstance(r, ClipError) and path.name in r.reason for r in results)
    assert json.loads(next(root.rglob("*.json")).read_text())
