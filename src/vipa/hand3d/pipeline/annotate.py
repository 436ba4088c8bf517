"""Annotation of clips, from the first frame to the tables; what is there already is not done again."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vipa.clips.clip import Clip, ClipError
from vipa.clips.inventory import Inventory, inventory_text
from vipa.clips.reading import distinct
from vipa.clips.sources import NO_OPTIONS, SourceOptions, read_source, with_cache
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.dataset.card import CARD, write_card
from vipa.hand3d.dataset.tables import build_tables, current_tables, recover
from vipa.hand3d.pipeline.engine import ENGINES
from vipa.hand3d.pipeline.table import STAGES
from vipa.hand3d.pipeline.work import ClipReport
from vipa.io.files import atomic_write


@dataclass(frozen=True)
class Report:
    """One run of annotation. refused: clip and reason, in order of id. reasons: how often each kind of reason.
    hours_per_hour: of video. stage_seconds: wall time. stage_rates: sampled frames that went through the stage now
    per second of CPU time, that is of one core. table_seconds: CPU time of writing the tables of all clips. left_out:
    of relations, frames in which a hand or an object is not asked about; of motions, moments without one; by reason."""

    out: str
    done: int
    refused: tuple[tuple[str, str], ...]
    rows: dict[str, dict[str, int]]  # table -> split -> rows
    seconds: float
    video_seconds: float
    hours_per_hour: float
    stage_seconds: dict[str, float]
    stage_rates: dict[str, float]
    table_seconds: float
    reasons: dict[str, int]
    num_frames: int
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    videos: tuple[Inventory, ...] = ()  # of a user's own: what each has and lacks

    def summary(self) -> str:
        """A few lines for a person."""
        lines = [
            f"{self.done} clips done, {len(self.refused)} refused, {self.seconds:.1f} s "
            f"({self.hours_per_hour:.1f} hours of video per hour)",
        ]
        lines += [f"  refused {reason}" for _, reason in self.refused[:10]]
        lines += [f"  ... {len(self.refused) - 10} more in {self.out}/report.json"] * (len(self.refused) > 10)
        for table, by_split in self.rows.items():
            parts = ", ".join(f"{split} {n}" for split, n in by_split.items())
            lines.append(f"  rows of the table {table}: {parts or 'none'}")
        for what, counts in self.left_out.items():
            if counts:
                lines.append(f"  left out of {what}: {', '.join(f'{why} {n}' for why, n in counts.items())}")
        if self.videos:
            lines.append(inventory_text(self.videos))
        return "\n".join(lines)


Progress = Callable[[ClipReport], None]


def annotate(
    clips: Iterable[Clip | ClipError],
    out: str | Path,
    config: AnnotateConfig | None = None,
    progress: Progress | None = None,
    engine: str = "local",
    workers: int = 1,
) -> Report:
    """Annotates clips and writes the data set below `out`.

    Each clip's stages are files below out/work; a rerun computes only what is missing or made with another
    configuration. A clip that cannot be used is in the report with its reason. engine: "local" (this process) or
    "ray" with so many workers. ValueError for an `out` that cannot be written, and for a configuration or an engine
    that names unknown parts.
    """
    config = config or AnnotateConfig()
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is unknown; known: {', '.join(ENGINES)}")
    out, started = prepare(out, config), time.perf_counter()
    reports = []
    for report in ENGINES[engine](distinct(clips), out, config, workers):
        reports.append(report)
        if progress is not None:
            progress(report)
    return finish(out, config, reports, started)


def annotate_source(
    name: str,
    root: str | Path,
    out: str | Path,
    config: AnnotateConfig | None = None,
    progress: Progress | None = None,
    options: SourceOptions = NO_OPTIONS,
    engine: str = "local",
    workers: int = 1,
) -> Report:
    """Annotates every clip of a source below `root`. What hand trackers find is kept in the user's cache, unless the
    options say where. Errors as in `annotate` and in `read_source`."""
    clips = read_source(name, root, with_cache(name, options))
    return annotate(clips, out, config, progress, engine, workers)


def prepare(out: str | Path, config: AnnotateConfig) -> Path:
    """The output folder with the configuration in it. ValueError where it cannot be written."""
    out = Path(out)
    atomic_write(out / "config.json", config.to_json())
    recover(out)
    return out


def kind_of(reason: str) -> str:
    """A refusal without what differs from clip to clip: its name, what is quoted and its numbers."""
    reason = re.sub(r"'[^']*'", "'...'", re.sub(r"^clip '[^']*': ", "", reason))
    return re.sub(r"[0-9]+([.,][0-9]+)*", "#", reason)


def finish(out: Path, config: AnnotateConfig, reports: list[ClipReport], started: float) -> Report:
    """The tables of all finished clips, and the run report, also written as report.json."""
    cpu_start = time.process_time()
    changed = any(report.seconds for report in reports)  # a stage file is new
    current = None if changed else current_tables(out, config)
    manifest = current or build_tables(out, config)
    seconds: Counter[str] = Counter()
    cpu: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    for report in reports:
        seconds.update(report.seconds)
        cpu.update(report.cpu_seconds)
        frames.update(dict.fromkeys(report.seconds, report.num_frames))
    stages = [stage.name for stage in STAGES if stage.name in seconds]
    table_seconds = time.process_time() - cpu_start
    without: dict[str, Counter[str]] = {"relations": Counter(), "motions": Counter()}
    for report in reports:
        for what, counts in report.left_out.items():
            without[what].update({why: n for why, n in counts.items() if why != "kept"})
    wall, video = time.perf_counter() - started, sum(r.video_seconds for r in reports)
    rows = {
        table: {split: sum(f["rows"] for f in files) for split, files in by_split.items()}
        for table, by_split in manifest["tables"].items()
    }
    result = Report(
        out=str(out),
        done=sum(r.reason is None for r in reports),
        refused=tuple(sorted((r.clip_id, r.reason) for r in reports if r.reason is not None)),
        rows=rows,
        seconds=wall,
        video_seconds=video,
        hours_per_hour=video / wall,
        stage_seconds={name: round(seconds[name], 3) for name in stages},
        stage_rates={name: round(frames[name] / cpu[name], 1) for name in stages if cpu[name] > 0},
        table_seconds=round(table_seconds, 3),
        reasons=dict(Counter(kind_of(r.reason) for r in reports if r.reason is not None).most_common()),
        num_frames=sum(r.num_frames for r in reports),
        left_out={what: dict(counts.most_common()) for what, counts in without.items()},
        config=json.loads(config.to_json()),
        videos=tuple(r.inventory for r in reports if r.inventory is not None),
    )
    atomic_write(out / "report.json", json.dumps(asdict(result), indent=1))
    if current is None or not (out / CARD).is_file():
        write_card(out)  # it says what the report counts
    return result
