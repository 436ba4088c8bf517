"""Bring official weights into this project's form: CUT3R (safetensors), MANO (npz)."""

from pathlib import Path
from typing import Annotated

import tyro


def cut3r(path: Annotated[Path, tyro.conf.Positional], /, out: Path) -> None:
    """Convert a CUT3R checkpoint as its authors publish it; nothing in the file is executed.

    path: `cut3r_512_dpt_4_64.pth` or `cut3r_224_linear_4.pth` (CC BY-NC-SA 4.0). out: folder for `from_pretrained`.
    """
    from vipa.models.cut3r import import_cut3r

    print(f"wrote {import_cut3r(path, out)}")


def mano(path: Annotated[Path, tyro.conf.Positional], /, out: Path | None = None) -> None:
    """Read MANO's hand models once, safely, and keep them where every command finds them.

    path: folder with MANO_LEFT.pkl and MANO_RIGHT.pkl (or files named alike) somewhere below, the downloaded zip, or
    MANO_RIGHT.pkl; from https://mano.is.tue.mpg.de, with its own licence. out: left out, $VIPA_MANO or
    ~/.cache/vipa/mano, where commands look; of another folder they are told by $VIPA_MANO.
    """
    from vipa.hands.mano_files import import_mano, mano_folder

    written = import_mano(path, out)
    for side, file in written.items():
        print(f"wrote {file} ({side} hand)")
    if missing := {"left", "right"} - set(written):
        print(f"no {missing.pop()} hand in {path}: data with it needs that file too")
    if out is not None and out.resolve() != mano_folder().resolve():
        print(f"commands look in {mano_folder()}; say where these are with VIPA_MANO={out}")


def main(args: list[str]) -> None:
    tyro.extras.subcommand_cli_from_dict({"cut3r": cut3r, "mano": mano}, args=args, prog="vipa import-weights")
