import struct
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from vipa.clips import Clip, ClipError
from vipa.clips.raw_video import camera_of
from vipa.clips.sources import SourceOptions, load_source
from vipa.clips.video import VideoFrames
from vipa.worlds.fixtures.tasterob import FOV_DEGREES


def test_a_trackers_result_file_gives_the_hands_of_its_video(fixture_of):
    from vipa.geometry import Intrinsics
    from vipa.worlds.fixtures.tasterob import FRAMES, RATE
    from vipa.worlds.fixtures.truth import film

    fixture = fixture_of("tasterob")
    truth = film(0, FRAMES, RATE, Intrinsics.from_fov(np.radians(FOV_DEGREES), 320, 240, "estimated"))
    options = SourceOptions(fov_degrees=FOV_DEGREES, tracker="wilor", hands=fixture.root / "hands")
    out = {
        c.id if isinstance(c, Clip) else c.clip_id: c
        for c in load_source("tasterob").read_clips(fixture.root, options)
    }
    clip = out["SingleHand_Kitchen_7"]
    assert isinstance(clip, Clip), clip
    assert clip.notes["hands"] == "tracked by wilor"  # which decides how far movements are believed
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


def turned_video(path: Path, angle: int) -> VideoFrames:
    """96 x 64 stored; the display matrix turns it by `angle` degrees."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 90, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    place = data.rindex(b"tkhd") + 4 + 40  # version and flags, times, id ..., then the matrix
    c, s = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[angle]
    x, y = {0: (0, 0), 90: (64, 0), 180: (96, 64), 270: (0, 96)}[angle]
    one = 1 << 16
    data[place : place + 36] = struct.pack(
        ">9i", c * one, s * one, 0, -s * one, c * one, 0, x * one, y * one, 1 << 30
    )
    path.write_bytes(data)
    return VideoFrames(path)


def camera(video: VideoFrames, **given):
    sidecar = {"intrinsics": {"fx": 80, "fy": 80, "cx": 44.0, "cy": 30.0, **given}}
    camera, view = camera_of(video, sidecar, SourceOptions(), {})
    assert view is None
    return camera


@pytest.mark.parametrize("angle", [90, 270])
def test_the_sensors_calibration_turns_with_the_picture(tmp_path, angle):
    video = turned_video(tmp_path / "a.mp4", angle)
    assert video.size == (64, 96)
    K = camera(video, width=96, height=64)
    assert (K.fx, K.fy, K.width, K.height) == (80, 80, 64, 96)
    assert sorted((K.cx, K.cy)) == ([30.0, 51.0] if angle == 270 else [33.0, 44.0])
    own = camera(video, cx=31.5, cy=47.0, width=64, height=96)
    assert (own.cx, own.cy) == (31.5, 47.0)


def test_where_the_shape_does_not_tell_which_picture_a_calibration_is_of_it_must_say(tmp_path):
    video = turned_video(tmp_path / "a.mp4", 180)
    with pytest.raises(ValueError, match='add "picture"'):
        camera(video, width=96, height=64)
    assert camera(video, width=96, height=64, picture="shown").cx == 44
    assert camera(video, width=96, height=64, picture="stored").cx == 51
    assert camera(video, cx=47.5, cy=31.5, width=96, height=64).cx == 47.5  # in the middle both are the same
    with pytest.raises(ValueError, match="shown or stored"):
        camera(video, width=96, height=64, picture="left")


@pytest.mark.parametrize("size", [(64, 96), (128, 96), (96, 72)])
def test_a_calibration_of_another_shape_is_refused_with_both_sizes(tmp_path, size):
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels, the pictures have 96 x 64"):
        camera(turned_video(tmp_path / "a.mp4", 0), cx=size[0] / 2, cy=size[1] / 2, width=size[0], height=size[1])


def test_a_calibration_without_a_size_must_fit_the_pictures(tmp_path):
    video = turned_video(tmp_path / "a.mp4", 90)
    assert camera(video, cx=31.0, cy=48.0).width == 64
    with pytest.raises(ValueError, match="give the width and height"):
        camera(video)


def test_a_mirrored_picture_mirrors_the_stored_pictures_calibration():
    class Mirrored:
        size, index = (96, 64), SimpleNamespace(rotation=0, mirrored=True, square=(96, 64))

    assert camera(Mirrored, width=96, height=64, picture="stored").cx == 51
    with pytest.raises(ValueError, match='add "picture"'):
        camera(Mirrored, width=96, height=64)
