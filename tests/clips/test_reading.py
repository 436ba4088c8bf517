from dataclasses import replace

import numpy as np
import pytest

from vipa.clips import Clip, ClipError, Hand, Text
from vipa.clips.reading import chunks, cut, make_hand, numbers, one_line, read_each, rows, runs
from vipa.clips.video import ArrayFrames
from vipa.geometry import Intrinsics


def make_clip(n: int, rate: float = 10.0) -> Clip:
    joints = np.zeros((n, 21, 3))
    joints[..., 2] = 0.4
    return Clip(
        id="c",
        source="s",
        source_video="v",
        frames=ArrayFrames(np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)),
        timestamps=np.arange(n) / rate,
        intrinsics=Intrinsics(5, 5, 2.5, 1.5, 6, 4, "calibrated"),
        T_world_camera=np.repeat(np.eye(4)[None], n, 0),
        hands=(Hand("right", joints, np.ones((n, 21))),),
        texts=(Text("a", 0.0, 1.5), Text("b", 1.5, n / rate)),
    )


@pytest.mark.parametrize(
    ("frames", "sizes"), [(10, [10]), (12, [12]), (20, [10, 10]), (21, [10, 11]), (25, [10, 10, 5])]
)
def test_chunks_cover_every_frame_once(frames, sizes):
    pieces = list(chunks(make_clip(frames), 1.0))
    assert [len(p) for p in pieces] == sizes
    seen = np.concatenate([p.frames.read(range(len(p)))[:, 0, 0, 0] for p in pieces])
    assert seen.tolist() == list(range(frames))
    assert len({p.id for p in pieces}) == len(pieces)


def test_a_cut_starts_at_zero_and_its_texts_keep_their_own_ends_also_outside_of_it():
    piece = cut(make_clip(30), 10, 20, "p")
    assert piece.timestamps[0] == 0
    assert [(t.text, t.start, t.end) for t in piece.texts] == [("a", -1.0, 0.5), ("b", 0.5, 2.0)]


def test_texts_count_from_the_first_frame_whatever_its_time_is():
    clip = make_clip(30)
    late = replace(clip, timestamps=clip.timestamps + 7.0)
    assert cut(late, 10, 20, "p").texts == cut(clip, 10, 20, "p").texts


def test_a_piece_without_its_hand_in_view_is_left_out():
    clip = make_clip(20)
    joints = clip.hands[0].joints_camera.copy()
    joints[10:] = np.nan
    clip = replace(clip, hands=(make_hand("right", joints),))
    assert [p.id for p in chunks(clip, 1.0)] == ["c_000"]


def test_unknown_joints_have_no_confidence():
    joints = np.zeros((2, 21, 3))
    joints[0, 3] = np.inf
    hand = make_hand("left", joints, np.array([0.5, np.nan]))
    assert np.isnan(hand.joints_camera[0, 3]).all()
    assert hand.confidence[0, 3] == 0
    assert hand.confidence[0, 4] == 0.5
    assert (hand.confidence[1] == 0).all()
    assert make_hand("left", joints * np.nan) is None


def test_any_exception_becomes_one_line_of_its_own_clip():
    def read(name: str, error: Exception) -> Clip:
        raise error

    errors = {
        "a": KeyError("poses"),
        "b": ValueError("two\nlines"),
        "c": ZeroDivisionError("division by zero"),
        "d": EOFError(),
        "e": ClipError("e2", "because"),
    }
    out = list(read_each("s", None, "layout", errors.items(), read))
    assert [e.reason for e in out] == [
        "the annotation has no entry 'poses'",
        "two lines",
        "ZeroDivisionError: division by zero",
        "EOFError: ",
        "because",
    ]
    assert one_line(ValueError("")) == "ValueError: "


def test_nothing_found_shows_the_layout():
    with pytest.raises(ValueError, match=r"nothing of source 's' here; expected\nROOT/x"):
        read_each("s", "root", "ROOT/x\n", [], lambda *a: None)


def test_rows_and_numbers_name_what_is_wrong(tmp_path):
    assert rows(np.zeros((3, 4, 1)), 3, "f", (4,)).shape == (3, 4)
    with pytest.raises(ValueError, match=r"f has shape \(2, 4\), needed 3 rows of \(4,\)"):
        rows(np.zeros((2, 4)), 3, "f", (4,))
    (tmp_path / "n.txt").write_text("1 2 x")
    with pytest.raises(ValueError, match=r"n\.txt: not a file of numbers"):
        numbers(tmp_path / "n.txt")


def test_runs_of_equal_labels():
    assert list(runs([0, 0, 3, 3, 3, 0])) == [(0, 2, 0), (2, 5, 3), (5, 6, 0)]
    assert list(runs([])) == []


def dark_clip() -> Clip:
    """A phone in the dark: 30 frames a second for 20 s, then 5 a second for 60 s."""
    times = np.concatenate([np.arange(600) / 30, 20 + np.arange(300) / 5])
    clip = make_clip(900)
    return replace(clip, timestamps=times, texts=(Text("a", 0.0, 80.0),))


def test_chunks_are_cut_by_time_where_the_rate_falls():
    clip = dark_clip()
    pieces = list(chunks(clip, 10.0))
    assert [len(p) for p in pieces] == [300, 300, 50, 50, 50, 50, 50, 50]
    np.testing.assert_allclose([p.seconds for p in pieces], 10.0)
    whole = [(Text("a", pytest.approx(-10.0 * k), pytest.approx(80.0 - 10.0 * k)),) for k in range(8)]
    assert [p.texts for p in pieces] == whole  # a text keeps its own ends
    np.testing.assert_allclose(clip.seconds, 80.0)


def test_a_pause_in_the_recording_makes_no_empty_piece_and_no_long_last_frame():
    clip = replace(
        make_clip(45), timestamps=np.concatenate([np.arange(30) / 10, [60, 60.1, 60.2], 61 + np.arange(12)])
    )
    pieces = list(chunks(clip, 1.0))
    assert sum(len(p) for p in pieces) == 45
    assert max(p.timestamps[-1] for p in pieces) < 1.0
    assert replace(clip, timestamps=np.arange(45) / 10 + 50 * (np.arange(45) == 44)).seconds < 55


def test_nearly_even_times_are_cut_as_even_ones():
    clip = make_clip(3000, 30 / 1.001)
    noisy = clip.timestamps + np.random.default_rng(0).uniform(-2e-3, 2e-3, 3000)
    pieces = list(chunks(replace(clip, timestamps=noisy), 10.0))
    assert len(pieces) == 10
    assert {len(p) for p in pieces[:-1]} <= {299, 300}
