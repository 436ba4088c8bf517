"""A trained model as a robot policy."""

from pathlib import Path

import torch

from vipa.models.identity import model_name
from vipa.models.loading import read_json
from vipa.models.starts import NANO, load_start
from vipa.robots.contract import CONTRACT, ActionContract
from vipa.robots.policy import VipaPolicy


def load_policy(model: str | Path, *, device: str | None = None, steps: int = 4, seed: int = 0) -> VipaPolicy:
    """The policy of a model after stage 3: a folder, or nano:stage3. steps: Euler steps of the action head.

    ValueError where there is no model, or where it carries no action contract (stage 3 was not done).
    """
    shipped = str(model).startswith("nano:")
    path = NANO / CONTRACT if shipped else Path(model) / CONTRACT
    if shipped and str(model) != "nano:stage3":
        raise ValueError(f"{model}: its action head is not trained; a policy comes from stage 3 (nano:stage3)")
    if not shipped and not (Path(model) / "config.json").exists():
        raise ValueError(f"{model}: no model here; expected nano:stage3, or a folder with config.json")
    if not path.exists():
        raise ValueError(f"{model_name(model)}: no {CONTRACT} beside the model; a policy comes from stage 3")
    read_json(path)  # names the file where it is damaged
    loaded, processor = load_start(model)
    loaded.to(device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))  # type: ignore[call-arg]
    return VipaPolicy(loaded, processor, ActionContract.load(path), steps=steps, seed=seed)
