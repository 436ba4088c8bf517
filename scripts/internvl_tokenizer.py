"""InternVL3.5's tokenizer without the hub: Qwen's ranks, the special tokens of Qwen3 and InternVL, the chat template.

pip install dashscope tiktoken                  # dashscope's package carries qwen.tiktoken
python scripts/internvl_tokenizer.py OUT        # a folder that AutoTokenizer and VipaProcessor.from_vlm read

151,674 entries; `<IMG_CONTEXT>` is 151671. For full-size rehearsals with random weights; trained weights bring theirs.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from transformers import AddedToken, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from vipa.models.prompt_layout import CHAT_TEMPLATE

PATTERN = (  # of Qwen's words; numbers are single digits
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
RANKS = 151_643
SPECIAL = (
    *(f"<|{name}|>" for name in ("endoftext", "im_start", "im_end")),
    *(f"<|{name}_{side}|>" for name in ("object_ref", "box", "quad", "vision") for side in ("start", "end")),
    *(f"<|{name}_pad|>" for name in ("vision", "image", "video")),
)
WORDS = (  # special, but shown in text
    *("<tool_call>", "</tool_call>"),
    *(f"<|{name}|>" for name in ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep")),
    *("<tool_response>", "</tool_response>", "<think>", "</think>"),
)
INTERNVL = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>")


def internvl_tokenizer(ranks: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of `qwen.tiktoken`. ValueError where the file has another number of entries."""
    inner = TikTokenConverter(str(ranks), pattern=PATTERN).converted()
    if inner.get_vocab_size() != RANKS:
        raise ValueError(f"{ranks}: {inner.get_vocab_size()} entries, not Qwen's {RANKS}")
    for tokens, special in ((SPECIAL, True), (WORDS, False), (INTERNVL, True)):
        inner.add_tokens([AddedToken(token, normalized=False, special=special) for token in tokens])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def dashscope_ranks() -> Path | None:
    """`qwen.tiktoken` in the installed dashscope, which is not imported; None where it is not there."""
    found = find_spec("dashscope")
    path = Path(str(found.origin)).parent / "resources" / "qwen.tiktoken" if found else None
    return path if path is not None and path.exists() else None


if __name__ == "__main__":
    ranks = dashscope_ranks()
    if len(sys.argv) != 2 or ranks is None:
        sys.exit("usage: python scripts/internvl_tokenizer.py OUT (with dashscope and tiktoken installed)")
    print(f"{sys.argv[1]}: {len(tokenizer := internvl_tokenizer(ranks))} entries")
    tokenizer.save_pretrained(sys.argv[1])
