"""MANO fitted to the joints of sources that have no MANO of their own."""

from dataclasses import replace

import numpy as np
import pytest

from vipa.clips import Clip, ClipError, Hand
from vipa.clips.mano_hands import fitted_mano
from vipa.clips.sources import SourceOptions, load_source
from vipa.hands.mano import mano_joints
from vipa.worlds.fixtures.truth import BOTH_HANDS, film, layers, with_mano


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    """(folder of imported models, the two layers that data sets' left hands are read with)."""
    folder = tmp_path_factory.mktemp("mano")
    return folder, layers(folder, as_distributed=True)


def joints_of(hand: Hand, models) -> np.ndarray:
    m = hand.mano
    betas = np.broadcast_to(m.betas, (len(m.pose), 10))
    layer = models[hand.side]
    return mano_joints(layer, m.global_orientation_camera, m.pose, betas, m.wrist_camera, tips="smplx")


@pytest.mark.parametrize("name", ["egodex", "fpha"])
def test_a_source_of_joints_gets_mano_that_meets_them_within_four_millimetres(name, fixture_of, mano):
    folder, models = mano
    fixture = fixture_of(name)
    got = load_source(name).read_clips(fixture.root, SourceOptions(mano=folder))
    clips = {c.id: c for c in got if isinstance(c, Clip)}
    assert list(clips) == list(fixture.truth)
    for clip_id, truth in fixture.truth.items():
        assert clips[clip_id].notes["mano"] == "fitted to the joints"
        for exact in truth.hands:
            hand = clips[clip_id].hand(exact.side)
            assert np.abs(hand.joints_camera - exact.joints_camera).max() < 1e-4  # still the source's own
            error = np.linalg.norm(joints_of(hand, models) - exact.joints_camera, axis=-1)
            assert error.mean() < 0.004  # the actor's proportions are not the model's


def test_a_hand_that_mano_can_make_is_met_within_a_millimetre_and_unseen_frames_stay_unknown(mano):
    folder, models = mano
    for exact in with_mano(film(BOTH_HANDS, 6, 30), models, "smplx").hands:
        joints, confidence = exact.joints_camera.copy(), np.ones((6, 21))
        joints[2], confidence[2] = np.nan, 0.0
        joints[4, 5:9], confidence[4, 5:9] = np.nan, 0.0  # a finger that is hidden
        hand = fitted_mano(replace(exact, joints_camera=joints, confidence=confidence, mano=None), folder, "smplx")
        assert np.isnan(hand.joints_camera[2]).all()
        for part in (hand.mano.pose, hand.mano.global_orientation_camera, hand.mano.wrist_camera):
            assert np.isnan(part[2]).all()
            assert np.isfinite(np.delete(part, 2, 0)).all()
        error = np.linalg.norm(joints_of(hand, models) - joints, axis=-1)
        assert np.nanmean(error) < 0.001


def test_a_hand_that_never_shows_its_palm_stays_without_mano(mano):
    joints, confidence = np.full((3, 21, 3), np.nan), np.zeros((3, 21))
    joints[:, 8], confidence[:, 8] = [0.0, 0.0, 0.4], 1.0
    hand = Hand("right", joints, confidence)
    assert fitted_mano(hand, mano[0], "smplx") is hand


def test_a_folder_without_models_is_a_reason_that_says_what_to_do(fixture_of, tmp_path):
    first, *_ = load_source("egodex").read_clips(fixture_of("egodex").root, SourceOptions(mano=tmp_path))
    assert isinstance(first, ClipError)
    assert "vipa import-weights mano" in first.reason
