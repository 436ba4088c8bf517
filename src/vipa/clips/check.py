"""A download looked over: what is there, what is missing, whether hands, cameras and depth agree, and a picture."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from vipa.clips.clip import Clip, ClipError, Hand
from vipa.clips.drawing import Canvas
from vipa.clips.inventory import Inventory, inventory_text, what_is_there
from vipa.clips.reading import in_view
from vipa.clips.sources import NO_OPTIONS, SourceOptions, is_own_video, read_source
from vipa.geometry import project, transform
from vipa.hands.anatomy import shape_of

PALM = (0.05, 0.14)
"""Metres from wrist to the middle finger's base that a human hand can have."""

SPEED = 6.0
"""Metres a second; a wrist or a head that is faster in the world is a wrong pose or a wrong unit."""

DEPTH_RATIO = (0.85, 1.25)
"""Joint depth over sensed depth, median of a clip: joints lie 13-35 mm inside the flesh, fingertips may be hidden."""

SURE = 0.3
"""Least confidence of the joints whose shape is looked at."""

_COLOURS = {"left": "#ff8c00", "right": "#00dc3c"}


@dataclass(frozen=True)
class ClipCheck:
    """One clip. Shares are of its frames; None where the source has nothing to tell it from."""

    id: str
    frames: int
    seconds: float
    hands: tuple[str, ...]
    in_view: float  # share of frames with a joint on the image
    palm: float | None  # metres, median
    depth_ratio: float | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class SourceReport:
    """What `check_source` found. sheet: the overlay picture, None where no picture could be made."""

    source: str
    root: Path
    clips: tuple[ClipCheck, ...]
    errors: tuple[ClipError, ...]
    missing: dict[str, int]  # part -> clips without it
    sheet: Path | None
    inventories: tuple[Inventory, ...] = ()

    @property
    def problems(self) -> list[tuple[str, str]]:
        """(clip, problem), unusable clips first."""
        unusable = [(e.clip_id, f"unusable: {e.reason}") for e in self.errors]
        return unusable + [(c.id, problem) for c in self.clips for problem in c.problems]

    def text(self) -> str:
        """Counts, missing parts and the table of problems, as plain text."""
        total = sum(c.seconds for c in self.clips)
        lines = [
            f"{self.source} at {self.root}: {len(self.clips)} clips ({total:.1f} s), {len(self.errors)} unusable",
            f"hands: {_counts(Counter(side for c in self.clips for side in c.hands))}",
            f"missing: {_counts(self.missing)}",
        ]
        if self.sheet:
            lines.append(f"overlays: {self.sheet}")
        if self.problems:
            width = max(len(name) for name, _ in self.problems)
            lines += ["problems:", *(f"  {name:<{width}}  {problem}" for name, problem in self.problems)]
        elif any(c.hands for c in self.clips):
            lines.append("no problems")
        without = sum(not c.hands for c in self.clips)
        if without:
            lines.append(
                f"{without} of {len(self.clips)} clips have no hands: their joints, sides and camera were not checked. "
                "Hands of raw video come from a tracker (--tracker, --hands)"
            )
        if self.inventories:
            lines += ["what is there:", inventory_text(self.inventories)]
        return "\n".join(lines)


def check_source(
    name: str,
    root: Path,
    *,
    options: SourceOptions = NO_OPTIONS,
    limit: int | None = None,
    sheet: Path | None = None,
    pictures: int = 12,
) -> SourceReport:
    """Walk the clips below `root`, at most `limit` of them. sheet: where to write the overlay picture.

    Errors as in `Source.read_clips`: for the root only; a clip's problem is in the report.
    """
    checks, errors, tiles = [], [], []
    inventories: list[Inventory] = []
    missing: Counter[str] = Counter()
    for clip in islice(read_source(name, root, options), limit):
        if isinstance(clip, ClipError):
            errors.append(clip)
            continue
        check, tile = check_clip(clip, picture=sheet is not None and len(tiles) < pictures)
        checks.append(check)
        missing.update(_missing(clip))
        if is_own_video(name):
            inventories.append(what_is_there(clip))
        if tile is not None:
            tiles.append(tile)
    written = _write_sheet(tiles, sheet) if sheet is not None and tiles else None
    return SourceReport(name, Path(root), tuple(checks), tuple(errors), dict(missing), written, tuple(inventories))


def check_clip(clip: Clip, *, picture: bool = False) -> tuple[ClipCheck, Image.Image | None]:
    """The clip's figures and problems, and its overlay where asked for and possible. Decodes one frame."""
    problems = []
    seen = {hand.side: in_view(clip, hand) for hand in clip.hands}
    per_frame = np.sum([s.sum(1) for s in seen.values()], axis=0) if seen else np.zeros(len(clip))
    frame = int(per_frame.argmax())
    palms = [_palm(hand) for hand in clip.hands]
    for hand, palm in zip(clip.hands, palms):
        if palm is not None and not PALM[0] <= palm <= PALM[1]:
            problems.append(
                f"{hand.side} palm of {palm * 100:.1f} cm is no human hand's: wrong unit or joint order?"
            )
        behind = float((hand.joints_camera[hand.confidence.any(1)][..., 2] <= 0).mean())
        if behind > 0.2:
            problems.append(
                f"{hand.side} hand is behind the camera in {behind:.0%} of joints: wrong camera direction?"
            )
    if clip.hands and per_frame.astype(bool).mean() < 0.2:
        problems.append(f"a hand is in view in only {per_frame.astype(bool).mean():.0%} of frames")
    problems += shapes(clip.hands)
    problems += _speeds(clip)
    tile, ratio = None, None
    try:
        image = clip.frames.read([frame])[0]
        if image.shape[:2] != (clip.intrinsics.height, clip.intrinsics.width):
            problems.append(
                f"intrinsics are for {clip.intrinsics.width} x {clip.intrinsics.height}, "
                f"frames have {image.shape[1]} x {image.shape[0]}"
            )
        else:
            ratio = _depth_ratio(clip, frame, seen)
        tile = overlay(clip, frame, image) if picture else None
    except ValueError as error:
        problems.append(f"frame {frame} cannot be read: {error}")
    if ratio is not None and not DEPTH_RATIO[0] <= ratio <= DEPTH_RATIO[1]:
        problems.append(f"joints are {ratio:.2f} times as deep as the sensor says: wrong depth unit or camera?")
    known = [p for p in palms if p is not None]
    return (
        ClipCheck(
            clip.id,
            len(clip),
            clip.seconds,
            tuple(h.side for h in clip.hands),
            float(per_frame.astype(bool).mean()),
            float(np.median(known)) if known else None,
            ratio,
            tuple(problems),
        ),
        tile,
    )


def shapes(hands: tuple[Hand, ...]) -> Iterator[str]:
    """Joints in another order, and hands that have the other side's shape.

    A hand labelled with the wrong side and a mirrored one have the same shape: only the overlay tells which it is.
    """
    wrong = []
    for hand in hands:
        shape = shape_of(hand.joints_camera[(hand.confidence >= SURE).all(1)])
        if shape is None:
            continue
        if fault := shape.order_fault:
            yield f"{hand.side} hand: {fault}. Compare the source's joint order with ours (docs/conventions.md)"
        elif shape.side not in (None, hand.side):
            wrong.append(hand.side)
    if wrong:
        one = f"the {wrong[0]} hand has the shape of the other one"
        yield (
            f"{one if len(wrong) == 1 else 'both hands have the shape of the other one'}: in the overlay, are its "
            "bones on the other hand? Then sides are exchanged; on this hand? It is mirrored: a reflected axis, or "
            "MANO of the other side"
        )


def _palm(hand: Hand) -> float | None:
    lengths = np.linalg.norm(hand.joints_camera[:, 9] - hand.joints_camera[:, 0], axis=-1)
    return float(np.nanmedian(lengths)) if np.isfinite(lengths).any() else None


def _speeds(clip: Clip) -> Iterator[str]:
    if clip.T_world_camera is None or len(clip) < 2:
        return
    dt = np.diff(clip.timestamps)
    paths = {"camera": clip.T_world_camera[:, :3, 3]}
    for hand in clip.hands:
        paths[f"{hand.side} wrist"] = transform(clip.T_world_camera, hand.joints_camera[:, :1])[:, 0]
    for name, path in paths.items():
        speed = np.linalg.norm(np.diff(path, axis=0), axis=-1) / dt
        fast = float(np.nanquantile(speed, 0.9)) if np.isfinite(speed).any() else 0.0
        if fast > SPEED:
            yield f"the {name} moves at {fast:.1f} m/s: wrong unit or direction of poses?"


def _depth_ratio(clip: Clip, frame: int, seen: dict[str, np.ndarray]) -> float | None:
    """Median of joint depth / sensed depth over the joints in view of one frame."""
    if clip.depth is None or not seen:
        return None
    depth = clip.depth.read([frame])[0]
    ratios = []
    for hand in clip.hands:
        joints = hand.joints_camera[frame][seen[hand.side][frame]]
        if len(joints):
            u, v = np.rint(project(joints, clip.intrinsics.matrix)).astype(int).T
            ratios.append(joints[:, 2] / depth[v, u])
    values = np.concatenate(ratios) if ratios else np.zeros(0)
    return float(np.nanmedian(values)) if np.isfinite(values).any() else None


def _missing(clip: Clip) -> list[str]:
    parts = {
        "camera poses": clip.T_world_camera,
        "hands": clip.hands or None,
        "MANO": next((h.mano for h in clip.hands if h.mano), None),
        "depth": clip.depth,
        "objects": clip.objects,
        "object poses": next((o for o in clip.objects or () if o.T_world_object is not None), None),
        "texts": clip.texts or None,
        "split": clip.split,
    }
    return [name for name, value in parts.items() if value is None]


def overlay(clip: Clip, frame: int, image: np.ndarray, width: int = 360) -> Image.Image:
    """The frame with the hands' bones and the clip's name, `width` pixels wide; left orange, right green."""
    canvas = Canvas(image, width / image.shape[1], clip.intrinsics)
    for hand in clip.hands:
        canvas.hand(hand.joints_camera[frame], _COLOURS[hand.side])
    return canvas.label(clip.id if len(clip.id) <= 40 else "..." + clip.id[-37:]).picture


def _write_sheet(tiles: list[Image.Image], path: Path, columns: int = 3) -> Path:
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [max(t.height for t in row) for row in rows]
    page = Image.new("RGB", (tiles[0].width * min(columns, len(tiles)), sum(heights)), (30, 30, 30))
    for row, top in zip(rows, np.cumsum([0, *heights[:-1]])):
        for k, tile in enumerate(row):
            page.paste(tile, (k * tiles[0].width, int(top)))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)
    return path


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items())) or "nothing"
