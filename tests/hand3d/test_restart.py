"""Killed at any moment, continued, and the same as never interrupted; the same on Ray."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vipa.clips.example import example_clip
from vipa.hand3d.config import AnnotateConfig, MixConfig
from vipa.hand3d.dataset import tables as tables_module
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.pipeline import stage_camera
from vipa.hand3d.pipeline.annotate import annotate

PROGRAM = """
import sys
from vipa.hand3d.annotate import annotate
from vipa.hand3d.example import example_clip
annotate([example_clip(i) for i in range(int(sys.argv[2]))], sys.argv[1])
print("done")
"""


def tables(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.parquet"))}


def run(out: Path, clips: int, kill_after: float | None) -> bool:
    """Annotates in a process of its own; whether it came to its end before it was killed."""
    source = Path(__file__).resolve().parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(out), str(clips)], env=environment, stdout=subprocess.PIPE
    )
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return b"done" in process.communicate()[0]


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_with_the_same_tables(tmp_path):
    start = time.perf_counter()
    assert run(tmp_path / "whole", 60, None)
    whole = time.perf_counter() - start
    moments = random.Random(0)
    for _ in range(20):
        run(tmp_path / "killed", 60, moments.uniform(0.0, 1.1 * whole))
    assert run(tmp_path / "killed", 60, None)
    assert tables(tmp_path / "killed") == tables(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.tmp"))


@pytest.mark.skipif(not stage_camera.installed(), reason="OpenCV is not installed")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.slow
def test_a_run_of_videos_that_is_stopped_leaves_no_process_and_is_continued(videos, tmp_path, how):
    """While workers measure cameras."""
    source = Path(__file__).resolve().parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source), "VIPA_CACHE": str(tmp_path / "cache")}
    words = [sys.executable, "-m", "vipa", "annotate", str(videos), "--fov-degrees", "70", "--out"]

    def run(out: Path, seconds: float | None) -> None:
        process = subprocess.Popen(
            [*words, str(out)],
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(how)
        process.communicate()
        for _ in range(100):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 0)
                time.sleep(0.1)
                continue
            return
        raise AssertionError("processes are left")

    start = time.perf_counter()
    run(tmp_path / "whole", None)
    whole = time.perf_counter() - start
    for part in np.linspace(0.3, 0.9, 4):
        run(tmp_path / "stopped", part * whole)
    run(tmp_path / "stopped", None)
    assert tables(tmp_path / "stopped") == tables(tmp_path / "whole") != {}


def test_half_written_files_do_not_count(tmp_path):
    clips = [example_clip(i) for i in range(2)]
    annotate(clips, tmp_path)
    before = tables(tmp_path)
    folder = tmp_path / "work" / "made" / "made_0"
    (folder / "relations.npz").write_bytes((folder / "relations.npz").read_bytes()[:200])
    (folder / "frames.npz").write_bytes(b"")
    (folder / ".motion.npz.1.tmp").write_bytes(b"half")
    (tmp_path / "visual" / "train-00000.parquet.tmp").write_bytes(b"half")
    report = annotate(clips, tmp_path)
    assert set(report.stage_seconds) == {"relations", "frames"}
    assert tables(tmp_path) == before
    assert not list(tmp_path.rglob("*.tmp"))


def test_tables_are_made_again_only_where_they_are_not_of_the_clips_as_they_are(tmp_path, monkeypatch):
    clips = [example_clip(i) for i in range(2)]
    annotate(clips, tmp_path)
    before, made = tables(tmp_path), []
    real = tables_module.build_tables
    monkeypatch.setattr(
        "vipa.hand3d.pipeline.annotate.build_tables", lambda *words: made.append(1) or real(*words)
    )
    annotate(clips, tmp_path)
    assert not made
    for table in ("visual", "action", "clips"):
        for damage in (lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-9])):
            damage(next((tmp_path / table).glob("*.parquet")))
            annotate(clips, tmp_path)
            assert made.pop() and tables(tmp_path) == before
    shutil.rmtree(tmp_path / "work" / "made" / "made_1")
    annotate(clips[:1], tmp_path)
    assert made.pop() and tables(tmp_path) != before


def images_at_work(out: Path) -> dict[str, bytes]:
    """Every image that a stage file holds, by its frame's id."""
    held = {}
    for file in out.glob("work/*/*/frames.npz"):
        with np.load(file) as arrays:
            rows = json.loads(arrays["_"].tobytes())["values"]
            ends = np.cumsum(arrays["sizes"])
            parts = zip(rows, ends - arrays["sizes"], ends)
            held |= {row["id"]: arrays["images"].tobytes()[a:b] for row, a, b in parts if b > a}
    return held


def images_of_tables(out: Path) -> dict[str, bytes]:
    data = Hand3D(out)
    return {frame.id: data.encoded_image(frame.id) for frame in data.frames()}


def test_an_image_lies_in_the_work_folder_or_in_a_table_and_moves_with_the_mix(tmp_path):
    clips = [example_clip(i) for i in range(2)]
    few = AnnotateConfig(mix=MixConfig(visual_shares={"camera_movement": 1.0}, action_shares={}, most_alike=1))
    annotate(clips, tmp_path / "fresh", few)
    annotate(clips, tmp_path / "all")
    before = tables(tmp_path / "all")
    everything = images_of_tables(tmp_path / "all") | images_at_work(tmp_path / "all")
    assert not images_of_tables(tmp_path / "all").keys() & images_at_work(tmp_path / "all").keys()

    assert annotate(clips, tmp_path / "all", few).stage_seconds == {}  # images go back to the work folder
    some = images_of_tables(tmp_path / "all")
    assert 0 < len(some) < len(everything)
    assert some == images_of_tables(tmp_path / "fresh")
    assert some | images_at_work(tmp_path / "all") == everything
    assert not some.keys() & images_at_work(tmp_path / "all").keys()

    assert annotate(clips, tmp_path / "all").stage_seconds == {}
    assert tables(tmp_path / "all") == before


@pytest.mark.parametrize("moment", range(6))
def test_no_image_is_lost_by_a_run_that_ends_while_tables_are_published(tmp_path, monkeypatch, moment):
    """With another mix, at every renaming and removal from the manifest on."""
    clips = [example_clip(i) for i in range(2)]
    few = AnnotateConfig(mix=MixConfig(visual_shares={"camera_movement": 1.0}, action_shares={}, most_alike=1))
    annotate(clips, tmp_path)
    before, left = tables(tmp_path), [moment]
    real = tables_module.os.replace

    def rename(source, target):
        pending = tables_module.PENDING in (Path(source).name, Path(target).name)
        if pending or Path(source).suffixes == [".parquet", ".tmp"]:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(tables_module.os, "replace", rename)
    with suppress(KeyboardInterrupt):
        annotate(clips, tmp_path, few)
    monkeypatch.undo()
    assert left[0] < 0 or moment == 5
    assert annotate(clips, tmp_path).stage_seconds == {}
    assert tables(tmp_path) == before


def test_a_clip_without_work_left_is_found_in_the_tables_when_others_come(tmp_path):
    annotate([example_clip(0)], tmp_path)
    first = images_of_tables(tmp_path)
    annotate([example_clip(1)], tmp_path)
    both = images_of_tables(tmp_path)
    assert first.items() < both.items()


def test_images_of_tables_that_were_deleted_are_made_again(tmp_path):
    clips = [example_clip(i) for i in range(2)]
    annotate(clips, tmp_path)
    before = tables(tmp_path)
    for file in (tmp_path / "frames").glob("*"):
        file.unlink()
    assert set(annotate(clips[:1], tmp_path).stage_seconds) == {"frames"}
    assert {clip.id for clip in Hand3D(tmp_path).clips()} == {f"made/{clips[0].id}"}
    assert set(annotate(clips, tmp_path).stage_seconds) == {"frames"}
    assert tables(tmp_path) == before


def test_a_clip_that_was_refused_in_between_comes_back_with_its_images(tmp_path):
    clip = example_clip(0)
    annotate([clip, example_clip(1)], tmp_path)
    before = tables(tmp_path)
    blind = replace(clip, T_world_camera=None, objects=None, contacts=None)
    assert annotate([blind, example_clip(1)], tmp_path).refused
    annotate([clip, example_clip(1)], tmp_path)
    assert tables(tmp_path) == before


@pytest.mark.slow
def test_ray_makes_the_same_records(tmp_path):
    pytest.importorskip("ray")
    clips = [example_clip(i) for i in range(12)]
    local = annotate(clips, tmp_path / "local")
    on_ray = annotate(clips, tmp_path / "ray", engine="ray", workers=2)
    assert (on_ray.done, on_ray.refused) == (local.done, local.refused)
    assert tables(tmp_path / "ray") == tables(tmp_path / "local")
    assert Hand3D(tmp_path / "ray").count("visual") > 0


@pytest.mark.slow
def test_memory_stays_flat_from_10_to_1000_clips(tmp_path):
    program = (
        "import resource, sys\nfrom vipa.hand3d.pipeline.annotate import annotate\n"
        "from vipa.clips.example import example_clip\n"
        "annotate((example_clip(i) for i in range(int(sys.argv[2]))), sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", program, str(tmp_path / n), n], env=environment))
        for n in ("10", "1000")
    ]
    assert peaks[1] < peaks[0] * 1.25
