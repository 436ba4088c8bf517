"""32 samples of each kind of the tabletop world can be learned by heart: the whole training path carries a signal.

The model is nano with two narrower language layers and 16 tokens per image, its frozen encoders run once: about three
minutes of one core in all. `-s` prints what each kind reached.
"""

import numpy as np
import pytest
import torch

from vipa.hands.motion_codec import MotionCodec
from vipa.models import MotionGrammar, VipaForConditionalGeneration, initialise_motion_rows
from vipa.nano.foundation.tokenizer import train_tokenizer
from vipa.nano.sizes import nano_processor
from vipa.nano.sizes import nano_vipa_config as nano
from vipa.robots.known.tabletop import demonstration
from vipa.worlds.stills import still

pytestmark = pytest.mark.slow
SAMPLES, IMAGE_TOKENS = 32, 16


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
    config.text_config.hidden_size, config.text_config.intermediate_size = 128, 256
    config.text_config.num_hidden_layers, config.text_config.layer_types = 2, config.text_config.layer_types[:2]
    config.downsample_ratio, config.image_seq_length = 0.5, IMAGE_TOKENS
    model = VipaForConditionalGeneration(config)
    initialise_motion_rows(model)
    for encoder in ("vision", "spatial"):
        model.parts()[encoder].requires_grad_(False)
    processor = nano_processor(words)
    processor.image_seq_length = IMAGE_TOKENS
    return model, processor


def encode(model, processor, pictures, prompts) -> tuple[dict, dict]:
    """Text of the prompts, and the frozen encoders' tokens."""
    batch = processor([[picture] for picture in pictures], prompts)
    semantic, spatial = model.encode_images(batch["pixel_values"], batch["spatial_pixel_values"])
    # Untrained encoders answer nearly alike to every picture: stretch what differs.
    features = [((x - x.mean(0)) / x.std(0).clamp_min(1e-6)).detach() for x in (semantic, spatial)]
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return text, {"semantic_features": features[0], "spatial_features": features[1]}


def learn(model, inputs: dict, steps: int, rate: float = 3e-3) -> list[float]:
    """Losses of AdamW steps on the whole batch, fp32."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, fused=True)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 10, (steps - step) / (steps / 2))
        loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
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
    loss, _, features = learn_answers(model, processor, [s.rgb for s in stills], questions, answers, 120)
    assert loss < 0.01
    prompts, _ = encode(model, processor, [s.rgb for s in stills], [processor.prompt(q) for q in questions])
    ids = model.generate(**prompts, **features, max_new_tokens=24, do_sample=False)
    said = processor.tokenizer.batch_decode(ids[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
    print(
        f"questions: loss {loss:.4f}, answers word for word {np.mean([a == b for a, b in zip(said, answers)]):.0%}"
    )
    assert said == answers


def test_motions_in_32_pictures(parts, stills):
    model, processor = parts
    codec, motions = MotionCodec(), []
    for picture in stills:
        side, joints = next(iter(picture.joints_camera.items()))
        steps = np.linspace(0, 1, 4)[:, None]
        motions.append({side: joints[0] + steps * (picture.centres_camera[0] - joints[0])})
    questions = [f"Reach for the {s.objects[0].name}." for s in stills]
    answers = [codec.to_text(motion) for motion in motions]
    loss, _, features = learn_answers(model, processor, [s.rgb for s in stills], questions, answers, 150)
    assert loss < 0.02
    prompts, _ = encode(model, processor, [s.rgb for s in stills], [processor.prompt(q) for q in questions])
    length = prompts["input_ids"].shape[1]
    grammar = MotionGrammar(model.config, length, eos_token_id=processor.tokenizer.eos_token_id, waypoints=(1, 8))
    ids = model.generate(
        **prompts, **features, logits_processor=[grammar], max_new_tokens=grammar.max_new_tokens, do_sample=False
    )
    errors = []
    for row, motion in zip(ids[:, length:], motions):
        said = processor.decode_motion(row, codec)
        side, truth = next(iter(motion.items()))
        assert tuple(said) == (side,)
        clipped = codec.decode(codec.encode(truth))
        errors.append(np.linalg.norm(said[side] - clipped, axis=1).mean())
    print(f"motions: loss {loss:.4f}, mean error {np.mean(errors) * 1e3:.2f} mm")
    assert np.mean(errors) < 0.002


def test_actions_of_32_moments(parts):
    model, processor = parts
    horizon = model.config.action_config.horizon
    moments = []
    for seed in range(SAMPLES // 8):
        episode = demonstration("place", 10_000_000 + seed)
        times = np.linspace(0, len(episode.action) - horizon, 8).astype(int)
        for t, image in zip(times, episode.views["agent"].read(times)):
            moments.append((image, episode.state[t], episode.action[t : t + horizon], episode.text))
    pictures, states, chunks, texts = zip(*moments)
    text, features = encode(model, processor, pictures, [processor.prompt(t) for t in texts])
    state = torch.from_numpy(np.stack(states)).float()
    state = (state - state.mean(0)) / state.std(0).clamp_min(1e-3)
    actions = torch.from_numpy(np.stack(chunks)).float()
    actions = (actions - actions.mean((0, 1))) / actions.std((0, 1)).clamp_min(1e-3)
    losses = learn(model, text | features | {"actions": actions, "state": state, "noise_draws": 8}, 300)
    first, last = np.mean(losses[:5]), np.mean(losses[-20:])
    model.eval()
    generator = torch.Generator().manual_seed(0)
    chunk = model.generate_actions(**text, **features, state=state, steps=10, generator=generator)
    error = (chunk - actions).abs().mean()
    print(f"actions: loss {first:.3f} to {last:.4f}, mean error {error:.3f} of a standard deviation")
    assert last < 0.05 * first
    assert error < 0.1
