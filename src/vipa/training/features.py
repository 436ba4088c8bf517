"""Tokens of the frozen encoders, computed once: both stay frozen in all three stages (section 4)."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from rich.progress import track
from torch import Tensor

from vipa.models import VipaForConditionalGeneration, VipaProcessor

Group = tuple[str, ...]
"""Keys of images that belong together as one clip, in reading order."""
ReadImages = Callable[[Group], UInt8[np.ndarray, "n height width 3"]]


class EncodedImages:
    """Cached encoder tokens of image groups, float16, looked up by group."""

    def __init__(self, semantic: Tensor, spatial: Tensor | None, places: dict[Group, tuple[int, int]]):
        self.semantic, self.spatial, self.places = semantic, spatial, places

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
        """Encode every group once. The spatial encoder carries its state over the images of a group, unless they
        are views of one instant."""
        unique = sorted(set(groups), key=lambda group: (len(group), group))
        places: dict[Group, tuple[int, int]] = {}
        start = 0
        for group in unique:
            places[group] = (start, start + len(group))
            start += len(group)
        semantic, spatial = [], []
        batches = [unique[i : i + batch] for i in range(0, len(unique), batch)]
        device = model.device
        for some in track(batches, "encoding images", disable=len(batches) < 8):
            images = np.concatenate([read(group) for group in some])
            pixels = {k: v.to(device) for k, v in processor.pixels(images).items()}
            lengths = [1] * len(images) if views else [len(group) for group in some]
            with torch.autocast(device.type, torch.bfloat16):
                tokens = model.model.encode_images(**pixels, clip_lengths=lengths)
            semantic.append(tokens[0].half().cpu())
            if tokens[1] is not None:
                spatial.append(tokens[1].half().cpu())
        return cls(torch.cat(semantic), torch.cat(spatial) if spatial else None, places)

    def inputs(self, groups: Sequence[Group], device: torch.device) -> dict[str, Tensor]:
        """The model's `semantic_features` and `spatial_features` of groups, in order."""
        rows = torch.cat([torch.arange(*self.places[group]) for group in groups])
        features = {"semantic_features": self.semantic[rows].float().to(device)}
        if self.spatial is not None:
            features["spatial_features"] = self.spatial[rows].float().to(device)
        return features
