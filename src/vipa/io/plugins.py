"""What users add to, found by its name: a file of one of our folders, or an entry point of another package.

SOURCES = Plugins("source", "vipa.clips.sources", "vipa.sources")
module = SOURCES.load("egodex")
"""

import ast
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.abc import InspectLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Plugins:
    """All things of one kind.

    what: one of them, in words, for errors. package: every module in it is one, but those that begin with `_`. group:
    of entry points; each stands for a module or an object. suffix: only files that end so count, by what comes before
    (with "_points", `cut3r_points.py` is "cut3r"). Hyphens in a name are as good as underscores.
    """

    what: str
    package: str
    group: str
    suffix: str = ""

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported for them."""
        return sorted(self._found())

    def load(self, name: str) -> Any:
        """The module of this name, or what its entry point stands for. ValueError as `check`, and for an entry point
        that cannot be loaded."""
        origin, entry = self.check(name)
        if entry is None:
            return importlib.import_module(origin)
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{self.what} {name!r}: {origin} cannot be loaded ({error})") from error

    def check(self, name: str) -> tuple[str, EntryPoint | None]:
        """Where this name is from, and its entry point unless it is a file of ours; nothing is imported.

        ValueError for a name that nothing has, with the known ones, and for one that two things have, with where both
        are from.
        """
        found = {_key(known): origins for known, origins in self._found().items()}.get(_key(name))
        if found is None:
            raise ValueError(f"{self.what} {name!r} is unknown; known: {', '.join(self.names())}")
        first, *others = found.items()
        if others:
            both = " and ".join(origin for origin, _ in (first, *others))
            raise ValueError(f"{self.what} {name!r} is there {len(found)} times: {both}; rename or uninstall one")
        return first

    def summary(self, name: str) -> str:
        """First line of its docstring, read from its file: it is not imported. "" where there is none."""
        origin, entry = next(iter(self._found()[name].items()))
        try:
            spec = find_spec(entry.module if entry else origin)
        except ImportError:
            return ""
        source = spec.loader.get_source(spec.name) if spec and isinstance(spec.loader, InspectLoader) else None
        tree = ast.parse(source or "")
        if entry and entry.attr:
            tree = next((node for node in tree.body if getattr(node, "name", None) == entry.attr), tree)
        docstring = ast.get_docstring(tree) if isinstance(tree, DOCUMENTED) else None
        return (docstring or "").partition("\n")[0]

    def _found(self) -> dict[str, dict[str, EntryPoint | None]]:
        """Name -> where from -> its entry point, None for a file of ours."""
        found: dict[str, dict[str, EntryPoint | None]] = {}
        spec = find_spec(self.package)
        places = tuple(spec.submodule_search_locations or ()) if spec else ()
        for module in _modules(
            places, tuple(os.stat(place).st_mtime_ns for place in places if os.path.isdir(place))
        ):
            if module.endswith(self.suffix) and not module.startswith("_"):
                found[module.removesuffix(self.suffix)] = {f"{self.package}.{module}": None}
        spelling = {_key(name): name for name in found}
        for entry in _entries(self.group, tuple(sys.path), entry_points):
            name = spelling.setdefault(_key(entry.name), entry.name)
            origin = f"{entry.value} (package {entry.dist.name})" if entry.dist else entry.value
            found.setdefault(name, {})[origin] = entry
        return found


@cache
def _modules(places: tuple[str, ...], changed: tuple[int, ...]) -> list[str]:
    """In these folders, which changed at these times."""
    return [module.name for module in pkgutil.iter_modules(places)]


@cache
def _entries(group: str, places: tuple[str, ...], find: Callable[..., Iterable[EntryPoint]]) -> list[EntryPoint]:
    """Of all packages in these places: `find` reads the metadata of each of them, every time."""
    return list(find(group=group))


def _key(name: str) -> str:
    return name.replace("-", "_")
