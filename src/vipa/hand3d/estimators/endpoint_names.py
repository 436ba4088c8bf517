"""Names of objects by a vision-language model, for clips that bring none."""

import re

import numpy as np

from vipa.clips.clip import Clip
from vipa.hand3d.estimators.base import Namer
from vipa.hand3d.estimators.clip_names import clip_names
from vipa.hand3d.estimators.endpoint import Endpoint, json_answer
from vipa.hand3d.words.questions import bare_name

LOOKS, MOST_NAMES = 4, 12
"""Frames of a clip that the model sees, and names that it may give."""

PROMPT = (
    "These images are from one video of hands at work. List the objects that the hands touch or could reach, each "
    "once, as short names of a colour and a noun. Answer with a JSON list of strings only, as in "
    '["red cup", "wooden spoon"].'
)


def names_by_model(endpoint: Endpoint, clip: Clip) -> list[str]:
    """Object names, lower case, at most MOST_NAMES. EndpointError where the model gives none."""

    def check(text: str) -> list[str]:
        names = json_answer(text)
        if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
            raise ValueError("expected a list of names")
        names = [bare_name(n).lower() for n in names]
        good = [n for n in dict.fromkeys(names) if re.fullmatch(r"[a-z][a-z0-9 '\-]{1,40}", n)]
        if not good:
            raise ValueError("no usable name")
        return good[:MOST_NAMES]

    frames = np.unique(np.linspace(0, len(clip) - 1, LOOKS).astype(int)).tolist()
    return endpoint.ask(PROMPT, clip.frames.read(frames), check)


def open_names(endpoint: Endpoint | None) -> Namer:
    assert endpoint is not None
    return lambda clip: clip_names(clip) or names_by_model(endpoint, clip)
