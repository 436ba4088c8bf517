"""Robot demonstrations: one typed record, one small format on disk.

    folder/
      contract.json            the ActionContract of every episode
      episodes/<id>.parquet    one row a step: state, action, one PNG per view; metadata: text, task, seed, success

An episode is one file, written beside its place and renamed, so an interrupted collection continues.
"""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float
from PIL import Image

from vipa.clips.clip import Frames
from vipa.clips.lerobot_frames import EncodedFrames
from vipa.io.files import whole_file
from vipa.robots.contract import ActionContract
from vipa.robots.transforms import Sample

METADATA_KEY = b"vipa.episode"
CONTRACT_FILE = "contract.json"


@dataclass(frozen=True)
class Episode:
    """One demonstration. Row t: what was seen at step t and the action taken there.

    views: images per camera, decoded lazily. state (n, s), action (n, a): in the contract's units.
    ValueError where lengths differ or numbers are not finite.
    """

    id: str
    views: dict[str, Frames]
    state: Float[np.ndarray, "n s"]
    action: Float[np.ndarray, "n a"]
    text: str
    rate: float  # Hz
    success: bool | None = None  # None: not known
    task: str | None = None
    seed: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("state", "action"):
            shape = np.shape(getattr(self, name))
            if len(shape) != 2:
                raise ValueError(f"episode {self.id!r}: {name} needs (rows, dimensions), it has shape {shape}")
        n = len(self.action)
        if n == 0:
            raise ValueError(f"episode {self.id!r} is empty")
        lengths = {"state": len(self.state), **{f"view {k!r}": len(v) for k, v in self.views.items()}}
        for name, length in lengths.items():
            if length != n:
                raise ValueError(f"episode {self.id!r}: {name} has {length} rows, action has {n}")
        for name in ("state", "action"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"episode {self.id!r}: {name} holds values that are not finite")

    def __len__(self) -> int:
        return len(self.action)

    def chunk(self, start: int, horizon: int) -> tuple[Float[np.ndarray, "horizon a"], np.ndarray]:
        """Actions start .. start + horizon, the last one repeated past the end, and which of them are real."""
        indices = np.arange(start, start + horizon)
        return self.action[np.minimum(indices, len(self) - 1)], indices < len(self)

    def samples(self, horizon: int) -> Iterator[Sample]:
        """One {"state" (s,), "action" (k, a)} per step: of the chunk that starts there the k <= horizon real actions,
        which are those that a loss counts."""
        for t in range(len(self)):
            yield {"state": self.state[t], "action": self.action[t : t + horizon]}


def encode_png(image: np.ndarray) -> bytes:
    """A (h, w, 3) uint8 image as PNG bytes: lossless, quick rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def write_episode(root: Path, episode: Episode) -> Path:
    """Writes episodes/<id>.parquet, whole or not at all. Returns its path."""
    path = Path(root) / "episodes" / f"{episode.id}.parquet"
    columns: dict[str, Any] = {
        "state": pa.array(list(episode.state.astype(np.float32)), pa.list_(pa.float32())),
        "action": pa.array(list(episode.action.astype(np.float32)), pa.list_(pa.float32())),
    }
    for view, frames in episode.views.items():
        images = frames.read(range(len(episode)))
        columns[f"image.{view}"] = pa.array([encode_png(image) for image in images], pa.binary())
    metadata = {
        "text": episode.text,
        "rate": episode.rate,
        "success": episode.success,
        "task": episode.task,
        "seed": episode.seed,
        "views": list(episode.views),
        "notes": episode.notes,
    }
    table = pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})
    with whole_file(path) as beside:
        pq.write_table(table, beside, compression="none")  # PNGs do not compress again
    return path


def read_episode(path: Path) -> Episode:
    """Reads what `write_episode` wrote; images stay on disk until read. ValueError naming a broken file."""
    path = Path(path)
    try:
        table = pq.read_table(path, columns=["state", "action"])
        metadata = json.loads((table.schema.metadata or {})[METADATA_KEY])
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise ValueError(f"{path}: not an episode of this format ({error}); delete it and collect again") from None

    def column(name: str) -> Callable[[], list[bytes]]:
        return lambda: pq.read_table(path, columns=[name])[name].to_pylist()

    def rows(name: str) -> np.ndarray:
        return np.array(table[name].to_pylist(), dtype=np.float32)

    return Episode(
        id=path.stem,
        views={view: EncodedFrames(len(table), column(f"image.{view}")) for view in metadata["views"]},
        state=rows("state"),
        action=rows("action"),
        text=metadata["text"],
        rate=metadata["rate"],
        success=metadata["success"],
        task=metadata["task"],
        seed=metadata["seed"],
        notes=metadata["notes"],
    )


@dataclass(frozen=True)
class EpisodeSet:
    """Demonstrations that share one contract; map-style, episodes are opened when indexed.

    paths: what `open` takes; files in this project's own form.
    """

    contract: ActionContract
    paths: tuple[Any, ...]
    open: Callable[[Any], Episode] = read_episode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Episode:
        return self.open(self.paths[index])

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    def samples(self) -> Iterator[Sample]:
        """States and the real actions of chunks over all episodes, without images; see `Episode.samples`."""
        for episode in self:
            yield from episode.samples(self.contract.horizon)


def open_episodes(root: Path) -> EpisodeSet:
    """Opens a folder of this format. FileNotFoundError where there is none, ValueError where it is empty."""
    root = Path(root)
    if not (root / CONTRACT_FILE).is_file():
        raise FileNotFoundError(f"{root}: no contract.json; expected a folder of robot episodes")
    paths = tuple(sorted((root / "episodes").glob("*.parquet")))
    if not paths:
        raise ValueError(f"{root}: holds no episodes/*.parquet")
    return EpisodeSet(ActionContract.load(root / CONTRACT_FILE), paths)
