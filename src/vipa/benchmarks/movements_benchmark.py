"""What two pictures tell of how a hand or the camera moved: whether questions about it can be answered at all.

vipa evaluate movements --data runs/hand3d --encoder runs/tuned/final --out docs/results/movements.md
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from vipa.benchmarks.hand3d_benchmark import ConstantAnswerer, Scored, score
from vipa.benchmarks.results import Mean
from vipa.benchmarks.statistics import clustered_mean
from vipa.geometry import axis_angle_from_matrix, invert, matrix_from_quaternion_wxyz
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import FrameRecord, VisualRecord
from vipa.hand3d.estimators.cut3r_points import network_size
from vipa.hand3d.measure.relations import CameraMovement
from vipa.hand3d.words.questions import answer_text, question_kind
from vipa.hands.skeleton import WRIST
from vipa.io.files import atomic_write
from vipa.io.progress import counter
from vipa.io.provenance import provenance_words
from vipa.models.cut3r import Cut3rModel
from vipa.models.loading import load_model
from vipa.models.pixels import resized, spatial_pixels
from vipa.models.starts import beside

KINDS = ("hand_movement", "camera_rotation", "camera_translation")


@dataclass(frozen=True)
class Settings:
    """Answers movement questions by small networks that are shown where things are, and by a 3D encoder."""

    data: Path
    """A Hand3D data set; the networks learn from its split `train`."""
    out: Path
    """Markdown file; the figures are written beside it as JSON."""
    encoder: Path | None = None
    """Folder of CUT3R weights; left out, the shipped nano's."""
    split: str = "validation"
    """Whose questions are answered."""
    limit: int | None = None
    """So many records of each kind, of either split."""
    seeds: int = 3
    """Of the networks."""
    epochs: int = 60
    """Of a network's training."""


@dataclass(frozen=True)
class Seen:
    """What is known of pairs of pictures. Rays: x / z, y / z, in the camera's frame.

    joints: rays of the 21 joints of the hand that is asked about, in both pictures (zeros where the camera is), and
    both lenses. points: the encoder's at these joints, medians, in the world (the first camera) and in each camera.
    pose: of the second camera by the encoder, metres and axis-angle. token: the encoder's camera token of the second
    picture. way: of the camera in truth, as pose; NaN where it is not known.
    """

    joints: Float[np.ndarray, "n 86"]
    points: Float[np.ndarray, "n 12"]
    pose: Float[np.ndarray, "n 6"]
    token: Float[np.ndarray, "n width"]
    way: Float[np.ndarray, "n 6"]

    def of(self, rows: Sequence[int]) -> "Seen":
        """Of these pairs."""
        return Seen(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Row:
    """Errors of answers of one kind, metres or degrees, and direction scores of 3; means over networks of several
    seeds, intervals over clips."""

    kind: str
    answers: str
    questions: int
    error: Mean
    direction: Mean


Pair = tuple[tuple[str, ...], str | None]
"""Two frames, and the hand that is asked about."""


def pair_of(record: VisualRecord) -> Pair:
    return tuple(record.frame_ids), record.hand


@torch.inference_mode()
def look(data: Hand3D, pairs: Sequence[Pair], model: Cut3rModel, batch: int = 16) -> Seen:
    """All that `Seen` has. ValueError for a pair of other than two frames, and for a world that the encoder has not
    seen."""
    if any(len(frames) != 2 for frames, _ in pairs):
        raise ValueError(f"{data.path}: a movement is asked about in two frames")
    known = _frames(data, {frame for frames, _ in pairs for frame in frames})
    if (only := model.config.source) and (others := {frame.source for frame in known.values()} - {only}):
        raise ValueError(
            f"encoder: it has seen the {only} world only, and these pictures are of {', '.join(others)}"
        )
    rows: dict[str, list[np.ndarray]] = {name: [] for name in Seen.__annotations__}
    done = 0
    with counter("seeing", "pairs of pictures") as count:
        for size, some in _batches(pairs, known, model, batch):
            pictures = [spatial_pixels(resized([data.image(f) for f in frames], size)) for frames, _ in some]
            out = model(torch.stack(pictures), heads=("self", "world", "pose"))
            for i, (names, side) in enumerate(some):
                first, last = (known[name] for name in names)
                hands = [_hand(frame, side) for frame in (first, last)]
                maps = [points[i, k].numpy() for k in (0, 1) for points in (out.points_world, out.points_self)]
                at = [hands[k][1] for k in (0, 0, 1, 1)]
                pose = out.camera_pose[i, 1].double().numpy()
                turned = axis_angle_from_matrix(matrix_from_quaternion_wxyz(pose[3:]))
                for name, value in {
                    "joints": np.concatenate([around for around, _ in hands]),
                    "points": np.concatenate([_at(points, places) for points, places in zip(maps, at)]),
                    "pose": np.concatenate([pose[:3], turned]),
                    "token": out.decoder_tokens[i, 1, 0].numpy(),
                    "way": _way(first, last),
                }.items():
                    rows[name].append(value)
            count(done=(done := done + len(some)), total=len(pairs))
    return Seen(**{name: np.array(values, np.float64) for name, values in rows.items()})


def _frames(data: Hand3D, wanted: set[str]) -> dict[str, FrameRecord]:
    return {frame.id: frame for frame in data.frames() if frame.id in wanted}


def _batches(
    pairs: Sequence[Pair], known: dict[str, FrameRecord], model: Cut3rModel, batch: int
) -> Iterator[tuple[tuple[int, int], list[Pair]]]:
    """In order; pictures of a batch are brought to one (width, height)."""

    def size(pair: Pair) -> tuple[int, int]:
        *_, width, height = known[pair[0][0]].intrinsics
        longer, patch = model.config.image_size, model.config.patch_size
        return network_size(int(width), int(height), longer, patch)  # type: ignore[arg-type]

    for one, alike in groupby(pairs, size):
        some = list(alike)
        yield from ((one, some[i : i + batch]) for i in range(0, len(some), batch))


def _hand(frame: FrameRecord, side: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Rays of the joints and the lens (43 numbers), and where the joints are, in shares of the picture; zeros and
    nowhere without a hand."""
    fx, fy, cx, cy, width, height = frame.intrinsics
    joints = None if side is None else frame.left_joints if side == "left" else frame.right_joints
    rays = np.zeros((21, 2))
    places = np.full((21, 2), np.nan)
    if joints is not None:
        xyz = np.reshape(np.array(joints, np.float64), (21, 3))
        rays = np.nan_to_num(xyz[:, :2] / xyz[:, 2:])
        places = (xyz[:, :2] / xyz[:, 2:] * [fx, fy] + [cx + 0.5, cy + 0.5]) / [width, height]
    around = np.concatenate([rays[WRIST], *np.delete(rays - rays[WRIST], WRIST, 0), [fx / width]])
    return around, places


def _at(points: Float[np.ndarray, "h w 3"], places: Float[np.ndarray, "21 2"]) -> Float[np.ndarray, "3"]:
    """Median of the points at those places that are in the picture; zeros where none is."""
    inside = places[np.asarray(((places >= 0) & (places < 1)).all(1))]
    if len(inside) == 0:
        return np.zeros(3)
    u, v = (inside * [points.shape[1], points.shape[0]]).astype(int).T
    return np.median(points[v, u], 0)


def _way(first: FrameRecord, last: FrameRecord) -> Float[np.ndarray, "6"]:
    """Metres and axis-angle of the last camera in the first one; NaN where a pose is not known."""
    if first.T_world_camera is None or last.T_world_camera is None:
        return np.full(6, np.nan)
    T_first, T_last = (np.array(T, np.float64).reshape(4, 4) for T in (first.T_world_camera, last.T_world_camera))
    T = invert(T_first) @ T_last
    return np.concatenate([T[:3, 3], axis_angle_from_matrix(T[:3, :3])])


def _asked(record: VisualRecord) -> Float[np.ndarray, "3"]:
    relation = record.relation
    turns = isinstance(relation, CameraMovement) and relation.aspect == "rotation"
    return np.array(record.rotation if turns else record.displacement)


# Who answers


def said(record: VisualRecord, vector: Float[np.ndarray, "3"]) -> str:
    """The answer of one who takes this vector for the true one."""
    relation = record.relation
    if not isinstance(relation, CameraMovement):
        return answer_text(replace(relation, displacement=vector))
    name = "rotation" if relation.aspect == "rotation" else "translation"
    return answer_text(replace(relation, **{name: vector}))


def regress(
    train: Float[np.ndarray, "n f"],
    truth: Float[np.ndarray, "n 3"],
    held: Float[np.ndarray, "m f"],
    seed: int,
    epochs: int,
    width: int = 256,
) -> Float[np.ndarray, "m 3"]:
    """Of `held`, by a network that learned `truth` from `train`."""
    torch.manual_seed(seed)
    middle, spread = train.mean(0), train.std(0) + 1e-5
    x, asked = (torch.from_numpy((rows - middle) / spread).float().clamp(-5, 5) for rows in (train, held))
    unit = torch.from_numpy(truth.std(0)).float() + 1e-6
    y = torch.from_numpy(truth).float() / unit
    model = nn.Sequential(
        nn.Linear(x.shape[1], width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, width), nn.GELU(),
        nn.Linear(width, 3),
    )  # fmt: skip
    size = min(64, len(x))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * (len(x) // size))
    for _ in range(epochs):
        for rows in torch.randperm(len(x))[: len(x) // size * size].view(-1, size):
            loss = nn.functional.smooth_l1_loss(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        return (model.eval()(asked) * unit).double().numpy()


def answerers(kind: str) -> dict[str, Callable[[Seen], np.ndarray]]:
    """What each small network sees."""
    if kind == "hand_movement":
        return {
            "its joints in both pictures": lambda seen: seen.joints,
            "and the 3D encoder's points there and pose": lambda seen: np.hstack(
                [seen.joints, seen.points, seen.pose]
            ),
            "its joints and the camera's true way": lambda seen: np.hstack([seen.joints, seen.way]),
        }
    return {"the 3D encoder's camera token": lambda seen: seen.token}


def compare(settings: Settings, model: Cut3rModel) -> list[Row]:
    """Everyone's answers to every kind of question there is. ValueError where there is none."""
    data, rows = Hand3D(settings.data), []
    taught, held = (_by_kind(data, split, settings.limit) for split in ("train", settings.split))
    kinds = [kind for kind in KINDS if kind in taught and kind in held]
    if not kinds:
        raise ValueError(f"{settings.data}: no questions about movements in both train and {settings.split}")
    constant = ConstantAnswerer(list(data.visual("train")))
    places = {p: i for i, p in enumerate({pair_of(r): 0 for kind in kinds for r in (*taught[kind], *held[kind])})}
    everything = look(data, list(places), model)
    for kind in kinds:
        rows.append(_row(kind, "a constant", [score(held[kind], constant(held[kind]))]))
        learned, seen = (everything.of([places[pair_of(r)] for r in asked[kind]]) for asked in (taught, held))
        truth = np.array([_asked(record) for record in taught[kind]])
        if kind != "hand_movement":
            own = seen.pose[:, 3:] if kind == "camera_rotation" else seen.pose[:, :3]
            rows.append(_row(kind, "the 3D encoder's own pose", [_score(held[kind], own)]))
        for name, features in answerers(kind).items():
            x, z = features(learned), features(seen)
            if np.isnan(x).any() or np.isnan(z).any():
                continue  # cameras whose way is not known
            found = [regress(x, truth, z, seed, settings.epochs) for seed in range(settings.seeds)]
            rows.append(_row(kind, name, [_score(held[kind], vectors) for vectors in found]))
    return rows


def _by_kind(data: Hand3D, split: str, limit: int | None) -> dict[str, list[VisualRecord]]:
    found: dict[str, list[VisualRecord]] = {}
    for record in data.visual(split):
        found.setdefault(question_kind(record.relation), []).append(record)
    return {kind: records[:limit] for kind, records in found.items()}


def _score(records: Sequence[VisualRecord], vectors: Float[np.ndarray, "n 3"]) -> list[Scored]:
    return score(records, [said(record, vector) for record, vector in zip(records, vectors)])


def _row(kind: str, name: str, scored: Sequence[Sequence[Scored]]) -> Row:
    clips = [s.clip_id for s in scored[0]]
    error, direction = (
        clustered_mean(np.mean([[getattr(s, field) for s in one] for one in scored], 0).tolist(), clips)
        for field in ("error", "direction_score")
    )
    return Row(kind, name, len(clips), error, direction)


def run(settings: Settings) -> str:
    """The page that is written. ValueError for a folder without a CUT3R."""
    folder = settings.encoder or beside("nano:foundation", "spatial")
    model = load_model(Cut3rModel, folder, expected="cut3r").eval()
    rows = compare(settings, model)
    record = {"split": settings.split, "encoder": folder.name, "rows": [asdict(row) for row in rows]}
    atomic_write(settings.out.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    parts = ("# What do two pictures tell of a movement?", protocol(settings), table(rows), provenance_words())
    atomic_write(settings.out, page := "\n\n".join(parts) + "\n")
    return page


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = ["| question | who answers | questions | error | direction, of 3 |", "|---|---|---|---|---|"]
    for row in rows:
        turns = row.kind == "camera_rotation"
        error = row.error.text(1) + " degrees" if turns else row.error.text(3) + " m"
        cells = (row.kind.replace("_", " "), row.answers, str(row.questions), error, row.direction.text(2))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def protocol(settings: Settings) -> str:
    """What was done, in words."""
    return f"""\
Made by `vipa evaluate movements`: the questions of a Hand3D data set (split {settings.split}) about how a hand or the
camera moved between two pictures, answered by `constant` and by small networks that learned from its split `train`
({settings.seeds} times each, {settings.epochs} epochs), scored as `vipa evaluate hand3d` scores. They see the true
joints of the hand in both pictures (rays) and the lens; beside them the points that a 3D encoder gives there, in both
cameras and the first one's frame, and its pose of the second camera; or the true pose. Of cameras: the encoder's own
pose, and its camera token of the second picture. Brackets: 95 % bootstrap intervals over clips."""
