"""Progress of a running training (exact resume) and the model that a finished one leaves."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch

from vipa.io.files import whole_file, whole_folder
from vipa.models import VipaForConditionalGeneration, VipaProcessor, selfcheck


def _learned(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save_progress(out: Path, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Parameters that learn and optimiser after `step` steps, whole or not at all.

    ValueError where one of them is not finite: what was saved before stays.
    """
    state = {"step": step, "parameters": _learned(model), "optimizer": optimizer.state_dict()}
    require_finite(state)
    with whole_file(out / "progress.pt") as beside:
        torch.save(state, beside)


def load_progress(out: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore what `save_progress` wrote; the number of steps done, 0 where there is nothing.

    ValueError where the file is damaged, holds numbers that are not finite, or is of other parameters.
    """
    path = out / "progress.pt"
    if not path.exists():
        return 0
    learned, state = _learned(model), read_state(path)
    try:
        shapes = {name: p.shape for name, p in state["parameters"].items()}
        if shapes != {name: p.shape for name, p in learned.items()}:
            raise ValueError("it was saved with other trained parts")
        with torch.no_grad():
            for name, parameter in learned.items():
                parameter.copy_(state["parameters"][name])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: cannot be gone on from ({error}); delete it to start over") from error


def read_state(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote. ValueError where the file is damaged or holds numbers that are not finite."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        require_finite(state)
    except (ValueError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: cannot be gone on from ({reason}); delete it to start over") from error
    return state


def require_finite(state: Any) -> None:
    """ValueError where a tensor anywhere in nested dicts and lists holds numbers that are not finite."""
    if isinstance(state, dict | list):
        for value in state.values() if isinstance(state, dict) else state:
            require_finite(value)
    elif isinstance(state, torch.Tensor) and not bool(state.isfinite().all()):
        raise ValueError("parameters or optimiser hold values that are not finite")


def save_model(
    folder: Path,
    model: VipaForConditionalGeneration,
    processor: VipaProcessor,
    extras: dict[str, Any],
) -> None:
    """`from_pretrained` folder with processor and further JSON files (name -> content), complete or absent.

    It holds a small recorded input and output, so that `vipa model check` can say whether it still computes them.
    """
    with whole_folder(folder) as beside:
        model.eval().save_pretrained(beside)
        selfcheck.record(model, beside)
        processor.save_pretrained(beside)
        for name, content in extras.items():
            (beside / name).write_text(json.dumps(content, indent=1))
