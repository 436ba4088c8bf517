"""Progress of a running training (exact resume) and the model that a finished one leaves.

    out/progress/step-00000500/
      shard-*.safetensors   parameters that learn, optimiser, averages; shared out over the processes that wrote them
      complete.json         the step, and size and checksum of every file

torch.distributed.checkpoint writes and reads the shards, in its safetensors form (its usual one is a pickle), so that a
run goes on with another number of processes. A folder is there whole or not at all; the last `keep` are kept.
"""

import json
import logging
import os
import shutil
import warnings
import zlib
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException

from vipa.io.files import OutputError, whole_folder
from vipa.models import VipaForConditionalGeneration, VipaProcessor, selfcheck
from vipa.training.averaging import MovingAverage
from vipa.training.masters import save_masters
from vipa.training.parallel import local
from vipa.training.processes import Processes

COMPLETE = "complete.json"
SHARD = "2GB"
"""Largest file of a model's weights."""
State = dict[str, torch.Tensor]

log = logging.getLogger(__name__)


def state_of(
    learned: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, average: MovingAverage | None
) -> State:
    """Everything that learning changes, by name. The optimiser's state is made where it has none yet."""
    state: State = {}
    for name, parameter in learned.items():
        own = optimizer.state[parameter]
        if not own:
            own["step"] = torch.zeros((), device=parameter.device)  # where `fused` wants it
            own["exp_avg"], own["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state[f"parameter/{name}"] = parameter.detach()
        state |= {f"{kind}/{name}": own[kind] for kind in ("exp_avg", "exp_avg_sq", "step")}
    return state | {f"average/{name}": a for name, a in (average.average if average else {}).items()}


def save_progress(out: Path, step: int, state: State, processes: Processes, keep: int = 2) -> None:
    """What `state_of` gives after `step` steps. Every process calls it.

    ValueError where a number is not finite, OutputError where it cannot be written: what was saved before stays.
    """
    bad = processes.sum([float(not all(local(t).isfinite().all() for t in state.values()))])[0]
    if bad:
        raise ValueError("parameters or optimiser hold values that are not finite")
    folder = out / "progress" / f"step-{step:08d}"
    temporary = folder.with_name(f".{folder.name}.tmp")
    if processes.first:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    processes.wait()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "assuming the intent is to save in a single process"
            dcp.save(
                {name: tensor.contiguous() for name, tensor in state.items()},
                storage_writer=HuggingFaceStorageWriter(str(temporary), save_distributed=True),
                no_dist=processes.world == 1,
            )
        if processes.first:
            _complete(temporary, step)
            temporary.rename(folder)
            for old in _saved(out)[:-keep]:
                shutil.rmtree(old, ignore_errors=True)
    except (OSError, CheckpointException, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OutputError(
            f"{folder}: cannot be written ({_reason(error)}); what was saved before is still there: make room, then "
            "the same command goes on"
        ) from None
    processes.wait()


def load_progress(out: Path, state: State, processes: Processes) -> int:
    """Into the tensors of `state` what was saved last; the number of steps done, 0 where there is nothing.

    A damaged folder is left alone, with a warning, and the one before it taken. ValueError where what was saved is of
    other parameters, or all of it is damaged.
    """
    folders, complaints = _saved(out), []
    for folder in reversed(folders):
        try:
            step = _check(folder)
            reader = HuggingFaceStorageReader(str(folder))
            _require_names(folder, set(reader.read_metadata().state_dict_metadata), set(state))
            read = {name: tensor.contiguous() for name, tensor in state.items()}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dcp.load(read, storage_reader=reader, no_dist=processes.world == 1)
            for name, tensor in state.items():
                if read[name] is not tensor:
                    tensor.copy_(read[name])
        except (OSError, KeyError, json.JSONDecodeError, _Damaged, CheckpointException) as error:
            complaints.append(f"{folder}: damaged ({_reason(error)})")
            log.warning("%s; going back to what was saved before it", complaints[-1])
            continue
        return step
    if complaints:
        raise ValueError(
            f"{'; '.join(complaints)}: cannot be gone on from; delete {out / 'progress'} to start over"
        )
    return 0


class _Damaged(Exception):
    pass


def _reason(error: BaseException) -> str:
    """One line of why."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _saved(out: Path) -> list[Path]:
    return sorted(path for path in (out / "progress").glob("step-*") if (path / COMPLETE).exists())


def last_step(out: Path) -> int:
    """Steps after which progress was saved last; 0 where it never was."""
    saved = _saved(out)
    return int(saved[-1].name.removeprefix("step-")) if saved else 0


def _complete(folder: Path, step: int) -> None:
    files = {path.name: _stamp(path) for path in sorted(folder.iterdir())}
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    (folder / COMPLETE).write_text(json.dumps({"step": step, "files": files}, indent=1))


def _stamp(path: Path) -> list[int]:
    """Size and CRC-32."""
    check, size = 0, 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            check, size = zlib.crc32(block, check), size + len(block)
    return [size, check]


def _check(folder: Path) -> int:
    said = json.loads((folder / COMPLETE).read_text())
    for name, stamp in said["files"].items():
        if not (folder / name).exists():
            raise _Damaged(f"{name} is missing")
        if _stamp(folder / name) != stamp:
            raise _Damaged(f"{name} is not what was written")
    return int(said["step"])


def _require_names(folder: Path, there: set[str], here: set[str]) -> None:
    if there != here:
        some = sorted(there ^ here)[:3]
        raise ValueError(
            f"{folder}: cannot be gone on from (it was saved with other trained parts: {', '.join(some)}); delete it "
            "to start over"
        )


def require_finite(state: dict[str, torch.Tensor]) -> None:
    """ValueError where a tensor holds numbers that are not finite."""
    if not all(local(tensor).isfinite().all() for tensor in state.values()):
        raise ValueError("parameters or optimiser hold values that are not finite")


def save_model(
    folder: Path,
    model: VipaForConditionalGeneration,
    processor: VipaProcessor,
    extras: dict[str, Any],
    masters: State | None = None,
) -> None:
    """`from_pretrained` folder with processor, further JSON files (name -> content) and the float32 values of what was
    learned (`training.masters`), complete or absent.

    It holds a small recorded input and output, so that `vipa model check` can say whether it still computes them.
    """
    with whole_folder(folder) as beside:
        model.eval().save_pretrained(beside, max_shard_size=SHARD)
        selfcheck.record(model, beside)
        processor.save_pretrained(beside)
        save_masters(beside, masters or {})
        for name, content in extras.items():
            (beside / name).write_text(json.dumps(content, indent=1))
