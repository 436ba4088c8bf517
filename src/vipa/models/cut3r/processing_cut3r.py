"""Pictures as CUT3R expects them, with the camera that belongs to what is left of them."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_base import ImageProcessingMixin

from vipa.geometry import Intrinsics
from vipa.models.pixels import as_picture, resized, spatial_pixels, stacked

Picture = Image.Image | np.ndarray
Mode = Literal["long", "short", "square"]


class Cut3rProcessor(ImageProcessingMixin):
    """Resizes, crops and scales clips to [-1, 1].

    mode "long": the longer side becomes `size`, both sides are cropped to multiples of the patch about the centre,
    and square pictures to 4:3 (the released 512 model). "short": the shorter side becomes `size`, the centre square
    is kept (the released 224 model). "square": the whole picture is stretched to `size` x `size` (the dual encoder's
    432 or 448; nano's 112).
    """

    model_input_names = ["images"]  # noqa: RUF012

    def __init__(self, mode: Mode = "long", size: int = 512, patch_size: int = 16, **kwargs: Any):
        super().__init__(**kwargs)
        if mode not in ("long", "short", "square"):
            raise ValueError(f"Cut3rProcessor: mode {mode!r} is unknown; expected long, short or square")
        if size <= 0 or size % patch_size:
            raise ValueError(f"Cut3rProcessor: size {size} must be a positive multiple of the patch {patch_size}")
        self.mode, self.size, self.patch_size = mode, size, patch_size

    @classmethod
    def for_model(cls, config: Any) -> "Cut3rProcessor":
        """What a model was trained with: the DPT model "long", the released linear one "short", others "square"."""
        mode = "long" if config.head == "dpt" else "short" if config.image_size == 224 else "square"
        return cls(mode, config.image_size, config.patch_size)

    def __call__(
        self,
        images: Sequence[Picture] | Sequence[Sequence[Picture]] | np.ndarray,
        intrinsics: Intrinsics | Sequence[Intrinsics] | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """`images` (batch, frames, 3, H, W) float32 in [-1, 1]; `intrinsics`, one per clip, where given.

        images: one clip (frames; or an array (n, H, W, 3)), or clips of equal length. Frames are PIL pictures or uint8
        RGB arrays (H, W, 3). ValueError for empty clips, other types or ranges, and sizes that are not all equal.
        """
        if return_tensors != "pt":
            raise ValueError(f"Cut3rProcessor: return_tensors {return_tensors!r}; only 'pt' is made")
        clips = [images] if len(images) and _is_picture(images[0]) else list(images)
        if not clips or any(len(clip) == 0 for clip in clips):
            raise ValueError("Cut3rProcessor: empty clip: there is no frame to process")
        if len({len(clip) for clip in clips}) > 1:
            raise ValueError(
                f"Cut3rProcessor: clips of {[len(clip) for clip in clips]} frames in one batch; make them equally long"
            )
        pictures = [
            [as_picture(frame, f"Cut3rProcessor: frame {i}") for i, frame in enumerate(clip)] for clip in clips
        ]
        sizes = {picture.size for clip in pictures for picture in clip}
        if len(sizes) > 1:
            listed = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
            raise ValueError(
                f"Cut3rProcessor: frames of different sizes in one batch ({listed}); resize them first"
            )
        made = stacked([self.apply(picture) for clip in pictures for picture in clip])
        data: dict[str, Any] = {"images": spatial_pixels(made.unflatten(0, (len(clips), -1)))}
        if intrinsics is not None:
            cameras = [intrinsics] if isinstance(intrinsics, Intrinsics) else list(intrinsics)
            if len(cameras) != len(clips):
                raise ValueError(f"Cut3rProcessor: {len(cameras)} intrinsics for {len(clips)} clips")
            data["intrinsics"] = [self.adjust(camera, sizes) for camera in cameras]
        return BatchFeature(data)

    def plan(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
        """For a picture of this size: (width, height) to resize to, then (left, top, right, bottom) to keep."""
        if self.mode == "square":
            return (self.size, self.size), (0, 0, self.size, self.size)
        of = max if self.mode == "long" else min
        factor = self.size / of(width, height)
        w, h = (max(self.patch_size, round(side * factor)) for side in (width, height))
        if self.mode == "short":
            half_w = half_h = self.size // 2
        else:
            half_w, half_h = (2 * (side // 2) // self.patch_size * self.patch_size // 2 for side in (w, h))
            if w == h:
                half_h = 3 * half_w // 4 // (self.patch_size // 2) * (self.patch_size // 2)
        x, y = w // 2, h // 2
        return (w, h), (x - half_w, y - half_h, x + half_w, y + half_h)

    def apply(self, picture: Image.Image) -> Image.Image:
        """Lanczos when it shrinks, bicubic when it grows, as the released loaders; "square" always bicubic."""
        size, box = self.plan(*picture.size)
        if self.mode == "square":
            return Image.fromarray(resized([picture], size)[0].numpy())
        shrinks = max(picture.size) > max(size)
        return picture.resize(size, Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC).crop(box)

    def adjust(self, camera: Intrinsics, sizes: set[tuple[int, int]] | None = None) -> Intrinsics:
        """The camera of what `apply` makes of this camera's pictures."""
        if sizes is not None and (camera.width, camera.height) not in sizes:
            width, height = next(iter(sizes))
            raise ValueError(
                f"Cut3rProcessor: intrinsics are for {camera.width} x {camera.height}, the pictures are {width} x "
                f"{height}; use intrinsics.resized first"
            )
        (width, height), (left, top, right, bottom) = self.plan(camera.width, camera.height)
        return camera.resized(width, height).cropped(left, top, right - left, bottom - top)


def _is_picture(item: Any) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, np.ndarray) and item.ndim == 3)
