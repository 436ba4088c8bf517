"""Human videos to a Hand3D data set: questions about space, and wrist motions."""

from pathlib import Path
from typing import Annotated

import tyro

Positional = tyro.conf.Positional


def main(args: list[str]) -> None:
    from vipa.clips.sources import NO_OPTIONS, SourceOptions
    from vipa.hand3d.config import AnnotateConfig

    def annotate(
        source: Annotated[str, Positional],
        root: Annotated[Path, Positional],
        out: Path,
        engine: str = "local",
        workers: int = 1,
        options: Annotated[SourceOptions, tyro.conf.arg(name="")] = NO_OPTIONS,
        config: Annotated[AnnotateConfig, tyro.conf.arg(name="")] = AnnotateConfig(),  # noqa: B008 (frozen)
    ) -> None:
        """Annotates every clip of a source into the data set at `out`. A second run continues the first.

        source: name of a source (`vipa sources` lists them). root: folder that holds its files. out: folder of the
        data set; clips that cannot be used are in its report.json with the reason.
        engine: local, or ray with so many workers.
        """
        from vipa.hand3d.pipeline.annotate import annotate_source
        from vipa.io.progress import counter

        with counter("annotating", "clips") as count:
            report = annotate_source(
                source, root, out, config, lambda clip: count(clip.clip_id), options, engine, workers
            )
        print(report.summary())
        if report.done == 0:
            raise ValueError(f"no clip of {root} could be used; {out}/report.json has the reasons")

    tyro.cli(annotate, args=args, prog="vipa annotate")
