"""What a Hand3D data set is made of (the paper's Tables 1 and 2), and how well its geometry is known."""

from pathlib import Path
from typing import Annotated

import tyro

from vipa.hand3d.dataset.stats import print_stats


def stats(data: Annotated[Path, tyro.conf.Positional]) -> None:
    """Prints composition and quality of the data set in folder `data`, as Markdown tables."""
    print_stats(data)


def main(args: list[str]) -> None:
    tyro.cli(stats, args=args, prog="vipa stats")
