"""A page of clips with their pictures, questions and motions; or one clip in the Rerun viewer."""

from pathlib import Path
from typing import Annotated

import tyro


def view(
    data: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    clips: int = 12,
    clip: str | None = None,
    rerun: bool = False,
) -> None:
    """Writes a self-contained HTML page of a Hand3D data set, or opens one clip in Rerun's 3D viewer.

    data: folder of the data set. out: the page, by default gallery.html in that folder; with --rerun a recording
    (.rrd) instead of the viewer. clips: how many are shown. clip: id of the one to show.
    """
    from vipa.hand3d.dataset import Hand3D
    from vipa.hand3d.view import view as write_page
    from vipa.hand3d.view import view_clip

    if not rerun:
        print(f"written: {write_page(data, out, clips, clip)}")
        return
    first = next(Hand3D(data).clips(), None)
    if first is None:
        raise ValueError(f"{data}: no clips to show")
    view_clip(data, clip or first.id, save=out)


def main(args: list[str]) -> None:
    tyro.cli(view, args=args, prog="vipa view")
