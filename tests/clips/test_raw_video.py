import numpy as np
import pytest

from vipa.clips import Clip, ClipError
from vipa.clips.sources import SourceOptions, load_source

FOV = 1.1


def test_a_trackers_result_file_gives_the_hands_of_its_video(fixture_of):
    from vipa.clips.fixtures.tasterob import FRAMES, RATE
    from vipa.clips.fixtures.truth import film
    from vipa.geometry import Intrinsics

    fixture = fixture_of("tasterob")
    truth = film(0, FRAMES, RATE, Intrinsics.from_fov(FOV, 320, 240, "estimated"))
    options = SourceOptions(fov=FOV, tracker="wilor", hands=fixture.root / "hands")
    out = {
        c.id if isinstance(c, Clip) else c.clip_id: c
        for c in load_source("tasterob").read_clips(fixture.root, options)
    }
    clip = out["SingleHand_Kitchen_7"]
    assert isinstance(clip, Clip), clip
    assert {h.side for h in clip.hands} == {h.side for h in truth.hands}
    for hand in truth.hands:
        error = np.linalg.norm(clip.hand(hand.side).joints_camera - hand.joints_camera, axis=-1)
        assert np.nanmedian(error) < 0.01  # smoothed and centred on the image's middle
    other = out["SingleHand_Bedroom_7"]
    assert isinstance(other, ClipError)
    assert "no result of the hand tracker" in other.reason


def test_results_without_the_trackers_name_are_refused(fixture_of, tmp_path):
    fixture = fixture_of("tasterob")
    options = SourceOptions(fov=FOV, hands=tmp_path)
    out = [c for c in load_source("tasterob").read_clips(fixture.root, options) if isinstance(c, ClipError)]
    assert any("which tracker wrote" in c.reason for c in out)


@pytest.mark.parametrize("fov", [0.0, -1.0, 4.0])
def test_an_impossible_field_of_view_is_refused(fixture_of, fov):
    fixture = fixture_of("tasterob")
    out = [
        c
        for c in load_source("tasterob").read_clips(fixture.root, SourceOptions(fov=fov))
        if isinstance(c, ClipError)
    ]
    assert any("between 0 and 180 degrees" in c.reason for c in out)
