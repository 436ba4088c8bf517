"""The tables of an ablation: figures with intervals, and every arm against the first, pair by pair."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vipa.benchmarks.ablation.answers import DEGREES, FIGURES, Answers, Values
from vipa.benchmarks.ablation.arms import find_arm
from vipa.benchmarks.ablation.plan import Ablation, Planned
from vipa.benchmarks.results import Mean
from vipa.benchmarks.statistics import paired_difference, paired_episodes, wilson_interval
from vipa.io.jobs import in_order


def tables(answers: Answers) -> tuple[str, dict[str, Any]]:
    """Markdown, and the same as JSON values."""
    first, *_ = arms = answers.arms
    record: dict[str, Any] = {"settings": answers.settings, "against": first, "arms": {}}
    for name in arms:
        rows: dict[str, Any] = {"what": find_arm(name).what}
        record["arms"][name] = rows
        for figure in FIGURES:
            if (values := answers.of_arm(name, figure)) is not None:
                rows[figure] = _figure(figure, values, answers.of_arm(first, figure) if name != first else None)
        for kind in answers.kinds:
            if (values := answers.of_arm(name, "distance", kind)) is not None:
                other = answers.of_arm(first, "distance", kind) if name != first else None
                rows.setdefault("kinds", {})[kind] = _figure("distance", values, other)
    parts = [_intro(answers, first), _questions(record), _by_kind(record), _robot(record), PUBLISHED]
    return "\n\n".join(part for part in parts if part) + "\n", record


def costs(run: Ablation, planned: Sequence[Planned]) -> dict[str, Any]:
    """Seconds of every job that is done, and on what."""
    jobs = in_order([job for p in planned for job in p.jobs])
    done = {job.key: job.record(run.out / "store") for job in jobs}
    return {key: {name: r[name] for name in ("seconds", "units", "device")} for key, r in done.items() if r}


def _figure(figure: str, values: Values, first: Values | None) -> dict[str, Any]:
    out: dict[str, Any] = {"records": len(values.records), "between_seeds": values.between_seeds}
    if first is not None:
        seeds = _shared(values, first)
        pairs = [(values.by_seed[s], first.by_seed[s]) for s in seeds]
        alone = len(seeds) == 1 and max(len(values.by_seed), len(first.by_seed)) > 1
        out["against"] = {"seeds": seeds, "alone": alone, **asdict(paired_difference(pairs, values.clusters))}
    if figure != "success":
        return out | {"mean": asdict(values.mean)}
    trials = [s for seed in values.by_seed.values() for s in seed.values()]
    low, high = wilson_interval(int(sum(trials)), len(trials))
    out |= {"mean": asdict(Mean(float(np.mean(trials)), low, high)), "of": [int(sum(trials)), len(trials)]}
    out["tasks"] = _by_task(values)
    if first is not None:
        won: list[dict[Hashable, bool]] = [{e: v > 0 for e, v in _named(x).items()} for x in (values, first)]
        pair = paired_episodes(*won)
        out["against"] |= {"only_this": pair.only_first, "only_first": pair.only_second}
        if len(out["against"]["seeds"]) == 1:
            out["against"]["p"] = pair.p
    return out


def _shared(arm: Values, first: Values) -> list[int]:
    """The seeds that both were trained with. ValueError where there is none."""
    if not (seeds := sorted(arm.by_seed.keys() & first.by_seed.keys())):
        raise ValueError("a table of arms needs a seed that each was trained with, as the first arm was")
    return seeds


def _named(values: Values) -> dict[str, float]:
    """Every episode of every seed."""
    return {f"{seed}/{name}": v for seed, rows in values.by_seed.items() for name, v in rows.items()}


def _by_task(values: Values) -> dict[str, list[int]]:
    tasks: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, success in _named(values).items():
        count = tasks[name.partition("/")[2].rpartition("_")[0]]
        count[0], count[1] = count[0] + int(success), count[1] + 1
    return dict(tasks)


def _intro(answers: Answers, first: str) -> str:
    s, robot, several = answers.settings, "success" in answers.values, len(answers.seeds) > 1
    asked = robot or "average" in answers.values
    steps = [("1", True), ("2", asked), ("3", robot)]
    stages = ", ".join(f"{number} {s[f'stage{number}_steps']}" for number, there in steps if there)
    drawn = f" (questions drawn with temperature {t:g})" if (t := s.get("temperature", 1.0)) != 1 else ""
    shown = f", {s['demonstrations']} demonstrations with the views {', '.join(s['views'])}" if robot else ""
    text = f"""\
Made by `vipa ablate`; {s["preset"]}, tabletop of ambiguity {s["ambiguity"]:g} (simulated, docs/worlds.md), split {s["split"]},
seeds {", ".join(map(str, answers.seeds))}; {s["clips"]} training clips{shown}; steps of the stages: {stages}{drawn}. Brackets:
95 % intervals, over clips (of records averaged over seeds){" or Wilson's over the episodes of all seeds" if robot else ""};
"seeds": standard deviation between seeds; "against": minus the arm `{first}`, record by record, by Student's t over
clips{" and seeds" if several else "; another training of the same arm is not in it"}."""  # noqa: E501
    if robot:
        p = "with the difference, over scenes and seeds" if several else "with McNemar's exact p"
        text += f" Of episodes: what only this arm and only `{first}` solved, {p}."
    return f"# Ablation\n\n{text}"


def _mean(cell: dict[str, Any] | None, digits: int = 3) -> str:
    if cell is None:
        return "-"
    spread = cell["between_seeds"]
    return Mean(**cell["mean"]).text(digits) + (f", seeds {spread:.{digits}f}" if spread is not None else "")


def _against(cell: dict[str, Any] | None, digits: int = 3) -> str:
    if cell is None or "against" not in cell:
        return "-"
    found = cell["against"]
    alone = f", seed {found['seeds'][0]} alone" if found["alone"] else ""
    return f"{Mean(**found['mean']).text(digits)}, {_chance(found['p'])}{alone}"


def _chance(p: float) -> str:
    return f"p {p:.3f}" if p >= 0.0005 else "p < 0.001"


def _questions(record: dict[str, Any]) -> str:
    """Beside the paper's table of Hand3D-test."""
    figures = [f for f in FIGURES if f != "success" and any(f in a for a in record["arms"].values())]
    if not figures:
        return ""
    heads = [cell for f in figures for cell in (FIGURES[f][2], "against")]
    lines = ["## Questions and motions", "", f"| arm | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name, row in record["arms"].items():
        cells = [
            cell
            for f in figures
            for cell in (_mean(row.get(f), 2 if f == "direction" else 3), _against(row.get(f)))
        ]
        lines.append(f"| {name}: {row['what']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_kind(record: dict[str, Any]) -> str:
    """Errors of each kind of question."""
    kinds = next(iter(record["arms"].values())).get("kinds")
    if not kinds:
        return ""
    units = {kind: ", degrees" if kind == DEGREES else "" for kind in kinds}
    heads = [f"{kind.replace('_', ' ')}{units[kind]} ({cell['records']})" for kind, cell in kinds.items()]
    lines = ["Errors by kind of question, m; below each what it is against the first arm.", ""]
    lines += [f"| arm | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name, row in record["arms"].items():
        cells = [(row.get("kinds", {}).get(kind), 1 if kind == DEGREES else 3) for kind in kinds]
        lines.append(f"| {name} | {' | '.join(_mean(cell, digits) for cell, digits in cells)} |")
        if any(cell and "against" in cell for cell, _ in cells):
            lines.append(f"| | {' | '.join(_against(cell, digits) for cell, digits in cells)} |")
    return "\n".join(lines)


def _robot(record: dict[str, Any]) -> str:
    """Beside the paper's ablation on LIBERO."""
    if not any("success" in a for a in record["arms"].values()):
        return ""
    tasks_played: Sequence[str] = record["settings"]["tasks"]
    head = f"| arm | {' | '.join(tasks_played)} | all | against | the paper's on LIBERO |"
    lines = ["## The robot, closed loop", "", head, "|---" * (4 + len(tasks_played)) + "|"]
    for name, row in record["arms"].items():
        if (cell := row.get("success")) is None:
            continue
        tasks = [f"{won} of {all_}" for won, all_ in (cell["tasks"].get(task, (0, 0)) for task in tasks_played)]
        mean, (won, of) = cell["mean"], cell["of"]
        rate = f"{won} of {of}, {mean['value']:.2f} [{mean['low']:.2f}, {mean['high']:.2f}]"
        against = "-"
        if other := cell.get("against"):
            one = len(other["seeds"]) == 1 and not other["alone"]
            apart = _chance(other["p"]) if one else _against(cell)
            against = f"{other['only_this']} : {other['only_first']}, {apart}"
        published = find_arm(name).published
        shown = f"{published:g}" if published else "-"
        lines.append(f"| {name}: {row['what']} | {' | '.join(tasks)} | {rate} | {against} | {shown} |")
    return "\n".join(lines)


PUBLISHED = """\
The paper's own, one run each: Hand3D-test 0.12 m and 1.82 of 3 (with the data but without the 3D encoder 0.14 m and
1.75, without both 0.18 m and 1.22); LIBERO, single view, as above, in percent."""
