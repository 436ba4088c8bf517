"""Pictures -> what each encoder reads: the one way of training, annotation, inference and policies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BICUBIC = Image.Resampling.BICUBIC


def semantic_pixels(
    rgb: UInt8[Tensor, "*b h w 3"],
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Float[Tensor, "*b 3 h w"]:
    """What InternViT reads: x / 255, less the mean, over the deviation of each colour."""
    scaled = (rgb.float() / 255 - torch.tensor(mean, device=rgb.device)) / torch.tensor(std, device=rgb.device)
    return scaled.movedim(-1, -3)


def spatial_pixels(rgb: UInt8[Tensor, "*b h w 3"]) -> Float[Tensor, "*b 3 h w"]:
    """What CUT3R reads: [-1, 1]."""
    return rgb.movedim(-1, -3).float() / 127.5 - 1


def resized(pictures: Sequence[Any], size: tuple[int, int]) -> UInt8[Tensor, "n h w 3"]:
    """Whole pictures (see `as_picture`) stretched to one size (width, height), bicubic."""
    return stacked([as_picture(picture, f"image {i}").resize(size, BICUBIC) for i, picture in enumerate(pictures)])


def stacked(pictures: Sequence[Image.Image]) -> UInt8[Tensor, "n h w 3"]:
    """RGB pictures of one size."""
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))


def as_picture(image: Any, name: str) -> Image.Image:
    """A PIL picture, or a uint8 RGB array (height, width, 3), as RGB. ValueError for anything else, naming `name`."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3:
        hint = "; channels come last" if array.ndim == 3 and array.shape[0] == 3 else ""
        raise ValueError(f"{name}: shape {array.shape} is not (height, width, 3){hint}; give uint8 RGB in 0..255")
    if array.dtype != np.uint8:
        raise ValueError(f"{name}: dtype {array.dtype}; give a PIL picture or uint8 RGB in 0..255")
    return Image.fromarray(array)
