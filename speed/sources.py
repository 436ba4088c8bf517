"""How long a clip takes to read: annotation and one frame a second of ten seconds of 1080p video.

Run on one core: `taskset -c 0 python speed/sources.py`. Writes speed/results/sources.json.
The clip is EgoDex's form: H.264 at 1920 x 1080 and 30 frames a second, 69 transforms a frame in HDF5, made from
the tabletop world's fixture by repeating it; key frames every 30 and every 250 frames.
"""

import json
import os
import platform
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
import tyro

from vipa.clips.sources import load_source
from vipa.worlds.fixtures import write_fixture

RATE, SECONDS, REPEATS = 30, 10, 5


def lengthen(root: Path, key_frames: int) -> Path:
    """The fixture's first episode played forth and back for ten seconds."""
    fixture = write_fixture("egodex", root)
    path = root / "part1" / "put_away" / "0.hdf5"
    images = next(iter(fixture.truth.values())).frames.read(range(6))
    order = [*range(6), *range(4, 0, -1)] * (RATE * SECONDS // 10)
    with av.open(str(path.with_suffix(".mp4")), "w") as container:
        options = {"g": str(key_frames), "crf": "23", "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=Fraction(RATE), options=options)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for i in order:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(images[i], format="rgb24")))
        container.mux(stream.encode())
    with h5py.File(path, "a") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            if name != "camera/intrinsic":
                value = file[name][()][order]
                del file[name]
                file[name] = value
    for other in path.parent.glob("1.*"):
        other.unlink()
    return root


def measure(root: Path) -> dict[str, float]:
    """Seconds of wall clock and of processor time, the best of some repeats; the files are in the page cache."""
    best: dict[str, float] = {}
    for _ in range(REPEATS):
        os.utime(root / "part1" / "put_away" / "0.mp4")  # the video's index is not remembered
        times = [(time.perf_counter(), time.process_time())]
        (clip,) = load_source("egodex").read_clips(root)
        times.append((time.perf_counter(), time.process_time()))
        frames = clip.frames.read(range(0, len(clip), RATE))
        times.append((time.perf_counter(), time.process_time()))
        assert frames.shape == (SECONDS, 1080, 1920, 3)
        for k, clock in enumerate(("wall", "processor")):
            start, read, end = (t[k] for t in times)
            for part, value in (("annotation", read - start), ("frames", end - read), ("total", end - start)):
                key = f"{part}, {clock} s"
                best[key] = min(best.get(key, np.inf), value)
    return {key: round(value, 3) for key, value in best.items()}


def main() -> None:
    """Measures every source and writes the results."""
    results: dict = {"machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} core(s)"}
    for key_frames in (30, 250):
        with tempfile.TemporaryDirectory() as folder:
            results[f"key frame every {key_frames}"] = measure(lengthen(Path(folder), key_frames))
    out = Path(__file__).parent / "results" / "sources.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    tyro.cli(main)
