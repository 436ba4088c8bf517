"""32 samples of each kind of the tabletop world can be learned by heart: the whole training path carries a signal.

The model is nano with a narrower language model, so that a minute or two of one core is enough for each kind.
"""

import numpy as np
import pytest
import torch

from vipa.hand3d.motion_tokens import MotionCodec
from vipa.models import MotionGrammar, VipaForConditionalGeneration, initialise_motion_rows, nano_processor
from vipa.models import nano_vipa_config as nano
from vipa.robots.tabletop import demonstration
from vipa.training.foundation.tokenizer import train_tokenizer
from vipa.worlds.stills import still
from vipa.worlds.tasks import TASKS

pytestmark = pytest.mark.slow
SAMPLES = 32


@pytest.fixture(scope="module")
def stills():
    found, seed = [], 0
    while len(found) < SAMPLES:
        picture = still(seed)
        if picture.joints_camera:
            found.append(picture)
        seed += 1
    return found


@pytest.fixture
def parts():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    words = train_tokenizer(["Where is the red cup? Reach for the blue bowl. 0.12 -0.34 0.56"] * 2, 400)
    words.add_tokens(MotionCodec().tokens)
    config = nano(words)
    for name, value in {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3}.items():
        setattr(config.text_config, name, value)
    config.text_config.layer_types = config.text_config.layer_types[:3]
    model = VipaForConditionalGeneration(config)
    initialise_motion_rows(model)
    for encoder in ("vision", "spatial"):
        model.parts()[encoder].requires_grad_(False)
    return model, nano_processor(words)


def encode(model, processor, pictures, prompts) -> tuple[dict, dict]:
    """Text of the prompts, and the frozen encoders' tokens."""
    batch = processor([[picture] for picture in pictures], prompts)
    semantic, spatial = model.encode_images(batch["pixel_values"], batch["spatial_pixel_values"])
    # Untrained encoders answer nearly alike to every picture: stretch what differs.
    features = [((x - x.mean(0)) / x.std(0).clamp_min(1e-6)).detach() for x in (semantic, spatial)]
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return text, {"semantic_features": features[0], "spatial_features": features[1]}


def learn(model, inputs: dict, steps: int, rate: float = 2e-3) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 20, (steps - step) / (steps / 2))
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def learn_answers(model, processor, pictures, questions, answers, steps) -> tuple[float, dict, dict]:
    prompts = [processor.prompt(question) for question in questions]
    text, features = encode(model, processor, pictures, [p + a + "<|im_end|>" for p, a in zip(prompts, answers)])
    labels = text["input_ids"].clone()
    for row, answer in enumerate(answers):
        length = len(processor.tokenizer(answer + "<|im_end|>", add_special_tokens=False)["input_ids"])
        labels[row, :-length] = -100
    loss = learn(model, text | features | {"labels": labels}, steps)[-1]
    model.eval()
    return loss, processor(None, [p.replace("<IMG_CONTEXT>", "") for p in prompts]), features


def test_questions_about_32_pictures(parts, stills):
    model, processor = parts
    questions = [f"Where is the {s.objects[0].name}?" for s in stills]
    answers = ["{:.2f} {:.2f} {:.2f}".format(*s.centres_camera[0]) for s in stills]
    loss, _, features = learn_answers(model, processor, [s.rgb for s in stills], questions, answers, 250)
    assert loss < 0.02
    prompts, _ = encode(model, processor, [s.rgb for s in stills], [processor.prompt(q) for q in questions])
    ids = model.generate(**prompts, **features, max_new_tokens=24, do_sample=False)
    said = processor.tokenizer.batch_decode(ids[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
    assert np.mean([a == b for a, b in zip(said, answers)]) > 0.9


def test_motions_in_32_pictures(parts, stills):
    model, processor = parts
    codec, motions = MotionCodec(), []
    for picture in stills:
        side, joints = next(iter(picture.joints_camera.items()))
        steps = np.linspace(0, 1, 4)[:, None]
        motions.append({side: joints[0] + steps * (picture.centres_camera[0] - joints[0])})
    questions = [f"Reach for the {s.objects[0].name}." for s in stills]
    answers = [codec.to_text(motion) for motion in motions]
    loss, _, features = learn_answers(model, processor, [s.rgb for s in stills], questions, answers, 250)
    assert loss < 0.05
    prompts, _ = encode(model, processor, [s.rgb for s in stills], [processor.prompt(q) for q in questions])
    length = prompts["input_ids"].shape[1]
    grammar = MotionGrammar(model.config, length, eos_token_id=processor.tokenizer.eos_token_id, waypoints=(1, 8))
    ids = model.generate(
        **prompts, **features, logits_processor=[grammar], max_new_tokens=grammar.max_new_tokens, do_sample=False
    )
    errors = []
    for row, motion in zip(ids[:, length:], motions):
        said = processor.decode_motion(row)
        side, truth = next(iter(motion.items()))
        assert tuple(said) == (side,)
        clipped = codec.decode(codec.encode(truth))
        errors.append(np.linalg.norm(said[side] - clipped, axis=1).mean())
    assert np.mean(errors) < 0.01


def test_actions_of_32_moments(parts):
    model, processor = parts
    horizon = model.config.action_config.horizon
    moments = []
    for seed in range(SAMPLES // 8):
        episode = demonstration(next(iter(TASKS)), 20_000 + seed)
        images = np.asarray([episode.views["agent"][t] for t in range(len(episode.action))])
        for t in np.linspace(0, len(images) - horizon - 1, 8).astype(int):
            moments.append((images[t], episode.state[t], episode.action[t : t + horizon], episode.text))
    pictures, states, chunks, texts = zip(*moments)
    text, features = encode(model, processor, pictures, [processor.prompt(t) for t in texts])
    state = torch.from_numpy(np.stack(states)).float()
    state = (state - state.mean(0)) / state.std(0).clamp_min(1e-3)
    actions = torch.from_numpy(np.stack(chunks)).float()
    actions = (actions - actions.mean((0, 1))) / actions.std((0, 1)).clamp_min(1e-3)
    losses = learn(model, text | features | {"actions": actions, "state": state, "noise_draws": 8}, 400, rate=2e-3)
    assert np.mean(losses[-20:]) < 0.1 * np.mean(losses[:5])
    model.eval()
    generator = torch.Generator().manual_seed(0)
    chunk = model.generate_actions(**text, **features, state=state, steps=10, generator=generator)
    assert (chunk - actions).abs().mean() < 0.12
