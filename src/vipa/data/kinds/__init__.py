"""Kinds of training data, found by name: a module here, or an entry point of the group `vipa.data`.

A kind is a module with `open_component(spec, packer, width) -> Component`; width: of the model's hidden states.
"""

from vipa.data.component import Component
from vipa.data.spec import DataSpec
from vipa.io.plugins import Plugins
from vipa.models.packing import Packer

KINDS = Plugins("data of kind", __name__, "vipa.data")


def kind_names() -> list[str]:
    """Names of all kinds, sorted."""
    return KINDS.names()


def open_component(spec: DataSpec, packer: Packer, width: int) -> Component:
    """The component of a specification. ValueError for a kind that nobody brings, and for data that it cannot use."""
    return KINDS.load(spec.kind).open_component(spec, packer, width)
