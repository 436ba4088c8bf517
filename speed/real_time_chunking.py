"""Success and smoothness of policies whose chunks come late, on the tabletop; and the table of what was measured.

    python speed/real_time_chunking.py play OUT nano:stage3 --switching naive --delays 0 1 2 3 4 5 6 7 8
    python speed/real_time_chunking.py play OUT runs/real_time/model --name nano-real-time --switching conditioned ...
    python speed/real_time_chunking.py table OUT --to docs/results/real_time_chunking.json

The delay is simulated: the chunk of an observation takes over so many steps later (`robots.real_time`). 50 scenes a
task of the test split; a run that was stopped continues. docs/results/real_time_chunking.md has the protocol.
"""

import json
import time
from pathlib import Path
from typing import Any, Literal

import tyro

from vipa.benchmarks.statistics import wilson_interval
from vipa.benchmarks.tabletop_benchmark import TabletopEvaluation, evaluate_tabletop
from vipa.io.files import atomic_write
from vipa.robots.policy import VipaPolicy
from vipa.robots.real_time import Switching


def play(
    out: tyro.conf.Positional[Path],
    model: tyro.conf.Positional[str],
    switching: Switching,
    delays: tuple[int, ...] = tuple(range(9)),
    name: str | None = None,
    episodes: int = 50,
    split: Literal["validation", "test"] = "test",
    minutes: float = 1e9,
) -> None:
    """One way of switching at several delays, at most `minutes` in all."""
    name, policy, end = name or model, VipaPolicy.from_pretrained(model), time.monotonic() + 60 * minutes

    def progress(done: int, total: int) -> None:
        if time.monotonic() > end:
            raise SystemExit(f"stopped with {done} of {total} episodes; the same command goes on")

    for delay in delays:
        folder = out / f"{name.replace(':', '-')}_{switching}_{delay}"
        run = TabletopEvaluation(
            folder, name, split=split, episodes=episodes, videos=0, delay=delay, switching=switching
        )
        result = evaluate_tabletop(policy, run, progress)
        print(
            f"{name} {switching} delay {delay}: {result.scores['all']}, jerk {result.mean('jerk').text()}",
            flush=True,
        )


def table(out: tyro.conf.Positional[Path], to: Path) -> None:
    """What is finished below `out`, as one JSON file, and as a Markdown table."""
    rows: list[dict[str, Any]] = []
    for path in sorted(out.glob("*/result.json")):
        result = json.loads(path.read_text())
        protocol, score = result["protocol"], result["scores"]["all"]
        low, high = wilson_interval(score["successes"], score["trials"])
        rows.append(
            {
                "policy": protocol["policy"],
                "switching": protocol.get("switching", "naive"),
                "delay": protocol.get("delay", 0),
                "split": protocol["split"],
                "seeds": protocol["seeds"],
                "successes": score["successes"],
                "trials": score["trials"],
                "interval": [round(low, 3), round(high, 3)],
                "by_task": {n: s["successes"] for n, s in result["scores"].items() if n != "all"},
                **result["means"],
            }
        )
    rows.sort(key=lambda row: (row["policy"], row["switching"], row["delay"]))
    atomic_write(to, json.dumps(rows, indent=1) + "\n")
    print(
        "| policy | switching | delay | success | jerk, m/s^3 | acceleration, m/s^2 |\n|---|---|---|---|---|---|"
    )
    for row in rows:
        low, high = row["interval"]
        rate = f"{row['successes']}/{row['trials']} [{low:.0%}, {high:.0%}]"
        means = [
            f"{row[m]['value']:.2f} [{row[m]['low']:.2f}, {row[m]['high']:.2f}]" for m in ("jerk", "acceleration")
        ]
        print(f"| {row['policy']} | {row['switching']} | {row['delay']} | {rate} | {' | '.join(means)} |")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"play": play, "table": table})
