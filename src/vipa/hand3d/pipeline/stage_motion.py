"""Stage `motion`: wrist trajectories after an observation image, and the three tasks made of them."""

from dataclasses import dataclass

from vipa.hand3d.dataset.records import ActionRecord, make_row
from vipa.hand3d.measure.motion import Motion, find_motions, motion_seed, motion_task
from vipa.hand3d.pipeline.draft import Draft
from vipa.io.hashing import digest
from vipa.io.store import StageOutput


def make(draft: Draft) -> StageOutput:
    """rows of the table `action`, all but split, version and configuration; counts of what was left out."""
    config, rows = draft.config.motion, []
    motions, counts = find_motions(draft.clip, config, draft.config.hands, draft.distance_error)
    for motion in motions:
        for task in config.tasks:
            worded = motion_task(motion, task, config.codec, motion_seed(draft.clip, motion, task, config.seed))
            if worded is not None:
                rows.append(make_row(ActionRecord, Told(draft, motion, task, *worded)))
    return StageOutput({"rows": rows, "counts": counts})


def take(draft: Draft, output: StageOutput | None) -> None:
    assert output is not None
    draft.motions = output.values


@dataclass(frozen=True)
class Told:
    """What an `ActionRecord` is made from: one task of one motion, in words."""

    draft: Draft
    motion: Motion
    task: str
    prompt: str
    response: str

    @property
    def id(self) -> str:
        said = self.motion.text or " ".join(self.motion.future)
        return f"{self.draft.clip_id}/{self.task}/{self.motion.frame}/{digest(said)[:4]}"

    @property
    def frame_id(self) -> str:
        return self.draft.frame_id(self.motion.frame)
