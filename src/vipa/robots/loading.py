"""A trained model as a robot policy."""

from pathlib import Path

import torch

from vipa.models.loading import model_name, read_json
from vipa.models.starts import beside, load_start
from vipa.robots.contract import CONTRACT, ActionContract
from vipa.robots.policy import VipaPolicy


def load_policy(model: str | Path, *, device: str | None = None, steps: int = 4, seed: int = 0) -> VipaPolicy:
    """The policy of a model after stage 3: a folder, or a shipped one (nano:stage3). steps: Euler steps of the
    action head.

    ValueError where there is no model, or where it carries no action contract (stage 3 was not done).
    """
    path = beside(model, CONTRACT)
    if not path.exists():
        raise ValueError(f"{model_name(model)}: no {CONTRACT} beside the model; a policy comes from stage 3")
    read_json(path)  # names the file where it is damaged
    loaded, processor = load_start(model)
    loaded.to(device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))  # type: ignore[call-arg]
    return VipaPolicy(loaded, processor, ActionContract.load(path), steps=steps, seed=seed)
