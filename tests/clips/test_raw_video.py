import numpy as np
import pytest

from vipa.clips import Clip, ClipError
from vipa.clips.fixtures.tasterob import FOV_DEGREES
from vipa.clips.sources import SourceOptions, load_source


def test_a_trackers_result_file_gives_the_hands_of_its_video(fixture_of):
    from vipa.clips.fixtures.tasterob import FRAMES, RATE
    from vipa.clips.fixtures.truth import film
    from vipa.geometry import Intrinsics

    fixture = fixture_of("tasterob")
    truth = film(0, FRAMES, RATE, Intrinsics.from_fov(np.radians(FOV_DEGREES), 320, 240, "estimated"))
    options = SourceOptions(fov_degrees=FOV_DEGREES, tracker="wilor", hands=fixture.root / "hands")
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


def test_options_that_no_source_could_use_are_refused(tmp_path):
    with pytest.raises(ValueError, match="which tracker they are of"):
        SourceOptions(hands=tmp_path)
    with pytest.raises(ValueError, match=r"--tracker wilor needs .*--hands PATH"):
        SourceOptions(tracker="wilor")
    with pytest.raises(ValueError, match=r"'no_such' is unknown; known: .*wilor"):
        SourceOptions(tracker="no_such", hands=tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        SourceOptions(tracker="wilor", hands=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="seconds: must be positive"):
        SourceOptions(seconds=0)


@pytest.mark.parametrize("fov", [0.0, -1.0, 180.0, 400.0, float("nan")])
def test_an_impossible_field_of_view_is_refused(fov):
    with pytest.raises(ValueError, match="between 0 and 180 degrees"):
        SourceOptions(fov_degrees=fov)


def test_a_field_of_view_in_radians_is_refused():
    with pytest.raises(ValueError, match="in radians"):
        SourceOptions(fov_degrees=1.2)
