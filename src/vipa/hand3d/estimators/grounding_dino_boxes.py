"""Boxes of named objects by GroundingDINO, through transformers."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from vipa.clips.clip import Clip
from vipa.hand3d.config import ObjectsConfig
from vipa.io.hashing import content_of, network_content
from vipa.models.loading import load_model, load_processor


class GroundingDino:
    """The best box of each name and frame, from the weights `config.detector` (a folder or a hub name).

    All names go into one prompt; a name's score at a box is read from the name's own tokens, so that names which share
    words, or whose text the tokenizer takes apart, are told apart.
    """

    def __init__(self, config: ObjectsConfig):
        self.threshold = config.threshold
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.processor = load_processor(AutoProcessor, config.detector)
        self.model = load_model(AutoModelForZeroShotObjectDetection, config.detector)
        tokenizer = self.processor.tokenizer
        self.content = network_content(self.model, self.processor.image_processor) + content_of(
            tokenizer.get_vocab()
        )
        torch.nn.Module.to(self.model, self.device)

    @torch.inference_mode()
    def __call__(
        self, clip: Clip, frames: Sequence[int], names: Sequence[str]
    ) -> tuple[Float[np.ndarray, "names n 4"], Float[np.ndarray, "names n"]]:
        """Pixels left, top, right, bottom (NaN: not found) and scores 0 ... 1. ValueError where the names do not fit
        into one prompt."""
        boxes = np.full((len(names), len(frames), 4), np.nan)
        scores = np.zeros((len(names), len(frames)))
        if not names:
            return boxes, scores
        prompt, parts = prompt_of(names)
        spans = token_spans(self.processor.tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"], parts)
        for i, frame in enumerate(frames):
            image = clip.frames.read([frame])[0]
            inputs = self.processor(images=image, text=prompt, return_tensors="pt").to(self.device)
            out = self.model(**inputs)
            size = (image.shape[1], image.shape[0])
            found = best_boxes(out.logits[0].float(), out.pred_boxes[0].float(), spans, self.threshold, size)
            boxes[:, i], scores[:, i] = found
        return boxes, scores


def open_boxes(config: ObjectsConfig) -> GroundingDino:
    return GroundingDino(config)


def prompt_of(names: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """GroundingDINO's prompt, "red cup. plate.", and the characters (begin, end) of each name in it."""
    prompt, parts = "", []
    for name in names:
        text = " ".join(name.lower().replace("_", " ").replace(".", " ").split())
        begin = len(prompt) + bool(prompt)
        prompt += f"{' ' if prompt else ''}{text}."
        parts.append((begin, begin + len(text)))
    return prompt, parts


def token_spans(offsets: Sequence[tuple[int, int]], parts: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Indices of the tokens inside each part. offsets: the characters (begin, end) of each token, (0, 0) for special
    ones. ValueError for a part without tokens."""
    spans = [[t for t, (a, b) in enumerate(offsets) if begin <= a < b <= end] for begin, end in parts]
    if not all(spans):
        missing = spans.index([])
        raise ValueError(f"object name number {missing + 1} has no token in the detector's prompt")
    return spans


def best_boxes(
    logits: Float[Tensor, "queries tokens"],
    boxes: Float[Tensor, "queries 4"],
    spans: Sequence[Sequence[int]],
    threshold: float,
    size: tuple[int, int],
) -> tuple[Float[np.ndarray, "names 4"], Float[np.ndarray, "names"]]:
    """For each name the box whose tokens agree best on average, of those where one token reaches the threshold.

    boxes: centre x and y, width and height, as shares of the image; size: its width and height in pixels. Returns
    boxes in pixels (origin at the centre of the top-left pixel; NaN where none passes) and the probability of
    its best token.
    ValueError where a token lies beyond the logits.
    """
    if max(token for span in spans for token in span) >= logits.shape[1]:
        raise ValueError(f"the object names do not fit into {logits.shape[1]} tokens; name fewer objects")
    found, scores = np.full((len(spans), 4), np.nan), np.zeros(len(spans))
    for j, span in enumerate(spans):
        agree = logits[:, list(span)].sigmoid()
        passes = agree.amax(1) >= threshold
        if not passes.any():
            continue
        q = int(torch.where(passes, agree.mean(1), -1.0).argmax())
        x, y, width, height = boxes[q].double().cpu().numpy() * np.tile(size, 2)
        corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        found[j], scores[j] = np.clip(corners, 0, np.tile(size, 2)) - 0.5, float(agree[q].amax())
    return found, scores
