"""How the images of a batch reach the model: as pixels, encoded with every step, or as tokens, encoded once.

The encoders are frozen in all three stages (section 4). Pixels cost an encoder's pass a step and may be augmented;
tokens cost disk (some 100 kB an image for nano, 3 MB for the paper's sizes).
"""

import fcntl
import json
import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from vipa.data.augmentation import Change
from vipa.data.component import Component, Group
from vipa.io.files import atomic_write
from vipa.models import FusionConfig, VipaForConditionalGeneration, VipaProcessor

log = logging.getLogger(__name__)

UNITS = 256
"""Clips or images in a shard of the cache."""


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

    @classmethod
    def of(
        cls,
        folder: Path,
        model: VipaForConditionalGeneration,
        processor: VipaProcessor,
        groups: Iterable[Group],
        read: Callable[[Group], Sequence[np.ndarray]],
        *,
        views: bool = False,
    ) -> "EncodedImages":
        """Encode what `folder` does not hold yet; images that cannot be read are left out. views: the images of a
        group are views of one instant, not frames. The folder is for one model, one data set: its name says which."""
        fusion = model.config.spatial_fusion_config
        assert isinstance(fusion, FusionConfig)
        clips = fusion.reads_spatial and not views
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another run that shares the cache may be at it
            if not (folder / "index.json").exists():
                wanted = set(groups) if clips else {(key,) for group in groups for key in group}
                _encode_all(folder, model, processor, sorted(wanted, key=lambda unit: (len(unit), unit)), read)
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


def _encode_all(
    folder: Path,
    model: VipaForConditionalGeneration,
    processor: VipaProcessor,
    units: Sequence[Group],
    read: Callable[[Group], Sequence[np.ndarray]],
) -> None:
    """The shards that `folder` lacks, and then the index of all."""
    shards = [units[i : i + UNITS] for i in range(0, len(units), UNITS)]
    index: list[tuple[Group, tuple[int, int, int]]] = []
    for number, some in enumerate(track(shards, "encoding images", disable=len(units) < 512)):
        path = folder / f"shard-{number:05d}.safetensors"
        some = [unit for unit in some if _can_be_read(unit, read)]
        if some and not path.exists():
            atomic_write(path, save(_encode(model, processor, some, read)))
        row = 0
        for unit in some:
            index.append((unit, (number, row, len(unit))))
            row += len(unit)
    atomic_write(folder / "index.json", json.dumps(index).encode())


def _can_be_read(unit: Group, read: Callable[[Group], Sequence[np.ndarray]]) -> bool:
    try:
        read(unit)
    except (ValueError, OSError, KeyError) as error:
        log.warning("%s: cannot be read and is left out (%s)", ", ".join(unit), error)
        return False
    return True


def encoded(
    model: VipaForConditionalGeneration,
    processor: VipaProcessor,
    groups: Sequence[Group],
    read: Callable[[Group], Sequence[np.ndarray]],
) -> dict[str, Tensor]:
    """The tokens of the frames of clips, as the model's inputs, in order and on its device; equal groups are encoded
    once."""
    units = sorted(set(groups), key=lambda unit: (len(unit), unit))
    features = _encode(model, processor, units, read)
    ends = np.cumsum([len(unit) for unit in units])
    places = {unit: torch.arange(end - len(unit), end) for unit, end in zip(units, ends)}
    rows = torch.cat([places[group] for group in groups])
    return {name: tokens[rows].to(model.device) for name, tokens in features.items()}


@torch.no_grad()
def _encode(
    model: VipaForConditionalGeneration,
    processor: VipaProcessor,
    units: Sequence[Group],
    read: Callable[[Group], Sequence[np.ndarray]],
    batch: int = 64,
) -> dict[str, Tensor]:
    """The model's `semantic_features` and `spatial_features` of units, in order."""
    semantic, spatial = [], []
    for start in range(0, len(units), batch):
        some = units[start : start + batch]
        pixels = processor.pixels([image for unit in some for image in read(unit)])
        tokens = model.model.encode_images(
            **{name: value.to(model.device) for name, value in pixels.items()},
            clip_lengths=[len(unit) for unit in some],
        )
        semantic.append(tokens[0].cpu())
        if tokens[1] is not None:
            spatial.append(tokens[1].cpu())
    features = {"semantic_features": torch.cat(semantic)}
    return features | ({"spatial_features": torch.cat(spatial)} if spatial else {})
