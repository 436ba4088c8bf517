"""Pictures and words -> the model's input: PIL only (no torchvision), one tile per image, two encoders' pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from transformers import BatchFeature, GotOcr2ImageProcessorPil, ProcessorMixin

from vipa.hands.motion_codec import MotionCodec
from vipa.models.loading import load_tokenizer

IMAGE_TOKEN = "<IMG_CONTEXT>"
IMAGE_START, IMAGE_END = "<img>", "</img>"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Turns as InternVL writes them, without a system turn; an image is one placeholder on its own line.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def image_processor(size: int) -> GotOcr2ImageProcessorPil:
    """InternVL's image processor (PIL) for square images of `size` pixels, one tile, ImageNet statistics."""
    return GotOcr2ImageProcessorPil(
        size={"height": size, "width": size},
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
        crop_to_patches=False,
    )


class VipaProcessor(ProcessorMixin):
    """Images, prompts and motion tokens for VIPA.

    image_processor: see the function of that name. tokenizer: fast, with InternVL's special tokens.
    image_seq_length: tokens per image. spatial_size: pixels, both sides, of the spatial encoder's input. The whole
    image is resized for both encoders, so that their token grids cover the same field of view.
    max_images: most images per text.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_seq_length: int = 256,
        spatial_size: int = 432,
        max_images: int = 8,
        chat_template: str | None = None,
        **kwargs: Any,
    ):
        template = chat_template or getattr(tokenizer, "chat_template", None) or CHAT_TEMPLATE
        super().__init__(image_processor, tokenizer, chat_template=template, **kwargs)
        self.image_seq_length, self.spatial_size, self.max_images = image_seq_length, spatial_size, max_images
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if self.image_token_id in (None, tokenizer.unk_token_id):
            raise ValueError(f"tokenizer: it has no {IMAGE_TOKEN} token; is it InternVL's?")
        self._spatial = GotOcr2ImageProcessorPil(
            size={"height": spatial_size, "width": spatial_size}, image_mean=[0.5] * 3, image_std=[0.5] * 3
        )

    @classmethod
    def from_vlm(
        cls, vlm: str | Path, *, revision: str | None = None, spatial_size: int = 432, image_size: int = 448
    ) -> "VipaProcessor":
        """The processor of an InternVL checkpoint: its tokenizer and chat template, on the hub or in a folder."""
        tokenizer = load_tokenizer(vlm, revision=revision)
        tokens = (image_size // 14 // 2) ** 2
        return cls(image_processor(image_size), tokenizer, image_seq_length=tokens, spatial_size=spatial_size)

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
        one = IMAGE_START + IMAGE_TOKEN * self.image_seq_length + IMAGE_END
        words = [words.replace(IMAGE_TOKEN, one) for words in texts]
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
        pictures = [_picture(image, index) for index, image in enumerate(images)]
        return {
            "pixel_values": self.image_processor(pictures, return_tensors="pt")["pixel_values"],
            "spatial_pixel_values": self._spatial(pictures, return_tensors="pt")["pixel_values"],
        }

    def prompt(self, question: str, images: int = 1) -> str:
        """A user turn with images before the question, open for the model's answer."""
        content = [{"type": "image"}] * images + [{"type": "text", "text": question}]
        conversation = [{"role": "user", "content": content}]
        return self.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)

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


def _picture(image: Any, index: int) -> Image.Image:
    """An RGB PIL image of what was given."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3:
        hint = "; channels come last" if array.ndim == 3 and array.shape[0] == 3 else ""
        raise ValueError(f"image {index}: shape {array.shape} is not (height, width, 3){hint}")
    if array.dtype != np.uint8:
        raise ValueError(f"image {index}: dtype {array.dtype}; give uint8 RGB in 0..255")
    return Image.fromarray(array)
