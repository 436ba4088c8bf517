import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vipa.clips.clip import ClipError, Hand
from vipa.clips.example import example_clip
from vipa.geometry import axis_angle_from_matrix, direction_words, invert
from vipa.hand3d.config import AnnotateConfig, FramesConfig, MixConfig, RelationsConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.measure.relations import CATEGORIES
from vipa.hand3d.pipeline.annotate import annotate, annotate_source
from vipa.hand3d.words.questions import parse_answer
from vipa.hands.motion_codec import MotionCodec
from vipa.io.files import OutputError

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.parquet"))}


def frame_indices(record) -> list[int]:
    return [int(frame.rsplit("/", 1)[1]) for frame in record.frame_ids]


def test_every_relation_equals_the_truth_of_the_clip(tmp_path):
    clip = example_clip()
    report = annotate([clip], tmp_path)
    assert (report.done, report.refused) == (1, ())
    records = list(Hand3D(tmp_path).visual())
    assert {r.category for r in records} == set(CATEGORIES)
    T, hand = clip.T_world_camera, clip.hands[0]

    def world(f):
        return (T[f] @ [*hand.joints_camera[f, 0], 1])[:3]

    places = {track.name: track.T_world_object[:, :3, 3] for track in clip.objects}
    for r in records:
        first, last = (indices := frame_indices(r))[0], indices[-1]
        R_first_world = T[first, :3, :3].T
        if r.category == "spatial_relation":
            truth = R_first_world @ (places[r.object][last] - world(last))
            assert r.contact == clip.contacts["right", r.object][last]
            assert 1 <= len(indices) <= 4
        elif r.category == "task_completion":
            goal = 20 if last < 20 else 50  # the first touch, then the last
            assert (r.object, r.goal) == ("red cup", "touch" if last < 20 else "release")
            truth = R_first_world @ (world(goal) - world(last))
        elif r.category == "hand_movement":
            assert len(indices) == 2
            truth = R_first_world @ (world(last) - world(first))
        else:
            T_first_last = invert(T[first]) @ T[last]
            truth = T_first_last[:3, 3]
            np.testing.assert_allclose(r.rotation, axis_angle_from_matrix(T_first_last[:3, :3]), atol=1e-9)
        np.testing.assert_allclose(r.displacement, truth, atol=1e-9)
        if r.category != "camera_movement":
            parsed = parse_answer(r.answer)
            assert parsed.directions == direction_words(truth)
            assert abs(parsed.distance - np.linalg.norm(truth)) <= 0.005001
        np.testing.assert_allclose(r.relation.distance, r.distance)
        assert indices == sorted(indices)
        assert all(i % 10 == 0 for i in indices)


def test_motions_are_the_wrist_in_the_observation_camera(tmp_path):
    clip = example_clip()
    annotate([clip], tmp_path)
    records = list(Hand3D(tmp_path).action())
    assert {r.task for r in records} == {"instructional_generation", "contextual_prediction", "motion_translation"}
    T, hand, codec = clip.T_world_camera, clip.hands[0], MotionCodec()
    for r in records:
        frame = int(r.frame_id.rsplit("/", 1)[1])
        times = frame / 10 + np.arange(1, len(r.right) + 1) / r.rate
        world = np.stack([(T[f] @ [*hand.joints_camera[f, 0], 1])[:3] for f in range(60)])
        path = np.stack([np.interp(times, np.arange(60) / 10, world[:, i]) for i in range(3)], -1)
        truth = (path - T[frame, :3, 3]) @ T[frame, :3, :3]
        np.testing.assert_allclose(r.trajectories["right"], truth, atol=1e-6)
        text = r.prompt if r.task == "motion_translation" else r.response
        decoded = codec.from_text(text)["right"]
        assert np.abs(decoded - np.clip(truth, codec.low, codec.high)).max() <= 0.5 / 1024 + 1e-6
        if r.task == "contextual_prediction":
            past = codec.from_text(r.prompt)["right"]
            assert np.abs(past - np.array(r.past_right)).max() <= 0.5 / 1024 + 1e-6
        if r.task == "motion_translation":
            assert r.response == "Put the red cup on the plate."


def test_a_rerun_computes_nothing_and_writes_the_same_tables(tmp_path):
    clips = [example_clip(i) for i in range(3)]
    annotate(clips, tmp_path / "a")
    before = files(tmp_path / "a")
    assert len(before) >= 4
    again = annotate(clips, tmp_path / "a")
    assert again.stage_seconds == {}
    assert files(tmp_path / "a") == before
    annotate(clips[::-1], tmp_path / "b")
    assert files(tmp_path / "b") == before


def test_a_changed_section_reruns_its_stage_and_those_after_it_only(tmp_path):
    clips = [example_clip(0)]
    annotate(clips, tmp_path)
    changed = annotate(clips, tmp_path, AnnotateConfig(relations=RelationsConfig(gamma=0.5)))
    assert set(changed.stage_seconds) == {"relations"}
    annotate(clips, tmp_path / "new", AnnotateConfig(relations=RelationsConfig(gamma=0.5)))
    assert files(tmp_path / "new") == {k: v for k, v in files(tmp_path).items() if not k.startswith("new")}


def test_stored_images_are_the_frames_and_keep_their_camera(tmp_path):
    clip = example_clip()
    config = AnnotateConfig(frames=FramesConfig(format="png"))
    annotate([clip], tmp_path / "full", config)
    data = Hand3D(tmp_path / "full")
    for frame in data.frames():
        np.testing.assert_array_equal(data.image(frame.id), clip.frames.read([frame.index])[0])
        np.testing.assert_allclose(np.reshape(frame.T_world_camera, (4, 4)), clip.T_world_camera[frame.index])
    annotate([clip], tmp_path / "small", AnnotateConfig(frames=FramesConfig(size=(32, 24))))
    data = Hand3D(tmp_path / "small")
    frame = next(data.frames())
    assert data.image(frame.id).shape == (24, 32, 3)
    small = clip.intrinsics.resized(32, 24)
    np.testing.assert_allclose(frame.intrinsics, [small.fx, small.fy, small.cx, small.cy, 32, 24])


def test_clips_of_one_recording_share_a_split_and_every_share_is_filled(tmp_path):
    annotate([example_clip(i, seconds=2.5) for i in range(40)], tmp_path, AnnotateConfig(mix=MixConfig(test=0.3)))
    videos = {}
    for record in Hand3D(tmp_path).clips():
        assert videos.setdefault(record.source_video, record.split) == record.split
    assert set(videos.values()) == {"train", "test"}
    for record in Hand3D(tmp_path).visual():
        assert videos[record.source_video] == record.split


def test_a_split_that_divides_a_recording_is_refused(tmp_path):
    clips = [replace(example_clip(0), split="train"), replace(example_clip(1), split="test")]
    with pytest.raises(ValueError, match="video_0"):
        annotate(clips, tmp_path)


def test_datasets_opens_the_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets")
    clip = replace(example_clip(), split="train")
    annotate([clip], tmp_path / "out", AnnotateConfig(frames=FramesConfig(format="png")))
    frames = datasets.load_dataset(str(tmp_path / "out"), "frames", split="train", cache_dir=str(tmp_path / "c"))
    assert isinstance(frames[0]["image"], Image.Image)
    np.testing.assert_array_equal(np.asarray(frames[0]["image"]), clip.frames.read([0])[0])
    visual = datasets.load_dataset(str(tmp_path / "out"), "visual", split="train", cache_dir=str(tmp_path / "c"))
    assert visual["question"] == [r.question for r in Hand3D(tmp_path / "out").visual("train")]


class BrokenFrames:
    def __len__(self) -> int:
        return 60

    def read(self, indices):
        raise OSError("frame 7 cannot be decoded")


def test_a_bad_clip_is_reported_with_its_reason_and_the_others_stay(tmp_path):
    good, hand = example_clip(0), example_clip(1).hands[0]
    unseen = replace(
        example_clip(1),
        id="unseen",
        hands=(Hand("right", hand.joints_camera * np.nan, hand.confidence),),
        objects=None,
    )
    bad = [
        replace(example_clip(2), id="broken", frames=BrokenFrames()),
        replace(unseen, T_world_camera=None),
        ClipError("short", "3 rows of annotation for 60 frames"),
    ]
    report = annotate([bad[0], good, *bad[1:]], tmp_path)
    assert report.done == 1
    reasons = dict(report.refused)
    assert reasons["made/broken"] == "clip 'broken': OSError: frame 7 cannot be decoded"
    assert "unseen" in reasons["made/unseen"]
    assert "3 rows" in reasons["short"]
    assert [c.id for c in Hand3D(tmp_path).clips()] == ["made/made_0"]
    written = json.loads((tmp_path / "report.json").read_text())
    assert len(written["refused"]) == sum(written["reasons"].values()) == 3
    assert written["reasons"]["# rows of annotation for # frames"] == 1
    assert annotate([bad[0], good], tmp_path).done == 1


def test_an_output_that_cannot_be_written_ends_the_run_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        annotate([example_clip()], tmp_path / "file")


def test_a_folder_without_a_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="annotate first"):
        Hand3D(tmp_path)


@pytest.mark.skipif(not (SHARED / "real/vitra_ego4d_example").is_dir(), reason="the real clip is not there")
def test_the_real_clip_gives_what_its_arrays_say(tmp_path):
    from vipa.clips.sources import load_source

    root = SHARED / "real/vitra_ego4d_example"
    report = annotate_source("vitra", root, tmp_path)
    assert (report.done, report.refused) == (1, ())
    (clip,) = load_source("vitra").read_clips(root)
    T, hand = clip.T_world_camera, clip.hand("right")
    records = {(r.category, r.aspect): r for r in Hand3D(tmp_path).visual()}
    movement = records["hand_movement", None]
    first, last = frame_indices(movement)
    world = [(T[f] @ [*hand.joints_camera[f, 0], 1])[:3] for f in (first, last)]
    np.testing.assert_allclose(movement.displacement, T[first, :3, :3].T @ (world[1] - world[0]), atol=1e-9)
    T_first_last = invert(T[first]) @ T[last]
    turn = records["camera_movement", "rotation"]
    np.testing.assert_allclose(turn.rotation, axis_angle_from_matrix(T_first_last[:3, :3]), atol=1e-9)
    np.testing.assert_allclose(turn.displacement, T_first_last[:3, 3], atol=1e-9)
    assert any(r.task == "instructional_generation" for r in Hand3D(tmp_path).action())
    image = Hand3D(tmp_path).encoded_image(next(Hand3D(tmp_path).frames()).id)
    assert Image.open(io.BytesIO(image)).size == (480, 368)
