"""What 2D can know of distances on the tabletop, and what a 3D encoder adds: whether the world can tell them apart.

vipa evaluate instrument --out docs/results/instrument.md
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vipa.benchmarks.results import Mean
from vipa.benchmarks.statistics import clustered_interval
from vipa.geometry import Intrinsics, invert, project, transform
from vipa.io.files import atomic_write, whole_file
from vipa.io.hashing import digest, network_content
from vipa.io.progress import counter
from vipa.models.cut3r import Cut3rModel, Cut3rOutput
from vipa.models.loading import load_model
from vipa.models.pixels import spatial_pixels
from vipa.models.starts import beside
from vipa.worlds.chunks import render_chunks
from vipa.worlds.objects import KINDS, surface_points
from vipa.worlds.scene import scene_name
from vipa.worlds.seeds import seeds_of
from vipa.worlds.sequences import DEPTH_UNIT
from vipa.worlds.stills import stills

MOST = 8
"""Objects in a scene."""
SEEN = 0.0016
"""Share of the picture that an object must show to be asked about."""


@dataclass(frozen=True)
class Settings:
    """Compares distance errors of regressors that see true 2D boxes, a 3D encoder's points, and true depth."""

    out: Path
    """Markdown file; the figures are written beside it as JSON."""
    encoders: tuple[Path, ...] = ()
    """Folders of CUT3R weights besides the shipped nano's."""
    ambiguities: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Of the scenes, each with regressors of its own."""
    scenes: int = 4_000
    """Training scenes of the regressors, for each ambiguity; a fifth as many choose when to stop."""
    held: int = 1_000
    """Scenes that are measured."""
    split: str = "test"
    """Whose seeds those are."""
    seeds: int = 5
    """Of the regressors: each is trained so often."""
    steps: int = 1_500
    """Of a regressor's training."""
    frames: int = 2
    """Of a moving head that the encoder sees; the last is asked about."""
    size: int = 112
    """Pixels."""
    data: Path = Path("runs/instrument")
    """Where the pictures are, or are rendered to, and what was computed of them: a run that was stopped continues."""
    workers: int = 2
    """Processes that render."""


VERSION = 2
"""Of what is kept in `data`."""
WHERE = ("out", "data", "workers")
"""Settings that say where and how."""


@dataclass(frozen=True)
class Scenes:
    """Pictures of scenes and what is true of the last frame of each; padded to MOST objects, kind -1."""

    rgb: np.ndarray  # (n, frames, H, W, 3) uint8
    depth: np.ndarray  # (n, H, W) uint16, in DEPTH_UNIT
    K: np.ndarray  # (n, 3, 3) pixels
    kind: np.ndarray  # (n, MOST) int64, index into KINDS
    box: np.ndarray  # (n, MOST, 4) pixels: left, top, right, bottom of the whole outline, cut at the border
    centre: np.ndarray  # (n, MOST, 3) metres, camera
    asked: np.ndarray  # (n, MOST) bool: enough of it is seen
    hands: np.ndarray  # (n, 2, 4) boxes of the joints of left and right hand; NaN where there is none


def seeds_for(settings: Settings) -> dict[str, range]:
    """Whose scenes train the regressors, stop their training, and are measured; never the same ones."""
    held = seeds_of(settings.split)[: settings.held]
    wanted = {"train": ("train", settings.scenes), "choose": ("validation", settings.scenes // 5)}
    parts = {"held": held}
    for part, (split, count) in wanted.items():
        first = settings.held if split == settings.split else 0
        parts[part] = seeds_of(split)[first : first + count]
    return parts


def read_scenes(settings: Settings, seeds: range, ambiguity: float) -> Scenes:
    """The scenes of these seeds, rendered where `settings.data` lacks them."""
    render = partial(_render, frames=settings.frames, size=settings.size, ambiguity=ambiguity)
    name = f"{scene_name('scenes', ambiguity)}-{settings.frames}-{settings.size}"
    paths = render_chunks(settings.data, name, seeds, render, settings.workers)
    parts = [np.load(path) for path in paths]
    return Scenes(**{field: np.concatenate([p[field] for p in parts]) for field in Scenes.__annotations__})


def _render(seeds: range, frames: int, size: int, ambiguity: float) -> dict[str, np.ndarray]:
    rows: dict[str, list[np.ndarray]] = {name: [] for name in Scenes.__annotations__}
    for seed in seeds:
        shots = stills(seed, frames, size, ambiguity)
        last = shots[-1]
        kind, box = np.full(MOST, -1), np.zeros((MOST, 4))
        centre, asked = np.zeros((MOST, 3)), np.zeros(MOST, bool)
        for i, thing in enumerate(last.objects):
            T = invert(last.T_world_camera) @ thing.T_world_object
            kind[i], centre[i] = KINDS.index(thing.kind), last.centres_camera[i]
            box[i] = _box(transform(T, surface_points(thing)), last.intrinsics)
            asked[i] = last.visible[i] >= SEEN and bool(last.intrinsics.contains(last.centres[i]))
        hands = np.full((2, 4), np.nan)
        for i, side in enumerate(("left", "right")):
            if side in last.joints_camera:
                hands[i] = _box(last.joints_camera[side], last.intrinsics)
        depth = np.round(last.depth / DEPTH_UNIT)
        values = (
            np.stack([shot.rgb for shot in shots]),
            np.where(depth < 2**16, depth, 0).astype(np.uint16),
            last.intrinsics.matrix, kind, box, centre, asked, hands,
        )  # fmt: skip
        for name, value in zip(rows, values):
            rows[name].append(value)
    return {name: np.stack(values) for name, values in rows.items()}


def _box(points_camera: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """(4,) left, top, right, bottom of points (n, 3), pixels, cut at the picture's border."""
    pixels = project(np.where(points_camera[:, 2:] > 0.05, points_camera, np.nan), intrinsics.matrix)
    if np.isnan(pixels).all():
        return np.full(4, np.nan)
    border = np.array([intrinsics.width, intrinsics.height] * 2) - 0.5
    return np.clip(np.concatenate([np.nanmin(pixels, 0), np.nanmax(pixels, 0)]), -0.5, border)


# What a regressor sees of each object


def box_features(scenes: Scenes) -> Float[np.ndarray, "n most f"]:
    """Box on the ray plane (centre, log size) and in the picture, kind, field of view: what 2D knows of an object."""
    focal, principal = scenes.K[:, :1, 0, None], scenes.K[:, None, :2, 2]
    low, high = scenes.box[..., :2], np.maximum(scenes.box[..., 2:], scenes.box[..., :2] + 0.5)
    rays = ((low + high) / 2 - principal) / focal
    extent = np.log((high - low) / focal)
    kinds = np.eye(len(KINDS) + 1)[scenes.kind]
    width = scenes.rgb.shape[3]
    lens = np.broadcast_to(np.log(focal / width), (*scenes.kind.shape, 1))
    picture = np.concatenate([low, high], -1) / width - 0.5
    return np.concatenate([rays, extent, lens, picture, kinds], -1)


def around_features(scenes: Scenes) -> Float[np.ndarray, "n 2+most f"]:
    """Of every object and hand in the picture: its box, its kind and whether it is there (the last one)."""
    boxes = np.concatenate([scenes.hands, object_boxes(scenes)], 1)
    kinds = np.concatenate([np.tile([0, 1], (len(boxes), 1)), 2 + scenes.kind], 1)
    there = np.asarray(np.isfinite(boxes).all(-1))
    focal, principal = scenes.K[:, :1, 0, None], scenes.K[:, None, :2, 2]
    low, high = boxes[..., :2], np.maximum(boxes[..., 2:], boxes[..., :2] + 0.5)
    seen = np.concatenate([((low + high) / 2 - principal) / focal, np.log((high - low) / focal)], -1)
    one_hot = np.eye(2 + len(KINDS))[np.maximum(kinds, 0)]
    return np.concatenate([np.nan_to_num(seen), one_hot, there[..., None]], -1) * there[..., None]


def object_boxes(scenes: Scenes) -> Float[np.ndarray, "n most 4"]:
    """NaN where there is no object."""
    return np.where(scenes.kind[..., None] < 0, np.nan, scenes.box)


def point_features(
    boxes: Float[np.ndarray, "n k 4"], points: Float[np.ndarray, "n h w 3"]
) -> Float[np.ndarray, "n k g"]:
    """Of the points in each box: their median, quantiles of their depth in the box and in its middle, and what is
    there; zeros where a box is NaN."""
    n, height, width = points.shape[:3]
    found = np.zeros((*boxes.shape[:2], 3 + 5 + 3))
    for i in range(n):
        for k in np.flatnonzero(np.isfinite(boxes[i]).all(-1)):
            left, top, right, bottom = boxes[i, k]
            u0, v0 = max(0, int(np.floor(left + 0.5))), max(0, int(np.floor(top + 0.5)))
            u1, v1 = min(width, int(np.ceil(right + 0.5))), min(height, int(np.ceil(bottom + 0.5)))
            inside = points[i, v0 : max(v1, v0 + 1), u0 : max(u1, u0 + 1)]
            if inside.size == 0:
                continue
            h, w = inside.shape[:2]
            middle = inside[h // 4 : h - h // 4, w // 4 : w - w // 4].reshape(-1, 3)
            depths = np.log(np.maximum(inside[..., 2], 0.05))
            core = np.log(np.maximum(middle[:, 2], 0.05))
            found[i, k] = [
                *np.median(inside.reshape(-1, 3), 0),
                *np.quantile(core, [0.1, 0.5, 0.9]),
                *np.quantile(depths, [0.1, 0.9]),
                *middle[len(middle) // 2],
            ]
    return found


@torch.inference_mode()
def encoder_points(
    model: Cut3rModel, scenes: Scenes, progress: Callable[[int, int], None], batch: int = 32
) -> Float[np.ndarray, "n h w 3"]:
    """The last frame's points in its own camera, metres, after the model saw the frames before."""
    seen = []
    for start in range(0, len(scenes.rgb), batch):
        images = spatial_pixels(torch.from_numpy(scenes.rgb[start : start + batch]))
        output: Cut3rOutput = model(images, heads=("self",))
        assert output.points_self is not None
        seen.append(output.points_self[:, -1].numpy())
        progress(min(start + batch, len(scenes.rgb)), len(scenes.rgb))
    return np.concatenate(seen)


def shape_points(scenes: Scenes) -> Float[np.ndarray, "n h w 3"]:
    """The true ones but for one factor a picture, by which its median depth is 1."""
    points = depth_points(scenes)
    depth = np.where(scenes.depth > 0, points[..., 2], np.nan).reshape(len(points), -1)
    return points / np.nanmedian(depth, 1)[:, None, None, None]


def depth_points(scenes: Scenes) -> Float[np.ndarray, "n h w 3"]:
    """The true ones."""
    depth = scenes.depth.astype(np.float64) * DEPTH_UNIT
    v, u = np.mgrid[: depth.shape[1], : depth.shape[2]]
    x = (u - scenes.K[:, 0, 2, None, None]) / scenes.K[:, 0, 0, None, None]
    y = (v - scenes.K[:, 1, 2, None, None]) / scenes.K[:, 1, 1, None, None]
    return np.stack([x * depth, y * depth, depth], -1)


# The regressor


class Regressor(nn.Module):
    """Where an object's centre is: a depth and a shift of its box's ray, from what is seen of it and around it."""

    def __init__(self, own: int, around: int, width: int = 192):
        super().__init__()
        self.context = (
            nn.Sequential(nn.Linear(around, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU()) if around else None
        )
        inputs = own + (2 * 96 if around else 0)
        last = nn.Linear(width, 3)
        nn.init.zeros_(last.weight)
        self.net = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), last)

    def forward(self, own: Tensor, rays: Tensor, around: Tensor | None) -> Tensor:
        """own (m, f), rays (m, 2), around (m, things, g) -> centres (m, 3), metres."""
        if self.context is not None:
            assert around is not None
            there = around[..., -1:]
            seen = self.context(around) * there
            pooled = torch.cat([seen.sum(1) / there.sum(1).clamp_min(1), seen.amax(1)], -1)
            own = torch.cat([own, pooled], -1)
        depth, u, v = self.net(own).unbind(-1)
        z = torch.exp(depth.clamp(-2, 2)) * 0.6
        return z[:, None] * torch.stack([rays[:, 0] + 0.1 * u, rays[:, 1] + 0.1 * v, torch.ones_like(z)], -1)


@dataclass(frozen=True)
class Table:
    """Asked objects of some scenes: features (m, f), rays (m, 2), around (m, things, g) or None, truth (m, 3)."""

    own: Tensor
    rays: Tensor
    around: Tensor | None
    truth: Tensor

    @classmethod
    def of(cls, scenes: Scenes, own: np.ndarray, around: np.ndarray | None) -> "Table":
        row, _ = np.nonzero(scenes.asked)
        rays = box_features(scenes)[..., :2]
        picked = [own[scenes.asked], rays[scenes.asked], scenes.centre[scenes.asked]]
        features, ray, truth = (torch.from_numpy(x).float() for x in picked)
        return cls(features, ray, None if around is None else torch.from_numpy(around[row]).float(), truth)


def regress(train: Table, choose: Table, held: Table, seed: int, steps: int) -> Float[np.ndarray, "m"]:
    """3D errors (metres) on `held` of a regressor trained on `train`, at the step that is best on `choose`."""
    torch.manual_seed(seed)
    mean, spread = train.own.mean(0), train.own.std(0) + 1e-4
    around = 0 if train.around is None else train.around.shape[-1]
    model = Regressor(train.own.shape[1], around)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)

    def errors(table: Table, rows: Tensor | slice = slice(None)) -> Tensor:
        context = None if table.around is None else table.around[rows]
        found = model((table.own[rows] - mean) / spread, table.rays[rows], context)
        return (found - table.truth[rows]).norm(dim=-1)

    best, kept = float("inf"), torch.empty(0)
    for step in range(steps):
        loss = errors(train, torch.randint(len(train.truth), (512,))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            with torch.no_grad():
                if (chosen := float(errors(choose).mean())) < best:
                    best, kept = chosen, errors(held)
    return kept.double().numpy()


# The comparison


@dataclass(frozen=True)
class Row:
    """What one regressor reached at one ambiguity. Metres: mean and median of the 3D error over objects, averaged over
    seeds, and the spread of the means between seeds; the interval is over scenes."""

    ambiguity: float
    sees: str
    objects: int
    mean: Mean
    median: float
    between_seeds: float


def compare(settings: Settings, ambiguity: float, encoders: dict[str, Cut3rModel]) -> list[Row]:
    """All regressors at one ambiguity."""
    scenes = {part: read_scenes(settings, seeds, ambiguity) for part, seeds in seeds_for(settings).items()}
    boxes = {part: box_features(s) for part, s in scenes.items()}
    arounds = {part: around_features(s) for part, s in scenes.items()}
    seen: dict[str, dict[str, Table]] = {
        "its box, kind and lens": {p: Table.of(s, boxes[p], None) for p, s in scenes.items()},
        "all boxes and kinds": {p: Table.of(s, boxes[p], arounds[p]) for p, s in scenes.items()},
    }

    def with_points(key: str, points: Callable[[Scenes], np.ndarray], around: bool = False) -> dict[str, Table]:
        """around: of everything else in the picture too, of hands as well."""
        tables = {}
        for p, s in scenes.items():
            everything = _kept(settings, f"{key}-{p}", s, points)
            own = np.concatenate([boxes[p], everything[:, 2:]], -1)
            tables[p] = Table.of(s, own, np.concatenate([everything, arounds[p]], -1) if around else None)
        return tables

    weights = {f"3D encoder ({name})": network_content(model) for name, model in encoders.items()}
    with counter("seeing", "scenes") as count:
        for row, model in zip(weights, encoders.values()):
            look = partial(encoder_points, model, progress=lambda done, total: count(done=done, total=total))
            seen[row] = with_points(scene_name(f"points-{weights[row]}", ambiguity), look)
    shape = scene_name("points-shape", ambiguity)
    seen["true shape without its scale"] = with_points(shape, shape_points)
    seen["that of all boxes and hands"] = with_points(shape, shape_points, around=True)
    seen["true depth"] = with_points(scene_name("points-true", ambiguity), depth_points)
    clusters = [str(i) for i in np.nonzero(scenes["held"].asked)[0]]
    rows = []
    for name, tables in seen.items():
        key = f"errors-{digest(repr((VERSION, scene_name(name, ambiguity), settings.steps, weights.get(name))))}"
        tried = [
            _array(
                settings.data / f"{key}-{seed}-{_size(settings)}.npy",
                lambda tables=tables, seed=seed: regress(
                    tables["train"], tables["choose"], tables["held"], seed, settings.steps
                ),
            )
            for seed in range(settings.seeds)
        ]
        errors = np.mean(tried, 0)
        mean = Mean(float(errors.mean()), *clustered_interval(errors, clusters))
        medians = float(np.mean([np.median(e) for e in tried]))
        rows.append(Row(ambiguity, name, len(errors), mean, medians, float(np.std([e.mean() for e in tried]))))
    return rows


def _kept(settings: Settings, key: str, scenes: Scenes, points: Callable[[Scenes], np.ndarray]) -> np.ndarray:
    """What the points in the boxes of both hands and all objects say, computed once."""
    path = settings.data / f"{key}-{VERSION}-{_size(settings)}.npy"
    boxes = np.concatenate([scenes.hands, object_boxes(scenes)], 1)
    return _array(path, lambda: point_features(boxes, points(scenes)))


def _size(settings: Settings) -> str:
    return f"{settings.scenes}-{settings.held}-{settings.frames}-{settings.size}-{settings.split}"


def _array(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Of a file, which is made where it is missing."""
    if not path.exists():
        with whole_file(path) as beside, beside.open("wb") as file:
            np.save(file, make())
    return np.load(path)


def run(settings: Settings) -> str:
    """The page that is written. ValueError for a folder without a CUT3R."""
    folders = {"nano": beside("nano:foundation", "spatial"), **{path.name: path for path in settings.encoders}}
    encoders = {name: load_model(Cut3rModel, path, expected="cut3r").eval() for name, path in folders.items()}
    rows = [row for a in settings.ambiguities for row in compare(settings, a, encoders)]
    done = {name: value for name, value in asdict(settings).items() if name not in WHERE}
    record = {"settings": done | {"encoders": list(folders)}, "rows": [asdict(row) for row in rows]}
    atomic_write(settings.out.with_suffix(".json"), json.dumps(record, indent=1, default=str) + "\n")
    page = f"# Can the tabletop tell whether 3D helps?\n\n{protocol(settings)}\n\n{table(rows)}\n"
    atomic_write(settings.out, page)
    return page


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| ambiguity | it sees | objects | mean error, cm | median, cm | 2D / it |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        flat = next(r for r in rows if r.ambiguity == row.ambiguity)
        m = row.mean
        error = f"{100 * m.value:.2f} [{100 * m.low:.2f}, {100 * m.high:.2f}]"
        ratio = f"{flat.mean.value / m.value:.2f} ({flat.median / row.median:.2f})"
        cells = (f"{row.ambiguity:g}", row.sees, str(row.objects), error, f"{100 * row.median:.2f}", ratio)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def protocol(settings: Settings) -> str:
    """What was done, in words."""
    return f"""\
Made by `vipa evaluate instrument`: where is an object's centre, in the camera's frame? {settings.held} scenes of the
split {settings.split} for each ambiguity, the last of {settings.frames} frames from a moving head, {settings.size} px;
errors are Euclidean, nothing is aligned. Every row is the same small network, trained {settings.seeds} times on
{settings.scenes} training scenes (stopped by validation scenes), which sees of an object: its true box (whole outline),
kind, place and field of view; the same and the boxes and kinds of everything else, hands too; its box and the points
that a 3D encoder gives inside it; its box and the true points, all of a picture multiplied by one factor that makes
their median depth 1, and these in all boxes; its box and true depth. Brackets: 95 % bootstrap intervals over scenes.
Last column: how many times larger the first row's error is, by means (by medians)."""
