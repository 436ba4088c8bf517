"""Measurements as processes of their own, in turn and again, so that what else runs slows all of them alike."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path


def in_turn(script: str, work: Path, parts: Iterable[str], rounds: int, trees: Mapping[str, Path] = {}) -> None:
    """`script --work WORK --part PART` of each part prints RESULT and JSON numbers; into WORK/SCRIPT.json, and the
    medians are printed. What is there is not measured again. trees: parts that run on another tree of this project."""
    path = (work / Path(script).name).with_suffix(".json")
    found: dict[str, list[dict[str, float]]] = json.loads(path.read_text()) if path.exists() else {}
    for number in range(rounds):
        for part in parts:
            if len(found.setdefault(part, [])) > number:
                continue
            command = [sys.executable, script, "--work", str(work), "--part", part]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            if part in trees:
                environment["PYTHONPATH"] = str(trees[part] / "src")
            ran = subprocess.run(command, capture_output=True, text=True, env=environment)
            said = [line for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
            if not said:
                raise RuntimeError(f"{part}: {ran.stderr[-2000:]}")
            found[part].append(json.loads(said[0].removeprefix("RESULT ")))
            path.write_text(json.dumps(found, indent=1))
            print(number, part, found[part][-1], flush=True)
    for part, some in found.items():
        median = {name: statistics.median(one[name] for one in some) for name in some[0]} if some else {}
        print(f"{part:<40}", "  ".join(f"{name} {value:.3g}" for name, value in median.items()))
