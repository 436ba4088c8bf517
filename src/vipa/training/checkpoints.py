"""Progress of a running training (exact resume) and the model that a finished one leaves."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from vipa.models import VipaForConditionalGeneration, VipaProcessor, selfcheck


def _learned(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save_progress(out: Path, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Parameters that learn and optimiser after `step` steps, written beside its place and renamed."""
    state = {"step": step, "parameters": _learned(model), "optimizer": optimizer.state_dict()}
    temporary = out / "progress.pt.tmp"
    torch.save(state, temporary)
    temporary.replace(out / "progress.pt")


def load_progress(out: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore what `save_progress` wrote; the number of steps done, 0 where there is nothing."""
    path = out / "progress.pt"
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    learned = _learned(model)
    if set(learned) != set(state["parameters"]):
        raise ValueError(f"{path} was saved with other trained parts; delete the folder to start over")
    with torch.no_grad():
        for name, parameter in learned.items():
            parameter.copy_(state["parameters"][name])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def save_model(
    folder: Path,
    model: VipaForConditionalGeneration,
    processor: VipaProcessor,
    extras: dict[str, Any],
) -> None:
    """`from_pretrained` folder with processor and further JSON files (name -> content), complete or absent.

    It holds a small recorded input and output, so that `vipa model check` can say whether it still computes them.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.eval().save_pretrained(temporary)
    selfcheck.record(model, temporary)
    processor.save_pretrained(temporary)
    for name, content in extras.items():
        (temporary / name).write_text(json.dumps(content, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)


def cut_log(path: Path, steps: int) -> None:
    """Forget log lines of steps that will be repeated."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= steps]
        path.write_text("".join(line + "\n" for line in lines))
