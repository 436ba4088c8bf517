"""Motion tokens inside the model: rows of the vocabulary, and decoding that can only write what parses (3.2.2).

The tokens' text form and their metres are `vipa.hands.motion_codec`.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, PreTrainedModel
from transformers.tokenization_utils_base import AddedToken

from vipa.hands.motion_codec import AXES, HAND_TOKENS, MotionCodec
from vipa.models.configuration import VipaConfig
from vipa.models.noise import draw

SHORTEST, LONGEST = 4.0, 256.0  # bins over which a coordinate of the rows changes


def add_motion_tokens(
    model: PreTrainedModel,
    tokenizer: Any,
    codec: MotionCodec | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Give tokenizer and model the codec's tokens, in order, and initialise their rows; both are changed.

    The embedding grows only where it has too few rows (public checkpoints have spare ones), to a multiple of 64.
    A tokenizer that has the tokens already keeps them; ValueError where they are not consecutive there.
    """
    codec = codec or MotionCodec()
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in codec.tokens])
    ids = tokenizer.convert_tokens_to_ids(codec.tokens)
    if ids != list(range(ids[0], ids[0] + len(ids))):
        raise ValueError(
            "tokenizer: its motion tokens are not consecutive ids in the codec's order; train it anew"
        )
    if model.get_input_embeddings().num_embeddings < len(tokenizer):
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64, mean_resizing=False)
    model.config.motion_token_start, model.config.motion_bins = ids[0], codec.bins
    initialise_motion_rows(model, generator)


@torch.no_grad()
def initialise_motion_rows(model: PreTrainedModel, generator: torch.Generator | None = None) -> None:
    """Start the rows of motion tokens, embedding and (where untied) output, so that near bins are near.

    Each axis is a smooth curve through the rows of the text vocabulary: per channel, mean + deviation *
    sqrt(2) cos(w i + phase) for bin i, with wavelengths spread evenly in logarithm, so that rows have the mean and
    spread of the text rows, neighbours are nearly equal, and far bins differ as two words do. Delimiters are
    random rows of that mean and spread. Else 3,072 unrelated rows would have to be learned one by one.
    """
    config = model.config
    assert isinstance(config, VipaConfig)
    if config.motion_token_start is None:
        raise ValueError(
            "config.motion_token_start is None: this vocabulary has no motion tokens (add_motion_tokens)"
        )
    tables = {id(layer.weight): layer for layer in (model.get_input_embeddings(), model.get_output_embeddings())}
    for layer in tables.values():
        _initialise_rows(layer, config.motion_token_start, config.motion_bins, generator)


def _initialise_rows(layer: nn.Module, start: int, bins: int, generator: torch.Generator | None) -> None:
    weight = layer.weight
    text = weight[:start].float()
    mean, deviation = text.mean(0), text.std(0)
    width, device = weight.shape[1], weight.device

    source: dict[str, Any] = {"device": device, "generator": generator}
    index = torch.arange(bins, device=device)[:, None]
    rows = []
    for _ in AXES:
        length = SHORTEST * (LONGEST / SHORTEST) ** draw(torch.rand, width, **source)
        frequency, phase = (
            draw(torch.randn, width, **source) / length,
            draw(torch.rand, width, **source) * 2 * math.pi,
        )
        rows.append(math.sqrt(2) * torch.cos(index * frequency + phase))
    rows.append(draw(torch.randn, 4, width, **source))
    new = mean + deviation * torch.cat(rows)
    weight[start : start + len(new)] = new.to(weight.dtype)


class MotionGrammar(LogitsProcessor):
    """Lets `generate` write only motions that parse: `<motion> hand (x y z)+ [hand (x y z)+] </motion>`.

    Outside a motion span, words are free and motion tokens other than `<motion>` are barred. Inside, only what the
    grammar allows: axes in the order x, y, z, whole triplets, each hand at most once.

    prompt_length: columns of input_ids that are prompt (its motions are not read).
    waypoints: (least, most) per hand; the most closes the span in time. hands: exactly these, in this order; None
    leaves the choice to the model. required: the answer is one motion span and nothing else.
    Give `generate` at least `max_new_tokens` of this object, or a span may be cut.
    """

    def __init__(
        self,
        config: VipaConfig,
        prompt_length: int,
        *,
        eos_token_id: int,
        waypoints: tuple[int, int] = (1, 32),
        hands: tuple[str, ...] | None = None,
        required: bool = True,
    ):
        if config.motion_token_start is None:
            raise ValueError("MotionGrammar: this model has no motion tokens")
        if not 1 <= waypoints[0] <= waypoints[1]:
            raise ValueError(f"MotionGrammar: waypoints {waypoints} must be (least, most) with 1 <= least <= most")
        self.bins, self.prompt_length = config.motion_bins, prompt_length
        self.first, self.count = config.motion_token_start, config.motion_token_count
        self.open, self.close, *self.hand_ids = range(self.first + 3 * self.bins, self.first + self.count)
        self.names = dict(zip(HAND_TOKENS, self.hand_ids))
        self.eos, self.waypoints, self.required = eos_token_id, waypoints, required
        for hand in hands or ():
            if hand not in self.names:
                raise ValueError(f"MotionGrammar: hand {hand!r} is unknown: {', '.join(self.names)}")
        self.order = None if hands is None else [self.names[hand] for hand in hands]

    @property
    def max_new_tokens(self) -> int:
        """Tokens of the longest motion that this grammar allows, with its end of sequence."""
        hands = 2 if self.order is None else len(self.order)
        return 3 + hands * (1 + 3 * self.waypoints[1])

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids (batch, length), scores (batch, vocabulary): scores of barred tokens become -inf."""
        allowed = torch.zeros_like(scores, dtype=torch.bool)
        for row, written in enumerate(input_ids[:, self.prompt_length :].tolist()):
            for first, last in self._allowed(written, scores.shape[1]):
                allowed[row, first:last] = True
        return scores.masked_fill(~allowed, -math.inf)

    def _allowed(self, written: list[int], vocabulary: int) -> list[tuple[int, int]]:
        """Ranges of ids that may follow."""

        def one(token: int) -> tuple[int, int]:
            return token, token + 1

        inside = self.open in written and self.close not in written[_last(written, self.open) :]
        if not inside:
            if self.required:
                return [one(self.eos if written else self.open)]
            return [(0, self.first), one(self.open), (self.first + self.count, vocabulary)]
        span = written[_last(written, self.open) + 1 :]
        used = [token for token in span if token in self.hand_ids]
        left = [token for token in self.hand_ids if token not in used]
        if self.order is not None:
            left = self.order[len(used) : len(used) + 1]
        if not span:
            return [one(token) for token in left]
        numbers = len(span) - 1 - _last(span, used[-1])
        axis, whole = numbers % 3, numbers // 3
        ranges = []
        if axis or whole < self.waypoints[1]:
            ranges.append((self.first + axis * self.bins, self.first + (axis + 1) * self.bins))
        if not axis and whole >= self.waypoints[0]:
            ranges += [one(token) for token in left]
            if self.order is None or not left:
                ranges.append(one(self.close))
        return ranges


class MedianBin(LogitsProcessor):
    """Where a coordinate comes next, writes the median bin of its distribution instead of the likeliest.

    The likeliest of 1024 bins says little about a broad distribution; the median has the least expected distance.
    Runs after `MotionGrammar`.
    """

    def __init__(self, config: VipaConfig):
        if config.motion_token_start is None:
            raise ValueError("MedianBin: this model has no motion tokens")
        self.first, self.bins = config.motion_token_start, config.motion_bins

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids (batch, length), scores (batch, vocabulary): only the median's score stays finite."""
        axis = (scores.argmax(1) - self.first).div(self.bins, rounding_mode="floor")
        rows = ((axis >= 0) & (axis < len(AXES))).nonzero()[:, 0]
        start = self.first + axis[rows, None] * self.bins
        of_axis = scores[rows].gather(1, start + torch.arange(self.bins, device=scores.device))
        median = start[:, 0] + (of_axis.float().softmax(1).cumsum(1) < 0.5).sum(1)
        out = scores.clone()
        out[rows] = -math.inf
        out[rows, median] = 0.0
        return out


def _last(tokens: list[int], token: int) -> int:
    """Index of a token's last appearance."""
    return len(tokens) - 1 - tokens[::-1].index(token)
