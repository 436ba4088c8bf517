"""How well a CUT3R sees the tabletop world: depth and camera motion on held-out sequences, against two baselines.

vipa evaluate cut3r --out docs/results/cut3r.md
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from vipa.benchmarks.statistics import bootstrap_interval
from vipa.io.files import atomic_write
from vipa.io.progress import counter
from vipa.io.provenance import provenance_words
from vipa.worlds.seeds import seeds_of

MEASURES = {
    "depth_abs_rel": "depth abs-rel",
    "depth_within_125": "delta < 1.25",
    "world_mm": "world, mm",
    "rotation_deg": "rotation, deg",
    "translation_mm": "translation, mm",
}


@dataclass(frozen=True)
class Cut3rErrors:
    """Of one predictor, a number per clip; metric, nothing is aligned to the truth.

    depth_within_125: fraction of pixels with max(d / d*, d* / d) < 1.25. world_mm: points in the first frame's camera.
    world, rotation and translation (relative to the first frame) are means over the frames after the first.
    """

    depth_abs_rel: Float[np.ndarray, "clips"]
    depth_within_125: Float[np.ndarray, "clips"]
    world_mm: Float[np.ndarray, "clips"]
    rotation_deg: Float[np.ndarray, "clips"]
    translation_mm: Float[np.ndarray, "clips"]


@dataclass(frozen=True)
class Cut3rReport:
    """predictors: `model`; `reset`, the same network fed one frame at a time with its state reset; `constant`, one
    depth everywhere and a camera that does not move. moving: which clips' cameras move."""

    predictors: dict[str, Cut3rErrors]
    moving: Bool[np.ndarray, "clips"]

    def text(self) -> str:
        """Markdown: means with intervals, and how much nearer the model is than each baseline, clip by clip."""
        groups = {"All": np.ones_like(self.moving), "Moving": self.moving}
        return "\n\n".join(self._group(name, chosen) for name, chosen in groups.items() if chosen.any()) + "\n"

    def _group(self, name: str, chosen: np.ndarray) -> str:
        lines = [
            f"## {name}: {chosen.sum()} clips",
            "",
            f"| | {' | '.join(MEASURES.values())} |",
            "|---" * 6 + "|",
        ]
        for predictor, errors in self.predictors.items():
            lines.append(_row(predictor, {m: getattr(errors, m)[chosen] for m in MEASURES}))
        for baseline in ("reset", "constant"):
            lines.append(_row(f"nearer than {baseline} by", self.gains(baseline, chosen)))
        return "\n".join(lines)

    def gains(self, baseline: str, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """What the model is better by on each chosen clip; above 0 is better in every measure."""
        model, other = self.predictors["model"], self.predictors[baseline]
        signs = {m: -1 if m == "depth_within_125" else 1 for m in MEASURES}
        return {m: sign * (getattr(other, m) - getattr(model, m))[chosen] for m, sign in signs.items()}


@dataclass(frozen=True)
class Settings:
    """Measures a 3D encoder on held-out sequences: depth, points and camera motion, with and without its memory."""

    out: Path
    """Markdown file."""
    model: Path | None = None
    """A folder of CUT3R weights; left out, the shipped nano's."""
    clips: int = 300
    """Sequences that are measured."""
    split: str = "test"
    """Whose seeds those are."""
    ambiguity: float = 0.0
    """Of their scenes (docs/worlds.md); at more than 0 the head also looks around."""
    data: Path = Path("runs/cut3r/data")
    """Where the sequences of the tabletop world are, or are rendered to."""


def run(settings: Settings) -> str:
    """The page that is written. ValueError for a folder without a CUT3R, or less than one clip."""
    from vipa.benchmarks.cut3r_errors import evaluate_cut3r
    from vipa.models.cut3r import Cut3rModel
    from vipa.models.loading import load_model
    from vipa.models.starts import beside
    from vipa.worlds.chunks import CHUNK
    from vipa.worlds.sequences import DEPTH_UNIT, FIRST_SEED, render_sequences

    model, clips = settings.model, settings.clips
    if clips < 1:
        raise ValueError(f"--clips {clips}: give at least one")
    network = load_model(Cut3rModel, model or beside("nano:foundation", "spatial"), expected="cut3r")
    size = network.config.image_size
    seeds = seeds_of(settings.split)[:clips], range(FIRST_SEED, FIRST_SEED + min(clips, CHUNK))
    held, train = (
        render_sequences(settings.data, some, size=size, ambiguity=settings.ambiguity) for some in seeds
    )
    constant = float(np.median(train.depth[train.depth > 0])) * DEPTH_UNIT
    with counter("seeing", "clips") as count:
        report = evaluate_cut3r(
            network, held, constant, progress=lambda done, total: count(done=done, total=total)
        )
    protocol = PROTOCOL.format(
        model=f"`{model}`" if model else "the shipped nano's 3D encoder",
        clips=clips,
        frames=held.rgb.shape[1],
        first=held.seeds[0],
        last=held.seeds[-1],
        size=size,
        split=settings.split,
        ambiguity=settings.ambiguity,
        movement=MOVEMENT if settings.ambiguity == 0 else LOOKS,
        constant=constant,
    )
    page = f"# CUT3R on held-out sequences\n\n{protocol}\n\n{report.text()}"
    atomic_write(settings.out, f"{page.rstrip()}\n\n{provenance_words()}\n".encode())
    return page


MOVEMENT = "moves up to 15 cm and turns up to 15 degrees within a clip, in unrelated directions"
LOOKS = "goes from one look around the table to another within a clip"
PROTOCOL = """\
Made by `vipa evaluate cut3r`: {model} on {clips} sequences of {frames} frames ({split} seeds {first} to {last}, {size}
px, ambiguity {ambiguity:g}), truth from the renderer, metric, nothing aligned. The camera
{movement}; hands move too.
`reset`: the same network fed one frame at a time with its state reset. `constant`: the median training depth
({constant:.3f} m) everywhere and a camera that stands still. Moving: the camera ends more than 5 cm or 5 degrees from
where it began. World: points in the first frame's camera. World, rotation and translation count the frames after the
first. Means over clips; brackets: 95 % bootstrap intervals over clips; "nearer":
of the difference clip by clip, above 0 is better in every column."""


def _row(name: str, values: dict[str, np.ndarray]) -> str:
    """A Markdown row of means with their intervals."""
    cells = []
    for measure, per_clip in values.items():
        digits = 3 if measure.startswith("depth") else 2 if measure == "rotation_deg" else 1
        low, high = bootstrap_interval(per_clip)
        cells.append(f"{per_clip.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
    return f"| {name} | {' | '.join(cells)} |"
