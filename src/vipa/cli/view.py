"""A page of records with their pictures, for looking at a Hand3D data set."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def view(
    data: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    split: Literal["train", "validation", "test"] | None = None,
    count: int = 24,
    seed: int = 0,
) -> None:
    """Writes a self-contained HTML page of `count` questions and a third as many motions.

    data: folder of the data set. out: the page; by default gallery.html in that folder. split: all where not given.
    """
    from vipa.hand3d.dataset import Hand3D
    from vipa.hand3d.gallery import write_gallery

    print(
        f"written: {write_gallery(Hand3D(data), out or data / 'gallery.html', split=split, count=count, seed=seed)}"
    )


def main(args: list[str]) -> None:
    tyro.cli(view, args=args, prog="vipa view")
