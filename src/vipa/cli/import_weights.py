"""Bring official weights into this project's form (safetensors + configuration)."""

from pathlib import Path
from typing import Literal

import tyro


def import_weights(
    kind: tyro.conf.Positional[Literal["cut3r"]], path: tyro.conf.Positional[Path], out: Path
) -> None:
    """Convert a checkpoint as its authors publish it; nothing in the file is executed.

    kind: cut3r reads `cut3r_512_dpt_4_64.pth` and `cut3r_224_linear_4.pth` (CC BY-NC-SA 4.0).
    path: the file. out: folder for `from_pretrained`.
    """
    from vipa.models.cut3r import import_cut3r

    print(f"wrote {import_cut3r(path, out)}")


def main(args: list[str]) -> None:
    tyro.cli(import_weights, args=args, prog="vipa import-weights")
