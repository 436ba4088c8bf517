"""Questions of a Hand3D folder (stage 1)."""

from vipa.data.component import Component
from vipa.data.hand3d_turns import hand3d_turns
from vipa.data.spec import DataSpec
from vipa.models.packing import Packer


def open_component(spec: DataSpec, packer: Packer, width: int) -> Component:
    return hand3d_turns(spec, "visual", packer)
