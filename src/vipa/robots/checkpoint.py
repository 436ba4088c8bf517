"""What a policy is made of, from a folder, the hub, or the package: model, processor, action contract."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from vipa.models.loading import model_name, read_json
from vipa.models.presets import preset_names
from vipa.models.selfcheck import FILE, verify
from vipa.models.starts import beside, load_start
from vipa.robots.contract import CONTRACT, ActionContract, read_contracts

FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")


@dataclass(frozen=True)
class Checkpoint:
    """A model after stage 3, evaluating, with its processor and its contract."""

    model: Any
    processor: Any
    contract: ActionContract


def open_checkpoint(
    source: str | Path,
    *,
    device: str | None = None,
    revision: str | None = None,
    check: bool = True,
    robot: str | None = None,
) -> Checkpoint:
    """source: a folder, nano:stage3, or a name on the hub ("owner/name"; revision: a commit, branch or tag of it).

    device: left out, the GPU where there is one. check: compute the recorded input again, where training left one
    (`models/selfcheck.py`), and refuse a model that is not what was saved. robot: whose contract, where several were
    trained together. ValueError where there is no model, or not this robot, or several and none was named, where it
    carries no action contract (stage 3 was not done), or is damaged.
    """
    shipped = str(source).partition(":")[0] in preset_names()
    start = source if shipped else _folder(source, revision)
    contract, record = beside(start, CONTRACT), beside(start, FILE)
    if shipped and not contract.exists():
        raise ValueError(f"{source}: its action head is not trained; a policy comes from stage 3 (nano:stage3)")
    if not contract.exists():
        raise ValueError(f"{model_name(source)}: no {CONTRACT} beside the model; a policy comes from stage 3")
    read_json(contract)  # names the file where it is damaged
    contracts = read_contracts(contract)
    chosen = next(iter(contracts)) if robot is None and len(contracts) == 1 else robot
    if chosen not in contracts:
        asked = "say which robot" if robot is None else f"robot {robot!r} is not among them"
        raise ValueError(f"{model_name(source)}: a policy of {', '.join(map(repr, contracts))}; {asked}")
    model, processor = load_start(start)
    model.to(device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))  # type: ignore[call-arg]
    if check and record.exists():
        verdict = verify(start, model)
        if not verdict.sound:
            raise ValueError(
                f"{source}: not the model that was saved (outputs differ by {verdict.difference:.1e}, at most "
                f"{verdict.tolerance:.0e}); `vipa model check` says more"
            )
    return Checkpoint(model, processor, contracts[chosen])


def _folder(source: str | Path, revision: str | None) -> Path:
    """A local folder with a model, or the hub's, brought into its cache."""
    folder = Path(source)
    if (folder / "config.json").exists():
        return folder
    if folder.exists() or isinstance(source, Path) or source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise ValueError(f"{source}: no model here; expected nano:stage3, or a folder with config.json")
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(FILES)))
    except (HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError) as error:
        reason = str(error).strip().partition("\n")[0][:120]
        raise ValueError(f"{source}: no model here, neither as a folder nor on the hub ({reason})") from None
