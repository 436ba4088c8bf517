"""What of a model learns, and how its parts are held: frozen, in which precision, with adapters, recomputed, compiled.

All of it is applied to a model from outside.
"""

from typing import Any, Literal

import torch
from torch import nn
from transformers.utils import is_flash_attn_2_available

from vipa.models import VipaForConditionalGeneration
from vipa.models.packed_attention import PACKED_TURNS
from vipa.training.runs import Attention, Lora, Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def arithmetic(
    precision: Precision, device: torch.device, weights: torch.dtype = torch.float32
) -> Literal["fp32", "bf16"]:
    """auto: bf16, but for float32 weights fp32 on a processor without instructions for it, where products in bf16 take
    seventy times as long (most laptops; AVX-512 or AMX has them). ValueError for fp32 of other weights."""
    if precision == "auto":
        slow = device.type == "cpu" and not multiplies_bf16()
        return "fp32" if slow and weights == torch.float32 else "bf16"
    if precision == "fp32" and weights != torch.float32:
        raise ValueError(f"precision fp32: the start's weights are {weights}; take bf16, or a start in float32")
    return precision


def multiplies_bf16() -> bool:
    """Whether this processor has instructions that oneDNN multiplies bfloat16 matrices with."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def freeze_all_but(model: VipaForConditionalGeneration, parts: tuple[str, ...]) -> list[nn.Parameter]:
    """Only the named parts take gradients; returns their parameters. ValueError for a part that is not there."""
    have = model.parts()
    unknown = [part for part in parts if part not in have]
    if unknown:
        raise ValueError(f"trained parts {unknown} are not in the model; it has {', '.join(have)}")
    model.requires_grad_(False)
    for part in parts:
        have[part].requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def hold(model: VipaForConditionalGeneration, frozen: str, device: torch.device) -> None:
    """What learns in float32, the frozen parts in `frozen`, or as they are for `start`. A part that is both, such as
    tied embeddings, learns."""
    for parameter in model.parameters():
        dtype = torch.float32 if parameter.requires_grad else DTYPES.get(frozen, parameter.dtype)
        parameter.data = parameter.data.to(device=device, dtype=dtype)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def cast(model: nn.Module, dtype: torch.dtype) -> None:
    """All parameters to `dtype`; buffers stay (rotary frequencies need float32)."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def add_lora(model: VipaForConditionalGeneration, lora: Lora) -> Any:
    """Adapters on every linear layer of the language model, whose own weights are frozen; returns what
    `merge_lora` takes."""
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError:
        raise ValueError("LoRA needs peft: pip install 'vipa[lora]'") from None
    language = model.model.language_model
    names = {n.rpartition(".")[2] for n, m in language.named_modules() if isinstance(m, nn.Linear)}
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=sorted(names), lora_dropout=0.0)
    language.requires_grad_(False)
    tuner = LoraModel(language, config, "default")
    model.lm_head.requires_grad_(False)
    return tuner


def merge_lora(model: VipaForConditionalGeneration, tuner: Any) -> None:
    """The adapters into the weights, in float32, and away."""
    model.model.language_model = tuner.merge_and_unload()


def recompute(model: VipaForConditionalGeneration) -> None:
    """Activations of the language model's layers are computed again for the gradient instead of being kept."""
    model.model.language_model.gradient_checkpointing_enable({"use_reentrant": False})


def attend_by(
    model: VipaForConditionalGeneration, attention: Attention, precision: str, device: torch.device
) -> None:
    """The language model's attention. ValueError for one that is not installed or cannot learn here."""
    if attention == "flash_attention_2" and not (is_flash_attn_2_available() and device.type == "cuda"):
        raise ValueError("attention flash_attention_2: needs a GPU and pip install flash-attn; take sdpa here")
    if attention == "flash_attention_2" and precision != "bf16":
        raise ValueError(f"attention flash_attention_2: computes in bf16, not in {precision}; take sdpa")
    if attention == "flex_attention" and device.type == "cpu":
        raise ValueError("attention flex_attention: torch has no gradient of it on a CPU; take sdpa here")
    model.set_attn_implementation({"text_config": PACKED_TURNS if attention == "sdpa" else attention})


def compile_regions(model: VipaForConditionalGeneration) -> None:
    """torch.compile, a layer of the language model at a time."""
    for layer in model.model.language_model.layers:
        layer.compile(dynamic=True)
