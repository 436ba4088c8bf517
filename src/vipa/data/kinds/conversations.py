"""Conversations about pictures in a JSON-lines file, for co-training: of this project's export, or of other data.

Each line has "image": a picture or a list of them, below the folder `images` beside the file, or below the file's own
folder where there is none; and "conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}, ...].
Every pair is a turn of its own about these pictures. `<image>` in a question is where a picture is; here they all come
before it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vipa.data.component import Component, Group
from vipa.data.spec import DataSpec
from vipa.data.turn_index import CACHED, Pair, TurnIndex
from vipa.data.turns import Turns
from vipa.hands.conventions import Conventions
from vipa.io.cache import cache_folder
from vipa.io.hashing import hash_files
from vipa.models.packing import Packer

MARK = re.compile(r"(Image-\d+: *)?<image>\n?")
PERSON, MODEL = ("human", "user"), ("gpt", "assistant")


class Pictures:
    """Image files below a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, group: Group) -> list[np.ndarray]:
        return [np.asarray(Image.open(self.folder / name).convert("RGB")) for name in group]


def open_component(spec: DataSpec, packer: Packer, width: int) -> Component:
    """ValueError naming the first line that is not a conversation."""
    path = Path(spec.path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; conversations are one JSON-lines file")
    index = TurnIndex.made(
        cache_folder(CACHED, f"conversations-{hash_files(path.parent, [path])}"), lambda: pairs(path)
    )
    return Turns(spec, index, Pictures(_root(path)), packer, Conventions())


def _root(path: Path) -> Path:
    images = path.parent / "images"
    return images if images.is_dir() else path.parent


def pairs(path: Path) -> Iterator[list[Pair]]:
    """Of each line."""
    with path.open() as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield _pairs(json.loads(line), _root(path))
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{path}, line {number}: {error or type(error).__name__}") from None


def _pairs(said: dict[str, Any], folder: Path) -> list[Pair]:
    images = [said["image"]] if isinstance(said.get("image"), str) else said.get("image")
    if not images:
        raise ValueError("no 'image': text without pictures is not learned from here")
    for name in images:
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: no such image")
    turns = said["conversations"]
    if not turns or len(turns) % 2:
        raise ValueError("'conversations' must be questions and answers in turn")
    found = []
    for question, answer in zip(turns[::2], turns[1::2]):
        if question["from"] not in PERSON or answer["from"] not in MODEL:
            raise ValueError(f"a pair is from 'human' and 'gpt', got {question['from']!r} and {answer['from']!r}")
        words = MARK.sub("", question["value"]).strip()
        found.append(Pair(tuple(images), words, answer["value"].strip()))
    return found
