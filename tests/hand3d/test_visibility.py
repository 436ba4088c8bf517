"""No question about what is not in its picture: made clips, the tabletop's films, and the fakes of the data sets."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from vipa.clips.clip import Clip, Hand, ObjectTrack
from vipa.clips.depth import ArrayDepth
from vipa.clips.meshes import Mesh, sample_surface
from vipa.clips.sources import load_source
from vipa.clips.video import ArrayFrames, UndistortedFrames
from vipa.geometry import Intrinsics, invert, project, rigid, transform
from vipa.geometry.distortion import RationalLens
from vipa.hand3d.config import AnnotateConfig, FramesConfig, HandsConfig, RelationsConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.stats import stats_text
from vipa.hand3d.measure.positions import from_poses
from vipa.hand3d.measure.relating import ClipGeometry, find_relations, spatial_relations
from vipa.hand3d.measure.visibility import Sight
from vipa.hand3d.measure.wrists import locate_hands
from vipa.hand3d.pipeline.annotate import annotate, annotate_source
from vipa.worlds.fixtures import write_fixture

CAMERA = Intrinsics(200.0, 200.0, 159.5, 119.5, 320, 240, "calibrated")
SIZE = np.array([0.1, 0.1, 0.1])
HERE = (0.05, 0.0, 0.6)
"""Where the camera sees a thing well, metres, its frame."""


def flat_hand(at, side="right", spread: float = 1.0) -> np.ndarray:
    """(21, 3) joints of an open hand across the view, fingers up, its middle at a point of the camera's frame."""
    joints = np.zeros((21, 3))
    for f in range(5):
        for k in range(4):
            joints[1 + 4 * f + k] = [(f - 2) * 0.02 * spread, -0.03 - 0.025 * k, 0]
    return joints - joints.mean(0) + at


def surface_of(size) -> np.ndarray:
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
    return sample_surface(Mesh(corners * size, ConvexHull(corners).simplices))[0]


def made(things, hands=None, depth=None, frames: int = 2, **fields) -> Clip:
    """A still camera; things: name -> place or (place, fields of the track). hands: side -> place or joints."""
    hands = {"right": (-0.1, 0.05, 0.5)} if hands is None else hands
    tracks = []
    for name, what in things.items():
        place, given = what if isinstance(what, tuple) and isinstance(what[-1], dict) else (what, {"extent": SIZE})
        T = np.tile(rigid(np.eye(3), np.array(place, dtype=float)), (frames, 1, 1))
        tracks.append(ObjectTrack(name, T, **given))
    found = []
    for side, at in hands.items():
        joints = flat_hand(at) if np.ndim(at) == 1 else at
        found.append(Hand(side, np.tile(joints, (frames, 1, 1)), np.ones((frames, 21))))
    images = None if depth is None else ArrayDepth(np.tile(np.asarray(depth, np.float32), (frames, 1, 1)))
    return Clip(
        id="made",
        source="made",
        source_video="made",
        frames=ArrayFrames(np.zeros((frames, 240, 320, 3), np.uint8)),
        timestamps=np.arange(frames) * 1.0,
        intrinsics=CAMERA,
        T_world_camera=np.tile(np.eye(4), (frames, 1, 1)),
        hands=tuple(found),
        depth=images,
        objects=tuple(tracks),
        **fields,
    )


def asked(clip: Clip) -> set[tuple[str, str]]:
    frames = np.arange(len(clip))
    sight = Sight(clip, frames.tolist())
    geometry = ClipGeometry(
        frames, clip.T_world_camera, tuple(from_poses(clip, sight, 0.3)), locate_hands(clip, sight, HandsConfig())
    )
    found = spatial_relations(clip, geometry, RelationsConfig())
    return {(f.relation.hand, f.relation.object) for f in found}


def shares(clip: Clip) -> dict[str, float]:
    sight = Sight(clip, [0])
    return {o.name: float(o.confidence[0]) for o in from_poses(clip, sight, 0.3)}


KNOWN = ({"extent": SIZE}, {"extent": SIZE, "surface": surface_of(SIZE)}, {})
"""A box, a mesh, nothing but the pose."""


@pytest.mark.parametrize("given", KNOWN, ids=("extent", "surface", "pose"))
def test_a_thing_behind_the_camera_or_beside_the_picture_is_not_asked_about(given):
    clip = made(
        {
            "cup": (HERE, given),
            "behind": ((0.0, 0.0, -2.0), given),
            "left": ((-0.6, 0.0, 0.6), given),
            "below": ((0.0, 0.5, 0.6), given),
            "centre just outside": ((0.49, 0.0, 0.6), given),
        }
    )
    assert asked(clip) == {("right", "cup")}
    assert shares(clip)["cup"] == 1.0
    assert max(share for name, share in shares(clip).items() if name != "cup") == 0.0
    assert asked(made({"at the eye": ((0.0, 0.0, 0.0), given)})) == set()
    unknown = replace(clip.objects[0], name="lost", T_world_object=np.full((2, 4, 4), np.nan))
    assert asked(replace(clip, objects=(*clip.objects, unknown))) == {("right", "cup")}


@pytest.mark.parametrize("given", KNOWN, ids=("extent", "surface", "pose"))
def test_a_thing_behind_another_surface_is_not_asked_about(given):
    u = np.arange(320) * np.ones((240, 1))
    for wall, least, most in ((0.3, 0.0, 0.0), (0.55, 0.75, 1.0), (0.9, 1.0, 1.0), (np.nan, 1.0, 1.0)):
        clip = made({"cup": (HERE, given)}, depth=np.full((240, 320), wall))
        assert least <= shares(clip)["cup"] <= most
        assert asked(replace(clip, depth=None)) == {("right", "cup")}
    centre = project(np.array([HERE]), CAMERA.matrix)[0, 0]
    half = made({"cup": (HERE, given)}, depth=np.where(u < centre, 0.3, 0.9))
    assert 0.3 < shares(half)["cup"] < 0.7
    small = made({"cup": (HERE, given)}, depth=np.full((120, 160), 0.3))  # depth of half the size
    assert shares(small)["cup"] == 0.0


def test_depth_in_another_unit_hides_nothing():
    clip = made({"cup": HERE}, depth=np.full((240, 320), 0.3), depth_is_metric=False)
    assert asked(clip) == {("right", "cup")}


@pytest.mark.parametrize("given", KNOWN, ids=("extent", "surface", "pose"))
def test_a_thing_behind_a_hand_is_not_asked_about(given):
    small = given | ({"extent": SIZE * 0.5} if "extent" in given else {})
    small |= {"surface": surface_of(SIZE * 0.5)} if "surface" in given else {}
    before = flat_hand((0.03, 0.0, 0.35))
    hidden = made({"cup": (HERE, small)}, {"left": before, "right": (-0.15, 0.05, 0.5)})
    assert shares(hidden)["cup"] < 0.3
    assert asked(hidden) == set()
    held = made({"cup": (HERE, small)}, {"left": flat_hand((0.05, 0.0, 0.7)), "right": (-0.15, 0.05, 0.5)})
    assert shares(held)["cup"] == 1.0  # the hand is on the far side
    lost = replace(hidden.hands[0], joints_camera=np.full((2, 21, 3), np.nan), confidence=np.zeros((2, 21)))
    assert shares(replace(hidden, hands=(lost, hidden.hands[1])))["cup"] == 1.0


def test_a_thing_behind_a_known_thing_is_not_asked_about():
    wall = {"extent": np.array([0.3, 0.3, 0.02]), "surface": surface_of([0.3, 0.3, 0.02])}
    clip = made({"cup": HERE, "board": ((0.05, 0.0, 0.4), wall)}, {"right": (-0.2, 0.05, 0.35)})
    assert asked(clip) == {("right", "board")}
    clip = made({"cup": HERE, "board": ((0.05, 0.0, 0.8), wall)}, {"right": (-0.2, 0.05, 0.35)})
    assert asked(clip) == {("right", "board"), ("right", "cup")}


@pytest.mark.parametrize(
    ("where", "reason"),
    [((0.0, 0.0, -0.5), 3), ((1.0, 0.0, 0.5), 3), ((0.0, 0.45, 0.5), 3), ((-0.1, 0.05, 0.5), 0)],
)
def test_a_hand_outside_the_picture_is_not_asked_about(where, reason):
    clip = made({"cup": HERE}, {"right": where})
    assert asked(clip) == ({("right", "cup")} if reason == 0 else set())
    (hand,) = locate_hands(clip, Sight(clip, [0, 1]), HandsConfig())
    assert hand.reasons.tolist() == [reason, reason]


def test_a_hidden_hand_is_not_asked_about():
    board = {"extent": np.array([0.3, 0.3, 0.02]), "surface": surface_of([0.3, 0.3, 0.02])}
    behind = made({"cup": HERE, "board": ((-0.1, 0.05, 0.3), board)})
    assert asked(behind) == set()
    assert asked(made({"cup": HERE}, depth=np.full((240, 320), 0.3))) == set()
    fist = flat_hand((-0.1, 0.05, 0.5))
    fist[[3, 4, 7, 8, 11, 12, 15, 16, 19, 20]] = fist[[1, 2, 5, 6, 9, 10, 13, 14, 17, 18]] + [0, 0, 0.05]
    depth = np.full((240, 320), 0.6)
    depth[100:160, 80:160] = 0.48  # the back of the hand, before its own finger tips
    assert asked(made({"cup": HERE}, {"right": fist}, depth=depth)) == {("right", "cup")}


def test_what_a_lens_taken_out_leaves_black_is_not_in_the_picture():
    lens = RationalLens(200.0, 200.0, 159.5, 119.5, (0.35, 0.0, 0.0, 0.0))  # the edges were outside its picture
    clip = made({"cup": HERE, "corner": (0.36, 0.26, 0.5)})
    black = replace(clip, frames=UndistortedFrames(clip.frames, lens, (320, 240), CAMERA))
    assert asked(clip) == {("right", "cup"), ("right", "corner")}
    assert asked(black) == {("right", "cup")}
    assert (black.frames.read([0]) == 0).all()


def test_a_box_that_the_data_set_leaves_out_is_not_seen():
    boxes = np.array([[100, 100, 150, 150], [np.nan] * 4])
    clip = made({"cup": (HERE, {"extent": SIZE, "boxes": boxes})})
    (cup,) = from_poses(clip, Sight(clip, [0, 1]), 0.3)
    assert cup.confidence.tolist() == [1.0, 0.0]
    np.testing.assert_array_equal(cup.boxes, boxes)


def test_boxes_around_the_outline_are_cut_at_the_border():
    clip = made({"cup": ((0.45, 0.0, 0.6), {"extent": SIZE, "surface": surface_of(SIZE)})})
    (cup,) = from_poses(clip, Sight(clip, [0]), 0.3)
    left, top, right, _ = cup.boxes[0]
    assert right == 319.5
    assert (left, top) == pytest.approx((159.5 + 200 * 0.4 / 0.65, 119.5 - 200 * 0.05 / 0.55), abs=1)
    assert 0.5 < cup.confidence[0] < 0.95


def test_the_report_counts_what_is_left_out(tmp_path):
    clip = made({"cup": HERE, "behind": (0.0, 0.0, -2.0)}, {"right": (-0.1, 0.05, 0.5), "left": (1.0, 0, 0.5)})
    report = annotate([clip], tmp_path)
    assert report.left_out["relations"] == {"hand outside the picture": 2, "object not seen": 2}
    assert "left out of relations: " in report.summary()
    assert "hand outside the picture 2" in report.summary()
    assert annotate([clip], tmp_path).left_out == report.left_out  # from the files
    assert "| relations | object not seen | 2 |" in stats_text(Hand3D(tmp_path))


SIX = ("arctic", "dexycb", "h2o", "hoi4d", "hot3d", "oakink2", "taco")


@pytest.mark.parametrize("name", SIX)
def test_every_question_of_a_data_set_is_about_what_its_picture_shows(name, tmp_path):
    fixture = write_fixture(name, tmp_path / "files")
    config = AnnotateConfig(frames=FramesConfig(rate=30.0))
    annotate_source(name, fixture.root, tmp_path / "out", config, options=fixture.options)
    questions = list(Hand3D(tmp_path / "out").visual())
    assert any(r.category == "spatial_relation" for r in questions)
    for r in questions:
        check_question(fixture.truth[r.clip_id.removeprefix(f"{name}/")], r)


def check_question(clip: Clip, r) -> None:
    indices = [int(f.rsplit("/", 1)[1]) for f in r.frame_ids]
    shown = [indices[0], indices[-1]] if r.category == "hand_movement" else indices[-1:]
    if r.hand is not None:
        for i in shown:
            joints = clip.hand(r.hand).joints_camera[i]
            ahead = joints[joints[:, 2] > 0.02]
            assert clip.intrinsics.contains(project(ahead, clip.intrinsics.matrix)).sum() >= 11
    if r.object is not None and (thing := next(t for t in clip.objects if t.name == r.object)).centre is not None:
        where = indices[-1:] if r.category == "spatial_relation" else indices
        places = transform(invert(clip.T_world_camera[where]), thing.centres_world[where, None])[:, 0]
        seen = (places[:, 2] > 0) & clip.intrinsics.contains(project(places, clip.intrinsics.matrix))
        assert seen.any()


@pytest.mark.parametrize("seed", [30_000_000, 30_000_003, 30_000_005, 30_000_007])
def test_every_question_of_a_film_is_about_what_can_be_seen_in_it(seed):
    """The film knows which pixels show which thing, hidden by whatever hides it."""
    from vipa.worlds.film import film_clip

    clip = film_clip(seed, rate=5.0, size=(160, 160))
    frames = np.arange(0, len(clip), 2)
    sight = Sight(clip, frames.tolist())
    objects, hands = tuple(from_poses(clip, sight, 0.3)), locate_hands(clip, sight, HandsConfig())
    geometry = ClipGeometry(frames, clip.T_world_camera[frames], objects, hands)
    pixels = dict(zip(frames.tolist(), clip.frames.segmentation(frames)))
    number = {t.name: i + 1 for i, t in enumerate(clip.objects)}
    mark = {"left": -1, "right": -2}
    asked = 0
    for found in find_relations(clip, geometry, RelationsConfig()):
        r = found.relation
        if r.category == "camera_movement":
            continue
        for i in (found.frames[0], found.frames[-1]) if r.category == "hand_movement" else found.frames[-1:]:
            assert (pixels[i] == mark[r.hand]).sum() >= 10
        if r.object is not None:
            where = found.frames[-1:] if r.category == "spatial_relation" else found.frames
            assert max((pixels[i] == number[r.object]).sum() for i in where) >= 4
            asked += 1
    assert asked
    without = replace(clip, depth=None)  # told by flesh and meshes alone
    truth = {o.name: o.confidence for o in objects}
    for thing in from_poses(without, Sight(without, frames.tolist()), 0.3):
        assert np.abs(thing.confidence - truth[thing.name]).mean() < 0.15


def test_a_made_thing_of_a_data_set_without_meshes_can_still_be_asked_about(tmp_path):
    fixture = write_fixture("taco", tmp_path / "files")
    for path in (fixture.root / "Object_Models").iterdir():
        path.unlink()
    clips = [c for c in load_source("taco").read_clips(fixture.root, fixture.options) if isinstance(c, Clip)]
    assert "is missing" in clips[0].notes["meshes"]
    assert asked(clips[0])


def test_every_frame_of_a_question_shows_what_it_asks_about():
    from dataclasses import replace

    from vipa.hand3d.config import HandsConfig, RelationsConfig
    from vipa.hand3d.measure.relating import ClipGeometry, spatial_relations, task_completions
    from vipa.hand3d.measure.wrists import locate_hands
    from vipa.worlds.film import film_clip
    from vipa.worlds.seeds import seeds_of

    asked = 0
    for seed in seeds_of("validation")[:3]:
        clip = film_clip(seed)
        frames = np.arange(0, len(clip), 5)
        sight = Sight(clip, frames.tolist())
        unseen = frames[2::3]  # the hands, in every third sample
        hands = tuple(
            replace(hand, wrists=np.where(np.isin(frames, unseen)[:, None], np.nan, hand.wrists))
            for hand in locate_hands(clip, sight, HandsConfig())
        )
        objects = tuple(from_poses(clip, sight, 0.3))
        geometry = ClipGeometry(frames, clip.T_world_camera[frames], objects, hands)
        for ask in (spatial_relations, task_completions):
            for found in ask(clip, geometry, RelationsConfig()):
                asked += len(found.frames) > 1
                assert not set(found.frames) & set(unseen.tolist())
    assert asked > 20
