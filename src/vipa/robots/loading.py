"""A trained model as a robot policy; `VipaPolicy.from_pretrained` says more."""

from pathlib import Path

from vipa.robots.policy import VipaPolicy


def load_policy(
    model: str | Path, *, device: str | None = None, steps: int = 4, seed: int = 0, robot: str | None = None
) -> VipaPolicy:
    """The policy of a model after stage 3: a folder, a name on the hub, or nano:stage3."""
    return VipaPolicy.from_pretrained(model, device=device, steps=steps, seed=seed, robot=robot)
