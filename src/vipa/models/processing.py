"""Pictures and words -> the model's input: without torchvision, one tile per image, two encoders' pixels."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature, GotOcr2ImageProcessorPil, ProcessorMixin

from vipa.hands.motion_codec import MotionCodec
from vipa.models.loading import load_tokenizer
from vipa.models.pixels import IMAGENET_MEAN, IMAGENET_STD, resized, semantic_pixels, spatial_pixels
from vipa.models.prompt_layout import CHAT_TEMPLATE, IMAGE_TOKEN, PromptLayout

IMAGE_START, IMAGE_END = "<img>", "</img>"


def image_processor(size: int) -> GotOcr2ImageProcessorPil:
    """InternVL's image processor (PIL) for square images of `size` pixels, one tile, ImageNet statistics."""
    return GotOcr2ImageProcessorPil(
        size={"height": size, "width": size},
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
        crop_to_patches=False,
    )


class VipaProcessor(ProcessorMixin):
    """Images, prompts and motion tokens for VIPA; it owns the prompt layout, and a checkpoint carries it along.

    image_processor: see the function of that name. tokenizer: fast, with InternVL's special tokens.
    image_seq_length: tokens per image. spatial_size: pixels, both sides, of the spatial encoder's input. The whole
    image is resized for both encoders, so that their token grids cover the same field of view.
    max_images: most images per text. chat_template: the tokenizer's own unless given. system: words of a system turn
    before every prompt. prompt_layout: what the model learned, as saved; ValueError where the template now writes
    another.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_seq_length: int = 256,
        spatial_size: int = 432,
        max_images: int = 8,
        chat_template: str | None = None,
        system: str = "",
        prompt_layout: dict[str, str] | None = None,
        **kwargs: Any,
    ):
        template = chat_template or getattr(tokenizer, "chat_template", None) or CHAT_TEMPLATE
        super().__init__(image_processor, tokenizer, chat_template=template, **kwargs)
        self.image_seq_length, self.spatial_size, self.max_images = image_seq_length, spatial_size, max_images
        self.image_token, self.system = IMAGE_TOKEN, system
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if self.image_token_id in (None, tokenizer.unk_token_id):
            raise ValueError(f"tokenizer: it has no {IMAGE_TOKEN} token; is it InternVL's?")
        self.layout = PromptLayout.of_template(self._render, system)
        self.prompt_layout = asdict(self.layout)
        for part, learned in (prompt_layout or {}).items():
            if learned != self.prompt_layout.get(part):
                raise ValueError(
                    f"prompt layout: the model learned {part!r} as {learned!r}, chat_template.jinja now writes "
                    f"{self.prompt_layout.get(part)!r}; put back the files that were saved with the model"
                )
        self._known: dict[tuple[int, str], list[int]] = {}

    def _render(self, messages: list[dict], asks: bool) -> str:
        return self.tokenizer.apply_chat_template(
            messages, chat_template=self.chat_template, add_generation_prompt=asks, tokenize=False
        )

    @classmethod
    def from_vlm(
        cls,
        vlm: str | Path,
        *,
        revision: str | None = None,
        spatial_size: int = 432,
        image_size: int = 448,
        system: str = "",
    ) -> "VipaProcessor":
        """The processor of an InternVL checkpoint: its tokenizer and chat template, on the hub or in a folder."""
        tokenizer = load_tokenizer(vlm, revision=revision)
        tokens = (image_size // 14 // 2) ** 2
        return cls(image_processor(image_size), tokenizer, tokens, spatial_size, system=system)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        *,
        views: bool = False,
        padding: bool | str = True,
        padding_side: str = "left",
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """input_ids, attention_mask and, with images, pixel_values, spatial_pixel_values, clip_lengths.

        text: one prompt or several, each with one `<IMG_CONTEXT>` where an image belongs (the chat template and
        `prompt` write it). images: of one text a list, of several texts a list of lists; PIL images or uint8
        arrays (height, width, 3), RGB. views: the images of a text are views at one instant (each its own clip for
        the spatial encoder) rather than frames, oldest first.
        ValueError: images that do not fit the text, too many, wrong layout or type.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        if not texts:
            raise ValueError("text: a prompt is needed")
        groups = _groups(images, len(texts))
        for row, (words, group) in enumerate(zip(texts, groups)):
            places = words.count(IMAGE_TOKEN)
            if places != len(group):
                raise ValueError(f"text {row}: {places} {IMAGE_TOKEN} places but {len(group)} images")
            if len(group) > self.max_images:
                raise ValueError(f"text {row}: {len(group)} images, at most {self.max_images} (max_images)")
        words = [self._with_image_tokens(words) for words in texts]
        kwargs = {name: value for name, value in kwargs.items() if name in ("truncation", "max_length")}
        data = self.tokenizer(
            words,
            add_special_tokens=False,
            padding=padding,
            padding_side=padding_side,
            return_tensors=return_tensors,
            return_token_type_ids=False,
            **kwargs,
        )
        flat = [image for group in groups for image in group]
        if flat:
            data.update(self.pixels(flat))
            lengths = [1] * len(flat) if views else [len(group) for group in groups if group]
            data["clip_lengths"] = lengths
        return BatchFeature(data, tensor_type=return_tensors)

    def pixels(self, images: Sequence[Any]) -> dict[str, Tensor]:
        """pixel_values (n, 3, H, W), ImageNet-normalised; spatial_pixel_values (n, 3, h, w) in [-1, 1]."""
        made = self.image_processor
        size, own = (made.size["width"], made.size["height"]), (self.spatial_size, self.spatial_size)
        semantic = resized(images, size)
        spatial = semantic if own == size else resized(images, own)
        return {
            "pixel_values": semantic_pixels(semantic, made.image_mean, made.image_std),
            "spatial_pixel_values": spatial_pixels(spatial),
        }

    def prompt(self, question: str, images: int = 1) -> str:
        """A user turn with images before the question, open for the model's answer."""
        return self.layout.prompt(question, images)

    def prompts(self, rows: Sequence[tuple[int, str]]) -> dict[str, Tensor]:
        """input_ids and attention_mask (rows, length) of open prompts (number of images, question), padded at the
        start: the ids of `prompt`, piece by piece as packed turns have them.
        """
        layout = self.layout
        ids = [self.ids(layout.images(images)) + self.ids(question + layout.turn) for images, question in rows]
        length, pad = max(map(len, ids)), self.tokenizer.convert_tokens_to_ids(str(self.tokenizer.pad_token))
        return {
            "input_ids": torch.tensor([[pad] * (length - len(i)) + i for i in ids]),
            "attention_mask": torch.tensor([[0] * (length - len(i)) + [1] * len(i) for i in ids]),
        }

    def ids(self, text: str) -> list[int]:
        """Token ids of a piece of a prompt; `<IMG_CONTEXT>` is a whole image. Pieces repeat: they are remembered."""
        key = len(self.tokenizer), text  # motion tokens may be added after the first use
        ids = self._known.get(key)
        if ids is None:
            if len(self._known) > 200_000:
                self._known.clear()
            whole = self._with_image_tokens(text)
            ids = self._known[key] = self.tokenizer(whole, add_special_tokens=False)["input_ids"]
        return ids

    def _with_image_tokens(self, text: str) -> str:
        return text.replace(IMAGE_TOKEN, IMAGE_START + IMAGE_TOKEN * self.image_seq_length + IMAGE_END)

    def decode_motion(self, ids: Tensor, codec: MotionCodec) -> dict[str, np.ndarray]:
        """Wrist points (n, 3) in metres per hand, of generated ids (length,). codec: that the model learned
        (`VipaConfig.conventions`). ValueError if they do not parse."""
        return codec.from_text(self.tokenizer.decode(ids))

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values", "spatial_pixel_values", "clip_lengths"]


def _groups(images: Any, texts: int) -> list[list[Any]]:
    """Images per text."""
    if images is None:
        return [[] for _ in range(texts)]
    if isinstance(images, Image.Image | np.ndarray):
        images = [images]
    nested = bool(images) and isinstance(images[0], list | tuple)
    groups = [list(group) for group in images] if nested else [list(images)]
    if len(groups) != texts:
        raise ValueError(f"images: {len(groups)} lists of images for {texts} texts; give one list per text")
    return groups
