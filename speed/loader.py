"""Pictures a second of the loader of robot episodes, beside LeRobot's own loader and PyAV's decoding.

    vipa record tabletop --out FOLDER/h264 --episodes 40 --views agent wrist --size 256 --pictures video
    python speed/loader.py --work FOLDER     # where lerobot is installed (Python 3.12)

FOLDER/av1 is made of it by LeRobot's own writer, as it writes by default (AV1, every second frame a key frame). Rows in
random order, in batches of 8, each with its pictures, its state and a chunk of 16 actions:

    vipa       the whole loader of a stage 3 (`images: pixels`): also tokenises, and resizes for nano's two encoders
    lerobot    LeRobotDataset in torch's DataLoader, as its training reads it; by torchcodec (its default), and by PyAV
    pyav       PyAV alone: every frame of every file, in order, as RGB

Every measurement is a process of its own; they are taken in turn, ROUNDS times, and the median counts. `cpu` is
processor time of all threads and loader processes. Results: FOLDER/loader.json; what is there is not measured again.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from in_turn import in_turn

ROUNDS, WARM, STEPS, BATCH, HORIZON = 3, 5, 60, 8, 16
SETS = ("h264", "av1")


def lerobot_writes(source: Path, target: Path) -> None:
    """The episodes of `source` by LeRobot's writer, with its defaults."""
    import shutil

    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from vipa.robots.lerobot_data import open_robot_data

    episodes = open_robot_data(source)
    info = json.loads((source / "meta" / "info.json").read_text())
    named = {n: f for n, f in info["features"].items() if n == "action" or n.startswith("observation.")}
    features = {n: {key: f[key] for key in ("dtype", "shape", "names")} for n, f in named.items()}
    data = LeRobotDataset.create("local/av1", fps=info["fps"], features=features, root=target)
    for episode in episodes:
        views = {name: frames.read(range(len(episode))) for name, frames in episode.views.items()}
        for t in range(len(episode)):
            pictures = {f"observation.images.{name}": images[t] for name, images in views.items()}
            numbers = {"observation.state": episode.state[t].astype("float32")}
            numbers["action"] = episode.action[t].astype("float32")
            data.add_frame({**pictures, **numbers, "task": episode.text})
        data.save_episode()
    data.finalize()
    shutil.copy(source / "contract.json", target / "contract.json")


def vipa_batches(root: Path, workers: int, _: str) -> Iterator[Any]:
    from vipa.data.demonstrations import Demonstrations
    from vipa.data.images import Pixels
    from vipa.data.loader import steps_of
    from vipa.data.mixture import Mixture
    from vipa.data.spec import DataSpec
    from vipa.models.packing import Packer
    from vipa.models.starts import load_start

    _, processor = load_start("nano:stage2")
    component = Demonstrations(DataSpec("episodes", root, BATCH, noise_draws=1), Packer(processor))
    mixture = Mixture([(component, Pixels(component, processor, spatial=True))], seed=0)
    return steps_of(mixture, 0, WARM + STEPS, workers)


def lerobot_batches(root: Path, workers: int, backend: str) -> Iterator[Any]:
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    rate = json.loads((root / "meta" / "info.json").read_text())["fps"]
    chunk = {"action": [i / rate for i in range(HORIZON)]}
    data = LeRobotDataset(f"local/{root.name}", root=root, delta_timestamps=chunk, video_backend=backend)
    loader = torch.utils.data.DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, prefetch_factor=4 if workers else None
    )
    while True:
        yield from loader


def processor_seconds() -> float:
    """Of this process and of its loader, which still runs."""
    import psutil

    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))


def measured(root: Path, what: str, workers: int) -> dict[str, float]:
    if what == "pyav":
        return raw(root)
    kind, _, backend = what.partition(" ")
    batches = {"vipa": vipa_batches, "lerobot": lerobot_batches}[kind](root, workers, backend)
    for _ in range(WARM):
        next(batches)
    time.sleep(2 * (workers > 0))  # until it is as far ahead as it goes: what it made before is not counted
    for _ in range(4 * workers):
        next(batches)
    wall, cpu = time.perf_counter(), processor_seconds()
    steps = STEPS - 4 * workers
    for _ in range(steps):
        next(batches)
    pictures = (
        steps * BATCH * sum("images" in n for n in json.loads((root / "meta/info.json").read_text())["features"])
    )
    return rates(pictures, time.perf_counter() - wall, processor_seconds() - cpu)


def raw(root: Path) -> dict[str, float]:
    import av

    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    for path in sorted((root / "videos").rglob("*.mp4")):
        with av.open(str(path)) as container:
            container.streams.video[0].thread_count = 1
            count += sum(frame.to_ndarray(format="rgb24").size > 0 for frame in container.decode(video=0))
    return rates(count, time.perf_counter() - wall, time.process_time() - cpu)


def rates(pictures: int, wall: float, cpu: float) -> dict[str, float]:
    return {"frames_per_second": pictures / wall, "frames_per_cpu_second": pictures / cpu}


LOADERS = ("vipa", "lerobot torchcodec", "lerobot pyav")
PARTS = {
    **{f"{name}: pyav": (name, "pyav", 0) for name in SETS},
    **{
        f"{name}: {what}, {workers} workers": (name, what, workers)
        for name in SETS
        for workers in (0, 1)
        for what in LOADERS
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--part", choices=sorted(PARTS), help="one measurement, in this process")
    given = parser.parse_args()
    work: Path = given.work
    if given.part:
        name, what, workers = PARTS[given.part]
        print("RESULT", json.dumps(measured(work / name, what, workers)))
        return
    if not (work / "av1" / "contract.json").exists():
        lerobot_writes(work / "h264", work / "av1")
    in_turn(__file__, work, PARTS, ROUNDS)


if __name__ == "__main__":
    main()
