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

from vipa.benchmarks.instrument_scenes import (
    Scenes,
    around_features,
    box_features,
    depth_points,
    encoder_points,
    object_boxes,
    point_features,
    read_scenes,
    shape_points,
)
from vipa.benchmarks.results import Mean
from vipa.benchmarks.statistics import clustered_interval
from vipa.io.files import atomic_write, whole_file
from vipa.io.hashing import digest, network_content
from vipa.io.progress import counter
from vipa.models.cut3r import Cut3rModel
from vipa.models.loading import load_model
from vipa.models.starts import beside
from vipa.worlds.scene import scene_name
from vipa.worlds.seeds import seeds_of


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


def seeds_for(settings: Settings) -> dict[str, range]:
    """Whose scenes train the regressors, stop their training, and are measured; never the same ones."""
    held = seeds_of(settings.split)[: settings.held]
    wanted = {"train": ("train", settings.scenes), "choose": ("validation", settings.scenes // 5)}
    parts = {"held": held}
    for part, (split, count) in wanted.items():
        first = settings.held if split == settings.split else 0
        parts[part] = seeds_of(split)[first : first + count]
    return parts


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
    shown = (settings.frames, settings.size, ambiguity, settings.workers)
    scenes = {part: read_scenes(settings.data, seeds, *shown) for part, seeds in seeds_for(settings).items()}
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
