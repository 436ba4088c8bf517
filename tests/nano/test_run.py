"""The demo's own parts: steps that continue, settings that are kept, a report from whatever is there."""

import json

import numpy as np
import pytest

from vipa.geometry import project
from vipa.nano.demo import DemoRun, _claim, _step, train_stage, write_report
from vipa.nano.pictures import load_steps, save_steps


@pytest.fixture
def run(tmp_path):
    return DemoRun(out=tmp_path / "demo")


def test_a_finished_step_is_not_done_again(run):
    with _step(run, "annotate", "annotating") as todo:
        assert todo
    with _step(run, "annotate", "annotating") as todo:
        assert not todo


def test_an_interrupted_step_is_done_again_and_its_seconds_add_up(run, monkeypatch):
    clock = iter([0.0, 5.0, 100.0, 107.0])
    monkeypatch.setattr("vipa.nano.demo.time.monotonic", lambda: next(clock))
    with pytest.raises(KeyboardInterrupt), _step(run, "stage1", "training"):
        raise KeyboardInterrupt
    with _step(run, "stage1", "training") as todo:
        assert todo
    assert json.loads((run.out / "steps" / "stage1.json").read_text())["seconds"] == 12.0


def test_a_folder_keeps_to_its_settings(run):
    _claim(run)
    _claim(run)
    with pytest.raises(ValueError, match="other settings"):
        _claim(DemoRun(out=run.out, stage1_steps=1))


def test_report_of_an_empty_run_says_what_is_missing(run, tmp_path, monkeypatch):
    monkeypatch.setattr("vipa.nano.shipped.NANO", tmp_path / "nothing shipped")
    page = write_report(run).read_text()
    assert "No clip was annotated" in page
    assert "No Hand3D results" in page


def test_a_report_that_is_still_growing_says_so_and_loads_itself_again(run):
    page = write_report(run, "[1/10] filming").read_text()
    assert '<meta http-equiv="refresh"' in page
    assert "[1/10] filming" in page
    stopped = write_report(run, "Stopped", reload=False).read_text()
    assert "Stopped" in stopped
    assert "refresh" not in stopped
    done = write_report(run).read_text()
    assert "refresh" not in done
    assert "Not finished" not in done


def test_the_real_video_is_read_as_any_folder_and_asked_only_what_is_known(tmp_path):
    from vipa.clips.sources import load_source
    from vipa.hand3d.dataset.reader import Hand3D
    from vipa.hands.skeleton import WRIST
    from vipa.nano.demo import REAL, annotate_real

    (clip,) = load_source("folder").read_clips(REAL)
    (hand,) = clip.hands
    pixels = project(hand.joints_camera, clip.intrinsics.matrix)
    assert ((pixels >= 0) & (pixels < clip.frames.size)).all()
    assert hand.confidence.min() > 0.5
    annotate_real(tmp_path)
    records = list(Hand3D(tmp_path).visual())
    assert {r.category for r in records} == {"hand_movement"}, "no object and no camera movement is known"
    for record in records:
        first, last = (int(f.rsplit("/", 1)[1]) for f in record.frame_ids)
        moved = hand.joints_camera[last, WRIST] - hand.joints_camera[first, WRIST]
        np.testing.assert_allclose(record.displacement, moved, atol=1e-4)
    assert sum(f.stat().st_size for f in REAL.iterdir()) < 1_000_000
    assert "MIT" in (REAL / "LICENSE").read_text()


def test_pictures_of_a_clip_show_the_whole_way(hand3d_path, tmp_path):
    from vipa.hand3d.dataset.reader import Hand3D
    from vipa.nano.pictures import tabletop_steps
    from vipa.worlds.seeds import TRAIN

    data = Hand3D(hand3d_path)
    clip = next(data.clips("train"))
    steps = tabletop_steps(data, clip.id, TRAIN[0], tmp_path)
    titles = [step.title for step in steps]
    assert titles[:4] == ["Film", "Hands", "Depth", "Objects"]
    assert "Question and answer" in titles
    assert all(step.media is None or step.media.path.stat().st_size > 1000 for step in steps)
    save_steps(steps, tmp_path / "steps.json")
    assert load_steps(tmp_path / "steps.json") == steps


def test_a_stage_without_its_data_says_so_from_its_own_process(run):
    with pytest.raises(ValueError, match="hand3d"):
        train_stage("stage1")(run)
