"""A checkpoint's own small input and output, so that it can say whether it still computes what it computed."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vipa.models.modeling import VipaForConditionalGeneration

FILE = "selfcheck.safetensors"
WORDS, LAST = 12, 4  # words of the recorded prompt; positions whose logits are kept


def record(model: VipaForConditionalGeneration, folder: Path) -> None:
    """Write `selfcheck.safetensors` beside the model in `folder`: one seeded random picture and prompt, and what
    the model makes of them."""
    config, draw = model.config, torch.Generator().manual_seed(0)
    words = torch.randint(0, min(config.image_token_id, 256), (1, WORDS), generator=draw)
    image = torch.full((1, config.image_seq_length), config.image_token_id)
    inputs = {
        "input_ids": torch.cat([words[:, :2], image, words[:, 2:]], dim=1),
        "pixels": torch.randint(0, 256, (1, 3, *config.vision_config.image_size), generator=draw).byte(),
    }
    if config.spatial_fusion_config.reads_spatial:
        size = config.spatial_config.image_size
        inputs["spatial_pixels"] = torch.randint(0, 256, (1, 3, size, size), generator=draw).byte()
    if config.action_config is not None:
        head = config.action_config
        inputs["state"] = torch.randn(1, head.state_length, generator=draw)
        inputs["noise"] = torch.randn(1, head.horizon, head.action_length, generator=draw)
    save_file(inputs | _outputs(model, inputs), folder / FILE)


def verify(folder: Path, model: VipaForConditionalGeneration | None = None) -> float:
    """Largest difference between what the model computes now and what was recorded, relative to the largest
    recorded value: about 1e-6 in fp32, 1e-2 in bf16, more where something is wrong.

    model: the one in `folder` unless given. ValueError where nothing was recorded.
    """
    path = Path(folder) / FILE
    if not path.exists():
        raise ValueError(
            f"{path}: missing; it is the recorded input and output that training writes into its `model` folder"
        )
    if model is None:
        model = VipaForConditionalGeneration.from_pretrained(folder)
    recorded = load_file(path)
    now = _outputs(model, recorded)
    differences = [(now[name] - recorded[name]).abs().max() / recorded[name].abs().max() for name in now]
    return float(torch.stack(differences).max())  # NaN stays NaN


@torch.no_grad()
def _outputs(model: VipaForConditionalGeneration, recorded: dict[str, Tensor]) -> dict[str, Tensor]:
    """`logits` of the last positions and, with an action head, `actions` of the first embodiment; float32."""
    was_training, device = model.training, model.device
    model.eval()
    inputs = {"input_ids": recorded["input_ids"]}
    for name, pixels in (("pixel_values", "pixels"), ("spatial_pixel_values", "spatial_pixels")):
        if pixels in recorded:
            inputs[name] = recorded[pixels].float() / 127.5 - 1
    inputs = {name: value.to(device) for name, value in inputs.items()}
    outputs = {"logits": model(**inputs, logits_to_keep=LAST).logits}
    if "state" in recorded:
        embodiment = torch.zeros(1, dtype=torch.long, device=device)
        state, noise = recorded["state"].to(device), recorded["noise"].to(device)
        outputs["actions"] = model.generate_actions(state=state, noise=noise, embodiment=embodiment, **inputs)
    model.train(was_training)
    return {name: value.float().cpu().contiguous() for name, value in outputs.items()}
