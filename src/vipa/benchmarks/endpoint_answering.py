"""Any vision-language model behind an OpenAI-compatible server as the one who answers questions about space."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from vipa.benchmarks.asking import Pictures, covered
from vipa.hand3d.config import EndpointConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import VisualRecord
from vipa.hand3d.estimators.endpoint import Endpoint
from vipa.hand3d.words.questions import ANSWER_HINTS

LONGEST_ANSWER = 256
"""Tokens; some models think aloud before they answer."""


class EndpointAnswerer:
    """Answers of the model that `config` names, at temperature 0; the records of a batch are asked at once.

    A prompt says how many pictures there are and in what order, the question as the data set has it, and the form of
    the answer. pictures: shown, covered (mid-grey), or none: the text alone.
    """

    def __init__(self, config: EndpointConfig, hand3d: Path, pictures: Pictures = "shown"):
        self.endpoint, self.data, self.pictures = Endpoint(config), Hand3D(hand3d), pictures
        self.name = config.model + ("" if pictures == "shown" else f" (pictures: {pictures})")

    @property
    def identity(self) -> dict[str, Any]:
        """The model's name on its server and how it is asked: what its weights are, only the server knows."""
        return {
            "endpoint": self.endpoint.config.model,
            "pictures": self.pictures,
            "longer_side": self.endpoint.config.longer_side,
            "decoding": f"temperature 0, at most {LONGEST_ANSWER} tokens",
            "prompt": prompt_of("QUESTION", 2, degrees=False),
        }

    def __call__(self, records: Sequence[VisualRecord]) -> list[str]:
        with ThreadPoolExecutor(len(records)) as threads:
            return list(threads.map(self._ask, records))

    def _ask(self, record: VisualRecord) -> str:
        images: list[np.ndarray] = []
        if self.pictures != "none":
            images = [self.data.image(frame) for frame in record.frame_ids]
        if self.pictures == "covered":
            images = [covered(image) for image in images]
        prompt = prompt_of(record.question, len(images), degrees=record.aspect == "rotation")
        return self.endpoint.say(prompt, images, LONGEST_ANSWER)


def prompt_of(question: str, pictures: int, *, degrees: bool) -> str:
    """What the endpoint is asked."""
    lines = [question, ANSWER_HINTS["degrees" if degrees else "distance"]]
    if pictures:
        order = "This is the picture." if pictures == 1 else f"These are {pictures} pictures in the order of time."
        lines.insert(0, order)
    return "\n".join(lines)
