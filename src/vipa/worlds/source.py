"""Source `tabletop`: clips filmed in the project's own tabletop world (`vipa.worlds`), with exact ground truth.

Nothing is downloaded and no video is stored: `tabletop.json` names the seeds, and reading films them again,
the same to the last bit.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from vipa.clips.clip import Clip, ClipError
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.io.files import atomic_write
from vipa.worlds.seeds import seeds_of

LICENCE = "Apache-2.0"
DOWNLOAD = "Nothing to download: vipa.worlds.source.write_manifest(root, split, count) makes a folder."
LAYOUT = """
root/
  tabletop.json        or <any folder>/tabletop.json, one per split:
                       {"version": 1, "split": "train", "count": 100, "first_seed": 10000000,
                        "width": 112, "height": 112, "seconds": null, "rate": 10.0, "ambiguity": 0.0}
                       split: train, validation or test; its seeds are first_seed ... first_seed + count - 1
                       seconds: length of every clip; null: as long as its actions take
                       ambiguity: 0 to 1, of the scenes (docs/worlds.md); may be left out for 0
"""

VERSION = 1
"""Of the world: raised when the same seed gives another clip."""


@dataclass(frozen=True)
class Manifest:
    """What to film: `count` clips from `first_seed` on, all of one split. Sizes in pixels, rate per second."""

    version: int
    split: str
    count: int
    first_seed: int
    width: int
    height: int
    seconds: float | None
    rate: float
    ambiguity: float = 0.0


def write_manifest(
    root: Path,
    split: str,
    count: int,
    *,
    offset: int = 0,
    size: tuple[int, int] = (112, 112),
    seconds: float | None = None,
    rate: float = 10.0,
    ambiguity: float = 0.0,
) -> Path:
    """Write root/tabletop.json for `count` clips of a split (train, validation, test); returns its path.

    offset: seeds to leave out at the split's beginning. ValueError where a value is wrong.
    """
    first = seeds_of(split).start + offset
    manifest = Manifest(VERSION, split, count, first, size[0], size[1], seconds, rate, ambiguity)
    path = Path(root) / "tabletop.json"
    _check(manifest, path)
    atomic_write(path, json.dumps(asdict(manifest), indent=2) + "\n")
    return path


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file. ValueError naming the file, what is wrong in it and what to do."""
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file ({error}); write it again with write_manifest") from None
    names = {f.name for f in fields(Manifest)}
    if not isinstance(values, dict) or set(values) | {"ambiguity"} != names:
        have = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{path}: expected exactly the fields {sorted(names)}, found {have}")
    manifest = Manifest(**values)
    _check(manifest, path)
    return manifest


def _check(m: Manifest, path: Path) -> None:
    if m.version != VERSION:
        raise ValueError(f"{path}: version {m.version} of the world, this is version {VERSION}: write it again")
    if m.split not in ("train", "validation", "test"):
        raise ValueError(f"{path}: split {m.split!r} must be train, validation or test")
    for name in ("count", "first_seed", "width", "height"):
        value = getattr(m, name)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise ValueError(f"{path}: {name} must be a whole number above 0, got {value!r}")
    for name in ("seconds", "rate"):
        value = getattr(m, name)
        if not (value is None and name == "seconds") and not (isinstance(value, int | float) and value > 0):
            raise ValueError(f"{path}: {name} must be a number above 0, got {value!r}")
    if not isinstance(m.ambiguity, int | float) or not 0 <= m.ambiguity <= 1:
        raise ValueError(f"{path}: ambiguity must be a number in 0..1, got {m.ambiguity!r}")
    seeds = seeds_of(m.split)
    if m.first_seed not in seeds or m.first_seed + m.count - 1 not in seeds:
        raise ValueError(
            f"{path}: seeds {m.first_seed} to {m.first_seed + m.count - 1} leave the split {m.split} "
            f"({seeds.start} to {seeds.stop - 1})"
        )


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    """Every clip of the manifests below `root`, by folder, then seed; pictures are drawn when they are read.

    FileNotFoundError for a root that is not there, ValueError for one without a manifest or with a wrong one.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"tabletop: folder {root} does not exist; make it with write_manifest")
    paths = [root] if root.is_file() else sorted(root.rglob("tabletop.json"))
    manifests = [read_manifest(path) for path in paths]
    if not manifests:
        raise ValueError(f"tabletop: no tabletop.json below {root}; make one with write_manifest")
    return _film(manifests)


def _film(manifests: list[Manifest]) -> Iterator[Clip | ClipError]:
    from vipa.worlds.film import (
        film_clip,  # finds out how this machine renders, which a list of sources need not wait for
    )

    for m in manifests:
        for seed in range(m.first_seed, m.first_seed + m.count):
            size = (m.width, m.height)
            clip = film_clip(seed, seconds=m.seconds, rate=m.rate, size=size, ambiguity=m.ambiguity)
            yield replace(clip, split=m.split)  # type: ignore[arg-type]
