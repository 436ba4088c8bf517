"""Boxes of named objects from any detector of transformers that is told names (AutoModelForZeroShotObjectDetection):
GroundingDINO, MM-GroundingDINO, OWLv2, OWL-ViT, OmDet-Turbo."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForZeroShotObjectDetection

from vipa.clips.clip import Clip
from vipa.hand3d.config import ObjectsConfig
from vipa.hand3d.estimators.batches import Pictures, of_frames
from vipa.io.hashing import content_of, network_content
from vipa.models.loading import load_model, load_processor, load_tokenizer

Found = tuple[Float[np.ndarray, "names 4"], Float[np.ndarray, "names"]]
Look = Callable[[Pictures], list[Found]]


class ZeroShotBoxes:
    """The best box of each name and frame, from the weights `config.detector` (a folder or a hub name).

    Pictures and names are prepared here, for transformers' own processors of some families want torchvision.
    ValueError for weights of another kind of network.
    """

    def __init__(self, config: ObjectsConfig):
        self.threshold = config.threshold
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load_model(AutoModelForZeroShotObjectDetection, config.detector, expected=tuple(FAMILIES))
        self.pictures = load_processor(AutoImageProcessor, config.detector)
        self.tokenizer = load_tokenizer(config.detector)
        self.content = network_content(self.model, self.pictures) + content_of(self.tokenizer.get_vocab())
        torch.nn.Module.to(self.model, self.device)

    @torch.inference_mode()
    def __call__(
        self, clip: Clip, frames: Sequence[int], names: Sequence[str]
    ) -> tuple[Float[np.ndarray, "names n 4"], Float[np.ndarray, "names n"]]:
        """Pixels left, top, right, bottom (NaN: not found) and scores 0 ... 1. ValueError where the names do not fit
        into what the network reads."""
        boxes = np.full((len(names), len(frames), 4), np.nan)
        scores = np.zeros((len(names), len(frames)))
        if not names:
            return boxes, scores
        look = FAMILIES[self.model.config.model_type](self, [plain(name) for name in names])
        for i, found in enumerate(of_frames(look, clip, frames, self.device)):
            boxes[:, i], scores[:, i] = found
        return boxes, scores

    def run(self, images: Pictures, texts: dict[str, Tensor], *given: str) -> Any:
        """What the network says of pictures. texts: for one of them, repeated along the first axis for all. given:
        which of the prepared pictures' tensors it takes."""
        pictures = self.pictures(images=list(images), return_tensors="pt")
        inputs = {name: pictures[name] for name in given}
        inputs |= {name: torch.cat([tensor] * len(images)) for name, tensor in texts.items()}
        return self.model(**{name: tensor.to(self.device) for name, tensor in inputs.items()})

    def texts(self, texts: Sequence[str], length: int) -> dict[str, Tensor]:
        """Tokens of each text, filled up to `length`. ValueError for a text that is longer."""
        tokens = self.tokenizer(list(texts), padding="max_length", max_length=length)
        if max(map(len, tokens["input_ids"])) > length:
            raise ValueError(f"the object names do not fit into {length} tokens; give shorter or fewer names")
        return {name: torch.tensor(tokens[name]) for name in ("input_ids", "attention_mask")}


def grounding_dino(detector: ZeroShotBoxes, names: Sequence[str]) -> Look:
    """GroundingDINO and MM-GroundingDINO: all names go into one prompt. A name's score at a box is read from the name's
    own tokens, so that names which share words, or whose text the tokenizer takes apart, are told apart."""
    prompt, parts = prompt_of(names)
    tokens = dict(detector.tokenizer(prompt, return_offsets_mapping=True, return_tensors="pt"))
    spans = token_spans(tokens.pop("offset_mapping")[0].tolist(), parts)

    def look(images: Pictures) -> list[Found]:
        out, size = detector.run(images, tokens, "pixel_values", "pixel_mask"), size_of(images)
        both = zip(out.logits.float(), out.pred_boxes.float())
        return [best_boxes(logits, boxes, spans, detector.threshold, size) for logits, boxes in both]

    return look


def owl(detector: ZeroShotBoxes, names: Sequence[str]) -> Look:
    """OWL-ViT and OWLv2: one query a name. OWLv2 sees the picture in the top left corner of a square."""
    config = detector.model.config
    tokens = detector.texts([f"a photo of a {name}" for name in names], config.text_config.max_position_embeddings)

    def look(images: Pictures) -> list[Found]:
        out, size = detector.run(images, tokens, "pixel_values"), size_of(images)
        extent = (max(size), max(size)) if config.model_type == "owlv2" else size
        both = zip(out.logits.float().sigmoid(), out.pred_boxes.float())
        return [best_of_each(agree, boxes, detector.threshold, extent, size) for agree, boxes in both]

    return look


def omdet_turbo(detector: ZeroShotBoxes, names: Sequence[str]) -> Look:
    """OmDet-Turbo: one class a name, and a task that has them all."""
    length = detector.model.config.text_config.max_position_embeddings
    classes = detector.texts(names, length)
    task = detector.texts([f"Detect {', '.join(names)}."], length)
    tokens = {"classes_structure": torch.tensor([len(names)])}
    tokens |= {f"classes_{k}": v for k, v in classes.items()} | {f"tasks_{k}": v for k, v in task.items()}

    def look(images: Pictures) -> list[Found]:
        out, size = detector.run(images, tokens, "pixel_values"), size_of(images)
        both = zip(out.decoder_class_logits.float().sigmoid(), out.decoder_coord_logits.float())
        return [
            best_of_each(agree[:, : len(names)], boxes, detector.threshold, size, size) for agree, boxes in both
        ]

    return look


FAMILIES: dict[str, Callable[[ZeroShotBoxes, Sequence[str]], Look]] = {
    "grounding-dino": grounding_dino,
    "mm-grounding-dino": grounding_dino,
    "owlv2": owl,
    "owlvit": owl,
    "omdet-turbo": omdet_turbo,
}
"""Model type -> from the names, what looks at pictures."""


def open_boxes(config: ObjectsConfig) -> ZeroShotBoxes:
    return ZeroShotBoxes(config)


def size_of(images: Pictures) -> tuple[int, int]:
    """(width, height)."""
    return images.shape[2], images.shape[1]


def plain(name: str) -> str:
    """A name as detectors read it: small letters, no underscores and full stops."""
    return " ".join(name.lower().replace("_", " ").replace(".", " ").split())


def prompt_of(names: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """GroundingDINO's prompt, "red cup. plate.", and the characters (begin, end) of each name in it."""
    prompt, parts = "", []
    for name in names:
        text = plain(name)
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
) -> Found:
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
        found[j], scores[j] = corners(boxes[q], size, size), float(agree[q].amax())
    return found, scores


def best_of_each(
    agree: Float[Tensor, "queries names"],
    boxes: Float[Tensor, "queries 4"],
    threshold: float,
    extent: tuple[int, int],
    size: tuple[int, int],
) -> Found:
    """For each name the box of the highest probability, where that reaches the threshold.

    boxes, size and what is returned: as `best_boxes`; extent: width and height in pixels of what the shares are of.
    """
    found, scores = np.full((agree.shape[1], 4), np.nan), np.zeros(agree.shape[1])
    for j, (score, q) in enumerate(zip(*(part.tolist() for part in agree.max(0)))):
        if score >= threshold:
            found[j], scores[j] = corners(boxes[q], extent, size), score
    return found, scores


def corners(box: Float[Tensor, "4"], extent: tuple[int, int], size: tuple[int, int]) -> Float[np.ndarray, "4"]:
    """Left, top, right, bottom in pixels, inside the picture, of a centre, width and height in shares of `extent`."""
    x, y, width, height = box.double().cpu().numpy() * np.tile(extent, 2)
    edges = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return np.clip(edges, 0, np.tile(size, 2)) - 0.5
