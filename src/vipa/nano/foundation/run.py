"""The vision-language half of nano's foundation, made on the tabletop world from random numbers."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import AddedToken, InternVLVisionConfig, InternVLVisionModel, PreTrainedTokenizerFast

from vipa.data.spec import DataSpec
from vipa.hand3d.words.motion_wordings import MOTION_WORDINGS
from vipa.hand3d.words.visual_wordings import VISUAL_WORDINGS
from vipa.hands.motion_codec import MotionCodec
from vipa.io.child_process import cores
from vipa.io.files import atomic_write, whole_folder
from vipa.models import VipaForConditionalGeneration
from vipa.models.loading import load_model, load_tokenizer
from vipa.models.starts import start_hash
from vipa.nano.foundation.picture_questions import sample_turns
from vipa.nano.foundation.picture_set import Pictures, render_pictures
from vipa.nano.foundation.start import new_language_model
from vipa.nano.foundation.tokenizer import train_tokenizer
from vipa.nano.foundation.vision import VisionTraining, train_vision
from vipa.nano.sizes import nano_processor, nano_vlm_config
from vipa.training.loop import train
from vipa.training.record import require_equal
from vipa.training.runs import TrainRun, as_nano
from vipa.worlds.scene import scene_settings
from vipa.worlds.seeds import FOUNDATION


@dataclass(frozen=True)
class FoundationRun:
    """The vision-language half of nano's foundation (the 3D half: `foundation.spatial`).

    sequences, frames: how many foundation scenes, and frames of each. ambiguity: of the scenes. vision_*,
    language_*: of the two trainings (batches of pictures, learning rates). seed: of both. workers: processes that
    render and, on a GPU, load data (None: one a core). compile: see `TrainRun`, of the language training.
    start: a vision-language model of nano's to go on from, instead of random numbers. films: where `film_foundation`
    put the scenes (None: `out`). validate_every: steps of the language training between looks at the held-out scenes
    (0: never).
    """

    out: Path
    sequences: int = 12_000
    frames: int = 2
    held_out: int = 500
    ambiguity: float = 0.0
    vision_steps: int = 6_000
    vision_batch: int = 64
    vision_rate: float = 1e-3
    language_steps: int = 8_800
    language_batch: int = 6
    language_rate: float = 1e-3
    seed: int = 0
    workers: int | None = None
    threads: int | None = None
    compile: bool = False
    start: Path | None = None
    films: Path | None = None
    validate_every: int = 0

    def train(self) -> str:
        return f"the vision-language model is at {train_foundation(self)}"


make = FoundationRun
PICTURES, HELD_OUT = "pictures", "held_out"
FOUNDATION_PARTS = ("projector", "language")


def language_run(run: FoundationRun, films: Path, out: Path, start: Path) -> TrainRun:
    """nano's stand-in for InternVL's pretraining: projector and language model learn on a dense-pretrained encoder."""
    learned, held = (
        DataSpec("foundation", films / name, batch=run.language_batch, turns=12) for name in (PICTURES, HELD_OUT)
    )
    language = TrainRun(
        name="foundation",
        start=str(start),
        out=out,
        data=(learned,),
        trained=FOUNDATION_PARTS,
        steps=run.language_steps,
        learning_rate=run.language_rate,
        weight_decay=0.01,
        warmup=0.05,
        seed=run.seed,
        save_every=100,
        validation=(replace(held, split="validation"),),
        validate_every=run.validate_every,
        validate_answers=0,
        threads=run.threads,
        compile=run.compile,
        workers=(run.workers or cores()) - 1 if torch.cuda.is_available() else 0,
    )
    return as_nano(language)


def film_foundation(
    folder: Path,
    sequences: int,
    held_out: int,
    frames: int = 2,
    ambiguity: float = 0.0,
    workers: int | None = None,
) -> tuple[Pictures, Pictures]:
    """Scenes to learn from (in `folder`/pictures) and scenes that are held out, rendered where they are missing.

    They come from the seeds FOUNDATION, which no split uses. workers: processes (None: one a core).
    """
    first, middle = FOUNDATION.start, (FOUNDATION.start + FOUNDATION.stop) // 2
    wanted = {PICTURES: range(first, first + sequences), HELD_OUT: range(middle, middle + held_out)}
    data, held = (
        render_pictures(folder / name, seeds, frames, workers=workers or cores(), ambiguity=ambiguity)
        for name, seeds in wanted.items()
    )
    return data, held


def train_foundation(run: FoundationRun) -> Path:
    """Pictures, tokenizer, dense vision pretraining, language training; returns the folder of the VLM.

    Each step is kept in run.out and not repeated.
    """
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    _claim(run)
    films = run.films or run.out
    data, held = film_foundation(films, run.sequences, run.held_out, run.frames, run.ambiguity, run.workers)
    before = None if run.start is None else load_model(VipaForConditionalGeneration, run.start).float()
    tokenizer = load_tokenizer(run.start) if run.start else _tokenizer(run.out / "tokenizer", data)
    config = nano_vlm_config(tokenizer)
    vision = run.out / "vision"
    assert isinstance(config.vision_config, InternVLVisionConfig)
    if not (vision / "config.json").exists():
        train_vision(
            VisionTraining(vision, run.vision_steps, run.vision_batch, run.vision_rate, seed=run.seed),
            config.vision_config,
            data,
            held,
            before.model.vision_tower.state_dict() if before else None,
        )
    start = run.out / "start"
    if not (start / "config.json").exists():
        encoder = InternVLVisionModel.from_pretrained(vision)
        if before is None:
            model = new_language_model(tokenizer, encoder, data, run.seed)
        else:
            model = before
            model.model.vision_tower.load_state_dict(encoder.state_dict())
        with whole_folder(start) as beside:
            model.save_pretrained(beside)
            nano_processor(tokenizer).save_pretrained(beside)
    return train(language_run(run, films, run.out / "language", start)).model


def _claim(run: FoundationRun) -> None:
    """Keeps the settings in run.out; ValueError where its parts were made with other ones."""
    path = run.out / "foundation.json"
    how = ("out", "films", "workers", "threads", "compile", "validate_every")
    settings = {name: value for name, value in asdict(run).items() if name not in how}
    settings |= {"start": run.start and start_hash(run.start)} | scene_settings(run.ambiguity)
    if path.exists():
        require_equal(path, json.loads(path.read_text()), settings)
    atomic_write(path, json.dumps(settings, indent=1))


def corpus(data: Pictures) -> list[str]:
    """Texts that the tokenizer is learned from: foundation turns and every wording of Hand3D."""
    rng = np.random.default_rng(0)
    texts = [text for wordings in (*VISUAL_WORDINGS.values(), *MOTION_WORDINGS.values()) for text in wordings] * 40
    for row in range(0, min(len(data), 6_000), data.frames):
        first, last = data.pictures[row], data.pictures[row + data.frames - 1]
        texts += [text for turn in sample_turns(first, last, 8, rng) for text in (turn.prompt, turn.answer)]
    return texts


def _tokenizer(folder: Path, data: Pictures) -> PreTrainedTokenizerFast:
    if not (folder / "tokenizer.json").exists():
        train_tokenizer(corpus(data)).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in MotionCodec().tokens])
    return tokenizer
