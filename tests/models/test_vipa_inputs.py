"""Wrong input gets one line that says which field, what is wrong and what to do."""

import numpy as np
import pytest
import torch
from PIL import Image
from vipa_kit import action_config, inputs, tokenizer, vipa

from vipa.models import VipaProcessor, image_processor


@pytest.fixture(scope="module")
def model():
    return vipa(action=action_config(embodiments={"arm": [8, 7], "hand": [5, 4]}))


@pytest.fixture(scope="module")
def processor():
    return VipaProcessor(image_processor(56), tokenizer(), image_seq_length=4, spatial_size=64, max_images=4)


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def broken(**changes) -> dict:
    return {name: value for name, value in (inputs([1, 2]) | changes).items() if value is not None}


BATCH = inputs([1, 2])
CASES = {
    "text without image tokens": (
        broken(input_ids=torch.randint(6, 200, BATCH["input_ids"].shape)),
        "image tokens of 0 images but 3 were given",
    ),
    "image tokens without images": (
        broken(pixel_values=None, spatial_pixel_values=None),
        "image tokens of 3 images but 0 were given",
    ),
    "half an image": (
        broken(input_ids=torch.where(torch.arange(BATCH["input_ids"].shape[1]) == 2, 7, BATCH["input_ids"])),
        "row 1: 7 image tokens are not whole images of 4",
    ),
    "channels last": (
        broken(pixel_values=BATCH["pixel_values"].permute(0, 2, 3, 1)),
        "pixel_values.*channels are last",
    ),
    "bytes": (broken(pixel_values=BATCH["pixel_values"].to(torch.uint8)), "pixel_values: dtype torch.uint8"),
    "another size": (broken(pixel_values=torch.zeros(3, 3, 28, 28)), "pixel_values: 28 x 28 pixels.*56 x 56"),
    "no spatial pixels": (
        broken(spatial_pixel_values=None),
        "give either spatial_pixel_values or spatial_features",
    ),
    "spatial bytes": (
        broken(spatial_pixel_values=BATCH["spatial_pixel_values"].to(torch.uint8)),
        "spatial_pixel_values: dtype",
    ),
    "fewer spatial images": (
        broken(spatial_pixel_values=BATCH["spatial_pixel_values"][:2]),
        "3 for the semantic encoder, 2 for the spatial",
    ),
    "pixels and features": (
        broken(semantic_features=torch.zeros(3, 16, 32)),
        "either pixel_values or semantic_features",
    ),
    "features of another width": (
        broken(pixel_values=None, semantic_features=torch.zeros(3, 16, 31)),
        r"semantic_features: shape \(3, 16, 31\) is not \(images, 16, 32\)",
    ),
    "clips of other lengths": (broken(clip_lengths=[1, 1]), "clip_lengths sum to 2 but there are 3 images"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_model_says_what_is_wrong_with(model, case):
    batch, message = CASES[case]
    with pytest.raises(ValueError, match=message) as error:
        model(**batch)
    assert "\n" not in str(error.value)


def test_too_many_images_are_refused(model):
    with pytest.raises(ValueError, match="row 0: 9 images, max_images is 8"):
        model(**inputs([9]))


ACTION_CASES = {
    "unknown name": ({"embodiment": "drone"}, "embodiment 'drone' is unknown: this model has arm, hand"),
    "unknown id": ({"embodiment": torch.tensor(2)}, "embodiment 2 is unknown"),
    "no name where there are two": ({"embodiment": None}, "say which of arm, hand"),
    "short state": ({"state": torch.zeros(2, 6)}, "state: length 6, but embodiment 'arm' has 8"),
    "a mixed batch not padded": (
        {"embodiment": ["arm", "hand"], "state": torch.zeros(2, 5)},
        "pad a mixed batch to 8",
    ),
    "another horizon": ({"actions": torch.zeros(2, 4, 7)}, "actions: shape .* horizon 5"),
    "long actions": ({"actions": torch.zeros(2, 5, 9)}, "actions: length 9, but embodiment 'arm' has 7"),
    "mask of another shape": ({"action_mask": torch.ones(2, 4).bool()}, "action_mask: shape"),
    "packed rows": ({"attention_mask": torch.ones(2, 1, 14, 14).bool()}, "packed rows take text only"),
}


@pytest.mark.parametrize("case", ACTION_CASES)
def test_the_action_head_says_what_is_wrong_with(model, case):
    changes, message = ACTION_CASES[case]
    given = {"embodiment": "arm", "state": torch.zeros(2, 8), "actions": torch.zeros(2, 5, 7)}
    with pytest.raises(ValueError, match=message) as error:
        model(**BATCH | given | changes)
    assert "\n" not in str(error.value)


def test_a_model_without_action_head_says_so():
    with pytest.raises(ValueError, match="no action head"):
        vipa()(**inputs([1]), actions=torch.zeros(1, 5, 7), state=torch.zeros(1, 8))


PROCESSOR_CASES = {
    "fewer places than images": (([picture()] * 2, "<IMG_CONTEXT>a"), "1 <IMG_CONTEXT> places but 2 images"),
    "no images": ((None, "<IMG_CONTEXT>a"), "1 <IMG_CONTEXT> places but 0 images"),
    "too many": (([picture()] * 5, "<IMG_CONTEXT>" * 5), "5 images, at most 4"),
    "channels first": (([picture().transpose(2, 0, 1)], "<IMG_CONTEXT>"), "image 0: .*channels come last"),
    "grey": (([picture()[..., 0]], "<IMG_CONTEXT>"), "image 0: shape"),
    "floats": (([picture() / 255], "<IMG_CONTEXT>"), "image 0: dtype float64"),
    "lists for another number of texts": (
        ([[picture()]], ["<IMG_CONTEXT>", "b"]),
        "1 lists of images for 2 texts",
    ),
    "no text": (([picture()], None), "a prompt is needed"),
}


@pytest.mark.parametrize("case", PROCESSOR_CASES)
def test_the_processor_says_what_is_wrong_with(processor, case):
    (images, text), message = PROCESSOR_CASES[case]
    with pytest.raises(ValueError, match=message):
        processor(images, text)


# What right input becomes


def test_pixels_are_normalised_for_each_encoder(processor):
    exact = picture(56, 56)
    batch = processor([exact], "<IMG_CONTEXT>what?")
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = (torch.from_numpy(exact).permute(2, 0, 1) / 255 - mean) / std
    assert torch.allclose(batch["pixel_values"][0], expected, atol=1e-6)
    assert batch["spatial_pixel_values"].shape == (1, 3, 64, 64)
    assert batch["spatial_pixel_values"].min() >= -1
    assert batch["spatial_pixel_values"].max() <= 1
    resized = np.asarray(Image.fromarray(exact).resize((64, 64), Image.Resampling.BICUBIC)) / 127.5 - 1
    assert np.abs(batch["spatial_pixel_values"][0].permute(1, 2, 0).numpy() - resized).max() < 0.02


def test_pil_images_and_arrays_are_alike(processor):
    first = processor([picture()], "<IMG_CONTEXT>what?")
    second = processor([Image.fromarray(picture()).convert("RGBA")], "<IMG_CONTEXT>what?")
    assert torch.equal(first["pixel_values"], second["pixel_values"])


def test_a_prompt_is_a_user_turn_open_for_the_answer(processor):
    text = processor.prompt("Where?", images=2)
    image = "<IMG_CONTEXT>\n"
    assert text == f"<|im_start|>user\n{image}{image}Where?<|im_end|>\n<|im_start|>assistant\n"
    batch = processor([picture()] * 2, text)
    decoded = processor.tokenizer.decode(batch["input_ids"][0])
    whole = "<img>" + "<IMG_CONTEXT>" * 4 + "</img>\n"
    assert decoded == text.replace(image, whole)


def test_the_chat_template_takes_pictures_in_the_conversation(processor):
    content = [{"type": "image", "image": Image.fromarray(picture())}, {"type": "text", "text": "Where?"}]
    arguments = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    batch = processor.apply_chat_template([{"role": "user", "content": content}], **arguments)
    assert torch.equal(batch["input_ids"], processor([picture()], processor.prompt("Where?"))["input_ids"])
    assert torch.equal(batch["pixel_values"], processor([picture()], processor.prompt("Where?"))["pixel_values"])


def test_frames_are_one_clip_and_views_are_several(processor):
    texts = [processor.prompt("a", 3), processor.prompt("b", 0), processor.prompt("c", 1)]
    images = [[picture()] * 3, [], [picture()]]
    assert processor(images, texts)["clip_lengths"].tolist() == [3, 1]
    assert processor(images, texts, views=True)["clip_lengths"].tolist() == [1, 1, 1, 1]


def test_batches_are_padded_on_the_left_and_run(processor, model):
    texts = [processor.prompt("a long question", 1), processor.prompt("b", 2)]
    batch = processor([[picture()], [picture()] * 2], texts)
    assert batch["attention_mask"][:, -1].all()
    assert not batch["attention_mask"].all()
    words = vipa(vocabulary=len(processor.tokenizer))
    assert words.generate(**batch, max_new_tokens=2).shape[0] == 2
