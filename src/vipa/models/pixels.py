"""Pictures -> what each encoder reads: the one way of training, annotation, inference and policies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def semantic_pixels(
    rgb: UInt8[Tensor, "*b h w 3"],
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Float[Tensor, "*b 3 h w"]:
    """What InternViT reads: x / 255, less the mean, over the deviation of each colour."""
    colours = rgb.movedim(-1, -3).float().div_(255)
    middle, spread = (torch.tensor(x, device=rgb.device)[:, None, None] for x in (mean, std))
    return colours.sub_(middle).div_(spread)


def spatial_pixels(rgb: UInt8[Tensor, "*b h w 3"]) -> Float[Tensor, "*b 3 h w"]:
    """What CUT3R reads: [-1, 1]."""
    return rgb.movedim(-1, -3).float().div_(127.5).sub_(1)


def resized(pictures: Sequence[Any], size: tuple[int, int]) -> UInt8[Tensor, "n h w 3"]:
    """Whole pictures (see `as_array`) stretched to one size (width, height), bicubic: as transformers' own processor
    of InternVL; of photographs what PIL makes to one level of 255, in a sixth of its time."""
    return torch.cat([_resized(as_array(picture, f"image {i}"), size) for i, picture in enumerate(pictures)])


def _resized(picture: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[Tensor, "1 h w 3"]:
    pixels = torch.from_numpy(picture)[None].movedim(-1, 1)
    if pixels.shape[2:] != size[::-1]:
        pixels = nn.functional.interpolate(pixels, size[::-1], mode="bicubic", antialias=True)
    return pixels.movedim(1, -1)


def stacked(pictures: Sequence[Image.Image]) -> UInt8[Tensor, "n h w 3"]:
    """RGB pictures of one size."""
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))


def as_picture(image: Any, name: str) -> Image.Image:
    """`as_array` as a PIL picture."""
    return image.convert("RGB") if isinstance(image, Image.Image) else Image.fromarray(as_array(image, name))


def as_array(image: Any, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """A PIL picture, or a uint8 RGB array (height, width, 3), as an array that may be written to. ValueError for
    anything else, naming `name`."""
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3:
        hint = "; channels come last" if array.ndim == 3 and array.shape[0] == 3 else ""
        raise ValueError(f"{name}: shape {array.shape} is not (height, width, 3){hint}; give uint8 RGB in 0..255")
    if array.dtype != np.uint8:
        raise ValueError(f"{name}: dtype {array.dtype}; give a PIL picture or uint8 RGB in 0..255")
    return np.require(array, requirements=["C", "W"])
