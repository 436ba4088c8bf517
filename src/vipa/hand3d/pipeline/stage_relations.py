"""Stage `relations`: the four categories, and their questions and answers."""

from dataclasses import dataclass
from functools import cached_property

from vipa.clips.clip import ClipError
from vipa.hand3d.dataset.records import VisualRecord, make_row
from vipa.hand3d.estimators.endpoint import EndpointError
from vipa.hand3d.measure.relating import Found, find_relations, left_out
from vipa.hand3d.measure.relations import CameraMovement, Relation
from vipa.hand3d.pipeline.draft import KEPT, Draft
from vipa.hand3d.words.describe import reworded
from vipa.hand3d.words.questions import answer_text, question_text
from vipa.io.hashing import digest
from vipa.io.store import StageOutput


def make(draft: Draft) -> StageOutput:
    """rows of the table `visual`, all but split, version and configuration; counts of what was left out."""
    found = find_relations(draft.clip, draft.placed, draft.config.relations)
    if not found and (draft.placed.T_world_camera is None or not draft.clip.hands):
        raise ClipError(draft.clip.id, f"nothing to ask: {draft.inventory().nothing}")
    rows = [make_row(VisualRecord, Asked(draft, relation)) for relation in found]
    return StageOutput({"rows": rows, "counts": left_out(draft.placed)})


def take(draft: Draft, output: StageOutput | None) -> None:
    assert output is not None
    draft.relations = output.values


@dataclass(frozen=True)
class Asked:
    """What a `VisualRecord` is made from: one relation that was found, and the words for it."""

    draft: Draft
    found: Found

    @property
    def relation(self) -> Relation | None:
        """None of a camera movement."""
        return None if isinstance(self.found.relation, CameraMovement) else self.found.relation

    @property
    def movement(self) -> CameraMovement | None:
        """Of the camera; None of all else."""
        return self.found.relation if isinstance(self.found.relation, CameraMovement) else None

    @cached_property
    def id(self) -> str:
        r = self.found.relation
        what = [r.aspect] if isinstance(r, CameraMovement) else [r.hand, r.object]
        if isinstance(r, Relation) and r.task is not None:
            what.append(digest(r.task)[:6])
        frames = "-".join(str(f) for f in self.found.frames)
        return f"{self.draft.clip_id}/{r.category}/{frames}/{'/'.join(filter(None, what))}"

    @property
    def frame_ids(self) -> list[str]:
        return [self.draft.frame_id(frame) for frame in self.found.frames]

    @property
    def answer(self) -> str:
        return answer_text(self.found.relation)

    @property
    def method(self) -> str | None:
        """How the object was located."""
        if self.relation is None:
            return None
        return next((o.method for o in self.draft.placed.objects if o.name == self.relation.object), None)

    @cached_property
    def worded(self) -> tuple[str, str]:
        """(question, what worded it): a template, or the endpoint where it keeps the meaning; see `VisualRecord`."""
        config, endpoint, relation = self.draft.config, self.draft.estimators.endpoint, self.found.relation
        seed = int(digest(f"{config.relations.seed} {self.id}"), 16)
        if endpoint is not None and seed % 10_000 < 10_000 * config.words.reworded:
            try:
                return reworded(endpoint, relation, seed), endpoint.config.model
            except EndpointError as error:
                return question_text(relation, seed), f"{KEPT}{error.reason}"
        return question_text(relation, seed), "template"
