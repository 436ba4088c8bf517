"""A trained model as the one who answers: frames are encoded once, questions generated in batches."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessorList

from vipa.data.component import Group
from vipa.data.images import encoded
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import ActionRecord, VisualRecord
from vipa.hands.conventions import Conventions
from vipa.models import MedianBin, MotionGrammar
from vipa.models.identity import model_name
from vipa.models.packing import END, Packer
from vipa.models.selfcheck import fingerprint
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
    fusion: False answers without it (alpha = 0), as the pretrained model did before it had one.
    """

    def __init__(self, model: str | Path, hand3d: Path, device: str | None = None, fusion: bool = True):
        self.name = model_name(model)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.manual_seed(0)  # parts that a start does not have yet are new, as in training
        self.model, self.processor = load_start(model)
        if not fusion and self.model.model.fusion is not None:
            torch.nn.init.zeros_(self.model.model.fusion.alpha)
        self.weights = fingerprint(self.model)
        self.model.to(device=self.device)  # type: ignore[call-arg]
        self.tokenizer: Any = self.processor.tokenizer
        self.packer = Packer(self.tokenizer, self.model.config.image_seq_length)
        self.data = Hand3D(hand3d)
        self.conventions = Conventions.from_json(self.model.config.conventions, str(model))

    @property
    def identity(self) -> dict[str, Any]:
        """The weights by their content, and how answers are decoded."""
        return {
            "model": self.name,
            "weights": self.weights,
            "decoding": f"greedy words, at most {LONGEST_ANSWER}; median bins",
        }

    def questions(self, records: Sequence[VisualRecord]) -> list[str]:
        """Answers to visual records."""
        return self._generate([(tuple(r.frame_ids), r.question) for r in records], max_new_tokens=LONGEST_ANSWER)

    def motions(self, records: Sequence[ActionRecord]) -> list[str]:
        """Motion tokens as text for action records; records alike in hands and waypoints share a batch."""
        alike: dict[tuple, list[int]] = defaultdict(list)
        for i, record in enumerate(records):
            alike[tuple((side, len(points)) for side, points in record.trajectories.items())].append(i)
        answers = [""] * len(records)
        for shape, places in alike.items():
            counts = [count for _, count in shape]
            some = [((records[i].frame_id,), records[i].prompt) for i in places]
            texts = self._generate(
                some, hands=tuple(side for side, _ in shape), waypoints=(min(counts), max(counts))
            )
            for i, text in zip(places, texts):
                answers[i] = text
        return answers

    def translations(self, records: Sequence[ActionRecord]) -> list[str]:
        """What is done in the motions of motion translation records, in words."""
        return self._generate([((r.frame_id,), r.prompt) for r in records], max_new_tokens=LONGEST_TEXT)

    def _read(self, group: Group) -> list[np.ndarray]:
        return [self.data.image(frame) for frame in group]

    @torch.no_grad()
    def _generate(
        self,
        asked: Sequence[tuple[Group, str]],
        *,
        hands: tuple[str, ...] = (),
        waypoints: tuple[int, int] = (1, 1),
        max_new_tokens: int = 0,
    ) -> list[str]:
        groups = [group for group, _ in asked]
        images = encoded(self.model, self.processor, groups, self._read)  # records of a clip share frames
        prompts = self.packer.prompts([(len(group), text) for group, text in asked])
        inputs = {k: v.to(self.device) for k, v in prompts.items()} | images
        length, end = inputs["input_ids"].shape[1], self.tokenizer.convert_tokens_to_ids(END)
        processors = LogitsProcessorList()
        if hands:
            grammar = MotionGrammar(self.model.config, length, eos_token_id=end, waypoints=waypoints, hands=hands)
            processors += [grammar, MedianBin(self.model.config)]
            max_new_tokens = grammar.max_new_tokens
        written = self.model.generate(
            **inputs,
            clip_lengths=[len(group) for group in groups],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=self.tokenizer.pad_token_id,
            logits_processor=processors,
        )
        ends = (END, self.tokenizer.pad_token)
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
    """The motion side of a model: a `MotionAnswerer` of the trajectories. ValueError where it learned other motion
    tokens than the data set has, or does not say which."""

    def __init__(self, model: ModelAnswerer):
        require_codec(model)
        self.model, self.name, self.identity = model, model.name, model.identity

    def __call__(self, records: Sequence[ActionRecord]) -> list[str]:
        return self.model.motions(records)


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
