"""A VIPA checkpoint as a LeRobot policy, and back; both answer with the same actions.

lerobot-vipa to-lerobot runs/my_arm/model OUT
lerobot-vipa from-lerobot outputs/train/.../pretrained_model OUT
"""

import json
from pathlib import Path

import tyro
from lerobot.configs import FeatureType, PolicyFeature
from tyro.conf import Positional

from lerobot_policy_vipa.configuration_vipa import LeRobotVipaConfig
from lerobot_policy_vipa.modeling_vipa import LeRobotVipaPolicy
from lerobot_policy_vipa.processor_vipa import make_vipa_pre_post_processors
from vipa.models.starts import beside
from vipa.robots.contract import CONTRACT, read_contracts
from vipa.training.checkpoints import save_model


def to_lerobot(
    model: Positional[str], out: Positional[Path], n_action_steps: int | None = None, size: int = 224
) -> None:
    """A VIPA checkpoint (a folder after stage 3, or nano:stage3) as a folder for `--policy.path`.

    n_action_steps: of a chunk, how many are played; left out, half. size: pixels of the pictures, which LeRobot writes
    down; others are taken as well.
    """
    contracts = list(read_contracts(beside(model, CONTRACT)).values())
    if len(contracts) != 1:
        raise ValueError(f"{model}: a policy of several robots; LeRobot's policies are of one")
    contract = contracts[0]
    cameras = {f"observation.images.{view}": (FeatureType.VISUAL, (3, size, size)) for view in contract.views}
    state = {"observation.state": (FeatureType.STATE, (len(contract.state),))}
    config = LeRobotVipaConfig(
        start=model,
        horizon=contract.horizon,
        n_action_steps=n_action_steps or max(1, contract.horizon // 2),
        device="cpu",
        push_to_hub=False,
        input_features={name: PolicyFeature(kind, shape) for name, (kind, shape) in (cameras | state).items()},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (len(contract.action),))},
    )
    LeRobotVipaPolicy(config).eval().save_pretrained(out)
    for processor in make_vipa_pre_post_processors(config):
        processor.save_pretrained(out)
    print(f"written: {out}; --policy.path={out}")


def from_lerobot(policy: Positional[str], out: Positional[Path]) -> None:
    """A LeRobot policy of type vipa as a VIPA checkpoint, for `vipa serve`, `vipa evaluate` and `vipa train`."""
    loaded = LeRobotVipaPolicy.from_pretrained(policy)
    save_model(out, loaded.model, loaded.processor, {CONTRACT: json.loads(loaded.contract.to_json())})
    print(f"written: {out}")


def main() -> None:
    try:
        tyro.extras.subcommand_cli_from_dict({"to-lerobot": to_lerobot, "from-lerobot": from_lerobot})
    except ValueError as error:
        raise SystemExit(f"lerobot-vipa: {error}") from None
