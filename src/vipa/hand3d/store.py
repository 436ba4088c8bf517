"""The store of stage files, under the name that annotation knows it by (see `vipa.store`)."""

from vipa.store import ClipStore, OutputError, StageOutput, atomic_write

__all__ = ["ClipStore", "OutputError", "StageOutput", "atomic_write"]
