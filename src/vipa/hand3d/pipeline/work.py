"""All stages of one clip, and what became of it."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from vipa.clips.clip import Clip, ClipError
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.estimators.base import Estimators
from vipa.hand3d.pipeline.stages import STAGE_VERSIONS, ClipStages
from vipa.io.files import OutputError, atomic_write
from vipa.io.store import ClipStore

DONE, REFUSED = "clip.json", "refused.json"


@dataclass(frozen=True)
class ClipReport:
    """What became of one clip. reason: None where it is done. seconds: wall time by stage computed now; cpu_seconds:
    of this process (waiting for a disk or an endpoint costs none). left_out: of relations and of motions, by reason."""

    clip_id: str
    reason: str | None
    num_frames: int  # sampled frames that went through a stage now; 0 where all files were there
    video_seconds: float
    seconds: dict[str, float]
    counts: dict[str, int]
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)


def clip_folder(out: Path, clip: Clip) -> Path:
    """Where the stage files of a clip are."""
    return out / "work" / clip.source / clip.id


def annotate_clip(clip: Clip | ClipError, out: Path, config: AnnotateConfig, estimators: Estimators) -> ClipReport:
    """All stages of one clip. Whatever is wrong with the clip becomes the report's reason."""
    if isinstance(clip, ClipError):
        return refuse(clip, out, "")
    folder = clip_folder(out, clip)
    stages = ClipStages(clip, config, estimators, ClipStore(folder))

    seconds: dict[str, float] = {}
    cpu: dict[str, float] = {}
    try:
        for stage, part in PARTS.items():
            if stage == "points" and not estimators.points.cached:
                continue  # read where scale and objects need it
            start, cpu_start = time.perf_counter(), time.process_time()
            getattr(stages, part)
            if stage in stages.computed:
                seconds[stage] = time.perf_counter() - start
                cpu[stage] = time.process_time() - cpu_start
        row = stages.clip_row() | {
            "source": clip.source,
            "source_video": clip.source_video,
            "split": clip.split,
        }
        summary = {"row": row, "keys": stages.keys, "config": config.hash}
        atomic_write(folder / DONE, json.dumps(summary, sort_keys=True))
        (folder / REFUSED).unlink(missing_ok=True)
    except OutputError:
        raise
    except ClipError as error:
        return _refuse(folder, stages.clip_id, str(error), clip.seconds, seconds)
    except Exception as error:
        reason = f"clip {clip.id!r}: {type(error).__name__}: {error}"
        return _refuse(folder, stages.clip_id, reason, clip.seconds, seconds)
    counts = Counter(row["category"] for row in stages.relations["rows"])
    counts += Counter(row["task"] for row in stages.motions["rows"])
    frames = len(stages.frames) if stages.computed else 0
    without = {"relations": stages.relations["counts"], "motions": stages.motions["counts"]}
    return ClipReport(stages.clip_id, None, frames, clip.seconds, seconds, dict(counts), cpu, without)


PARTS = {
    "contacts": "touched_clip",
    "words": "described",
    "points": "maps",
    "scale": "scale",
    "objects": "geometry",
    "relations": "relations",
    "motion": "motions",
    "frames": "images",
}
"""Stage -> the attribute of `ClipStages` that does it."""
assert PARTS.keys() == STAGE_VERSIONS.keys()


def refuse(clip: Clip | ClipError, out: Path, reason: str) -> ClipReport:
    """A clip that could not be tried to its end, with why."""
    if isinstance(clip, ClipError):
        return _refuse(out / "work" / "refused" / clip.clip_id, clip.clip_id, str(clip), 0.0, {})
    reason = f"clip {clip.id!r}: {reason}"
    return _refuse(clip_folder(out, clip), f"{clip.source}/{clip.id}", reason, clip.seconds, {})


def _refuse(folder: Path, clip_id: str, reason: str, duration: float, seconds: dict[str, float]) -> ClipReport:
    reason = " ".join(reason.split())
    atomic_write(folder / REFUSED, json.dumps({"clip_id": clip_id, "reason": reason}))
    (folder / DONE).unlink(missing_ok=True)
    return ClipReport(clip_id, reason, 0, duration, seconds, {})
