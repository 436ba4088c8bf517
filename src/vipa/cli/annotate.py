"""Human videos to a Hand3D data set: questions about space, and wrist motions."""

import os
from pathlib import Path
from typing import Annotated

import tyro

Positional = tyro.conf.Positional


def main(args: list[str]) -> None:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: its threads spin (vipa.io.workers)
    from vipa.clips.sources import NO_OPTIONS, SourceOptions
    from vipa.hand3d.config import AnnotateConfig

    def annotate(
        source: Annotated[str, Positional],
        root: Annotated[Path | None, Positional] = None,
        *,
        out: Path,
        engine: str = "local",
        workers: int = 1,
        options: Annotated[SourceOptions, tyro.conf.arg(name="")] = NO_OPTIONS,
        config: Annotated[AnnotateConfig, tyro.conf.arg(name="")] = AnnotateConfig(),  # noqa: B008 (frozen)
    ) -> None:
        """Annotates every clip of a source into the data set at `out`. A second run continues the first.

        source: a video or a folder of videos of your own (docs/your-video.md); or, before root, the name of a source
        (`vipa sources` lists them). root: folder that holds its files. out: folder of the
        data set; clips that cannot be used are in its report.json with the reason.
        engine: local, or ray with so many workers.
        """
        from vipa.hand3d.pipeline.annotate import annotate_source
        from vipa.io.progress import counter

        source, root = source_and_root(source, root)
        with counter("annotating", "clips") as count:
            report = annotate_source(
                source, root, out, config, lambda clip: count(clip.clip_id), options, engine, workers
            )
        print(report.summary())
        if report.done == 0:
            raise ValueError(f"no clip of {root} could be used; {out}/report.json has the reasons")
        print(f"to look at it: vipa view {out}")

    tyro.cli(annotate, args=args, prog="vipa annotate")


def source_and_root(source: str, root: Path | None) -> tuple[str, Path]:
    """A path alone is of the source `folder`. ValueError where it is neither a path nor, with a root, a source."""
    from vipa.clips.sources import source_names

    if root is not None:
        return source, root
    if source in source_names():
        raise ValueError(
            f"{source} is a source: say where its files are, vipa annotate {source} FOLDER --out DATA"
        )
    if not Path(source).exists():
        raise ValueError(f"{source}: no such file or folder; give a video, a folder of videos, or SOURCE FOLDER")
    return "folder", Path(source)
