"""Foundation questions are about the image and nothing else; the tokenizer gives any text back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import InternVLVisionModel

from pretend_cuda import PretendCuda
from vipa.data.spec import DataSpec
from vipa.hands.motion_codec import MotionCodec
from vipa.models.packing import IGNORE, Packer
from vipa.models.pixels import semantic_pixels
from vipa.nano.foundation.picture_questions import NOMINAL_DEPTH, Picture, Seen, sample_turns
from vipa.nano.foundation.picture_set import PAINTS, THINGS
from vipa.nano.foundation.questions_data import FoundationQuestions, _distance
from vipa.nano.foundation.run import HELD_OUT, PICTURES, FoundationRun, language_run
from vipa.nano.foundation.start import new_language_model
from vipa.nano.foundation.vision import VisionTraining, _mirrored, train_vision
from vipa.nano.sizes import nano_processor, nano_vlm_config
from vipa.training.loop import train
from vipa.training.processes import processes
from vipa.training.schedule import warmup_cosine
from vipa.training.setup import build


@pytest.mark.parametrize(
    "text", ["Where is the red cup?", "0.44m, 12.384 degrees", "\u00dcbung \u7b2c3 \n tab\t", "<motion><mx_7>"]
)
def test_the_tokenizer_gives_text_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_motion_token_is_one_id_and_digits_stand_alone(tokenizer):
    motion = MotionCodec().to_text({"left": np.array([[0.1, 0.0, 0.5]])})
    assert len(tokenizer(motion)["input_ids"]) == 6
    assert len(tokenizer("2048")["input_ids"]) == 4


def test_patch_targets_name_what_is_at_the_patch(pictures):
    _, data = pictures
    assert data.thing.max() <= len(THINGS)
    assert data.paint.max() <= len(PAINTS)
    boxes = data.box[data.thing > 0].astype(np.float32)
    assert (boxes[:, 2:] > 0).all()
    assert (np.abs(boxes[:, :2] - 0.5) <= 0.5).all()


def test_coordinates_in_answers_are_those_of_the_thing():
    cup, plate = Seen("red cup", (0.25, 0.5), 0.1, True), Seen("blue plate", (0.75, 0.5), 0.2, True)
    picture = Picture((cup, plate), ())
    sampled = sample_turns(picture, picture, 300, np.random.default_rng(0))
    turns = [(turn.prompt, turn.answer) for turn in sampled]
    assert all(turn.points == (cup.centre,) for turn in sampled if turn.prompt == "Point at the red cup.")
    assert ("Point at the red cup.", "25 50") in turns
    assert ("In the image, where is the blue plate from the red cup?", "right") in turns
    assert ("How many objects are there?", "2") in turns


def test_guessed_metres_use_the_nominal_depth_and_not_the_true_one():
    small, large = (Seen("red ball", (0.5, 0.5), size, True) for size in (0.03, 0.3))
    assert small.guess[2] > NOMINAL_DEPTH > large.guess[2]
    left, right = (Seen("red ball", (x, 0.5), 0.1, True).guess for x in (0.0, 1.0))
    assert right[0] - left[0] == pytest.approx(2 * 0.625 * NOMINAL_DEPTH)


def test_the_schedule_warms_up_and_ends_at_zero():
    factors = [warmup_cosine(step, 100, 0.1) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[10] == 1.0
    assert factors[100] == pytest.approx(0.0)
    assert np.all(np.diff(factors[10:]) < 0)


def test_an_aligned_projector_brings_image_tokens_to_their_words(pictures, tokenizer):
    _, data = pictures
    torch.manual_seed(0)
    vision = InternVLVisionModel(nano_vlm_config(tokenizer).vision_config)
    model = new_language_model(tokenizer, vision, data, seed=0, steps=60)
    with torch.no_grad():
        tokens = model.model.project(model.encode_images(semantic_pixels(torch.from_numpy(data.rgb)))[0], None)
        words = model.get_input_embeddings()(torch.tensor([tokenizer(f" {p}")["input_ids"][0] for p in PAINTS]))
    similar = torch.nn.functional.cosine_similarity(tokens[:, :, None], words, dim=-1)
    shown = torch.from_numpy(data.paint > 0)
    right = similar[shown].argmax(-1) == torch.from_numpy(data.paint)[shown].long() - 1
    assert right.float().mean() > 0.5  # 8 colours, an untrained image encoder


def test_mentioned_things_are_marked_in_prompts_alone(pictures, tokenizer):
    data = pictures[1]
    questions = FoundationQuestions(
        DataSpec("foundation", Path(), batch=4, turns=6), data, Packer(nano_processor(tokenizer)), 8
    )
    inputs, groups, _ = questions.inputs(range(len(data)), [np.random.default_rng(i) for i in range(len(data))])
    marked = ~inputs["mentions"].isnan().any(-1)
    assert marked.any()
    assert (inputs["labels"][marked] == IGNORE).all()
    for ids, points, here, group in zip(inputs["input_ids"], inputs["mentions"], marked, groups):
        picture = data.pictures[int(group[-1])]
        words = {w for t in (*picture.objects, *picture.hands) for w in t.name.split()}
        assert {tokenizer.decode(i).strip() for i in ids[here]} <= words
        centres = torch.tensor([t.centre for t in (*picture.objects, *picture.hands)])
        assert (torch.cdist(points[here], centres) < 1e-6).any(1).all()


def test_questions_that_ask_for_no_place_still_have_a_loss():
    read = torch.ones(3, 4, requires_grad=True)
    loss = _distance(read, torch.full((3, 4), torch.nan), 0.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert read.grad is not None
    assert not read.grad.any()


def test_held_out_questions_are_read_by_what_learns_and_change_nothing(pictures, tmp_path):
    """Losses of what is learned, step by step, with and without looks at held-out scenes."""
    films = tmp_path / "films"
    films.mkdir()
    for name in (PICTURES, HELD_OUT):
        (films / name).symlink_to(pictures[0])
    settings = FoundationRun(tmp_path, language_steps=2, language_batch=2, language_rate=5e-3)
    logs = {}
    for every in (0, 1):
        run = language_run(
            replace(settings, validate_every=every), films, tmp_path / str(every), "nano:foundation"
        )
        train(replace(run, log_every=1))
        logs[every] = [json.loads(line) for line in (tmp_path / str(every) / "log.jsonl").read_text().splitlines()]
    learned = {every: [line["loss"] for line in log if "loss" in line] for every, log in logs.items()}
    assert learned[1] == pytest.approx(learned[0], rel=1e-6)
    looks = [line["validation_foundation"] for line in logs[1] if "validation_foundation" in line]
    assert len(looks) == 2
    assert looks[1] != looks[0]
    with processes("cpu") as team:
        built = build(run, team)
    (learns, _), (reads, _) = *built.mixture.components, *built.validation.components
    assert learns.readout is reads.readout


def test_a_mirrored_picture_shows_its_things_where_its_targets_say(pictures):
    _, data = pictures
    batch = {name: torch.from_numpy(getattr(data, name)) for name in ("rgb", "thing", "paint", "box")}
    turned = _mirrored(batch, torch.ones(len(data), dtype=torch.bool))
    assert torch.equal(turned["rgb"][:, :, 0], batch["rgb"][:, :, -1])
    left, right = (1 + THINGS.index(f"{side} hand") for side in ("left", "right"))
    for side, other in ((left, right), (right, left)):
        assert (turned["thing"] == side).sum() == (batch["thing"] == other).sum()
    some = turned["thing"] > 0
    centre = (some.nonzero()[:, 1] % 8 + 0.5) / 8
    assert (turned["box"][some][:, 0].float() - centre).abs().max() < turned["box"][some][:, 2].max() / 2 + 1 / 8
    again = _mirrored(turned, torch.ones(len(data), dtype=torch.bool))
    assert all(torch.equal(again[name], batch[name]) for name in ("rgb", "thing", "paint"))
    assert (again["box"] - batch["box"])[batch["thing"] > 0].abs().max() < 1e-3


def test_the_image_encoder_trains_on_the_device_as_on_the_cpu_and_from_weights(pictures, tokenizer, tmp_path):
    _, data = pictures
    config = nano_vlm_config(tokenizer).vision_config
    run = VisionTraining(tmp_path / "cpu", steps=2, batch=4, save_every=1, device="cpu")
    here = InternVLVisionModel.from_pretrained(train_vision(run, config, data, data)).state_dict()
    with PretendCuda():
        path = train_vision(replace(run, out=tmp_path / "cuda", device="cuda"), config, data, data)
    there = InternVLVisionModel.from_pretrained(path).state_dict()
    for name, value in here.items():  # bfloat16 on the card
        torch.testing.assert_close(value, there[name], rtol=0.1, atol=3e-3)
    still = replace(run, out=tmp_path / "still", learning_rate=0.0)
    same = InternVLVisionModel.from_pretrained(train_vision(still, config, data, data, here)).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in here.items())
