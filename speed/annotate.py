"""Frames per second of annotation apart from its networks, by stage: CPU time, so that a busy machine does not
change the figures (OMP_NUM_THREADS=1).

    python speed/annotate.py --clips 20
    python speed/annotate.py --clips 64 --engine ray --workers 1    # then 2, 4 ...

Clips are made in memory with 640 x 480 images, depth (a wall and a slab on it) of unknown unit and boxes, so that
calibration and localisation run; "frames" are the sampled ones that went through every stage.
"""

import tempfile
import time
from dataclasses import dataclass, replace

import numpy as np
import tyro
from PIL import Image

from vipa.clips.clip import Clip
from vipa.hand3d.config import AnnotateConfig, FramesConfig, ObjectsConfig
from vipa.hand3d.pipeline.annotate import annotate


@dataclass(frozen=True)
class Same:
    """The same picture or depth image at every frame, for nothing: decoding is the source's work, not annotation's."""

    count: int
    image: np.ndarray

    def __len__(self) -> int:
        return self.count

    def read(self, indices) -> np.ndarray:
        return np.broadcast_to(self.image, (len(indices), *self.image.shape))


def picture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Shades and edges with a camera's noise, so that a JPEG of it costs what one of a video frame costs."""
    coarse = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    shades = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float32)
    edges = np.asarray(coarse.resize(size, Image.Resampling.NEAREST), np.float32)
    return np.clip(0.7 * shades + 0.3 * edges + rng.normal(size=shades.shape) * 3, 0, 255).astype(np.uint8)


def make(number: int, size: tuple[int, int], seconds: float) -> Clip:
    from vipa.clips.example import example_clip

    clip = example_clip(number, seconds=seconds)
    n, camera = len(clip), clip.intrinsics.resized(*size)
    box = np.array([0.3 * size[0], 0.3 * size[1], 0.6 * size[0], 0.6 * size[1]])
    objects = tuple(replace(t, boxes=np.repeat(box[None], n, 0)) for t in clip.objects or ())
    hand = clip.hands[0]
    depth = np.full((size[1], size[0]), 0.25, np.float32)
    left, top, right, bottom = box.astype(int)
    depth[top:bottom, left:right] -= 0.006
    flat = replace(hand, joints_camera=hand.joints_camera * [1, 1, 0] + [0, 0, 0.5])
    return replace(
        clip,
        frames=Same(n, picture(np.random.default_rng(number), size)),
        intrinsics=camera,
        objects=objects,
        hands=(flat,),
        depth=Same(n, depth),
        depth_is_metric=False,
    )


def main(
    clips: int = 20,
    width: int = 640,
    height: int = 480,
    seconds: float = 20.0,
    stored: int | None = None,
    engine: str = "local",
    workers: int = 1,
) -> None:
    config = AnnotateConfig(
        frames=FramesConfig(size=None if stored is None else (stored, stored)),
        objects=ObjectsConfig(positions="points", confidence=0.0),
    )
    seen: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        annotate([make(0, (64, 48), 3.0)], f"{folder}/first", config)  # what is loaded once does not count
        made = (make(i, (width, height), seconds) for i in range(clips))
        report = annotate(
            made,
            f"{folder}/out",
            config,
            lambda r: seen.append((time.perf_counter(), r.num_frames)),
            engine,
            workers,
        )
    if report.refused:
        raise SystemExit(f"refused: {report.refused[0]}")
    spent = {stage: 1000 / rate for stage, rate in report.stage_rates.items()}
    spent["tables"] = 1000 * report.table_seconds / report.num_frames
    print(f"{report.num_frames} sampled frames of {width} x {height}, {clips} clips of {seconds:.0f} s; CPU time")
    for stage, milliseconds in spent.items():
        print(f"  {stage:<10} {milliseconds:7.2f} ms a frame")
    total = sum(spent.values())
    print(f"  all        {total:7.2f} ms, {1000 / total:.0f} frames/s of one core")
    first, last = seen[0][0], seen[-1][0]
    later = [frames for moment, frames in seen if moment > first + 0.01]  # Ray's come several at once
    if later:
        print(f"  {engine}, {workers} worker(s), steady wall clock: {sum(later) / (last - first):.0f} frames/s")


if __name__ == "__main__":
    tyro.cli(main)
