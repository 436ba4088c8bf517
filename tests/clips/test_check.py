from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vipa.clips.check import check_clip, check_source, shapes
from vipa.clips.clip import Clip, Hand
from vipa.clips.depth import ArrayDepth
from vipa.clips.sources import SourceOptions, load_source
from vipa.clips.video import AbsentFrames
from vipa.geometry import invert
from vipa.worlds.fixtures import fixture_names


@pytest.fixture(scope="module")
def clip(fixture_of, read):
    fixture = fixture_of("h2o")
    return read("h2o", fixture)[next(iter(fixture.truth))]


def problems(clip) -> str:
    return " | ".join(check_clip(clip)[0].problems)


def test_a_good_clip_has_no_problems_and_plausible_figures(clip):
    check, _ = check_clip(clip)
    assert check.problems == ()
    assert 0.06 < check.palm < 0.12
    assert 0.9 < check.depth_ratio < 1.2
    assert check.in_view == pytest.approx(5 / 6)


def test_a_wrong_unit_is_seen_in_the_size_of_the_palm(clip):
    hands = tuple(Hand(h.side, h.joints_camera * 1000, h.confidence) for h in clip.hands)
    assert "no human hand's" in problems(replace(clip, hands=hands))


def test_a_wrong_depth_unit_is_seen(clip):
    depth = ArrayDepth(clip.depth.read(range(len(clip))) / 4)
    assert "as deep as the sensor says" in problems(replace(clip, depth=depth))


def test_intrinsics_of_another_resolution_are_seen(clip):
    assert "intrinsics are for" in problems(replace(clip, intrinsics=clip.intrinsics.resized(1280, 720)))


def test_a_camera_that_flies_is_seen(clip):
    T = clip.T_world_camera.copy()
    T[:, 0, 3] += np.arange(len(clip)) * 1000.0
    assert "the camera moves at" in problems(replace(clip, T_world_camera=T))


def test_hands_behind_the_camera_are_seen(clip):
    hands = tuple(Hand(h.side, h.joints_camera * [1, 1, -1], h.confidence) for h in clip.hands)
    assert "behind the camera" in problems(replace(clip, hands=hands))
    assert np.allclose(invert(invert(clip.T_world_camera)), clip.T_world_camera)


def test_pictures_that_are_absent_are_a_problem_and_not_a_crash(clip):
    assert "cannot be read" in problems(replace(clip, frames=AbsentFrames(len(clip), "not here")))


def test_the_report_counts_lists_and_draws(fixture_of, tmp_path):
    fixture = fixture_of("h2o")
    report = check_source("h2o", fixture.root, options=fixture.options, sheet=tmp_path / "a" / "sheet.png")
    assert (len(report.clips), len(report.errors)) == (1, 1)
    assert report.problems[0][1].startswith("unusable: ")
    text = report.text()
    assert "1 clips" in text
    assert "left 1, right 1" in text
    assert "6 numbers expected" in text
    with Image.open(report.sheet) as sheet:
        pixels = np.asarray(sheet).reshape(-1, 3)
    assert (np.abs(pixels - [0, 220, 60]).sum(1) < 30).any()  # the right hand's bones
    assert (np.abs(pixels - [255, 140, 0]).sum(1) < 30).any()  # the left hand's


def test_the_limit_is_kept(fixture_of):
    fixture = fixture_of("h2o")
    assert len(check_source("h2o", fixture.root, options=fixture.options, limit=1).errors) == 0


def test_a_missing_root_is_an_error():
    with pytest.raises(FileNotFoundError):
        check_source("h2o", Path("nowhere"))


REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real"
SAMPLES = {"egodex": "egodex_sample", "hot3d": "hot3d_sample", "vitra": "vitra_ego4d_example"}
OTHER = {"left": "right", "right": "left"}


def chains(joints: np.ndarray, change) -> np.ndarray:
    return np.concatenate([joints[:, :1], change(joints[:, 1:].reshape(-1, 5, 4, 3)).reshape(-1, 20, 3)], 1)


HARM = {
    "sides": (lambda h: Hand(OTHER[h.side], h.joints_camera, h.confidence), "shape of the other one"),
    "mirrored": (lambda h: Hand(h.side, h.joints_camera * [-1, 1, 1], h.confidence), "shape of the other one"),
    "fingers": (
        lambda h: Hand(h.side, chains(h.joints_camera, lambda f: f[:, ::-1]), h.confidence),
        "the fingers are in another order",
    ),
    "tips": (
        lambda h: Hand(h.side, chains(h.joints_camera, lambda f: f[:, :, ::-1]), h.confidence),
        "joints run from tip to palm",
    ),
}


@pytest.fixture(scope="module")
def hands(fixture_of) -> list[tuple[str, Hand]]:
    """Of every fixture, and of the real samples where they are here, as one clip each."""
    roots = [(name, fixture_of(name).root, fixture_of(name).options) for name in fixture_names()]
    roots += [(name, REAL / place, SourceOptions()) for name, place in SAMPLES.items() if (REAL / place).is_dir()]
    found = []
    for name, root, options in roots:
        clips = load_source(name).read_clips(root, replace(options, seconds=1000))
        found += [(name, hand) for clip in clips if isinstance(clip, Clip) for hand in clip.hands]
    assert {name for name, _ in found} >= set(fixture_names()) - {"tasterob"}
    return found


def test_true_hands_of_every_source_pass(hands):
    assert [(name, list(shapes((hand,)))) for name, hand in hands if list(shapes((hand,)))] == []


@pytest.mark.parametrize("harm", HARM)
def test_exchanged_sides_mirrored_hands_and_reversed_fingers_are_noticed_in_every_source(harm, hands):
    change, said = HARM[harm]
    for name, hand in hands:
        (problem,) = shapes((change(hand),))
        assert said in problem, (name, problem)
        assert change(hand).side in problem


def test_two_exchanged_hands_are_one_problem(clip):
    exchanged = tuple(HARM["sides"][0](hand) for hand in clip.hands)
    assert problems(replace(clip, hands=exchanged)).count("both hands have the shape of the other one") == 1


def test_where_there_are_no_hands_the_report_does_not_say_that_all_is_well(fixture_of, no_tracker):
    fixture = fixture_of("tasterob")
    text = check_source("tasterob", fixture.root, options=fixture.options).text()
    assert "3 of 3 clips have no hands" in text
    assert "no problems" not in text
