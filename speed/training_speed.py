"""Speed of nano's trainings and of their data: `python speed/training_speed.py --work FOLDER`.

    stages    samples a second of each stage, encoder tokens cached and pictures encoded live, by one loader worker
    packing   stage 1 on 75 questions about each pair of frames: packed behind one prefix, and one to a sequence
    frames    pictures a second of the loader of robot episodes (LeRobot v3, H.264 of 640 x 480, every second frame a
              key frame, as LeRobot writes it), in random and in recorded order, beside PyAV's own decoding

Every measurement is a process of its own with one thread; they are taken in turn, ROUNDS times, and the median counts.
`cpu` is processor time of that process (its loader is another), which a busy machine changes little; `wall` is what
the clock said, beside whatever else ran. Results: FOLDER/training_speed.json; what is there is not measured again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

ROUNDS, WARM, STEPS = 2, 2, 5
QUESTIONS = 75
SIZE = (640, 480)


def make_data(work: Path) -> None:
    """work/hand3d, episodes and lerobot of the tabletop world; questions.jsonl with its images."""
    import numpy as np
    from PIL import Image

    from vipa.clips.video import ArrayFrames
    from vipa.hand3d.dataset.reader import Hand3D
    from vipa.hand3d.pipeline.annotate import annotate
    from vipa.robots.known.tabletop import collect
    from vipa.robots.lerobot_data import open_robot_data
    from vipa.robots.lerobot_export import EpisodeWriter
    from vipa.worlds.film import film_clip
    from vipa.worlds.seeds import TRAIN

    annotate((replace(film_clip(TRAIN[i]), split="train") for i in range(12)), work / "hand3d")
    collect(work / "episodes", TRAIN[:8])
    episodes = open_robot_data(work / "episodes")
    writer = EpisodeWriter(work / "lerobot", episodes.contract, "video")
    for episode in episodes:
        views: dict[str, Any] = {}
        for name, view in episode.views.items():
            pictures = [Image.fromarray(image).resize(SIZE) for image in view.read(range(len(view)))]
            views[name] = ArrayFrames(np.stack([np.asarray(picture) for picture in pictures]))
        writer.add(replace(episode, views=views))
    writer.finish()
    data = Hand3D(work / "hand3d")
    records = list(data.visual("train"))
    pairs = sorted({tuple(r.frame_ids) for r in records if len(r.frame_ids) == 2})[:8]
    (work / "images").mkdir(exist_ok=True)
    lines = []
    for number, pair in enumerate(pairs):
        names = []
        for place, frame in enumerate(pair):
            names.append(f"{number}_{place}.jpg")
            (work / "images" / names[-1]).write_bytes(data.encoded_image(frame))
        said = []
        for record in (records[(number * QUESTIONS + i) % len(records)] for i in range(QUESTIONS)):
            said += [{"from": "human", "value": record.question}, {"from": "gpt", "value": record.answer}]
        lines.append(json.dumps({"image": names, "conversations": said}))
    (work / "questions.jsonl").write_text("\n".join(lines) + "\n")


def steps(work: Path, stage: str, images: str, turns: int | None) -> dict[str, float]:
    """samples a second of a training, and the share of the time that it waited for data."""
    import vipa.training.loop as loop
    from vipa.training.known import TRAININGS

    marks: list[tuple[float, float]] = []

    @contextmanager
    def clock(*_: Any, **__: Any) -> Iterator[Callable[[float, int], None]]:
        yield lambda loss, samples: marks.append((time.perf_counter(), time.process_time()))

    loop.training_progress = clock  # in the place of the progress bar
    data = work / {"stage3": "episodes"}.get(stage, "hand3d")
    with tempfile.TemporaryDirectory() as folder:
        run = TRAININGS.load(stage).make(data, Path(folder))
        if turns is not None:
            spec = replace(
                run.data[0], kind="conversations", path=work / "questions.jsonl", batch=QUESTIONS, turns=turns
            )
            run = replace(run, data=(spec,))
        run = replace(run, images=images, steps=WARM + STEPS, threads=1, workers=1, save_every=10**6)
        result = loop.train(replace(run, log_every=WARM + STEPS, device="cpu"))
        line = json.loads(result.log.read_text().splitlines()[-1])
    samples = STEPS * run.data[0].batch
    wall, cpu = (last - first for first, last in zip(marks[WARM - 1], marks[-1]))
    return {
        "samples_per_cpu_second": samples / cpu,
        "samples_per_second": samples / wall,
        "data_wait": line["data_wait"],
    }


def frames(work: Path, order: str) -> dict[str, float]:
    """Pictures a second."""
    import numpy as np

    from vipa.data.demonstrations import Demonstrations
    from vipa.data.spec import DataSpec

    if order == "pyav":
        import av

        def read() -> int:
            count = 0
            for path in sorted((work / "lerobot" / "videos").rglob("*.mp4")):
                with av.open(str(path)) as container:
                    container.streams.video[0].thread_count = 1
                    count += sum(frame.to_ndarray(format="rgb24").size > 0 for frame in container.decode(video=0))
            return count
    else:
        data = Demonstrations(DataSpec("episodes", work / "lerobot", batch=1), None)  # type: ignore[arg-type]
        rows = np.arange(len(data)) if order == "recorded" else np.random.default_rng(0).permutation(len(data))

        def read() -> int:
            return sum(len(data.read(data.group(int(row)))) for row in rows)

    read()  # the index of the video is made once
    wall, cpu = time.perf_counter(), time.process_time()
    count = read()
    return {
        "frames_per_cpu_second": count / (time.process_time() - cpu),
        "frames_per_second": count / (time.perf_counter() - wall),
    }


PARTS: dict[str, tuple[Callable[..., dict[str, float]], tuple[Any, ...]]] = {
    **{
        f"{stage}, {images}": (steps, (stage, images, None))
        for stage in ("stage1", "stage2", "stage3")
        for images in ("tokens", "pixels")
    },
    **{
        f"packing, {images}, {turns} to a sequence": (steps, ("stage1", images, turns))
        for images in ("pixels", "tokens")
        for turns in (QUESTIONS, 1)
    },
    **{f"frames, {order}": (frames, (order,)) for order in ("pyav", "random", "recorded")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--part", choices=sorted(PARTS), help="one measurement, in this process")
    given = parser.parse_args()
    work: Path = given.work
    if given.part:
        measure, arguments = PARTS[given.part]
        print("RESULT", json.dumps(measure(work, *arguments)))
        return
    if not (work / "questions.jsonl").exists():
        make_data(work)
    path = work / "training_speed.json"
    found: dict[str, list[dict[str, float]]] = json.loads(path.read_text()) if path.exists() else {}
    for number in range(ROUNDS):
        for part in PARTS:
            if len(found.setdefault(part, [])) > number:
                continue
            command = [sys.executable, __file__, "--work", str(work), "--part", part]
            ran = subprocess.run(
                command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
            said = [line for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
            if not said:
                raise RuntimeError(f"{part}: {ran.stderr[-2000:]}")
            found[part].append(json.loads(said[0].removeprefix("RESULT ")))
            path.write_text(json.dumps(found, indent=1))
            print(number, part, found[part][-1], flush=True)
    for part, some in found.items():
        median = {name: statistics.median(one[name] for one in some) for name in some[0]}
        print(f"{part:<40}", "  ".join(f"{name} {value:.3g}" for name, value in median.items()))


if __name__ == "__main__":
    main()
