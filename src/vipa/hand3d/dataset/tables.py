"""The four Parquet tables of the data set, written clip by clip from the stage files."""

import json
import os
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import vipa
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.dataset.image_store import all_images, holds_all, pack_images, without
from vipa.hand3d.dataset.mix import select_action, select_visual, splits
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import FORMAT_VERSION, MANIFEST, SPLITS, TABLES, schema
from vipa.io.files import atomic_write, output_errors
from vipa.io.hashing import content_of
from vipa.io.json_files import read_json
from vipa.io.store import ClipStore

DONE = "clip.json"
"""In the work folder of a clip, of which all stage files are there."""

PENDING = ".hand3d.json"
"""The manifest of tables that are complete and being brought to their places."""

ROWS_PER_FILE = {"visual": 200_000, "action": 100_000, "clips": 100_000, "frames": 5_000}
ROWS_PER_GROUP = {"visual": 5_000, "action": 2_000, "clips": 5_000, "frames": 64}


class FinishedClip:
    """What the stages left of one clip in `folder`."""

    def __init__(self, folder: Path):
        self.summary = json.loads((folder / DONE).read_text())
        self.store = ClipStore(folder)

    @property
    def row(self) -> dict[str, Any]:
        return self.summary["row"]

    def read(self, stage: str):
        output = self.store.read(stage, self.summary["keys"][stage])
        if output is None:
            raise ValueError(f"{self.store.folder}: the {stage} file is missing or broken; annotate again")
        return output

    def images(self, tables: Hand3D | None, used: Set[str]) -> Iterator[tuple[dict[str, Any], bytes]]:
        """(row of the table `frames`, encoded image) of each used frame, from the stage file or the tables before.

        Images that the new tables leave out are put back into the stage file.
        """
        output = self.read("frames")
        images = all_images(output, tables)
        ours = output.arrays["sizes"] > 0
        if not all(mine or row["id"] in used for row, mine in zip(output.values, ours)):
            self.store.write("frames", self.summary["keys"]["frames"], pack_images(output.values, images))
        yield from ((row, image) for row, image in zip(output.values, images) if row["id"] in used)

    def drop_images(self, held: Set[str]) -> None:
        """Of the stage file, those that the tables hold now."""
        output = self.read("frames")
        if any(size and row["id"] in held for row, size in zip(output.values, output.arrays["sizes"])):
            self.store.write("frames", self.summary["keys"]["frames"], without(output, held))


def finished_clips(work: Path) -> list[FinishedClip]:
    """Every clip with a complete set of stage files, by id."""
    clips = [FinishedClip(path.parent) for path in work.glob(f"*/*/{DONE}")]
    return sorted(clips, key=lambda clip: clip.row["id"])


def current_tables(out: Path, config: AnnotateConfig) -> dict[str, Any] | None:
    """The manifest, where the tables are whole and were made of the clips that are finished now, all as they are."""
    try:
        manifest = Hand3D(out).manifest
        if manifest.get("made_of") != _made_of(out, config):
            return None
        files = [f for splits in manifest["tables"].values() for shards in splits.values() for f in shards]
        whole = all(pq.read_metadata(out / f["file"]).num_rows == f["rows"] for f in files)
    except (ValueError, KeyError, OSError):  # Arrow's own errors are among these
        return None
    return manifest if whole else None


def _made_of(out: Path, config: AnnotateConfig) -> str:
    """What decides the tables: the finished clips, by the keys of their stage files, the configuration, the version."""
    done = sorted((out / "work").glob(f"*/*/{DONE}"))
    clips = [(path.parent.parent.name, path.parent.name, path.read_bytes()) for path in done]
    return content_of([FORMAT_VERSION, vipa.__version__, config.to_json(), clips])


def build_tables(out: Path, config: AnnotateConfig) -> dict[str, Any]:
    """Writes the tables of all finished clips below `out`/work and the manifest last; returns the manifest.

    A reader that comes in between sees the data set as it was, or is told that there is none yet. Images move from the
    stage files into the tables; those of clips that were in the tables before are read from there.
    """
    before = finished_tables(out)
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
    held: list[set[str]] = []
    with output_errors(out), _Writers(out) as writers:
        for clip in clips:
            held.append(set())
            for table, row in _rows(clip, config, split[clip.row["id"]], visual, action, before):
                writers.add(table, row["split"], row)
                if table == "frames":
                    held[-1].add(row["id"])
    with output_errors(out):
        manifest = writers.publish(config)
    for clip, images in zip(clips, held):
        clip.drop_images(images)
    return manifest


def finished_tables(out: Path) -> Hand3D | None:
    """Those below `out`; None where there are none, or not all of their files, or of another format."""
    try:
        data = Hand3D(out, cached_groups=len(SPLITS))
    except (ValueError, KeyError):
        return None
    files = (f["file"] for shards in data.manifest["tables"]["frames"].values() for f in shards)
    return data if all((out / file).is_file() for file in files) else None


def recover(out: Path) -> None:
    """Puts a folder in order in which a run was killed: tables that were complete are brought to their places, half
    files removed. Where tables were deleted by hand, clips whose images are gone with them count as not done."""
    if (out / PENDING).is_file():
        _bring(out)
    for pattern in (".*.tmp", "*/*.parquet.tmp", "work/*/*/.*.tmp"):
        for left in out.glob(pattern):
            left.unlink()
    if finished_tables(out) is None:
        for file in out.glob("work/*/*/frames.npz"):
            if not holds_all(file):
                file.unlink()
                (file.parent / DONE).unlink(missing_ok=True)


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
    clip: FinishedClip,
    config: AnnotateConfig,
    split: str,
    visual: set[str],
    action: set[str],
    before: Hand3D | None,
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
    if not relations and not motions:
        used.update(_glances(clip))
    for row, image in clip.images(before, used):
        name = row["id"].rsplit("/", 1)[1] + (".png" if image[:4] == b"\x89PNG" else ".jpg")
        yield "frames", row | of_clip | {"image": {"bytes": image, "path": name}}
    yield "clips", clip.row | {"split": split, "notes": json.dumps(clip.row["notes"], sort_keys=True)} | made


def _glances(clip: FinishedClip) -> list[str]:
    """Frames of a clip that is asked nothing: so that one can look at it all the same."""
    ids = [row["id"] for row in clip.read("frames").values]
    return [ids[i] for i in sorted({0, len(ids) // 2, len(ids) - 1}) if ids]


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
            "made_of": _made_of(self.out, config),
            "tables": {
                table: {s: self.files[table, s] for s in SPLITS if (table, s) in self.files} for table in TABLES
            },
        }
        atomic_write(self.out / PENDING, json.dumps(manifest, indent=1, sort_keys=True))
        return _bring(self.out)


def _bring(out: Path) -> dict[str, Any]:
    """Complete tables to their places, the manifest last; killed in between, it goes on where it was."""
    manifest = read_json(out / PENDING)
    (out / MANIFEST).unlink(missing_ok=True)
    wanted = {f["file"] for splits in manifest["tables"].values() for files in splits.values() for f in files}
    for name in sorted(wanted):
        if (out / f"{name}.tmp").exists():
            os.replace(out / f"{name}.tmp", out / name)
    for table in TABLES:
        for path in (out / table).glob("*"):
            if f"{table}/{path.name}" not in wanted:
                path.unlink()
    os.replace(out / PENDING, out / MANIFEST)
    return manifest
