"""Official CUT3R checkpoints (`cut3r_512_dpt_4_64.pth`, `cut3r_224_linear_4.pth`) as safetensors + configuration.

Nothing in the file is executed: tensors and plain containers are unpickled, `argparse.Namespace` (the file's `args`)
is the only other class allowed, and the constructor string in it is searched for numbers, never evaluated.
"""

import argparse
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vipa.models.cut3r.configuration_cut3r import Cut3rConfig
from vipa.models.cut3r.modeling_cut3r import Cut3rModel
from vipa.models.cut3r.processing_cut3r import Cut3rProcessor
from vipa.models.loading import refuse_stand_in

NAMED = 8
"""Tensor names that an error lists of each kind."""


def import_cut3r(path: Path, out: Path) -> Path:
    """Write `out`/config.json, model.safetensors and preprocessor_config.json; returns `out`.

    ValueError for a file that is truncated, of another model, or holds anything but weights, naming what is missing,
    left over or misshapen. Every tensor of the file is used exactly once.
    """
    state, constructor = read_checkpoint(path)
    config = config_of(state, constructor, path)
    with torch.device("meta"):
        model = Cut3rModel(config)
    check_names_and_shapes(state, {name: tuple(t.shape) for name, t in model.state_dict().items()}, path)
    model = model.to_empty(device="cpu")
    model.load_state_dict(state)
    model.save_pretrained(out)
    Cut3rProcessor.for_model(config).save_pretrained(out)
    return out


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], str]:
    """The state dict of a .pth file and the constructor string of its `args` ("" where there is none)."""
    if not path.is_file():
        raise ValueError(f"checkpoint {path}: no such file")
    refuse_stand_in(path)
    if path.suffix == ".safetensors":
        raise ValueError(f"checkpoint {path}: safetensors need no import; give the .pth of the authors")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        what = f"the class {found[1]}" if found else "objects"
        raise ValueError(
            f"checkpoint {path}: holds {what} besides weights (or is damaged); it was not opened. Use the file as the "
            f"authors publish it"
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, AttributeError, TypeError, IndexError) as error:
        raise ValueError(
            f"checkpoint {path}: truncated or not a PyTorch checkpoint; download it again ({_first_line(error)})"
        ) from error
    state = content.get("model", content) if isinstance(content, dict) else None
    tensors = isinstance(state, dict) and state and all(isinstance(value, Tensor) for value in state.values())
    if not isinstance(content, dict) or not isinstance(state, dict) or not tensors:
        raise ValueError(
            f"checkpoint {path}: expected a dict with the weights under 'model', as CUT3R's files have it"
        )
    constructor = getattr(content.get("args"), "model", "")
    return state, constructor if isinstance(constructor, str) else ""


def config_of(state: dict[str, Tensor], constructor: str, path: Path) -> Cut3rConfig:
    """Sizes read from tensor shapes; head counts, which no shape shows, from numbers in the constructor string."""

    def shape(name: str) -> torch.Size:
        if name not in state:
            raise ValueError(
                f"checkpoint {path}: not a CUT3R checkpoint: tensor {name!r} is missing (it holds {len(state)} "
                f"tensors, first {next(iter(state))!r})"
            )
        return state[name].shape

    def depth(prefix: str) -> int:
        return len({key[len(prefix) :].partition(".")[0] for key in state if key.startswith(prefix)})

    def heads(name: str, width: int, usual: int) -> int:
        found = re.search(rf"\b{name}\s*=\s*(\d+)", constructor)
        if found:
            return int(found[1])
        if width not in (1024, 768):
            raise ValueError(
                f"checkpoint {path}: `args.model` does not say {name}, and width {width} is not a released model's"
            )
        return usual

    patch = shape("patch_embed.proj.weight")
    decoder_width = shape("decoder_embed.weight")[0]
    kind = "dpt" if any(key.startswith("downstream_head.dpt_self.") for key in state) else "linear"
    hidden = shape("enc_blocks.0.mlp.fc1.weight")[0]
    sized = re.search(r"\bimg_size\s*=\s*\(\s*(\d+)", constructor)
    return Cut3rConfig(
        encoder_width=patch[0],
        encoder_depth=depth("enc_blocks."),
        encoder_heads=heads("enc_num_heads", patch[0], 16),
        decoder_width=decoder_width,
        decoder_depth=depth("dec_blocks."),
        decoder_heads=heads("dec_num_heads", decoder_width, 12),
        state_heads=heads("state_dec_num_heads", decoder_width, 16),
        state_size=shape("register_tokens.weight")[0],
        memory_size=shape("pose_retriever.mem")[1],
        memory_depth=depth("pose_retriever.write_blocks."),
        transform_depth=depth("downstream_head.final_transform."),
        ray_map_depth=depth("enc_blocks_ray_map."),
        head=kind,
        mlp_ratio=hidden // patch[0],
        patch_size=patch[2],
        image_size=int(sized[1]) if sized else (512 if kind == "dpt" else 224),
    )


def check_names_and_shapes(state: dict[str, Tensor], expected: dict[str, tuple[int, ...]], path: Path) -> None:
    """ValueError naming every kind of disagreement at once."""
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    misshapen = [
        f"{name} is {tuple(state[name].shape)}, needs {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}"
        for kind, names in (("missing", missing), ("not known", extra), ("misshapen", misshapen))
        if names
    ]
    if problems:
        raise ValueError(f"checkpoint {path}: tensors do not fit a CUT3R model; {'; '.join(problems)}")


def _first_line(error: Any) -> str:
    return str(error).strip().partition("\n")[0][:160] or type(error).__name__
