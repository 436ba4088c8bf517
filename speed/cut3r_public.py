"""The authors' implementation of CUT3R, from a checkout that the user supplies, beside ours: same weights, same clip.

Nothing of theirs is in this repository. Their code needs einops, scipy and accelerate, and `curope`, a CUDA extension.
Where `curope` is not installed (on a CPU its kernel refuses the encoder's fp16) a stand-in of ours takes its place: the
same rotation in place, in whole-tensor operations, sines and cosines in fp32.
"""

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vipa.models.cut3r import Cut3rConfig, Cut3rModel

OUTPUTS = {
    "points_self": "pts3d_in_self_view",
    "conf_self": "conf_self",
    "points_world": "pts3d_in_other_view",
    "conf_world": "conf",
    "rgb": "rgb",
    "camera_pose": "camera_pose",
}
"""Our names of the outputs, and theirs."""


def public_model(checkout: Path, ours: Cut3rModel) -> Any:
    """Their network at our configuration's sizes with our weights. ValueError where the checkout is not theirs."""
    source = checkout / "src"
    if not (source / "dust3r" / "model.py").is_file():
        raise ValueError(f"--public {checkout}: no src/dust3r/model.py there; give a checkout of CUT3R")
    if "curope" not in sys.modules and importlib.util.find_spec("curope") is None:
        stand_in = types.ModuleType("curope")
        stand_in.__dict__["rope_2d"] = rope_2d
        sys.modules["curope"] = stand_in
    sys.path.insert(0, str(source))
    module = importlib.import_module("dust3r.model")
    with torch.device("meta"):
        model = module.ARCroco3DStereo(module.ARCroco3DStereoConfig(**public_sizes(ours.config)))
    state = {name: ours.state_dict()[name] for name in model.state_dict()}
    torch.nn.Module.load_state_dict(model, state, assign=True)
    return model.eval()


def public_sizes(config: Cut3rConfig) -> dict[str, Any]:
    """The arguments of their constructor; their importer's choices where ours has none."""
    inf = float("inf")
    return {
        "state_size": config.state_size,
        "local_mem_size": config.memory_size,
        "state_dec_num_heads": config.state_heads,
        "ray_enc_depth": config.ray_map_depth,
        "head_type": config.head,
        "output_mode": "pts3d+pose",
        "rgb_head": True,
        "pose_head": True,
        "landscape_only": False,
        "depth_mode": ("exp", -inf, inf),
        "conf_mode": ("exp", 1, inf),
        "pose_mode": ("exp", -inf, inf),
        "pos_embed": "RoPE100",
        "img_size": (config.image_size, config.image_size),
        "enc_embed_dim": config.encoder_width,
        "enc_depth": config.encoder_depth,
        "enc_num_heads": config.encoder_heads,
        "dec_embed_dim": config.decoder_width,
        "dec_depth": config.decoder_depth,
        "dec_num_heads": config.decoder_heads,
    }


def public_views(
    images: Float[Tensor, "batch frames 3 h w"], ray_maps: Float[Tensor, "batch frames 6 h w"] | None = None
) -> list[dict[str, Tensor]]:
    """A batch of clips as the list of frames that their forward takes; ray maps count for every frame if given."""
    batch, frames, _, height, width = images.shape
    yes = torch.ones(batch, dtype=torch.bool, device=images.device)
    rays = torch.zeros(batch, frames, 6, height, width, device=images.device) if ray_maps is None else ray_maps
    shape = torch.tensor([height, width]).repeat(batch, 1)
    return [
        {
            "img": images[:, t],
            "ray_map": rays[:, t].permute(0, 2, 3, 1),
            "true_shape": shape,
            "img_mask": yes,
            "ray_mask": yes if ray_maps is not None else ~yes,
            "update": yes,
            "reset": ~yes,
        }
        for t in range(frames)
    ]


def public_outputs(model: Any, views: list[dict[str, Tensor]]) -> dict[str, Float[Tensor, "batch frames *_"]]:
    """Their outputs under our names."""
    frames = model(views).ress
    return {ours: torch.stack([frame[theirs] for frame in frames], 1) for ours, theirs in OUTPUTS.items()}


def rope_2d(
    tokens: Float[Tensor, "b n heads d"], positions: Int[Tensor, "b n 2"], base: float, direction: float
) -> None:
    """What curope's kernel does, in place: feature pairs (k, k + Q) of the y and the x half turn by p base^(-k/Q)."""
    q = tokens.shape[-1] // 4
    frequencies = direction / base ** (torch.arange(q, device=tokens.device, dtype=torch.float32) / q)
    angles = (positions[..., None] * frequencies)[:, :, None]
    cos, sin = angles.cos(), angles.sin()
    pairs = tokens.unflatten(-1, (2, 2, q))
    u, v = pairs.to(torch.float32, copy=True).unbind(-2)  # a copy: pairs is written below
    pairs[..., 0, :] = u * cos - v * sin
    pairs[..., 1, :] = v * cos + u * sin
