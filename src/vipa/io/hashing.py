"""What a thing is made of, as sixteen hex digits: of files their content, not where they lie."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vipa.io.file_facts import fact


def content_of(value: Any) -> str:
    """Of plain values, arrays, files, and frozen dataclasses of them, such as the readers of clips.

    A path counts by the content of its file, or of the files of its folder; several paths in a row (a picture a frame)
    by name, size and time of change, for reading them all would cost as much as the work that this saves. What is
    none of these counts by its type alone.
    """
    bits = hashlib.sha256()
    for part in _parts(value):
        bits.update(part)
    return bits.hexdigest()[:16]


def _parts(value: Any):
    if isinstance(value, Path):
        yield b"path" + _path_content(value).encode()
    elif isinstance(value, np.ndarray):
        yield f"array {value.dtype} {value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, (str, bytes, int, float, complex, type(None))):
        yield f"{type(value).__name__} {value!r} ".encode()
    elif isinstance(value, (list, tuple)):
        yield f"row {len(value)} ".encode()
        for item in value:
            if isinstance(item, Path):
                yield _stamp(item).encode()
            else:
                yield from _parts(item)
    elif isinstance(value, Mapping):
        yield f"map {len(value)} ".encode()
        for key in sorted(value, key=repr):
            yield f"{key!r} ".encode()
            yield from _parts(value[key])
    elif is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__.encode()
        for field in fields(value):
            yield f" {field.name} ".encode()
            yield from _parts(getattr(value, field.name))
    else:
        yield type(value).__qualname__.encode()


def _stamp(path: Path) -> str:
    try:
        state = os.stat(path)
    except OSError:
        return f"{path.name} missing "
    return f"{path.name} {state.st_size} {state.st_mtime_ns} "


def _path_content(path: Path) -> str:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        return " ".join(f"{p.relative_to(path)} {_path_content(p)}" for p in files)
    try:
        state = os.stat(path)
    except OSError:
        return "missing"
    return _file_content(str(path), state.st_size, state.st_mtime_ns)


SMALL = 2**20
"""Bytes of a file that is read each time; what is in a larger one is known from before while it is unchanged."""


@lru_cache(maxsize=4096)
def _file_content(path: str, size: int, mtime_ns: int) -> str:
    file = Path(path)
    return (hash_file(file) if size < SMALL else fact("sha256", file, lambda: hash_file(file)))[:16]


def tensors_content(named: Iterable[tuple[str, Any]]) -> str:
    """Of every bit of tensors by name, whatever their order: the same on every machine, in the same dtype."""
    import torch

    bits = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda item: item[0]):
        values = tensor.detach().cpu().contiguous()
        bits.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        bits.update(values.reshape(-1).view(torch.uint8).numpy())
    return bits.hexdigest()[:16]


def network_content(model: Any, *processors: Any) -> str:
    """Of a transformers network as it was loaded, parameters, buffers and configuration, and of what prepares its
    inputs: wherever its files lie, and whichever revision of a hub's name was given."""
    import torch

    bits = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        bits.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        bits.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    for part in (model.config, *processors):
        bits.update(repr(_settings(part.to_dict())).encode())
    return bits.hexdigest()[:16]


def _settings(value: Any) -> Any:
    """A configuration without where it was loaded from."""
    if isinstance(value, Mapping):
        return {k: _settings(value[k]) for k in sorted(value, key=str) if k not in _PLACES}
    return [_settings(v) for v in value] if isinstance(value, (list, tuple)) else str(value)


_PLACES = {"_name_or_path", "name_or_path", "transformers_version", "_commit_hash"}


def hash_files(root: Path, files: Iterable[Path]) -> str:
    """Sixteen hex digits of these files' content and of their paths below `root`, in the order of the paths."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root).as_posix()}\0{hash_file(path)}\0".encode())
    return digest.hexdigest()[:16]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(text: str) -> str:
    """Sixteen hex digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
