"""Tokens of the frozen encoders, computed once: both stay frozen in all three stages (section 4)."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from vipa.models import VipaConfig, VipaForConditionalGeneration

Group = tuple[str, ...]
"""Keys of images that belong together as one clip, in reading order."""
ReadImages = Callable[[Group], UInt8[np.ndarray, "n height width 3"]]

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def encoder_pixels(images: UInt8[np.ndarray, "n height width 3"], config: VipaConfig) -> dict[str, Tensor]:
    """What both encoders read of square RGB images: `pixel_values` and, where there is one, `spatial_pixel_values`."""
    rgb = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGE_MEAN, IMAGE_STD))
    pixels = {"pixel_values": (_resized(rgb, config.vision_config.image_size[0]) - mean) / std}
    if config.spatial_config is not None:
        pixels["spatial_pixel_values"] = 2 * _resized(rgb, config.spatial_config.image_size) - 1
    return pixels


def _resized(rgb: Tensor, size: int) -> Tensor:
    if rgb.shape[-2:] == (size, size):
        return rgb
    return F.interpolate(rgb, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


class EncodedImages:
    """Cached encoder tokens of image groups, float16, looked up by group."""

    def __init__(self, semantic: Tensor, spatial: Tensor | None, places: dict[Group, tuple[int, int]]):
        self.semantic, self.spatial, self.places = semantic, spatial, places

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: VipaForConditionalGeneration, groups: Iterable[Group], read: ReadImages, batch: int = 64
    ) -> "EncodedImages":
        """Encode every group once. The spatial encoder carries its state over the images of a group."""
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
            pixels = {k: v.to(device) for k, v in encoder_pixels(images, model.config).items()}
            with torch.autocast(device.type, torch.bfloat16):
                tokens = model.model.encode_images(**pixels, clip_lengths=[len(group) for group in some])
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
