"""How long `vipa annotate` takes for videos: the first run by stage, and the run after it, which has nothing to do.

Run: `python speed/videos.py VIDEOS --work FOLDER` with the extra `video`, on a machine that is otherwise idle. VIDEOS:
a file or a folder. The command runs as a user types it, each time in a process of its own, with nothing kept from
before; once with no field of view, and once with `--fov-degrees` as given. Prints JSON: seconds of wall clock and
frames a second of all, the wait for hands (what is left of it), and each stage; and processor seconds of the run after
it.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import tyro

from vipa.clips.raw_video import VIDEO_SUFFIXES
from vipa.clips.reading import files_below


def run(*words: str, cache: Path) -> tuple[float, float]:
    """Wall and processor seconds of `vipa annotate`."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "vipa", "annotate", *words]
    done = subprocess.run(
        command, env=os.environ | {"VIPA_CACHE": str(cache)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def frames_of(path: Path) -> int:
    with av.open(str(path)) as video:
        return video.streams.video[0].frames


def main(videos: tyro.conf.Positional[Path], work: Path, fov_degrees: float | None = None) -> None:
    files = files_below(videos, VIDEO_SUFFIXES)[1]
    frames, results = sum(map(frames_of, files)), {}
    for kind, options in (
        ("guessed", ()),
        ("given", () if fov_degrees is None else ("--fov-degrees", f"{fov_degrees:g}")),
    ):
        if kind == "given" and not options:
            continue
        out, cache = work / f"{videos.stem}_{kind}", work / f"{videos.stem}_{kind}_cache"
        for left in (out, cache):
            shutil.rmtree(left, ignore_errors=True)
        words = (str(videos), "--out", str(out), *options)
        wall, processor = run(*words, cache=cache)
        report = json.loads((out / "report.json").read_text())
        again, again_processor = run(*words, cache=cache)
        stages = report["stage_seconds"] | {"tables": report["table_seconds"]}
        seconds = {"all": wall, "start": again, "hands": wall - again - sum(stages.values()) + stages["tables"]}
        seconds |= stages
        results[kind] = {
            "videos": len(files), "video_seconds": round(report["video_seconds"], 1), "frames": frames,
            "wall_seconds": {name: round(value, 2) for name, value in seconds.items()},
            "frames_per_second": {name: round(frames / value, 1) for name, value in seconds.items() if value > 0.05},
            "processor_seconds": round(processor, 1), "second_run_processor_seconds": round(again_processor, 2),
        }  # fmt: skip
    print(json.dumps({"cores": len(os.sched_getaffinity(0)), **results}, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
