"""Networks and tokenizers from a folder or the hub: the one way in; and which model it is, by name and by content.

Nothing that comes with weights is executed: no remote code, no pickle. Files are looked at before they are loaded, so
that a damaged one is a line that names it. Weights are computed with in float32, whatever they are stored in (float16
is slow and coarse on a CPU), unless a caller declares another dtype.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SAFE: dict[str, Any] = {"trust_remote_code": False}
LFS = b"version https://git-lfs"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
AGAIN = "get it again"


def load_model(
    kind: Any,
    source: str | Path,
    *,
    expected: str | tuple[str, ...] | None = None,
    dtype: str | torch.dtype = torch.float32,
    revision: str | None = None,
) -> Any:
    """The network of class `kind` (with `from_pretrained`), evaluating, on the CPU. source: a folder or hub name.

    expected: model types that may be in its configuration. dtype: "auto" is what is stored. ValueError, one line that
    names the file, for damaged or missing files, for another type, and for weights that are not the configuration's.
    """
    check_type(source, expected, revision)
    check_folder(source)
    try:
        model, info = kind.from_pretrained(
            source, revision=revision, dtype=dtype, use_safetensors=True, output_loading_info=True, **SAFE
        )
    except RuntimeError as error:  # transformers' and torch's for tensors of other shapes
        raise ValueError(f"{source}: the weights do not fit its config.json ({_brief(error)})") from error
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"{source}: {len(missing)} weights of its config.json are missing ({', '.join(missing[:3])}); {AGAIN}"
        )
    return model.eval()


def check_type(source: str | Path, expected: str | tuple[str, ...] | None, revision: str | None = None) -> str:
    """The model type of a checkpoint. ValueError for damaged files, or where it is not as expected."""
    check_folder(source, weights=False)
    if Path(source).is_dir() and not (Path(source) / "config.json").exists():
        raise ValueError(f"{source}: no config.json here; it is not a model's folder")
    config, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    found = str(config.get("model_type", ""))
    wanted = (expected,) if isinstance(expected, str) else expected or tuple(CONFIG_MAPPING)
    if found not in wanted:
        names = f"expected {' or '.join(wanted)}" if expected else "transformers does not know it"
        flavour = (
            "; of InternVL take the '-HF' flavour, such as OpenGVLab/InternVL3_5-2B-HF (Python files beside weights "
            "are never executed)"
            if "internvl" in found or (expected and "internvl" in wanted)
            else ""
        )
        raise ValueError(f"{source}: model type {found!r}, {names}{flavour}")
    return found


def load_tokenizer(source: str | Path, *, revision: str | None = None) -> Any:
    """A fast tokenizer. ValueError for damaged files."""
    check_folder(source, weights=False)
    return AutoTokenizer.from_pretrained(source, revision=revision, **SAFE)


def load_processor(kind: Any, source: str | Path) -> Any:
    """A processor of class `kind`. ValueError for damaged files."""
    check_folder(source, weights=False)
    return kind.from_pretrained(source, **SAFE)


def model_name(model: str | Path) -> str:
    """`stage1` for both nano:stage1 and runs/x/stage1/model."""
    path = Path(str(model).rpartition(":")[2])
    return path.parent.name if path.name == "model" else path.name


def fingerprint(model: nn.Module) -> str:
    """Sixteen hex digits of every bit of the parameters: the same on every machine, in the same dtype."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        values = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def check_folder(source: str | Path, weights: bool = True) -> None:
    """ValueError, one line, where a local folder is missing or holds a file that is not what its name says.

    weights: whether there must be some. A hub name is left to the hub.
    """
    folder = Path(source)
    if not folder.exists():
        if isinstance(source, Path) or str(source).startswith(("/", ".", "~")) or str(source).count("/") != 1:
            raise ValueError(f"{source}: no such folder")
        return
    if not folder.is_dir():
        raise ValueError(f"{source} is a file; give the folder that holds config.json and {WEIGHTS}")
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            continue
        if not path.exists():
            raise ValueError(f"{path}: a link to a file that is not there; {AGAIN}")
        if path.suffix == ".json":
            read_json(path)
        elif path.suffix == ".safetensors":
            check_safetensors(path)
        else:
            refuse_stand_in(path)
    if weights:
        _check_complete(folder)


def check_safetensors(path: Path) -> None:
    """ValueError where a file is not whole safetensors, saying what it is instead."""
    if not path.is_file():
        raise ValueError(f"{path}: missing; {AGAIN}")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length)) if 2 <= length <= size - 8 else None
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, AttributeError, KeyError, TypeError, IndexError):
            raise ValueError(f"{path}: {_what(path)}") from None
    if 8 + length + max(ends, default=0) > size:
        raise ValueError(f"{path}: cut short, {size} of {8 + length + max(ends)} bytes; {AGAIN}")


def read_json(path: Path) -> Any:
    """What a JSON file holds. ValueError that names it where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        what = _what(path)
        raise ValueError(f"{path}: not JSON ({_brief(error)}); {what if 'this is' in what else AGAIN}") from None


def refuse_stand_in(path: Path) -> None:
    """ValueError where a file holds what a failed download leaves: a Git LFS pointer or a web page."""
    if _head(path).startswith((LFS, b"<!DOCTYPE", b"<!doctype", b"<html")):
        raise ValueError(f"{path}: {_what(path)}")


def _check_complete(folder: Path) -> None:
    """ValueError where shards of an index are missing, or where the weights are pickles or absent."""
    if (folder / INDEX).exists():
        index = read_json(folder / INDEX)
        places = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(places, dict):
            raise ValueError(f"{folder / INDEX}: no 'weight_map' in it; {AGAIN}")
        for shard in sorted(set(places.values())):
            check_safetensors(folder / shard)
    elif not (folder / WEIGHTS).exists():
        pickles = [path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLES]
        if pickles:
            raise ValueError(
                f"{folder / pickles[0]}: pickled weights are not opened; get the checkpoint in safetensors "
                f"({WEIGHTS}), or bring CUT3R's with `vipa import-weights cut3r FILE --out FOLDER`"
            )
        raise ValueError(f"{folder}: no {WEIGHTS} here; {AGAIN}")


def _what(path: Path) -> str:
    """What a file is that is not what its name says, and what to do."""
    head = _head(path)
    if not head:
        return f"this is an empty file; {AGAIN}"
    if head.startswith(LFS):
        return (
            "this is a Git LFS pointer, not the file itself; get it again with `git lfs pull` or by downloading it"
        )
    if head.lstrip()[:1] == b"<":
        return f"this is a web page (of an error or a login?), not the file itself; {AGAIN}"
    if head.startswith((b"PK", b"\x80")):
        return f"this is a pickle of PyTorch, which is not opened; {AGAIN} in safetensors"
    return f"damaged or another kind of file; {AGAIN}"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _brief(error: Exception) -> str:
    """The first lines of an error, in one."""
    return " ".join(str(error).split())[:200]
