"""Killed at any moment, continued, and the same as never interrupted; the same on Ray."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vipa.clips.example import example_clip
from vipa.hand3d.dataset.reader import Hand3D
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
