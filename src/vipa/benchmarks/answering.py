"""A trained model as the one who answers: frames are encoded once, questions generated in batches."""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessorList

from vipa.benchmarks.asking import Pictures, Spatial, covered
from vipa.data.component import Group
from vipa.data.images import encoded
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import ActionRecord, VisualRecord
from vipa.hands.conventions import Conventions
from vipa.models import MedianBin, MotionGrammar, VipaForConditionalGeneration, VipaProcessor
from vipa.models.loading import fingerprint, model_name
from vipa.models.starts import load_start

LONGEST_ANSWER = 40
"""Tokens; the answers of Hand3D-visual have about half as many."""
LONGEST_TEXT = 64
"""Tokens of a motion put into words."""


class ModelAnswerer:
    """Greedy answers of the model in a folder, about the images of a Hand3D data set; of waypoints the median bins.

    model: folder made by a training, or nano:STAGE. device: where it runs. Motions are decoded under the grammar of
    motion tokens, for the hands and with the number of waypoints of the record, so that predictions and truth can be
    compared point by point; what the model adds is where the waypoints are.
    spatial: `zeroed`: 3D tokens that are zeros; `shuffled`: those of frames of another clip; `none`: without the fusion
    (alpha = 0), as the pretrained model did before it had one. ValueError where the model has none to control.
    pictures: what it sees.
    """

    spatial: Spatial = "real"
    pictures: Pictures = "shown"

    def __init__(
        self,
        model: str | Path,
        hand3d: Path,
        device: str | None = None,
        spatial: Spatial = "real",
        pictures: Pictures = "shown",
    ):
        controls = [f"3D tokens: {spatial}"] * (spatial != "real") + [f"pictures: {pictures}"] * (
            pictures != "shown"
        )
        self.name = model_name(model) + (f" ({', '.join(controls)})" if controls else "")
        self.spatial, self.pictures = spatial, pictures
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.manual_seed(0)  # parts that a start does not have yet are new, as in training
        self.model, self.processor = load_start(model)
        fusion = self.model.model.fusion
        if spatial in ("zeroed", "shuffled") and (fusion is None or fusion.config.source != "spatial"):
            raise ValueError(f"--spatial {spatial}: {model_name(model)} reads no 3D tokens")
        if spatial == "zeroed":
            self.model.set_spatial_control("zero")
        if spatial == "none" and fusion is not None:
            torch.nn.init.zeros_(fusion.alpha)
        self.weights = fingerprint(self.model)
        self.model.to(device=self.device)  # type: ignore[call-arg]
        self.tokenizer: Any = self.processor.tokenizer
        self.data = Hand3D(hand3d)
        self.conventions = Conventions.from_json(self.model.config.conventions, str(model))

    @classmethod
    def of(cls, model: VipaForConditionalGeneration, processor: VipaProcessor, data: Hand3D) -> "ModelAnswerer":
        """A model as it is just now, while it learns: nothing is loaded, and it has no identity."""
        self = cls.__new__(cls)
        self.name, self.device, self.weights = "a model that learns", model.device, ""
        self.model, self.processor, self.tokenizer, self.data = model, processor, processor.tokenizer, data
        self.conventions = Conventions.from_json(model.config.conventions, self.name)
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """The weights by their content, and how answers are decoded."""
        identity = {
            "model": self.name,
            "weights": self.weights,
            "decoding": f"greedy words, at most {LONGEST_ANSWER}; median bins",
        }
        controls = {"spatial": self.spatial} if self.spatial != "real" else {}
        return identity | controls | ({"pictures": self.pictures} if self.pictures != "shown" else {})

    def questions(self, records: Sequence[VisualRecord]) -> list[str]:
        """Answers to visual records."""
        return self._generate([(tuple(r.frame_ids), r.question) for r in records], max_new_tokens=LONGEST_ANSWER)

    def motions(self, records: Sequence[ActionRecord], samples: int = 1) -> list[str]:
        """Motion tokens as text for action records; records alike in hands and waypoints share a batch. samples: 1: of
        each coordinate the median bin; more: so many draws at temperature 1, one a line."""
        alike: dict[tuple, list[int]] = defaultdict(list)
        for i, record in enumerate(records):
            alike[tuple((side, len(points)) for side, points in record.trajectories.items())].append(i)
        answers = [""] * len(records)
        for shape, places in alike.items():
            counts = [count for _, count in shape]
            some = [((records[i].frame_id,), records[i].prompt) for i in places]
            hands, waypoints = tuple(side for side, _ in shape), (min(counts), max(counts))
            if samples == 1:
                lines = [self._generate(some, hands=hands, waypoints=waypoints)]
            else:
                names = "\n".join(records[i].id for i in places)
                lines = []
                for sample in range(samples):
                    torch.manual_seed(zlib.crc32(f"{sample} {names}".encode()))
                    lines.append(self._generate(some, hands=hands, waypoints=waypoints, drawn=True))
            for i, texts in zip(places, zip(*lines)):
                answers[i] = "\n".join(texts)
        return answers

    def translations(self, records: Sequence[ActionRecord]) -> list[str]:
        """What is done in the motions of motion translation records, in words."""
        return self._generate([((r.frame_id,), r.prompt) for r in records], max_new_tokens=LONGEST_TEXT)

    def _others(self, group: Group) -> Group:
        """As many frames of another clip, the same whatever else is asked: of the clip half the data set away."""
        clip_ids = list(self._frames)
        if len(clip_ids) < 2:
            raise ValueError(f"--spatial shuffled: {self.data.path} has one clip; its tokens have no others to be")
        at = next(i for i, frames in enumerate(self._frames.values()) if group[0] in frames)
        frames = self._frames[clip_ids[(at + len(clip_ids) // 2) % len(clip_ids)]]
        return tuple(frames[int(i)] for i in np.linspace(0, len(frames) - 1, len(group)).round())

    @cached_property
    def _frames(self) -> dict[str, list[str]]:
        """Frame ids of every clip of the data set."""
        frames: dict[str, list[str]] = defaultdict(list)
        for frame in self.data.frames():
            frames[frame.clip_id].append(frame.id)
        return dict(frames)

    def _read(self, group: Group) -> list[np.ndarray]:
        images = [self.data.image(frame) for frame in group]
        return [covered(image) for image in images] if self.pictures == "covered" else images

    @torch.no_grad()
    def _generate(
        self,
        asked: Sequence[tuple[Group, str]],
        *,
        hands: tuple[str, ...] = (),
        waypoints: tuple[int, int] = (1, 1),
        max_new_tokens: int = 0,
        drawn: bool = False,
    ) -> list[str]:
        if self.pictures == "none":
            asked = [((), text) for _, text in asked]
        groups = [group for group, _ in asked]
        others = [self._others(group) for group in groups] if self.spatial == "shuffled" else []
        images: dict[str, Any] = {}
        if self.pictures != "none":
            images = encoded(self.model, self.processor, [*groups, *others], self._read)  # each group once
        prompts = self.processor.prompts([(len(group), text) for group, text in asked])
        inputs: dict[str, Any] = {k: v.to(self.device) for k, v in prompts.items()}
        count = sum(map(len, groups))
        inputs |= {name: tokens[:count] for name, tokens in images.items()}
        if images:
            inputs["clip_lengths"] = [len(group) for group in groups]
        if others:
            inputs["spatial_features"] = images["spatial_features"][count:]
        length, closing = inputs["input_ids"].shape[1], self.processor.layout.end
        end = self.tokenizer.convert_tokens_to_ids(closing)
        processors = LogitsProcessorList()
        if hands:
            grammar = MotionGrammar(self.model.config, length, eos_token_id=end, waypoints=waypoints, hands=hands)
            processors += [grammar] if drawn else [grammar, MedianBin(self.model.config)]
            max_new_tokens = grammar.max_new_tokens
        written = self.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=drawn,
            eos_token_id=end,
            pad_token_id=self.tokenizer.pad_token_id,
            logits_processor=processors,
        )
        ends = (closing, self.tokenizer.pad_token)
        texts = self.tokenizer.batch_decode(written[:, length:], skip_special_tokens=False)
        return [_before(text, ends).strip() for text in texts]


def _before(text: str, ends: Sequence[str]) -> str:
    """What stands before the first end."""
    for end in ends:
        text = text.partition(end)[0]
    return text


class Questions:
    """The question side of a model: an `Answerer` of Hand3D-test. ValueError where it learned other direction words
    than the data set has; one that never learned any may be asked."""

    def __init__(self, model: ModelAnswerer):
        gamma = Conventions(gamma=model.conventions.gamma)
        gamma.require(model.data.conventions, f"the model {model.name}", f"the data {model.data.path}")
        self.model, self.name, self.identity = model, model.name, model.identity

    def __call__(self, records: Sequence[VisualRecord]) -> list[str]:
        return self.model.questions(records)


class Motions:
    """The motion side of a model: a `MotionAnswerer` of the trajectories. samples: of each motion. ValueError where it
    learned other motion tokens than the data set has, or does not say which."""

    def __init__(self, model: ModelAnswerer, samples: int = 1):
        require_codec(model)
        self.model, self.samples, self.name = model, samples, model.name
        drawn = {"decoding": f"{samples} samples at temperature 1"} if samples > 1 else {}
        self.identity = model.identity | drawn

    def __call__(self, records: Sequence[ActionRecord]) -> list[str]:
        return self.model.motions(records, self.samples)


class Translations:
    """A model that says in words what a motion does: a `Translator`. ValueError as of `Motions`."""

    def __init__(self, model: ModelAnswerer):
        require_codec(model)
        self.model, self.name, self.identity = model, model.name, model.identity

    def __call__(self, records: Sequence[ActionRecord]) -> list[str]:
        return self.model.translations(records)


def require_codec(model: ModelAnswerer) -> None:
    """ValueError unless the model learned the motion tokens of its data set."""
    codec = Conventions(codec=model.conventions.codec)
    if codec.codec is None:
        raise ValueError(
            f"the model {model.name} does not say with what volume of motion tokens it was trained ('conventions' in "
            "its config.json): motions are learned in stage 2; train that, or write there the values of the "
            "hand3d.json that it was trained on"
        )
    codec.require(model.data.conventions, f"the model {model.name}", f"the data {model.data.path}")
