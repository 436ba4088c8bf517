"""Annotation of clips, from the first frame to the tables; what is there already is not done again."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vipa.clips.clip import Clip, ClipError
from vipa.clips.sources import load_source
from vipa.hand3d.card import write_card
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.stages import STAGE_VERSIONS, ClipStages, Estimators
from vipa.hand3d.store import ClipStore, OutputError, atomic_write
from vipa.hand3d.tables import build_tables

DONE, REFUSED = "clip.json", "refused.json"


@dataclass(frozen=True)
class ClipReport:
    """What became of one clip. reason: None where it is done. seconds: wall time by stage computed now."""

    clip_id: str
    reason: str | None
    num_frames: int  # sampled frames that went through a stage now; 0 where all files were there
    video_seconds: float
    seconds: dict[str, float]
    counts: dict[str, int]


@dataclass(frozen=True)
class Report:
    """One run of annotation. refused: clip and reason, in order of id."""

    out: str
    done: int
    refused: tuple[tuple[str, str], ...]
    rows: dict[str, dict[str, int]]  # table -> split -> rows
    seconds: float
    video_seconds: float
    stage_seconds: dict[str, float]
    num_frames: int
    config: dict = field(default_factory=dict)

    def summary(self) -> str:
        """A few lines for a person."""
        hours = self.video_seconds / 3600
        lines = [
            f"{self.done} clips done, {len(self.refused)} refused, {self.seconds:.1f} s "
            f"({hours / max(self.seconds, 1e-9) * 3600:.1f} hours of video per hour)",
        ]
        lines += [f"  refused {reason}" for _, reason in self.refused[:10]]
        lines += [f"  ... {len(self.refused) - 10} more in {self.out}/report.json"] * (len(self.refused) > 10)
        for table, by_split in self.rows.items():
            parts = ", ".join(f"{split} {n}" for split, n in by_split.items())
            lines.append(f"  {table}: {parts or 'none'}")
        return "\n".join(lines)


Progress = Callable[[ClipReport], None]


def annotate(
    clips: Iterable[Clip | ClipError],
    out: str | Path,
    config: AnnotateConfig | None = None,
    progress: Progress | None = None,
) -> Report:
    """Annotates clips one after another and writes the data set below `out`.

    Each clip's stages are files below out/work; a rerun computes only what is missing or made with another
    configuration. A clip that cannot be used is in the report with its reason. ValueError for an `out` that
    cannot be written, and for a configuration that names unknown parts.
    """
    config = config or AnnotateConfig()
    out, started = prepare(out, config), time.perf_counter()
    estimators = Estimators.of(config)
    reports = []
    for clip in clips:
        reports.append(annotate_clip(clip, out, config, estimators))
        if progress is not None:
            progress(reports[-1])
    return finish(out, config, reports, started)


def annotate_source(
    name: str,
    root: str | Path,
    out: str | Path,
    config: AnnotateConfig | None = None,
    progress: Progress | None = None,
) -> Report:
    """Annotates every clip of a source below `root`. Errors as in `annotate` and in `Source.read_clips`."""
    return annotate(load_source(name).read_clips(Path(root)), out, config, progress)


def prepare(out: str | Path, config: AnnotateConfig) -> Path:
    """The output folder with the configuration in it. ValueError where it cannot be written."""
    out = Path(out)
    atomic_write(out / "config.json", config.to_json().encode())
    for left in out.glob("work/*/*/.*.tmp"):
        left.unlink()  # of a run that was killed
    return out


def annotate_clip(clip: Clip | ClipError, out: Path, config: AnnotateConfig, estimators: Estimators) -> ClipReport:
    """All stages of one clip. Whatever is wrong with the clip becomes the report's reason."""
    if isinstance(clip, ClipError):
        return _refuse(out / "work" / "refused" / clip.clip_id, clip.clip_id, str(clip), 0.0, {})
    folder = out / "work" / clip.source / clip.id
    stages = ClipStages(clip, config, estimators, ClipStore(folder))
    duration = float(clip.timestamps[-1] - clip.timestamps[0] + 1.0 / clip.rate)
    seconds: dict[str, float] = {}
    try:
        for stage, part in PARTS.items():
            start = time.perf_counter()
            getattr(stages, part)
            if stage in stages.computed:
                seconds[stage] = time.perf_counter() - start
        row = stages.clip_row() | {
            "source": clip.source,
            "source_video": clip.source_video,
            "split": clip.split,
        }
        summary = {"row": row, "keys": stages.keys, "config": config.hash}
        atomic_write(folder / DONE, json.dumps(summary, sort_keys=True).encode())
        (folder / REFUSED).unlink(missing_ok=True)
    except OutputError:
        raise
    except ClipError as error:
        return _refuse(folder, stages.clip_id, str(error), duration, seconds)
    except Exception as error:
        reason = f"clip {clip.id!r}: {type(error).__name__}: {error}"
        return _refuse(folder, stages.clip_id, reason, duration, seconds)
    counts = Counter(row["category"] for row in stages.relations)
    counts += Counter(row["task"] for row in stages.motions["rows"])
    frames = len(stages.frames) if stages.computed else 0
    return ClipReport(stages.clip_id, None, frames, duration, seconds, dict(counts))


PARTS = {
    "points": "maps",
    "scale": "scale",
    "objects": "geometry",
    "relations": "relations",
    "motion": "motions",
    "frames": "images",
}
"""Stage -> the attribute of `ClipStages` that does it."""
assert PARTS.keys() == STAGE_VERSIONS.keys()


def _refuse(folder: Path, clip_id: str, reason: str, duration: float, seconds: dict[str, float]) -> ClipReport:
    reason = " ".join(reason.split())
    atomic_write(folder / REFUSED, json.dumps({"clip_id": clip_id, "reason": reason}).encode())
    (folder / DONE).unlink(missing_ok=True)
    return ClipReport(clip_id, reason, 0, duration, seconds, {})


def finish(out: Path, config: AnnotateConfig, reports: list[ClipReport], started: float) -> Report:
    """The tables of all finished clips, and the run report, also written as report.json."""
    manifest = build_tables(out, config)
    write_card(out, manifest)
    totals: Counter[str] = Counter()
    for report in reports:
        totals.update(report.seconds)
    rows = {
        table: {split: sum(f["rows"] for f in files) for split, files in by_split.items()}
        for table, by_split in manifest["tables"].items()
    }
    result = Report(
        out=str(out),
        done=sum(r.reason is None for r in reports),
        refused=tuple(sorted((r.clip_id, r.reason) for r in reports if r.reason is not None)),
        rows=rows,
        seconds=time.perf_counter() - started,
        video_seconds=sum(r.video_seconds for r in reports),
        stage_seconds={k: round(v, 3) for k, v in totals.items()},
        num_frames=sum(r.num_frames for r in reports),
        config=json.loads(config.to_json()),
    )
    atomic_write(out / "report.json", json.dumps(asdict(result), indent=1).encode())
    return result
