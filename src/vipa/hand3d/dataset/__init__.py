"""Records, tables, mixing, reading, statistics and the card of a Hand3D data set."""

from vipa.hand3d.dataset.reader import Hand3D

__all__ = ["Hand3D"]
