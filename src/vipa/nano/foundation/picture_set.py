"""Foundation pictures of the tabletop world, rendered once to a folder."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vipa.geometry import project
from vipa.nano.foundation.picture_questions import Picture, Seen
from vipa.worlds.chunks import render_chunks
from vipa.worlds.objects import COLOURS, KINDS
from vipa.worlds.robot_stills import robot_stills
from vipa.worlds.stills import Still, stills

PATCH = 14
MIN_VISIBLE = 0.0016
"""Fraction of the image (20 pixels of 112 x 112) that a thing must show to be asked about."""
THINGS = (*KINDS, "left hand", "right hand")
PAINTS = tuple(COLOURS)
ROBOT_EVERY = 3
"""Every third seed shows the robot's table from the robot's camera; the others an egocentric view with hands."""


@dataclass(frozen=True)
class Pictures:
    """Sequences of a few frames; frame f of sequence s is row s * frames + f.

    Patch targets per 14-pixel patch: thing (0 background, 1.. THINGS), paint (0 none, 1.. PAINTS), and the thing's
    box (centre x, centre y, width, height) in image fractions.
    """

    rgb: np.ndarray  # (rows, H, W, 3) uint8
    thing: np.ndarray  # (rows, patches) uint8
    paint: np.ndarray  # (rows, patches) uint8
    box: np.ndarray  # (rows, patches, 4) float16
    pictures: list[Picture]
    frames: int

    def __len__(self) -> int:
        return len(self.rgb)


def render_pictures(
    folder: Path, seeds: range, frames: int, size: int = 112, workers: int = 2, ambiguity: float = 0.0
) -> Pictures:
    """The pictures of these seeds, rendered where the folder lacks them (`render_chunks`). ambiguity: of the scenes."""
    render = partial(_render, frames=frames, size=size, ambiguity=ambiguity)
    render_chunks(folder, "pictures", seeds, render, workers)
    return load_pictures(folder, frames)


def load_pictures(folder: Path, frames: int = 2) -> Pictures:
    """Every chunk of a folder, in the order of its seeds. ValueError where there is none."""
    paths = sorted(Path(folder).glob("pictures_*.npz"), key=lambda path: int(path.stem.split("_")[1]))
    if not paths:
        raise ValueError(f"{folder}: no foundation pictures; render them first")
    parts = [np.load(path) for path in paths]
    pictures = [_read_picture(entry) for part in parts for entry in json.loads(bytes(part["pictures"]).decode())]
    arrays = {name: np.concatenate([p[name] for p in parts]) for name in ("rgb", "thing", "paint", "box")}
    return Pictures(**arrays, pictures=pictures, frames=frames)


def _render(seeds: range, frames: int, size: int, ambiguity: float) -> dict[str, np.ndarray]:
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in ("rgb", "thing", "paint", "box")}
    pictures = []
    for seed in seeds:
        film = robot_stills if seed % ROBOT_EVERY == 0 else stills
        for still in film(seed, frames, size, ambiguity):
            for name, value in zip(arrays, (still.rgb, *_patch_targets(still))):
                arrays[name].append(value)
            pictures.append(_write_picture(_picture(still)))
    text = np.frombuffer(json.dumps(pictures).encode(), dtype=np.uint8)
    return {name: np.stack(values) for name, values in arrays.items()} | {"pictures": text}


def _instances(still: Still) -> list[tuple[int, int, int]]:
    """(segmentation id, thing class, paint class) of everything that may be seen."""
    objects = [(i + 1, 1 + THINGS.index(o.kind), 1 + PAINTS.index(o.colour)) for i, o in enumerate(still.objects)]
    return [*objects, (-1, 1 + THINGS.index("left hand"), 0), (-2, 1 + THINGS.index("right hand"), 0)]


def _box(mask: np.ndarray) -> np.ndarray:
    """(centre x, centre y, width, height) of a mask's pixels, in image fractions."""
    rows, columns = np.nonzero(mask)
    low = np.array([columns.min(), rows.min()]) / mask.shape[::-1]
    high = (np.array([columns.max(), rows.max()]) + 1) / mask.shape[::-1]
    return np.concatenate([(low + high) / 2, high - low])


def _patch_targets(still: Still) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = still.segmentation.shape[0] // PATCH
    blocks = still.segmentation.reshape(n, PATCH, n, PATCH).swapaxes(1, 2).reshape(n * n, -1)
    thing, paint = np.zeros(n * n, np.uint8), np.zeros(n * n, np.uint8)
    box, best = np.zeros((n * n, 4), np.float16), np.full(n * n, 0.12 * PATCH**2)
    for identity, thing_class, paint_class in _instances(still):
        count = (blocks == identity).sum(1)
        here = count > best
        if here.any():
            thing[here], paint[here], best[here] = thing_class, paint_class, count[here]
            box[here] = _box(still.segmentation == identity)
    return thing, paint, box


def _picture(still: Still) -> Picture:
    size = still.segmentation.shape[0]

    def seen(name: str, centre: np.ndarray, identity: int, extent: float, enough: float) -> Seen:
        fraction = float((still.segmentation == identity).mean())
        inside = bool(((centre > 0) & (centre < size)).all())
        x, y = (float(c) for c in (centre + 0.5) / size)
        return Seen(name, (round(x, 4), round(y, 4)), round(extent, 4), inside and fraction > enough)

    objects = []
    for i, thing in enumerate(still.objects):
        mask = still.segmentation == i + 1
        extent = float(np.sqrt(np.prod(_box(mask)[2:]))) if mask.any() else 0.0
        objects.append(seen(thing.name, still.centres[i], i + 1, extent, MIN_VISIBLE))
    hands = []
    for side, identity in (("left", -1), ("right", -2)):
        joints = still.joints_camera.get(side)  # type: ignore[call-overload]
        if joints is not None and joints[0, 2] > 0.05:
            pixels = project(joints, still.intrinsics.matrix)
            extent = float(np.sqrt(np.prod(np.ptp(pixels, axis=0)))) / size
            hands.append(seen(f"{side} hand", pixels[0], identity, extent, 3 * MIN_VISIBLE))
    return Picture(tuple(objects), tuple(hands))


def _write_picture(picture: Picture) -> list[list[list[object]]]:
    return [[[s.name, *s.centre, s.size, s.visible] for s in group] for group in (picture.objects, picture.hands)]


def _read_picture(entry: list) -> Picture:
    objects, hands = (tuple(Seen(n, (x, y), size, v) for n, x, y, size, v in group) for group in entry)
    return Picture(objects, hands)
