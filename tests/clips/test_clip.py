from dataclasses import replace

import numpy as np
import pytest

from vipa.clips import Clip, ClipError, Hand, ObjectTrack
from vipa.clips.video import ArrayFrames
from vipa.geometry import Intrinsics

FRAMES = 5


class Depth:
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def read(self, indices):
        return np.ones((len(indices), 4, 6), np.float32)


def hand(side="right", frames=FRAMES):
    return Hand(side, np.zeros((frames, 21, 3)), np.ones((frames, 21)))


@pytest.fixture
def clip():
    return Clip(
        id="kitchen_03",
        source="test",
        source_video="kitchen",
        frames=ArrayFrames(np.arange(FRAMES * 4 * 6 * 3, dtype=np.uint8).reshape(FRAMES, 4, 6, 3)),
        timestamps=np.arange(FRAMES) / 10,
        intrinsics=Intrinsics(5.0, 5.0, 2.5, 1.5, 6, 4, "calibrated"),
        T_world_camera=np.tile(np.eye(4), (FRAMES, 1, 1)),
        hands=(hand(),),
    )


def test_rate_is_frames_per_second(clip):
    assert clip.rate == pytest.approx(10)
    assert len(clip) == FRAMES


def test_hand_is_found_by_its_side_and_none_where_there_is_none(clip):
    assert clip.hand("right") is clip.hands[0]
    assert clip.hand("left") is None


def test_frames_come_in_the_order_asked_for(clip):
    np.testing.assert_array_equal(clip.frames.read([3, 0]), clip.frames.images[[3, 0]])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"frames": ArrayFrames(np.zeros((0, 4, 6, 3), np.uint8))}, "no frames"),
        ({"timestamps": np.arange(FRAMES - 1) / 10}, "timestamps"),
        ({"timestamps": np.array([0.0, 0.1, 0.1, 0.2, 0.3])}, "timestamps"),
        ({"timestamps": np.array([0.0, np.nan, 0.2, 0.3, 0.4])}, "timestamps"),
        ({"T_world_camera": np.eye(4)}, "T_world_camera"),
        ({"hands": (hand(frames=FRAMES - 2),)}, "right hand joints_camera"),
        ({"hands": (hand(), hand())}, "same side"),
        ({"objects": (ObjectTrack("cup", boxes=np.zeros((FRAMES + 1, 4))),)}, "'cup' boxes"),
        ({"objects": (ObjectTrack("cup", T_world_object=np.zeros((1, 4, 4))),)}, "'cup' T_world_object"),
        ({"depth": Depth(FRAMES - 1)}, "depth"),
    ],
)
def test_a_clip_that_contradicts_itself_is_refused_by_name_and_field(clip, change, field):
    with pytest.raises(ClipError, match=field) as error:
        replace(clip, **change)
    assert "kitchen_03" in str(error.value)


def test_clip_error_keeps_its_parts():
    error = ClipError("a", "no hands")
    assert (error.clip_id, error.reason, str(error)) == ("a", "no hands", "clip 'a': no hands")
