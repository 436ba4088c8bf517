"""List the sources of human video, check a download of one, or write a small fake of it."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True)
class Check:
    """Walk a download: counts, missing parts, whether hands, cameras and depth agree, and a sheet of overlays."""

    name: Positional[str]
    """Source."""
    root: Positional[Path]
    """Its folder."""
    sheet: Path | None = None
    """PNG of overlays to write; default: NAME_check.png in the working folder."""
    limit: int | None = None
    """Look at this many clips only."""
    mano: Path | None = None
    """Folder of imported MANO models; default: where `vipa import-weights mano` puts them."""
    tracker: str | None = None
    """Hand tracker whose results stand in for hands that the source does not have."""
    hands: Path | None = None
    """That tracker's results, one file or folder a clip, or its model file."""
    fov_degrees: float | None = None
    """Horizontal field of view, for videos without intrinsics."""
    view: str | None = None
    """Camera, where the source has several."""
    cache: Path | None = None
    """Folder for what hand trackers find; by default the one that `vipa annotate` reads too."""


@dataclass(frozen=True)
class Fixture:
    """Write a small faithful fake of a data set, filmed in the tabletop world."""

    name: Positional[str]
    """Source."""
    out: Positional[Path]
    """Folder to write."""


@dataclass(frozen=True)
class List:
    """Every source with its licence, what to download and the expected layout."""

    name: Positional[str | None] = None
    """Only this one, with its layout."""


def main(args: list[str]) -> None:
    import tyro

    command = tyro.extras.subcommand_cli_from_dict(
        {"check": Check, "fixture": Fixture, "list": List}, prog="vipa sources", args=args or ["list"]
    )
    {Check: _check, Fixture: _fixture, List: _list}[type(command)](command)


def _check(command: Check) -> None:
    from vipa.clips.check import check_source
    from vipa.clips.sources import SourceOptions, with_cache

    options = SourceOptions(
        mano=command.mano,
        tracker=command.tracker,
        hands=command.hands,
        fov_degrees=command.fov_degrees,
        view=command.view,
        cache=command.cache,
    )
    options = with_cache(command.name, options)
    sheet = command.sheet or Path(f"{command.name}_check.png")
    report = check_source(command.name, command.root, options=options, limit=command.limit, sheet=sheet)
    print(report.text())


def _fixture(command: Fixture) -> None:
    from vipa.worlds.fixtures import write_fixture

    fixture = write_fixture(command.name, command.out)
    options = [f"--mano {fixture.options.mano}"] if fixture.options.mano else []
    if fixture.options.fov_degrees:
        options.append(f"--fov-degrees {fixture.options.fov_degrees:g}")
    print(f"{command.name}: {len(fixture.truth)} good and {len(fixture.broken)} broken clips. Look at it with")
    print(" ".join(["vipa sources check", command.name, str(fixture.root), *options]))


def _list(command: List) -> None:
    from vipa.clips.sources import load_source, source_names

    for name in [command.name] if command.name else source_names():
        source = load_source(name)
        print(f"{name}\n  licence:  {source.LICENCE}\n  download: {source.DOWNLOAD}")
        if command.name:
            print("  layout:\n    " + source.LAYOUT.strip().replace("\n", "\n    "))
    if not command.name:
        print("\n`vipa sources list NAME` shows the layout that is expected.")
