"""Stage `contacts`: which hand holds which object, of clips with poses and no contacts."""

from dataclasses import replace

from vipa.hand3d.measure.contacts import contacts_from_geometry
from vipa.hand3d.pipeline.draft import Draft
from vipa.io.store import StageOutput


def missing(draft: Draft) -> bool:
    """Whether the clip brings no contacts of its own."""
    return draft.clip.contacts is None


def make(draft: Draft) -> StageOutput:
    """(hand, object) pairs, and the contact of each at every frame; no values where poses do not tell them."""
    contacts = contacts_from_geometry(draft.clip, draft.config.contacts)
    if contacts is None:
        return StageOutput(None)
    return StageOutput(list(map(list, contacts)), {str(i): a for i, a in enumerate(contacts.values())})


def take(draft: Draft, output: StageOutput | None) -> None:
    """The clip has contacts from now on."""
    if output is not None and output.values is not None:
        contacts = {(side, name): output.arrays[str(i)] for i, (side, name) in enumerate(output.values)}
        draft.clip = replace(draft.clip, contacts=contacts)
