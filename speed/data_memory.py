"""Memory of a training against the size of its data: `python speed/data_memory.py --work FOLDER`.

A few filmed clips are annotated, and their records and images copied under new names into data sets of 1,000 to
1,000,000 questions. `vipa train stage1` (nano) then takes the same number of steps on each, twice: the first start also
makes the indices that the second finds. Measured while it runs, from outside: the memory that is a process's own
(RssAnon: what is mapped from files may be taken back by the system), of the training and of its loader, the median of
the second half of the steps, and the training's peak (VmHWM, mapped files included).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SIZES = (1_000, 10_000, 100_000, 1_000_000)
STEPS = 30
AT_ONCE = 100
"""Copies of the clips in one file."""


def make_small(folder: Path) -> None:
    """A Hand3D folder of some clips."""
    from dataclasses import replace

    from vipa.hand3d.pipeline.annotate import annotate
    from vipa.worlds.film import film_clip
    from vipa.worlds.seeds import TRAIN

    annotate((replace(film_clip(TRAIN[i]), split="train") for i in range(12)), folder)


def renamed(column: pa.ChunkedArray, number: int) -> pa.ChunkedArray:
    """Ids, or lists of ids, of the copy of this number."""
    if pa.types.is_list(column.type):
        whole = column.combine_chunks()
        return pa.chunked_array([pa.ListArray.from_arrays(whole.offsets, renamed_flat(whole.values, number))])
    return renamed_flat(column, number)


def renamed_flat(ids: Any, number: int) -> Any:
    return pc.binary_join_element_wise(ids, str(number), "#")


def make_large(small: Path, folder: Path, records: int) -> None:
    """`small` so often that there are this many questions, in files that are written one after another."""
    manifest = json.loads((small / "hand3d.json").read_text())
    tables = {n: pq.read_table(small / n / "train-00000.parquet") for n in ("visual", "action", "clips", "frames")}
    copies = -(-records // tables["visual"].num_rows)
    for name, table in tables.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        ids = [column for column in ("id", "clip_id", "frame_id", "frame_ids") if column in table.column_names]
        files, left = [], records
        for first in range(0, copies, AT_ONCE):
            parts = []
            for number in range(first, min(first + AT_ONCE, copies)):
                part = table
                for column in ids:
                    part = part.set_column(
                        part.column_names.index(column), part.field(column), renamed(part[column], number)
                    )
                parts.append(part)
            whole = pa.concat_tables(parts)
            if name == "visual":
                whole, left = whole.slice(0, left), left - min(left, len(whole))
            path = f"{name}/train-{first // AT_ONCE:05d}.parquet"
            pq.write_table(whole, folder / path, row_group_size=32 if name == "frames" else 4096)
            files.append({"file": path, "rows": len(whole)})
        manifest["tables"][name] = {"train": files}
    (folder / "hand3d.json").write_text(json.dumps(manifest))


def status(pid: int) -> dict[str, float]:
    """MB of a process, by the kernel's names."""
    said = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(value.split()[0]) / 1024 for name, _, value in said if name in ("RssAnon", "VmHWM")}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def measured(data: Path, out: Path, cache: Path, workers: int) -> dict[str, float]:
    """Of one training, MB."""
    command = [sys.executable, "-m", "vipa", "train", "stage1", "--data", str(data), "--out", str(out)]
    command += ["--steps", str(STEPS), "--data.0.batch", "8", "--images", "pixels", "--workers", str(workers)]
    command += ["--save-every", "1000", "--log-every", "1", "--threads", "1", "--device", "cpu"]
    environment = os.environ | {"VIPA_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    log, samples, loader, peak = out / "log.jsonl", [], [], 0.0
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    while running.poll() is None:
        time.sleep(0.1)
        done = len(log.read_text().splitlines()) if log.exists() else 0
        try:
            now = status(running.pid)
            if "VmHWM" in now and done < STEPS - 1:
                peak = now["VmHWM"]
            if STEPS // 2 <= done < STEPS - 1:
                samples.append(now["RssAnon"])
                loader += [status(child)["RssAnon"] for child in children(running.pid)[:1]]
        except (OSError, KeyError):  # it has just ended
            pass
    if running.returncode or not samples:
        raise RuntimeError(running.communicate()[1].decode()[-2000:])
    figures = {"training": statistics.median(samples), "training_peak": peak}
    return figures | ({"loader": statistics.median(loader)} if loader else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    given = parser.parse_args()
    small, path = given.work / "small", given.work / "data_memory.json"
    if not (small / "hand3d.json").exists():
        make_small(small)
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for size in given.sizes:
        data = given.work / f"hand3d-{size}"
        if not (data / "hand3d.json").exists():
            make_large(small, data, size)
        for name, workers in (("first start, 1 worker", 1), ("1 worker", 1), ("no worker", 0)):
            if name not in results.setdefault(str(size), {}):
                out = given.work / "runs" / f"{size} {name}"
                results[str(size)][name] = measured(data, out, given.work / f"cache-{size}", workers)
                path.write_text(json.dumps(results, indent=1))
            print(f"{size:>9,} {name:<22}", results[str(size)][name], flush=True)


if __name__ == "__main__":
    main()
