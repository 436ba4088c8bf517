"""One layout of prompts: InternVL's own, the same wherever ids are made, and carried by the checkpoint."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoTokenizer
from vipa_kit import tokenizer

from vipa.models import VipaProcessor, image_processor
from vipa.models.packing import IGNORE, Conversation, Packer

# The form of the chat template in the released -HF folders of InternVL3.5, branch for branch.
RELEASED = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for content in message['content'] %}
            {%- if content['type'] == 'image' %}
                {{- '<IMG_CONTEXT>\\n' }}
            {%- elif content['type'] == 'video' %}
                {{- '<video>\\n' }}
            {%- elif content['type'] == 'text' %}
                {{- content['text'] }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
THINKING = RELEASED.replace("assistant\\n", "assistant\\n<think>\\n\\n</think>\\n\\n")
WORDS_ONLY = RELEASED.replace("<IMG_CONTEXT>\\n", "")
SYSTEM = "You look at the hands."
TURNS = (
    ("Where is the red cup?", "12 cm to the left."),
    ("1234 of what, please?", "3"),
    ("\u676f\u5b50\u5728\u54ea\u91cc\uff1f 'Tis -- so...", "<mx_3><my_4>  two  spaces\nand a line"),
    ("(a) or (b)?", "\u4f60\u597d"),
)


def made(words, **changes) -> VipaProcessor:
    return VipaProcessor(image_processor(56), words, image_seq_length=4, spatial_size=64, **changes)


@pytest.mark.parametrize("template", [None, RELEASED])
def test_the_layout_is_internvl_s(template):
    layout = made(tokenizer(), chat_template=template).layout
    assert layout.images(2) == "<|im_start|>user\n<IMG_CONTEXT>\n<IMG_CONTEXT>\n"
    assert layout.prompt("Where?", 0) == "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"
    assert layout.end == "<|im_end|>"


def test_a_system_turn_stands_before_everything():
    layout = made(tokenizer(), chat_template=RELEASED, system=SYSTEM).layout
    assert layout.images(1) == f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n<IMG_CONTEXT>\n"


@pytest.mark.parametrize(
    ("template", "message"), [(WORDS_ONLY, "writes '' for an image"), (THINKING, "asks for one with .*<think>")]
)
def test_a_template_that_is_not_of_this_form_is_refused(template, message):
    with pytest.raises(ValueError, match=message) as error:
        made(tokenizer(), chat_template=template)
    assert str(error.value).count("\n") == 0


def test_a_checkpoint_carries_its_layout(tmp_path):
    saved = made(tokenizer(), system=SYSTEM)
    saved.save_pretrained(tmp_path)
    assert VipaProcessor.from_pretrained(tmp_path).layout == saved.layout
    assert json.loads((tmp_path / "processor_config.json").read_text())["prompt_layout"]["end"] == "<|im_end|>"


def test_another_template_than_the_model_learned_is_refused(tmp_path):
    made(tokenizer()).save_pretrained(tmp_path)
    path = tmp_path / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|im_end|>\\n", "<|im_end|>"))
    with pytest.raises(ValueError, match=r"prompt layout: the model learned 'turn' .* chat_template.jinja"):
        VipaProcessor.from_pretrained(tmp_path)


@pytest.fixture(scope="module")
def offline(tmp_path_factory) -> Path:
    """InternVL3.5's own vocabulary, built by scripts/internvl_tokenizer.py."""
    pytest.importorskip("tiktoken")
    path = Path(__file__).parents[2] / "scripts" / "internvl_tokenizer.py"
    spec = importlib.util.spec_from_file_location("internvl_tokenizer", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    if (ranks := script.dashscope_ranks()) is None:
        pytest.skip("needs the package dashscope, which carries Qwen's vocabulary")
    folder = tmp_path_factory.mktemp("internvl")
    script.internvl_tokenizer(ranks).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def released() -> Path:
    """The folder of a released InternVL: VIPA_INTERNVL, or what the hub's cache has."""
    given = os.environ.get("VIPA_INTERNVL")
    for name in (f"OpenGVLab/InternVL3_5-{size}-HF" for size in ("1B", "2B", "4B", "8B")):
        cached = None if given else try_to_load_from_cache(name, "tokenizer_config.json")
        if isinstance(cached, str) and (Path(cached).parent / "tokenizer.json").exists():
            given = str(Path(cached).parent)
    if not given:
        pytest.skip("set VIPA_INTERNVL to a folder of InternVL3.5 in the -HF flavour")
    return Path(given)


def test_the_vocabulary_built_offline_is_internvl_s(offline):
    words = AutoTokenizer.from_pretrained(offline)
    known = {
        "!": 0,
        "<|endoftext|>": 151643,
        "<|im_end|>": 151645,
        "</think>": 151668,
        "<IMG_CONTEXT>": 151671,
        "</quad>": 151673,
    }
    assert words.convert_tokens_to_ids(list(known)) == list(known.values())
    assert len(words) == 151_674
    assert words("1234")["input_ids"] == words.convert_tokens_to_ids(list("1234"))
    text = "Where is it?\n\n\u676f\u5b50  -- <|im_end|>"
    assert words.decode(words(text)["input_ids"]) == text


@pytest.mark.parametrize("source", ["offline", "released"])
@pytest.mark.parametrize("system", ["", SYSTEM])
def test_all_ids_are_those_of_internvl_s_own_chat_template(source, system, request):
    """Training, open prompts and whole texts, against the template itself: rendered, images put in, tokenized."""
    folder = request.getfixturevalue(source)
    words = AutoTokenizer.from_pretrained(folder)
    template = RELEASED if source == "offline" else words.chat_template
    processor = VipaProcessor.from_vlm(folder, system=system)
    assert_ids_of_template(processor, words, template, system)


@pytest.mark.parametrize("system", ["", SYSTEM])
def test_all_ids_are_those_of_the_template_with_a_small_vocabulary(system):
    words = tokenizer()
    assert_ids_of_template(made(words, system=system), words, RELEASED, system)


def assert_ids_of_template(processor, words, template, system):
    first = [{"role": "system", "content": system}] if system else []
    image = "<img>" + "<IMG_CONTEXT>" * processor.image_seq_length + "</img>"

    def ids(messages, asks):
        text = words.apply_chat_template(
            [*first, *messages], chat_template=template, add_generation_prompt=asks, tokenize=False
        )
        return words(text.replace("<IMG_CONTEXT>", image), add_special_tokens=False)["input_ids"]

    for images in (0, 1, 3):
        for question, answer in TURNS:
            content = [{"type": "image"}] * images + [{"type": "text", "text": question}]
            user = {"role": "user", "content": content}
            asked = ids([user], True)
            told = ids([user, {"role": "assistant", "content": answer}], False)
            open_prompt = processor.prompts([(images, question)])
            assert open_prompt["input_ids"][0].tolist() == asked
            pictures = [np.zeros((8, 8, 3), np.uint8)] * images or None
            whole = processor(pictures, processor.prompt(question, images))
            assert whole["input_ids"][0].tolist() == asked
            pack = Packer(processor)([Conversation(("a",) * images, ((question, answer),))])
            closed = told[
                : -len(words("\n", add_special_tokens=False)["input_ids"])
            ]  # the template's last line break
            assert pack.input_ids[0].tolist() == closed
            learned = pack.labels[0] != IGNORE
            assert pack.input_ids[0][learned].tolist() == closed[len(asked) :]
            assert torch.equal(pack.labels[0][learned], pack.input_ids[0][learned])
