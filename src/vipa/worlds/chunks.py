"""Rendered arrays in a folder, chunk by chunk of seeds, so that an interrupted rendering continues."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import track

from vipa.io.files import whole_file

CHUNK = 250
"""Seeds in a file."""

Render = Callable[[range], dict[str, np.ndarray]]
"""Arrays by name of some seeds; sent to other processes."""


def render_chunks(folder: Path, name: str, seeds: range, render: Render, workers: int) -> list[Path]:
    """The files (npz) of these seeds, rendered where the folder lacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    paths = [folder / f"{name}_{chunk.start}_{chunk.stop}.npz" for chunk in chunks]
    missing = [(chunk, path) for chunk, path in zip(chunks, paths) if not path.exists()]
    if missing:
        with ProcessPoolExecutor(workers) as pool:
            done = pool.map(partial(_save_chunk, render), *zip(*missing))
            for _ in track(done, f"rendering {name}", total=len(missing)):
                pass
    return paths


def _save_chunk(render: Render, chunk: range, path: Path) -> None:
    arrays = render(chunk)
    with whole_file(path) as beside, beside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
