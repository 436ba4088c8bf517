"""Reading a Hand3D data set: typed records, and images by frame id.

data = Hand3D("out")
for record in data.visual("train"):
    images = [data.image(frame) for frame in record.frame_ids]
"""

import io
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8
from PIL import Image

from vipa.hand3d.dataset.frame_index import FrameIndex
from vipa.hand3d.dataset.records import (
    FORMAT_VERSION,
    MANIFEST,
    RECORDS,
    SPLITS,
    ActionRecord,
    ClipRecord,
    FrameRecord,
    VisualRecord,
    plain_schema,
)
from vipa.hands.conventions import Conventions
from vipa.io.cache import cache_folder
from vipa.io.hashing import digest, hash_files
from vipa.io.json_files import read_json

Record = TypeVar("Record")


class Hand3D:
    """A data set on disk. Nothing is held in memory but a few groups of images.

    ValueError where the folder holds no complete data set or one of another format.
    """

    def __init__(self, path: str | Path, cached_groups: int = 32):
        self.path = Path(path)
        if not (self.path / MANIFEST).is_file():
            raise ValueError(
                f"{self.path}: no finished Hand3D data set here ({MANIFEST} is missing); annotate first"
            )
        self.manifest: dict[str, Any] = read_json(self.path / MANIFEST)
        if self.manifest["format"] != FORMAT_VERSION:
            raise ValueError(
                f"{self.path}: format {self.manifest['format']}, this program reads {FORMAT_VERSION}; "
                "annotate again"
            )
        self._cached_groups = cached_groups
        self._group = lru_cache(cached_groups)(self._read_group)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "cached_groups": self._cached_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    @property
    def conventions(self) -> Conventions:
        """Of its motion tokens and direction words. ValueError where the manifest does not say them."""
        try:
            config = self.manifest["config"]
            said = {"codec": config["motion"]["codec"], "gamma": config["relations"]["gamma"]}
        except KeyError as error:
            raise ValueError(
                f"{self.path / MANIFEST}: does not say {error} of its configuration; annotate again"
            ) from None
        return Conventions.from_json(said, str(self.path / MANIFEST))

    def visual(self, split: str | None = None) -> Iterator[VisualRecord]:
        """Questions of one split, or of all, in the order of the table."""
        return self._records("visual", split, VisualRecord)

    def action(self, split: str | None = None) -> Iterator[ActionRecord]:
        """Motions of one split, or of all."""
        return self._records("action", split, ActionRecord)

    def clips(self, split: str | None = None) -> Iterator[ClipRecord]:
        """Clips of one split, or of all."""
        return self._records("clips", split, ClipRecord)

    def frames(self, split: str | None = None) -> Iterator[FrameRecord]:
        """What is known of each image, without its pixels."""
        return self._records("frames", split, FrameRecord)

    def count(self, table: str, split: str | None = None) -> int:
        """Rows of a table."""
        return sum(f["rows"] for s in self._splits(split) for f in self.manifest["tables"][table].get(s, ()))

    def columns(self, table: str, names: Sequence[str]) -> pa.Table:
        """Some columns of a table, all splits."""
        files = [pq.ParquetFile(self.path / file).read(list(names)) for file in self._files(table, None)]
        return (
            pa.concat_tables(files)
            if files
            else pa.Table.from_batches([], plain_schema(table)).select(list(names))
        )

    def content_hash(self, tables: Sequence[str], split: str | None = None) -> str:
        """Sixteen hex digits of what these tables' files hold."""
        return hash_files(self.path, [self.path / file for table in tables for file in self._files(table, split)])

    def encoded_image(self, frame_id: str) -> bytes:
        """The image file (JPEG or PNG) of a frame. KeyError for an id that is not in the data set."""
        file, group, row = self._where[frame_id]
        return self._group(file, group)[row]

    def image(self, frame_id: str) -> UInt8[np.ndarray, "height width 3"]:
        """RGB pixels of a frame."""
        return np.asarray(Image.open(io.BytesIO(self.encoded_image(frame_id))).convert("RGB"))

    # -- inside -------------------------------------------------------------------------------------------------

    def _splits(self, split: str | None) -> tuple[str, ...]:
        if split is not None and split not in SPLITS:
            raise ValueError(f"split {split!r} is unknown; known: {', '.join(SPLITS)}")
        return SPLITS if split is None else (split,)

    def _files(self, table: str, split: str | None) -> Iterator[str]:
        for s in self._splits(split):
            for file in self.manifest["tables"][table].get(s, ()):
                yield file["file"]

    def _records(self, table: str, split: str | None, kind: type[Record]) -> Iterator[Record]:
        columns = list(RECORDS[table].__dataclass_fields__)
        for name in self._files(table, split):
            with pq.ParquetFile(self.path / name) as file:
                for batch in file.iter_batches(batch_size=1024, columns=columns):
                    for row in batch.to_pylist():
                        yield kind(**row)

    @cached_property
    def _where(self) -> FrameIndex:
        """Kept between runs, for the files as they are."""
        files = list(self._files("frames", None))
        state = [(self.path / name).stat() for name in files]
        stamp = [(name, s.st_size, s.st_mtime_ns) for name, s in zip(files, state)]
        folder = cache_folder("frames", digest(f"{self.path.resolve()} {stamp}"))

        def frames() -> Iterator[tuple[str, tuple[int, int, int]]]:
            for number, name in enumerate(files):
                with pq.ParquetFile(self.path / name) as file:
                    for group in range(file.num_row_groups):
                        ids = file.read_row_group(group, columns=["id"])["id"].to_pylist()
                        yield from ((frame, (number, group, row)) for row, frame in enumerate(ids))

        return FrameIndex.made(folder, frames())

    def _read_group(self, number: int, group: int) -> list[bytes]:
        name = list(self._files("frames", None))[number]
        with pq.ParquetFile(self.path / name) as file:
            table = file.read_row_group(group, columns=["image"])
        return [image["bytes"] for image in table["image"].to_pylist()]
