"""The four Parquet tables of the data set, written clip by clip from the stage files."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import vipa
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.dataset.mix import select_action, select_visual, splits
from vipa.hand3d.dataset.records import FORMAT_VERSION, TABLES, schema
from vipa.io.files import atomic_write, output_errors
from vipa.io.store import ClipStore

MANIFEST = "hand3d.json"
SPLITS = ("train", "validation", "test")
ROWS_PER_FILE = {"visual": 200_000, "action": 100_000, "clips": 100_000, "frames": 5_000}
ROWS_PER_GROUP = {"visual": 5_000, "action": 2_000, "clips": 5_000, "frames": 64}


class FinishedClip:
    """What the stages left of one clip in `folder`."""

    def __init__(self, folder: Path):
        self.summary = json.loads((folder / "clip.json").read_text())
        self.store = ClipStore(folder)

    @property
    def row(self) -> dict[str, Any]:
        return self.summary["row"]

    def read(self, stage: str):
        output = self.store.read(stage, self.summary["keys"][stage])
        if output is None:
            raise ValueError(f"{self.store.folder}: the {stage} file is missing or broken; annotate again")
        return output


def finished_clips(work: Path) -> list[FinishedClip]:
    """Every clip with a complete set of stage files, by id."""
    clips = [FinishedClip(path.parent) for path in work.glob("*/*/clip.json")]
    return sorted(clips, key=lambda clip: clip.row["id"])


def build_tables(out: Path, config: AnnotateConfig) -> dict[str, Any]:
    """Writes the tables of all finished clips below `out`/work and the manifest last; returns the manifest.

    A reader that comes in between sees the data set as it was, or is told that there is none yet.
    """
    clips = finished_clips(out / "work")
    split = splits(config.mix, (clip.row for clip in clips))
    light = ("id", "category", "hand", "object", "directions")
    visual = select_visual(
        config.mix,
        (
            {k: row[k] for k in light}
            | {"clip_id": clip.row["id"], "source": clip.row["source"], "split": split[clip.row["id"]]}
            for clip in clips
            for row in clip.read("relations").values["rows"]
        ),
    )
    action = select_action(
        config.mix,
        [
            {"id": row["id"], "task": row["task"], "source": clip.row["source"], "split": split[clip.row["id"]]}
            for clip in clips
            for row in clip.read("motion").values["rows"]
        ],
    )
    with output_errors(out):
        with _Writers(out) as writers:
            for clip in clips:
                for table, row in _rows(clip, config, split[clip.row["id"]], visual, action):
                    writers.add(table, row["split"], row)
        return writers.publish(config)


def _require_conventions(
    clip: FinishedClip, config: AnnotateConfig, relations: list[dict[str, Any]], motions: list[dict[str, Any]]
) -> None:
    """ValueError where a clip of an earlier run means something else by its direction words or motion tokens."""
    gammas = {row["gamma"] for row in relations} - {config.relations.gamma}
    motion = next((row for row in motions if row["task"] != "motion_translation"), None)
    other = False
    if motion is not None:
        future = {side: np.array(motion[side]) for side in ("left", "right") if motion[side] is not None}
        other = config.motion.codec.to_text(future) != motion["response"]
    if gammas or other:
        what = f"gamma {min(gammas)}, now {config.relations.gamma}" if gammas else "another codec of motion tokens"
        raise ValueError(
            f"clip {clip.row['id']!r} was annotated before with {what}: annotate all clips of a data set with the "
            "same, or choose another --out"
        )


def _rows(
    clip: FinishedClip, config: AnnotateConfig, split: str, visual: set[str], action: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    made = {"version": vipa.__version__, "config": clip.summary["config"]}
    of_clip = {"clip_id": clip.row["id"], "source": clip.row["source"], "split": split}
    video = {"source_video": clip.row["source_video"]}
    used: set[str] = set()
    relations, motions = clip.read("relations").values["rows"], clip.read("motion").values["rows"]
    _require_conventions(clip, config, relations, motions)
    for row in relations:
        if row["id"] in visual:
            used.update(row["frame_ids"])
            yield "visual", row | of_clip | video | made
    for row in motions:
        if row["id"] in action:
            used.add(row["frame_id"])
            yield "action", row | of_clip | video | made
    frames = clip.read("frames")
    images, position = frames.arrays["images"].tobytes(), 0
    for row, size in zip(frames.values, frames.arrays["sizes"].tolist()):
        blob, position = images[position : position + size], position + size
        if row["id"] in used:
            name = row["id"].rsplit("/", 1)[1] + (".png" if blob[:4] == b"\x89PNG" else ".jpg")
            yield "frames", row | of_clip | {"image": {"bytes": blob, "path": name}}
    yield "clips", clip.row | {"split": split, "notes": json.dumps(clip.row["notes"], sort_keys=True)} | made


class _Writers:
    """Parquet files by table and split, cut at a number of rows, with names that become visible in `publish`."""

    def __init__(self, out: Path):
        self.out, self.rows, self.files = out, {}, {}
        self.writers: dict[tuple[str, str], pq.ParquetWriter] = {}
        self.schemas = {table: schema(table) for table in TABLES}

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, *exc) -> None:
        for key in list(self.rows):
            self._flush(key)
        for writer in self.writers.values():
            writer.close()

    def add(self, table: str, split: str, row: dict[str, Any]) -> None:
        key = table, split
        pending = self.rows.setdefault(key, [])
        pending.append(row)
        if len(pending) >= ROWS_PER_GROUP[table]:
            self._flush(key)

    def _flush(self, key: tuple[str, str]) -> None:
        table = key[0]
        pending = self.rows.pop(key, [])
        if not pending:
            return
        if key not in self.writers:
            self._open(key)
        if self.files[key][-1]["rows"] + len(pending) > ROWS_PER_FILE[table]:
            self.writers.pop(key).close()
            self._open(key)
        self.writers[key].write_table(pa.Table.from_pylist(pending, schema=self.schemas[table]))
        self.files[key][-1]["rows"] += len(pending)

    def _open(self, key: tuple[str, str]) -> None:
        table, split = key
        files = self.files.setdefault(key, [])
        name = f"{table}/{split}-{len(files):05d}.parquet"
        files.append({"file": name, "rows": 0})
        path = self.out / f"{name}.tmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = table == "frames"  # its images are compressed already, and no two of them are alike
        self.writers[key] = pq.ParquetWriter(
            path, self.schemas[table], compression="none" if plain else "zstd", use_dictionary=not plain
        )

    def publish(self, config: AnnotateConfig) -> dict[str, Any]:
        manifest = {
            "format": FORMAT_VERSION,
            "version": vipa.__version__,
            "config": json.loads(config.to_json()),
            "config_hash": config.hash,
            "tables": {
                table: {s: self.files[table, s] for s in SPLITS if (table, s) in self.files} for table in TABLES
            },
        }
        (self.out / MANIFEST).unlink(missing_ok=True)
        wanted = {f["file"] for files in self.files.values() for f in files}
        for name in sorted(wanted):
            os.replace(self.out / f"{name}.tmp", self.out / name)
        for table in TABLES:
            for path in (self.out / table).glob("*"):
                if f"{table}/{path.name}" not in wanted:
                    path.unlink()
        atomic_write(self.out / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
        return manifest
