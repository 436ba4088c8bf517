"""Speed of nano's trainings and of their data: `python speed/training_speed.py --work FOLDER`.

    stages    samples a second of each stage, encoder tokens cached and pictures encoded live, by one loader worker
    packing   stage 1 on 75 questions about each pair of frames: packed behind one prefix, and one to a sequence
    before    with --before TREE, a work tree of commit 5e121fb: each stage by that loop, which holds all tokens in
              memory, and by this one with cached tokens, both without a loader process

Every measurement is a process of its own with one thread; they are taken in turn, ROUNDS times, and the median counts.
`cpu` is processor time of that process (its loader is another), which a busy machine changes little; `wall` is what
the clock said, beside whatever else ran. Results: FOLDER/training_speed.json; what is there is not measured again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from in_turn import in_turn

ROUNDS, WARM, STEPS = 3, 2, 8
QUESTIONS = 75


def make_data(work: Path) -> None:
    """work/hand3d and episodes of the tabletop world; questions.jsonl with its images."""
    from vipa.hand3d.dataset.reader import Hand3D
    from vipa.hand3d.pipeline.annotate import annotate
    from vipa.robots.known.tabletop import collect
    from vipa.worlds.film import film_clip
    from vipa.worlds.seeds import TRAIN

    annotate((replace(film_clip(TRAIN[i]), split="train") for i in range(12)), work / "hand3d")
    collect(work / "episodes", TRAIN[:8])
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


def steps(work: Path, stage: str, images: str, turns: int | None, workers: int = 1) -> dict[str, float]:
    """samples a second of a training, and the share of the time that it waited for data. images: or `before`."""
    import vipa.training.loop as loop

    marks: list[tuple[float, float]] = []

    @contextmanager
    def clock(*_: Any, **__: Any) -> Iterator[Callable[[float, int], None]]:
        yield lambda loss, samples: marks.append((time.perf_counter(), time.process_time()))

    loop.training_progress = clock  # in the place of the progress bar
    data = work / {"stage3": "episodes_before" if images == "before" else "episodes"}.get(stage, "hand3d")
    with tempfile.TemporaryDirectory() as folder:
        if images == "before":
            import vipa.training.runs as runs

            run = getattr(runs, stage)("nano", data, Path(folder))
        else:
            from vipa.training.known import TRAININGS

            run = TRAININGS.load(stage).make(data, Path(folder))
            run = replace(run, images=images, workers=workers)
        if turns is not None:
            spec = replace(
                run.data[0], kind="conversations", path=work / "questions.jsonl", batch=QUESTIONS, turns=turns
            )
            run = replace(run, data=(spec,))
        run = replace(run, steps=WARM + STEPS, threads=1, save_every=10**6, log_every=WARM + STEPS)
        result = loop.train(replace(run, device="cpu"))
        line = json.loads(result.log.read_text().splitlines()[-1])
    samples = STEPS * run.data[0].batch
    wall, cpu = (last - first for first, last in zip(marks[WARM - 1], marks[-1]))
    return {
        "samples_per_cpu_second": samples / cpu,
        "samples_per_second": samples / wall,
        "data_wait": line.get("data_wait", 0.0),
    }


STAGES = ("stage1", "stage2", "stage3")
PARTS: dict[str, tuple[Any, ...]] = {
    **{f"{stage}, {images}": (stage, images, None) for stage in STAGES for images in ("tokens", "pixels")},
    **{
        f"packing, {images}, {turns} to a sequence": ("stage1", images, turns)
        for images in ("pixels", "tokens")
        for turns in (QUESTIONS, 1)
    },
}
BESIDE: dict[str, tuple[Any, ...]] = {
    f"{stage}, loop {which}": (stage, images, None, 0)
    for stage in STAGES
    for which, images in (("before", "before"), ("now", "tokens"))
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="a work tree of commit 5e121fb")
    parser.add_argument("--part", choices=sorted(PARTS | BESIDE), help="one measurement, in this process")
    given = parser.parse_args()
    if given.part:
        print("RESULT", json.dumps(steps(given.work, *(PARTS | BESIDE)[given.part])))
        return
    if not (given.work / "questions.jsonl").exists():
        make_data(given.work)
    if given.before and not (given.work / "episodes_before").exists():
        command = (sys.executable, "-c", EPISODES_BEFORE, str(given.work / "episodes_before"))
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(given.before / "src")})
    beside = BESIDE if given.before else {}
    trees = {part: given.before for part in beside if "before" in part}
    in_turn(__file__, given.work, (*beside, *PARTS), ROUNDS, trees)


EPISODES_BEFORE = """
import sys
from pathlib import Path
from vipa.robots.known.tabletop import collect
from vipa.worlds.seeds import TRAIN
collect(Path(sys.argv[1]), TRAIN[:8])
"""

if __name__ == "__main__":
    main()
