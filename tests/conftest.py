"""Filmed clips, pictures and weights that several folders of tests share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest runs in importlib mode: for what lies beside this file


@pytest.fixture(scope="session")
def hand3d_path(tmp_path_factory):
    """A Hand3D data set of four filmed clips of the training split."""
    from dataclasses import replace

    from vipa.hand3d.pipeline.annotate import annotate
    from vipa.worlds.film import film_clip
    from vipa.worlds.seeds import TRAIN

    path = tmp_path_factory.mktemp("hand3d")
    annotate((replace(film_clip(TRAIN[i]), split="train") for i in range(4)), path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    from vipa.nano.foundation.picture_set import render_pictures

    folder = tmp_path_factory.mktemp("pictures")
    return folder, render_pictures(folder, range(8), frames=2, workers=1)


@pytest.fixture(scope="session")
def tokenizer(pictures):
    import numpy as np

    from vipa.hands.motion_codec import MotionCodec
    from vipa.nano.foundation.picture_questions import sample_turns
    from vipa.nano.foundation.tokenizer import train_tokenizer

    rng = np.random.default_rng(0)
    data = pictures[1]
    texts = [
        text for p in data.pictures for turn in sample_turns(p, p, 20, rng) for text in (turn.prompt, turn.answer)
    ]
    tokenizer = train_tokenizer(texts * 5, vocabulary=600)
    tokenizer.add_tokens(MotionCodec().tokens)
    return tokenizer


@pytest.fixture(scope="session")
def start(tmp_path_factory, tokenizer) -> Path:
    """A folder with a whole nano of random weights."""
    import torch

    from vipa.models import VipaForConditionalGeneration
    from vipa.nano.sizes import nano_processor, nano_vipa_config

    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    VipaForConditionalGeneration(nano_vipa_config(tokenizer)).save_pretrained(folder)
    nano_processor(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What the tests can make again is kept in a folder of theirs."""
    import os

    os.environ["VIPA_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def no_tracker(monkeypatch):
    """As on a machine without MediaPipe: videos of which no hands are known stay without."""
    monkeypatch.setattr("vipa.hands.trackers.mediapipe.installed", lambda: False)
