"""run.json: what made a training's folder, and whether a run may go on in it."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import transformers

import vipa
from vipa.data.spec import DataSpec
from vipa.hand3d.dataset.reader import Hand3D
from vipa.io.files import atomic_write
from vipa.io.hashing import digest, hash_files
from vipa.io.json_log import differences
from vipa.models.starts import start_hash
from vipa.robots.known import find
from vipa.training.checkpoints import last_step
from vipa.training.runs import TrainRun

FORM = 3
"""Of the record. It grows when the same fields come to mean other steps, so that an older run does not go on."""

HOW = (
    "name", "out", "save_every", "keep", "log_every", "device", "threads", "compile", "workers", "accumulate",
    "parallel", "recompute", "attention", "trackers", "validation", "validate_every", "validate_answers", "images",
    "cache",
)  # fmt: skip
"""Fields of a TrainRun that say where and how it is computed: they change its rounding at most, and a run may go on
with other ones."""


def record_of(run: TrainRun) -> dict[str, Any]:
    """`decides`: what the result follows from, start and data by their content; `run`: every field as it was given;
    `versions`. ValueError where start or data are not there."""
    decides = {name: value for name, value in asdict(run).items() if name not in HOW}
    decides |= {"form": FORM, "start": start_hash(run.start)}
    decides["data"] = [
        {name: value for name, value in asdict(spec).items() if name not in ("path", "statistics")}
        | {"content": data_hash(spec)}
        for spec in run.data
    ]
    versions = {"vipa": vipa.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    record = {"decides": decides, "run": asdict(run), "versions": versions}
    return json.loads(json.dumps(record, default=str))


def data_hash(spec: DataSpec) -> str:
    """Of everything that a component reads. ValueError where it is not there."""
    if spec.statistics is not None:
        return digest(spec.statistics.read_text() + data_hash(replace(spec, statistics=None)))
    if spec.robot is not None:
        return digest(find(spec.robot).contract().to_json() + data_hash(replace(spec, robot=None)))
    if spec.kind in ("hand3d_visual", "hand3d_action"):
        return Hand3D(spec.path).content_hash((spec.kind.removeprefix("hand3d_"), "frames"), spec.split)
    if spec.path.is_file():
        return hash_files(spec.path.parent, [spec.path])
    kinds = (".npz", ".parquet", ".json")
    if (spec.path / "meta" / "info.json").is_file():  # a LeRobot set
        kinds += (".jsonl", ".mp4", ".png", ".jpg")
    files = [path for path in spec.path.rglob("*") if path.suffix in kinds]
    if not files:
        raise ValueError(f"{spec.path}: no {spec.kind} data to train on here")
    return hash_files(spec.path, files)


def require_same(out: Path, record: dict[str, Any]) -> None:
    """ValueError where `out` holds the model or the progress of another run, saying what differs. A folder in which
    no run has saved anything yet is free."""
    if not last_step(out) and not (out / "model").exists():
        return
    path = out / "run.json"
    try:
        there = json.loads(path.read_text())["decides"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path}: does not say (in this program's form) what run left the progress or model beside it: choose "
            "another --out, or delete the folder to start over"
        ) from None
    require_equal(path, there, record["decides"])


def require_equal(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """ValueError naming every field in which what `path` says differs from a new run."""
    if lines := list(differences(there, here)):
        raise ValueError(
            f"{path}: this folder holds another run: {'; '.join(lines)}. Choose another --out, or delete the "
            "folder to start over"
        )


def save_record(out: Path, record: dict[str, Any]) -> None:
    """Writes `out`/run.json."""
    atomic_write(out / "run.json", json.dumps(record, indent=1))
