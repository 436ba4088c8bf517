"""The demo's clip on its way through annotation, as cards with pictures."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vipa.benchmarks.report.contenders import Media
from vipa.benchmarks.report.report import Step
from vipa.clips.clip import Clip
from vipa.clips.drawing import (
    SIDE_COLOURS,
    TRUTH_COLOUR,
    Canvas,
    depth_colours,
    save_image,
    save_video,
    side_by_side,
)
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import ActionRecord, ClipRecord, VisualRecord
from vipa.hands.skeleton import WRIST
from vipa.io.files import atomic_write
from vipa.worlds.film import film_clip

SHOWN = 336
"""Pixels of the pictures for people; the same clip is annotated, and seen by the model, at its own size."""


def tabletop_steps(data: Hand3D, clip_id: str, seed: int, folder: Path) -> tuple[Step, ...]:
    """Cards of a filmed clip that `data` holds, drawn larger than the model sees it. Pictures go to `folder`."""

    clip = film_clip(seed, size=(SHOWN, SHOWN))
    record = next(c for c in data.clips() if c.id == clip_id)
    visual = [r for r in data.visual() if r.clip_id == clip_id]
    action = [r for r in data.action() if r.clip_id == clip_id]
    texts = clip.texts[0].text if clip.texts else "nothing in particular"
    steps = [
        Step("Film", f"{len(clip)} frames, {clip.rate:.0f} a second. What happens: {texts}.", _film(clip, folder)),
        Step("Hands", "21 joints a hand, in metres, in the camera's frame.", _hands(clip, folder)),
        Step("Depth", _depth_words(record), _depth(clip, folder)),
        Step("Objects", "Every object with its name, its box and its place in space.", _objects(clip, folder)),
    ]
    steps += [s for s in (_spatial(clip, visual, folder), _movement(clip, visual, folder)) if s]
    motion = _motion(clip, action, folder)
    return tuple([*steps, motion] if motion else steps)


def real_steps(data: Hand3D, clip: Clip, folder: Path) -> tuple[Step, ...]:
    """Cards of a clip from a real video: the joints on the picture, and what was asked about it."""
    key = f"{clip.source}/{clip.id}"
    visual = [r for r in data.visual() if r.clip_id == key]
    action = [r for r in data.action() if r.clip_id == key]
    said = "; ".join(text.text for text in clip.texts)
    objects = "No object is known" if clip.objects is None else f"{len(clip.objects)} objects"
    known = f"{objects}, no depth" if clip.depth is None else objects
    words = (
        f"{said.capitalize()}. A real hand ({clip.licence}), read like anybody's folder of videos. {known}; metres "
        "come from the hand's size and from a field of view that is a guess."
    )
    steps = [Step("And a real video", words, _hands(clip, folder, f"{clip.source}.mp4"), wide=True)]
    steps += [s for s in (_movement(clip, visual, folder, "real_"), _motion(clip, action, folder, "real_")) if s]
    return tuple(steps)


def _film(clip: Clip, folder: Path) -> Media:
    return Media(save_video(list(clip.frames.read(range(len(clip)))), folder / "film.mp4", clip.rate), "the clip")


def _hands(clip: Clip, folder: Path, name: str = "hands.mp4") -> Media:
    images = clip.frames.read(range(len(clip)))
    drawn = [_with_hands(clip, i, image, 1) for i, image in enumerate(images)]
    return Media(save_video(drawn, folder / name, clip.rate), "the clip with the joints of its hands")


def _with_hands(clip: Clip, index: int, image: np.ndarray, scale: int) -> np.ndarray:
    canvas = Canvas(image, scale, clip.intrinsics)
    for hand in clip.hands:
        canvas.hand(hand.joints_camera[index])
    return canvas.array


def _depth(clip: Clip, folder: Path) -> Media | None:
    if clip.depth is None:
        return None
    depth = clip.depth.read(range(len(clip)))
    near, far = (float(np.nanquantile(depth, q)) for q in (0.02, 0.95))
    images = [depth_colours(image, near, far) for image in depth]
    return Media(save_video(images, folder / "depth.mp4", clip.rate), "depth, near is red, far is blue")


def _depth_words(record: ClipRecord) -> str:
    words = "Distance of every pixel (near red, far blue)."
    if record.scale is not None and record.scale_spread is not None:
        words += f" Its scale, checked on the hands' joints: {record.scale:.3f}, spread {record.scale_spread:.3f}."
    return words


def _objects(clip: Clip, folder: Path) -> Media:
    index = len(clip) // 2
    canvas = Canvas(clip.frames.read([index])[0], 1, clip.intrinsics)
    canvas.boxes([(o.name, o.boxes[index]) for o in clip.objects or () if o.boxes is not None])
    return Media(save_image(canvas.array, folder / "objects.jpg"), "boxes and names of the objects")


def _spatial(clip: Clip, records: Sequence[VisualRecord], folder: Path) -> Step | None:
    asked = [r for r in records if r.category in ("spatial_relation", "task_completion") and r.hand]
    if not asked:
        return None
    record = max(asked, key=lambda r: r.distance)
    first, last = _index(record.frame_ids[0]), _index(record.frame_ids[-1])
    hand = clip.hand(record.hand)  # type: ignore[arg-type]
    assert hand is not None
    # The displacement is in the first frame's camera; the picture is the last frame.
    start = hand.joints_camera[last, WRIST]
    displacement = np.array(record.displacement)
    if clip.T_world_camera is not None:
        turn = clip.T_world_camera[last][:3, :3].T @ clip.T_world_camera[first][:3, :3]
        displacement = turn @ displacement
    canvas = Canvas(clip.frames.read([last])[0], 1, clip.intrinsics).hand(hand.joints_camera[last])
    canvas.arrow(start, start + displacement, TRUTH_COLOUR)
    path = save_image(canvas.array, folder / "relation.jpg")
    words = "A relation in metres, put into words by a template; the arrow is the truth."
    return Step(
        "Question and answer", words, Media(path, "an arrow from the wrist"), record.question, record.answer
    )


def _movement(clip: Clip, records: Sequence[VisualRecord], folder: Path, prefix: str = "") -> Step | None:
    asked = [r for r in records if r.category == "hand_movement" and r.hand]
    if not asked:
        return None
    record = max(asked, key=lambda r: r.distance)
    places = [_index(record.frame_ids[0]), _index(record.frame_ids[-1])]
    images = clip.frames.read(places)
    pair = [_with_hands(clip, i, image, 1) for i, image in zip(places, images)]
    path = save_image(side_by_side(pair), folder / f"{prefix}movement.jpg")
    words = "Two frames: how far has the hand gone, with the camera's own movement taken out?"
    return Step("Movement", words, Media(path, "two frames"), record.question, record.answer, wide=True)


def _motion(clip: Clip, records: Sequence[ActionRecord], folder: Path, prefix: str = "") -> Step | None:
    asked = [r for r in records if r.task == "instructional_generation"]
    if not asked:
        return None
    record = max(asked, key=lambda r: max(float(np.ptp(p, axis=0).max()) for p in r.trajectories.values()))
    index = _index(record.frame_id)
    canvas = Canvas(clip.frames.read([index])[0], 1, clip.intrinsics)
    for side, points in record.trajectories.items():
        canvas.path(points, SIDE_COLOURS[side])
    path = save_image(canvas.array, folder / f"{prefix}motion.jpg")
    tokens = record.response[:88] + ("..." if len(record.response) > 88 else "")
    words = "The wrist's next seconds as tokens, three a waypoint, 1024 bins a metre."
    return Step("Motion", words, Media(path, "the wrist's path"), record.prompt, tokens)


def save_steps(steps: Sequence[Step], path: Path) -> None:
    """Keeps the cards as JSON, media by file name."""
    rows = []
    for step in steps:
        media = None if step.media is None else {"file": step.media.path.name, "caption": step.media.caption}
        rows.append({**step.__dict__, "media": media})
    atomic_write(path, json.dumps(rows, indent=1))


def load_steps(path: Path) -> tuple[Step, ...]:
    """Inverse of `save_steps`; () where there are none."""
    if not path.exists():
        return ()
    steps = []
    for row in json.loads(path.read_text()):
        media = row.pop("media")
        step = Step(**row)
        if media is not None:
            step = replace(step, media=Media(path.parent / media["file"], media["caption"]))
        steps.append(step)
    return tuple(steps)


def _index(frame_id: str) -> int:
    return int(frame_id.rsplit("/", 1)[1])
