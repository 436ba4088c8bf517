"""Tokens of the frozen encoders, computed once: both stay frozen in all three stages (section 4)."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from rich.progress import track
from torch import Tensor

from vipa.models import FusionConfig, VipaForConditionalGeneration, VipaProcessor

Group = tuple[str, ...]
"""Keys of images that belong together as one clip, in reading order."""
ReadImages = Callable[[Group], Sequence[UInt8[np.ndarray, "height width 3"]]]
"""The images of a group, RGB; they may differ in size."""


class EncodedImages:
    """Cached encoder tokens of images, as `encode_images` gives them (`VipaConfig.encoder_precision`).

    clips: the images of a group are frames of a clip, over which the spatial encoder carries its state, so that a
    group is encoded as a whole; otherwise each image is encoded once, whichever groups it is in.
    """

    def __init__(
        self, semantic: Tensor, spatial: Tensor | None, places: dict[Group, tuple[int, int]], clips: bool
    ):
        self.semantic, self.spatial, self.places, self.clips = semantic, spatial, places, clips

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        model: VipaForConditionalGeneration,
        processor: VipaProcessor,
        groups: Iterable[Group],
        read: ReadImages,
        *,
        views: bool = False,
        batch: int = 64,
    ) -> "EncodedImages":
        """Encode every group. views: the images of a group are views of one instant, not frames."""
        fusion = model.config.spatial_fusion_config
        assert isinstance(fusion, FusionConfig)
        clips = fusion.reads_spatial and not views
        wanted = set(groups) if clips else {(key,) for group in groups for key in group}
        units = sorted(wanted, key=lambda unit: (len(unit), unit))
        places: dict[Group, tuple[int, int]] = {}
        start = 0
        for unit in units:
            places[unit] = (start, start + len(unit))
            start += len(unit)
        semantic, spatial = [], []
        batches = [units[i : i + batch] for i in range(0, len(units), batch)]
        device = model.device
        for some in track(batches, "encoding images", disable=len(batches) < 8):
            pixels = processor.pixels([image for unit in some for image in read(unit)])
            tokens = model.model.encode_images(
                **{name: value.to(device) for name, value in pixels.items()},
                clip_lengths=[len(unit) for unit in some],
            )
            semantic.append(tokens[0].cpu())
            if tokens[1] is not None:
                spatial.append(tokens[1].cpu())
        return cls(torch.cat(semantic), torch.cat(spatial) if spatial else None, places, clips)

    def inputs(self, groups: Sequence[Group], device: torch.device) -> dict[str, Tensor]:
        """The model's `semantic_features` and `spatial_features` of groups, in order."""
        units = list(groups) if self.clips else [(key,) for group in groups for key in group]
        rows = torch.cat([torch.arange(*self.places[unit]) for unit in units])
        features = {"semantic_features": self.semantic[rows].to(device)}
        if self.spatial is not None:
            features["spatial_features"] = self.spatial[rows].to(device)
        return features
