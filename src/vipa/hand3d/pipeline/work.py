"""All stages of one clip, and what became of it."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from vipa.clips.clip import Clip, ClipError
from vipa.clips.inventory import Inventory
from vipa.clips.sources import is_own_video
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.dataset.records import ClipRecord, make_row
from vipa.hand3d.dataset.tables import DONE
from vipa.hand3d.estimators.base import Estimators
from vipa.hand3d.measure.motion import MOTION_TASKS
from vipa.hand3d.measure.relations import CATEGORIES
from vipa.hand3d.pipeline.draft import Draft, Measured
from vipa.hand3d.pipeline.table import run_stages, stage_keys
from vipa.io.files import OutputError, atomic_write
from vipa.io.store import ClipStore

REFUSED = "refused.json"


@dataclass(frozen=True)
class ClipReport:
    """What became of one clip. reason: None where it is done. seconds: wall time by stage computed now; cpu_seconds:
    of this process and its workers (waiting for a disk or an endpoint costs none). left_out: of relations and of
    motions, by reason. inventory: of a user's own videos."""

    clip_id: str
    reason: str | None
    num_frames: int  # sampled frames that went through a stage now; 0 where all files were there
    video_seconds: float
    seconds: dict[str, float]
    counts: dict[str, int]
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    inventory: Inventory | None = None


def clip_folder(out: Path, clip: Clip) -> Path:
    """Where the stage files of a clip are."""
    return out / "work" / clip.source / clip.id


def annotate_clip(
    clip: Clip | ClipError,
    out: Path,
    config: AnnotateConfig,
    estimators: Estimators,
    camera: Measured | None = None,
) -> ClipReport:
    """All stages of one clip. Whatever is wrong with the clip becomes the report's reason. camera: where a worker
    measures it."""
    report = annotate_until(None, clip, out, config, estimators, camera)
    assert report is not None
    return report


def annotate_until(
    last: str | None,
    clip: Clip | ClipError,
    out: Path,
    config: AnnotateConfig,
    estimators: Estimators,
    camera: Measured | None = None,
) -> ClipReport | None:
    """The stages of one clip up to `last`, left in their files, and None; or its report where that was the end of it:
    something was wrong, or all is done."""
    if isinstance(clip, ClipError):
        return refuse(clip, out, "")
    folder, draft = clip_folder(out, clip), Draft(clip, config, estimators, measured=camera)
    seconds: dict[str, float] = {}
    cpu: dict[str, float] = {}
    try:
        start, cpu_start = time.perf_counter(), time.process_time()
        keys = stage_keys(clip, config, estimators, last)
        for stage, computed in run_stages(draft, keys, ClipStore(folder)):
            now, cpu_now = time.perf_counter(), time.process_time() + draft.worker_seconds
            if computed:
                seconds[stage.name], cpu[stage.name] = now - start, cpu_now - cpu_start
            start, cpu_start = now, cpu_now
            if stage.name == last:
                return None
        summary = {"row": make_row(ClipRecord, draft), "keys": keys, "config": config.hash}
        done = json.dumps(summary, sort_keys=True).encode()
        if not (folder / DONE).is_file() or (folder / DONE).read_bytes() != done:
            atomic_write(folder / DONE, done)
        (folder / REFUSED).unlink(missing_ok=True)
    except OutputError:
        raise
    except ClipError as error:
        report = _refuse(folder, draft.clip_id, str(error), clip.seconds, seconds)
        return replace(report, inventory=draft.inventory({}) if is_own_video(clip.source) else None)
    except Exception as error:
        reason = f"clip {clip.id!r}: {type(error).__name__}: {error}"
        return _refuse(folder, draft.clip_id, reason, clip.seconds, seconds)
    counts = Counter(row["category"] for row in draft.relations["rows"])
    counts += Counter(row["task"] for row in draft.motions["rows"])
    frames = len(draft.frames) if seconds else 0
    without = {"relations": draft.relations["counts"], "motions": draft.motions["counts"]}
    asked = {c.replace("_", " "): counts[c] for c in CATEGORIES} | {
        "motions": sum(counts[t] for t in MOTION_TASKS)
    }
    inventory = draft.inventory(asked) if is_own_video(clip.source) else None
    return ClipReport(draft.clip_id, None, frames, clip.seconds, seconds, dict(counts), cpu, without, inventory)


def refuse(clip: Clip | ClipError, out: Path, reason: str) -> ClipReport:
    """A clip that could not be tried to its end, with why."""
    if isinstance(clip, ClipError):
        return _refuse(out / "work" / "refused" / clip.clip_id, clip.clip_id, str(clip), 0.0, {})
    reason = f"clip {clip.id!r}: {reason}"
    return _refuse(clip_folder(out, clip), f"{clip.source}/{clip.id}", reason, clip.seconds, {})


def _refuse(folder: Path, clip_id: str, reason: str, duration: float, seconds: dict[str, float]) -> ClipReport:
    reason = " ".join(reason.split())
    atomic_write(folder / REFUSED, json.dumps({"clip_id": clip_id, "reason": reason}).encode())
    for name in (DONE, "frames.npz"):  # its images leave the tables
        (folder / name).unlink(missing_ok=True)
    return ClipReport(clip_id, reason, 0, duration, seconds, {})
