"""How the images of a batch reach the model: as pixels, encoded with every step, or as tokens, encoded once.

The encoders are frozen in all three stages (section 4). Pixels cost an encoder's pass a step and may be augmented;
tokens cost disk (some 100 kB an image for nano, 3 MB for the paper's sizes).
"""

import fcntl
import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vipa.data.augmentation import Change
from vipa.data.component import Component, Group
from vipa.io.files import atomic_write
from vipa.models import FusionConfig, VipaForConditionalGeneration, VipaProcessor

log = logging.getLogger(__name__)

UNITS = 256
"""Clips or images in a shard of the cache."""
BATCH = 64
"""Of them at once through the encoders."""

Read = Callable[[Group], Sequence[np.ndarray]]
"""The pictures of a group; ValueError, OSError or KeyError where they cannot be read."""


Moment = tuple[int, int, int]
"""Seed, component, step: what augmentation follows from, beside the pictures' own names."""


class Images(Protocol):
    """The images of a component."""

    def read(self, group: Group) -> None:
        """ValueError or OSError where they cannot be read."""
        ...

    def inputs(self, groups: Sequence[Group], moment: Moment) -> dict[str, Any]:
        """The model's image inputs for groups, in order."""
        ...


class Pixels:
    """Images read, changed as the component wants it, and resized when they are asked for."""

    def __init__(self, component: Component, processor: VipaProcessor, spatial: bool):
        self.component, self.processor, self.spatial = component, processor, spatial
        self._at_hand: dict[Group, list[np.ndarray]] = {}

    def read(self, group: Group) -> None:
        if group not in self._at_hand:
            self._at_hand[group] = list(self.component.read(group))

    def inputs(self, groups: Sequence[Group], moment: Moment) -> dict[str, Any]:
        images = []
        for group in groups:
            self.read(group)
            images += self._changed(group, moment)
        self._at_hand.clear()
        pixels = self.processor.pixels(images)
        lengths = [1] * len(images) if self.component.views else [len(group) for group in groups]
        wanted = pixels if self.spatial else {"pixel_values": pixels["pixel_values"]}
        return wanted | {"clip_lengths": lengths}

    def _changed(self, group: Group, moment: Moment) -> list[np.ndarray]:
        """All pictures of a group in one way."""
        if not self.component.spec.augment:
            return self._at_hand[group]
        rng = np.random.default_rng([*moment, zlib.crc32("\n".join(group).encode())])
        change = Change.drawn(self.component.spec.augment, rng)
        return [change(image) for image in self._at_hand[group]]


class EncodedImages:
    """Encoder tokens on disk, as `encode_images` gives them (`VipaConfig.encoder_precision`).

    clips: the images of a group are frames of a clip, over which the spatial encoder carries its state, so that a
    group is encoded as a whole; otherwise each image is encoded once, whichever groups it is in.

        folder/
          shard-00000.safetensors   the tokens of UNITS groups or images
          index.json                unit -> shard, first row, rows
    """

    def __init__(self, folder: Path, clips: bool):
        self.folder, self.clips = folder, clips
        index = json.loads((folder / "index.json").read_text())
        self.places: dict[Group, tuple[int, int, int]] = {tuple(unit): tuple(place) for unit, place in index}
        self._open: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "clips": self.clips}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    @staticmethod
    def there(folder: Path) -> bool:
        """Whether a folder holds them already."""
        return (folder / "index.json").exists()

    @classmethod
    def of(
        cls,
        folder: Path,
        model: VipaForConditionalGeneration,
        processor: VipaProcessor,
        groups: Iterable[Group],
        read: Read,
        *,
        views: bool = False,
        workers: int = 0,
    ) -> "EncodedImages":
        """Encode what `folder` does not hold yet; images that cannot be read are left out. views: the images of a
        group are views of one instant, not frames. workers: processes that read ahead. The folder is for one model, one
        data set: its name says which."""
        fusion = model.config.spatial_fusion_config
        assert isinstance(fusion, FusionConfig)
        clips = fusion.reads_spatial and not views
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another run that shares the cache may be at it
            if not cls.there(folder):
                wanted = set(groups) if clips else {(key,) for group in groups for key in group}
                _encode_all(folder, model, processor, _sorted(wanted), read, workers)
        return cls(folder, clips)

    def read(self, group: Group) -> None:
        """Nothing is left to read. ValueError for what could not be read when it was to be encoded."""
        for unit in self._units([group]):
            if unit not in self.places:
                raise ValueError(f"{', '.join(unit)} could not be read when images were encoded")

    def _units(self, groups: Sequence[Group]) -> list[Group]:
        return list(groups) if self.clips else [(key,) for group in groups for key in group]

    def inputs(self, groups: Sequence[Group], moment: Moment = (0, 0, 0)) -> dict[str, Any]:
        units = self._units(groups)
        parts = [self._tokens(*self.places[unit]) for unit in units]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _tokens(self, shard: int, row: int, rows: int) -> dict[str, Tensor]:
        if shard not in self._open:
            self._open[shard] = safe_open(self.folder / f"shard-{shard:05d}.safetensors", "pt")
        file = self._open[shard]
        return {name: file.get_slice(name)[row : row + rows] for name in file.keys()}  # noqa: SIM118


def _sorted(units: set[Group]) -> list[Group]:
    """Alike ones beside each other, so that clips of one length are encoded together."""
    return sorted(units, key=lambda unit: (len(unit), unit))


def _encode_all(
    folder: Path,
    model: VipaForConditionalGeneration,
    processor: VipaProcessor,
    units: Sequence[Group],
    read: Read,
    workers: int,
) -> None:
    """The shards that `folder` lacks, and then the index of all."""
    shards = [units[i : i + UNITS] for i in range(0, len(units), UNITS)]
    paths = [folder / f"shard-{number:05d}.safetensors" for number in range(len(shards))]
    missing = [(path, shard) for path, shard in zip(paths, shards) if _units_in(path) is None]
    ahead = _pixels([shard for _, shard in missing], processor, read, workers)
    for path, shard in track(missing, "encoding images", disable=len(units) < 512):
        parts = [next(ahead) for _ in range(0, len(shard), BATCH)]
        for why in (why for part in parts for why in part.unreadable):
            log.warning("%s", why)
        there = [unit for part in parts for unit in part.units]
        tokens = _joined([_tokens_of(model, part) for part in parts if part.units])
        atomic_write(path, save(tokens, {"units": json.dumps(there)}))
    index: list[tuple[Group, tuple[int, int, int]]] = []
    for number, path in enumerate(paths):
        there = _units_in(path) or []
        ends = np.cumsum([len(unit) for unit in there]).tolist()
        index += [(unit, (number, end - len(unit), len(unit))) for unit, end in zip(there, ends)]
    atomic_write(folder / "index.json", json.dumps(index).encode())


def _units_in(path: Path) -> list[Group] | None:
    """What a shard says that it holds; None where there is none, or one of a version whose shards did not say."""
    if not path.exists():
        return None
    with safe_open(path, "pt") as file:
        said = (file.metadata() or {}).get("units")
    return None if said is None else [tuple(unit) for unit in json.loads(said)]


@dataclass(frozen=True)
class _Part:
    """Some units as the encoders take them. unreadable: what was left out, and why."""

    units: list[Group]
    pixels: dict[str, Tensor]
    unreadable: list[str]


class _Parts(Dataset):
    """What other processes read and resize: part of a shard after part."""

    def __init__(self, parts: Sequence[Sequence[Group]], processor: VipaProcessor, read: Read):
        self.parts, self.processor, self.read = parts, processor, read

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> _Part:
        units, images, unreadable = [], [], []
        for unit in self.parts[number]:
            try:
                images += self.read(unit)
                units.append(unit)
            except (ValueError, OSError, KeyError) as error:
                unreadable.append(f"{', '.join(unit)}: cannot be read and is left out ({error})")
        return _Part(units, self.processor.pixels(images) if units else {}, unreadable)


def _pixels(
    shards: Sequence[Sequence[Group]], processor: VipaProcessor, read: Read, workers: int
) -> Iterator[_Part]:
    """Of every shard its parts of BATCH units, in order. workers: processes that make them ahead (0: this one)."""
    parts = [shard[i : i + BATCH] for shard in shards for i in range(0, len(shard), BATCH)]
    made = _Parts(parts, processor, read)
    return iter(DataLoader(made, batch_size=None, num_workers=workers, collate_fn=_as_it_is))


def _as_it_is(part: Any) -> Any:
    return part


def encoded(
    model: VipaForConditionalGeneration, processor: VipaProcessor, groups: Sequence[Group], read: Read
) -> dict[str, Tensor]:
    """The tokens of the frames of clips, as the model's inputs, in order and on its device; equal groups are encoded
    once. Errors of `read` are the caller's."""
    units = _sorted(set(groups))
    parts = [units[i : i + BATCH] for i in range(0, len(units), BATCH)]
    pixels = ((part, processor.pixels([image for unit in part for image in read(unit)])) for part in parts)
    features = _joined([_tokens_of(model, _Part(list(part), values, [])) for part, values in pixels])
    ends = np.cumsum([len(unit) for unit in units])
    places = {unit: torch.arange(end - len(unit), end) for unit, end in zip(units, ends)}
    rows = torch.cat([places[group] for group in groups])
    return {name: tokens[rows].to(model.device) for name, tokens in features.items()}


@torch.no_grad()
def _tokens_of(model: VipaForConditionalGeneration, part: _Part) -> dict[str, Tensor]:
    """The model's `semantic_features` and `spatial_features` of units, in order."""
    semantic, spatial = model.model.encode_images(
        **{name: value.to(model.device) for name, value in part.pixels.items()},
        clip_lengths=[len(unit) for unit in part.units],
    )
    features = {"semantic_features": semantic.cpu()}
    return features | ({"spatial_features": spatial.cpu()} if spatial is not None else {})


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}
