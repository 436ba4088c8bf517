"""Small random models and inputs for the tests of the VIPA model."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from vipa.hands.motion_codec import MotionCodec
from vipa.models import ActionHeadConfig, VipaForConditionalGeneration, initialise_motion_rows
from vipa.models.cut3r import Cut3rConfig, Cut3rModel

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
IMAGE_ID, EOS, PAD = 5, 2, 0
SIZE, TOKENS = 56, 4  # pixels; tokens per image after pixel shuffle
WORDS = 300


def assert_same_outputs(first: torch.Tensor, second: torch.Tensor) -> None:
    """Equal up to rounding. Equal weights in two places of memory need not give equal bits: how a matrix product is
    split hangs on their alignment, and on the processor. Bits are compared of weights (`assert_same_weights`)."""
    assert first.shape == second.shape
    coarse = torch.bfloat16 in (first.dtype, second.dtype)
    tolerance = 0.02 if coarse else 1e-5
    scale = max(1.0, float(second.detach().abs().max()))
    difference = float((first.detach().float() - second.detach().float()).abs().max())
    assert difference <= tolerance * scale, f"largest difference {difference:.1e} at outputs up to {scale:.1f}"


def assert_same_weights(first: torch.nn.Module, second: torch.nn.Module) -> None:
    """Parameters and buffers equal to the bit, under the same names."""
    theirs = second.state_dict()
    assert first.state_dict().keys() == theirs.keys()
    for name, tensor in first.state_dict().items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name


def tokenizer(motion: bool = True, bins: int = 1024) -> PreTrainedTokenizerFast:
    """Bytes, InternVL's special tokens and, where asked, motion tokens."""
    vocabulary = {token: index for index, token in enumerate(SPECIAL)}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[letter] = len(vocabulary)
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=SPECIAL[0], eos_token=SPECIAL[2])
    if motion:
        fast.add_tokens(MotionCodec(bins=bins).tokens)
    return fast


def internvl(vocabulary: int = WORDS, tied: bool = True, seed: int = 0) -> InternVLForConditionalGeneration:
    """A small random InternVL with Qwen3."""
    torch.manual_seed(seed)
    vision = InternVLVisionConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=(SIZE, SIZE),
        patch_size=(14, 14),
        attention_bias=True,
    )
    text = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=64,
        tie_word_embeddings=tied,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE_ID,
        image_seq_length=TOKENS,
        tie_word_embeddings=tied,
    )
    model = InternVLForConditionalGeneration(config).eval()
    with torch.no_grad():  # position embeddings start at zero and everything is tiny: make the weights matter
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def cut3r(seed: int = 1) -> Cut3rModel:
    """A small random spatial encoder for 64-pixel images: 4 x 4 patches, width 24."""
    torch.manual_seed(seed)
    config = Cut3rConfig(
        encoder_width=32,
        encoder_depth=1,
        encoder_heads=2,
        decoder_width=24,
        decoder_depth=2,
        decoder_heads=2,
        state_heads=2,
        memory_heads=2,
        transform_heads=2,
        state_size=16,
        memory_size=8,
        memory_depth=1,
        transform_depth=1,
        ray_map_depth=0,
        mlp_ratio=2,
        image_size=64,
    )
    return Cut3rModel(config).eval()


def action_config(**changes) -> ActionHeadConfig:
    """A small action head."""
    fields = {"horizon": 5, "queries": 3, "width": 32, "layers": 4, "heads": 2, "timestep_channels": 16}
    return ActionHeadConfig(**fields | changes)


def vipa(
    fusion: dict | None = None,
    action: ActionHeadConfig | None = None,
    vocabulary: int = WORDS,
    motion_start: int | None = None,
    tied: bool = True,
) -> VipaForConditionalGeneration:
    """A small random VIPA; no dropout unless asked for."""
    model = VipaForConditionalGeneration.from_parts(
        internvl(vocabulary, tied), cut3r(), fusion={"dropout": 0.0} | (fusion or {}), action=action
    )
    with torch.no_grad():
        for part in (model.model.fusion, model.action_head):
            for parameter in part.parameters() if part is not None else ():
                if parameter.ndim:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    if motion_start is not None:
        model.config.motion_token_start = motion_start
        initialise_motion_rows(model)
    return model.eval()


def inputs(images_per_row: list[int], text: int = 6, seed: int = 2, spatial: bool = True) -> dict:
    """A left-padded batch: rows of images, then text; every row its own number of images and text length."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for row, count in enumerate(images_per_row):
        words = torch.randint(6, WORDS, (text + row,), generator=generator)
        rows.append(torch.cat([words[:1], torch.full((count * TOKENS,), IMAGE_ID), words[1:]]))
    length, total = max(map(len, rows)), sum(images_per_row)
    ids = torch.stack([torch.nn.functional.pad(row, (length - len(row), 0), value=PAD) for row in rows])
    mask = torch.stack([torch.arange(length) >= length - len(row) for row in rows]).long()
    batch = {"input_ids": ids, "attention_mask": mask}
    if total:
        batch["pixel_values"] = torch.randn(total, 3, SIZE, SIZE, generator=generator)
        if spatial:
            batch["spatial_pixel_values"] = torch.rand(total, 3, 64, 64, generator=generator) * 2 - 1
    return batch
