"""Robot demonstrations: a LeRobot set with its contract.json, or what a robot's file reads (stage 3)."""

from vipa.data.component import Component
from vipa.data.demonstrations import Demonstrations
from vipa.data.spec import DataSpec
from vipa.models.packing import Packer


def open_component(spec: DataSpec, packer: Packer, width: int) -> Component:
    return Demonstrations(spec, packer)
