"""How fast the tabletop world draws: `python speed/worlds.py`. One process; recorded in worlds.txt beside it."""

import os
import time

import tyro

from vipa.worlds.film import film_clip
from vipa.worlds.stills import sequence, still


def rate(function, count: int) -> float:
    """Calls of function(0) ... function(count - 1) per second, after one to warm up."""
    function(0)
    start = time.perf_counter()
    for i in range(count):
        function(i)
    return count / (time.perf_counter() - start)


def main() -> None:
    """Prints the rates."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for size in (112, 224, 448):
        clip = film_clip(1, seconds=12.0, size=(size, size))
        frames = rate(lambda i, clip=clip: clip.frames.read([i]), 100)
        print(
            f"{size} px: stills/s (new scene, with segmentation) {rate(lambda i, s=size: still(i, s), 60):.0f}; "
            f"sequence frames/s {4 * rate(lambda i, s=size: sequence(i, 4, s), 15):.0f}; "
            f"film frames/s (colour and depth) {frames:.0f}"
        )
    print(f"clips planned per second, not drawn: {rate(film_clip, 20):.0f}")


if __name__ == "__main__":
    tyro.cli(main)
