"""What a clip brings, what it lacks and the one thing that would add it, and so what it can be asked."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vipa.clips.clip import Clip
from vipa.clips.raw_video import TRACKED
from vipa.hands.trackers import mediapipe

OWN_POSES = "T_world_camera in its .npz"
PARTS = ("hands", "camera", "movement", "scale", "objects", "texts")
"""movement: of the camera; scale: of depth, in metres."""

NEEDS = {
    "spatial relation": ("hands", "objects"),
    "task completion": ("hands", "movement", "texts"),
    "hand movement": ("hands", "places"),
    "camera movement": ("turns",),
    "motions": ("hands", "movement"),
}
"""Category of questions, and wrist motions -> the parts without which there are none. Of the camera's movement some
need the turns alone, some the places at the sampled frames alone."""

Poses = Literal["", "turns", "places"]


@dataclass(frozen=True)
class Inventory:
    """Of one clip. has: part -> what it is, in words; lacks: part -> the option or file that would add it.

    poses: what is known of the camera's movement where the clip has no poses. questions: category -> how many were
    made, where that is known.
    """

    clip_id: str
    has: dict[str, str]
    lacks: dict[str, str]
    poses: Poses = ""
    questions: dict[str, int] | None = None

    def missing(self, category: str) -> list[str]:
        """The parts for want of which a category has no questions."""
        known = set(self.has) - set(self.lacks)
        if self.poses or "movement" in known:
            known.add("turns")
        if self.poses == "places" or "movement" in known:
            known.add("places")
        return [part if part in PARTS else "movement" for part in NEEDS[category] if part not in known]

    @property
    def nothing(self) -> str:
        """One line: why it can be asked nothing, and what to do."""
        wanted = [*self.missing("hand movement"), *self.missing("spatial relation")]
        parts = [part for part in PARTS if part in wanted]
        return "; ".join(f"{part}: {self.has[part]} ({self.lacks[part]})" for part in parts)


def what_is_there(
    clip: Clip,
    poses: Poses = "",
    maps: str | None = None,
    located: int | None = None,
    questions: dict[str, int] | None = None,
) -> Inventory:
    """poses: of a clip that has none: "turns" as its pictures show them, or "places" too, of a network. maps: the
    network that makes depth.
    located: number of objects that were found; None: nobody has looked."""
    has: dict[str, str] = {}
    lacks: dict[str, str] = {}

    def part(name: str, state: str, add: str = "") -> None:
        has[name] = state
        if add:
            lacks[name] = add

    _hands(clip, part)
    view = clip.field_of_view
    unsure = view is not None and view.origin.split(":")[0] in ("guessed", "measured")
    part("camera", str(view or "calibrated"), "--fov-degrees DEGREES (horizontal)" if unsure else "")
    _movement(clip, poses, part)
    if clip.depth is not None:
        part("scale", "its depth images, " + ("metres" if clip.depth_is_metric else "scaled by the hands"))
    elif maps is not None:
        part("scale", f"depth of {maps}")
    elif clip.hands:
        part("scale", "the size of the hands")
    else:
        part("scale", "none", "hands, or --points.estimator transformers")
    _objects(clip, maps, located, part)
    if texts := [text for text in clip.texts if text.text]:  # actions without words are no texts
        part("texts", f"{len(texts)}")
    else:
        part("texts", "none", '"texts" in its .json')
    return Inventory(clip.id, has, lacks, poses, questions)


Part = Callable[..., None]
"""(name, what it is, what would add it)."""


def _hands(clip: Clip, part: Part) -> None:
    note = clip.notes.get("hands", "")
    if clip.hands:
        sides = " and ".join(hand.side for hand in clip.hands)
        seen = np.mean(np.any([np.isfinite(hand.joints_camera[:, 0]).all(-1) for hand in clip.hands], axis=0))
        by = f", {note}" if note.startswith(TRACKED) else ""
        part("hands", f"{sides}, in {seen:.0%} of frames{by}")
    elif note.startswith(TRACKED):
        name = note.removeprefix(TRACKED)
        part("hands", f"none found by {name}", "another tracker's results: --tracker NAME --hands FOLDER")
    elif mediapipe.installed():
        part("hands", "none", "a tracker's results: --tracker NAME --hands FOLDER")
    else:
        part("hands", "none", "pip install mediapipe")


def _movement(clip: Clip, poses: Poses, part: Part) -> None:
    measured, refused = clip.notes.get("camera", ""), clip.notes.get("camera poses")
    if clip.T_world_camera is not None:
        part("movement", measured or "poses")
    elif refused:
        part("movement", f"{measured}; {refused}", OWN_POSES)
    elif poses == "places":
        part("movement", "a network's poses, at the sampled frames", OWN_POSES)
    elif poses == "turns":
        part("movement", f"{measured}; no distances", f"{OWN_POSES}, or --points.estimator cut3r")
    else:
        part("movement", measured or "not known", f"nothing: `vipa annotate` measures it; or {OWN_POSES}")


def _objects(clip: Clip, maps: str | None, located: int | None, part: Part) -> None:
    tracks = clip.objects or ()
    posed = sum(track.T_world_object is not None for track in tracks)
    if located:
        part("objects", f"{located} located")
    elif posed and clip.T_world_camera is not None:
        part("objects", f"{posed} with poses")
    elif not tracks:
        part(
            "objects",
            "none",
            '"objects": ["cup"] in its .json, --points.estimator and --objects.boxes',
        )
    elif clip.depth is None and maps is None:
        part(
            "objects",
            f"{len(tracks)} named, nowhere",
            "depth: --points.estimator transformers, or a .depth folder",
        )
    elif all(track.boxes is None for track in tracks) and located is None:
        part("objects", f"{len(tracks)} named, no boxes", "--objects.boxes grounding-dino")
    elif located == 0:
        part("objects", f"{len(tracks)} named, none found", "--objects.boxes grounding-dino")
    else:
        part("objects", f"{len(tracks)} in boxes")


def inventory_text(inventories: Sequence[Inventory], most: int = 20) -> str:
    """Of each clip what there is of each part and what can be asked; then what would add what is lacking."""
    lines = []
    for one in inventories[:most]:
        lines.append(f"{one.clip_id}:")
        lines += [f"  {name:<9} {one.has[name]}" for name in PARTS]
        lines.append(f"  {'asked':<9} {_asked(one)}")
    if len(inventories) > most:
        lines.append(f"... and {len(inventories) - most} more clips")
    lines += _to_add(inventories)
    return "\n".join(lines)


def _asked(one: Inventory) -> str:
    words = []
    for category in NEEDS:
        count = None if one.questions is None else one.questions.get(category, 0)
        if missing := one.missing(category):
            words.append(f"{category}: no {', no '.join(missing)}")
        else:
            words.append(category if count is None else f"{category} {count}")
    return "; ".join(words)


def _to_add(inventories: Iterable[Inventory]) -> list[str]:
    clips: dict[tuple[str, str], int] = {}
    for one in inventories:
        for part, add in one.lacks.items():
            clips[part, add] = clips.get((part, add), 0) + 1
    if not clips:
        return []
    return ["to add:", *(f"  {part:<9} {add} ({n} clips)" for (part, add), n in sorted(clips.items()))]
