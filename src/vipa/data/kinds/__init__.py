"""Kinds of training data, found by name: a module here, or an entry point of the group `vipa.data`.

A kind is a module with `open_component(spec, packer, width) -> Component`; width: of the model's hidden states.
"""

import importlib
import pkgutil
from importlib.metadata import entry_points

from vipa.data.component import Component
from vipa.data.spec import DataSpec
from vipa.models.packing import Packer


def kind_names() -> list[str]:
    """Names of all kinds, sorted."""
    own = [m.name for m in pkgutil.iter_modules(__path__)]
    return sorted({*own, *(e.name for e in entry_points(group="vipa.data"))})


def open_component(spec: DataSpec, packer: Packer, width: int) -> Component:
    """The component of a specification. ValueError for a kind that nobody brings, and for data that it cannot use."""
    for entry in entry_points(group="vipa.data"):
        if entry.name == spec.kind:
            return entry.load().open_component(spec, packer, width)
    if spec.kind not in kind_names():
        raise ValueError(f"data of kind {spec.kind!r} is unknown; known: {', '.join(kind_names())}")
    return importlib.import_module(f"{__name__}.{spec.kind}").open_component(spec, packer, width)
