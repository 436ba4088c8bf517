"""A checkpoint's own small input and output, so that it can say whether it still computes what it computed."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vipa.models.loading import check_safetensors, fingerprint, load_model
from vipa.models.modeling import VipaForConditionalGeneration
from vipa.models.starts import beside, load_start

FILE = "selfcheck.safetensors"
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.03, "float16": 0.03}
"""Largest relative difference of outputs by the weights' dtype. Another processor rounds otherwise (about 1e-6 in
float32); another kind of device also multiplies otherwise, and counts as bfloat16."""
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
    folder.mkdir(parents=True, exist_ok=True)
    made = {"weights": fingerprint(model), "dtype": _dtype(model), "device": model.device.type}
    save_file(inputs | _outputs(model, inputs), folder / FILE, metadata=made)


@dataclass(frozen=True)
class Verdict:
    """difference: largest between outputs now and as recorded, relative to the largest recorded value. weights:
    whether they are those of the record, to the bit (None: the record does not say)."""

    difference: float
    tolerance: float
    weights: bool | None

    @property
    def sound(self) -> bool:
        return self.difference <= self.tolerance and self.weights is not False  # NaN is not


def verify(
    start: str | Path, model: VipaForConditionalGeneration | None = None, tolerance: float | None = None
) -> Verdict:
    """Whether the model still is and computes what was recorded.

    start: a folder, or a shipped model (nano:stage1). model: the one there, as stored, unless given. tolerance: by the
    dtype (TOLERANCES) unless given. ValueError where nothing was recorded, or where a file is damaged.
    """
    path = beside(start, FILE) if ":" in str(start) else Path(start) / FILE
    if not path.exists():
        raise ValueError(
            f"{path}: missing; it is the recorded input and output that training writes into its `model` folder"
        )
    if model is None:
        torch.manual_seed(0)  # parts that a shipped stage does not have yet are new
        folder = (path.parent / "config.json").exists()
        model = (
            load_model(VipaForConditionalGeneration, start, expected="vipa", dtype="auto")
            if folder
            else load_start(start)[0]
        )
    check_safetensors(path)
    with safe_open(path, "pt") as file:
        recorded, made = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    now = _outputs(model, recorded)
    differences = [(now[name] - recorded[name]).abs().max() / recorded[name].abs().max() for name in now]
    if tolerance is None:
        alike = made.get("device", model.device.type) == model.device.type
        tolerance = TOLERANCES[_dtype(model) if alike else "bfloat16"]
    same = made["weights"] == fingerprint(model) if made.get("dtype") == _dtype(model) else None
    return Verdict(float(torch.stack(differences).max()), tolerance, same)  # NaN stays NaN


def _dtype(model: nn.Module) -> str:
    return str(next(model.parameters()).dtype).removeprefix("torch.")


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
