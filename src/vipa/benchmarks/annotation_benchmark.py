"""How far annotations are from the truth, on held-out tabletop clips where the truth is known.

vipa evaluate annotation --out docs/results/annotation_quality.md
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vipa.benchmarks.labels import Labels, labels_of
from vipa.benchmarks.statistics import bootstrap_interval
from vipa.clips.clip import Clip, ClipError
from vipa.geometry import direction_words
from vipa.hand3d.config import AnnotateConfig, HandsConfig, ObjectsConfig, RelationsConfig
from vipa.hand3d.estimators.base import open_points, sample_frames
from vipa.hand3d.estimators.clip_boxes import ClipBoxes
from vipa.hand3d.estimators.depth_points import DepthPoints
from vipa.hand3d.estimators.pointmaps import AnyMaps
from vipa.hand3d.measure.calibration import estimate_scale
from vipa.hand3d.measure.localise import locate_objects
from vipa.hand3d.measure.positions import LocatedObject, from_poses
from vipa.hand3d.measure.relating import ClipGeometry, spatial_relations
from vipa.hand3d.measure.relations import Relation
from vipa.hand3d.measure.visibility import Sight
from vipa.hand3d.measure.wrists import locate_hands
from vipa.hand3d.words.questions import answer_text, parse_answer
from vipa.hands.skeleton import WRIST
from vipa.io.files import atomic_write
from vipa.io.provenance import provenance_words
from vipa.models.starts import beside
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import seeds_of


@dataclass(frozen=True)
class Quality:
    """Errors of one kind of geometry over many clips; one number per clip, object sight, or relation.

    scale, plain: relative errors of the calibration and of the paper's plain median, signed. covered: whether the
    reported interval holds the true scale. centres: metres. words: whether all direction words are right; distances:
    metres, signed. refused: reasons.
    """

    name: str
    clips: int
    scale: Float[np.ndarray, "clips"]
    plain: Float[np.ndarray, "clips"]
    covered: Float[np.ndarray, "clips"]
    centres: Float[np.ndarray, "sights"]
    sights: int  # all that could have been found
    words: Float[np.ndarray, "relations"]
    distances: Float[np.ndarray, "relations"]
    refused: tuple[str, ...]


def measure(kinds: list[Labels], seeds: range, size: int, ambiguity: float = 0.0) -> list[Quality]:
    """Annotates the clips of these seeds (size x size pixels) with each kind of labels and compares with the truth.
    Hands and boxes are the true ones."""
    tallies = [_Tally(kind.config) for kind in kinds]
    points = [open_points(kind.config.points) for kind in kinds]
    for seed in seeds:
        clip = film_clip(seed, size=(size, size), ambiguity=ambiguity)
        frames = sample_frames(clip, AnnotateConfig().frames.rate)
        truth = DepthPoints()(clip, frames.tolist())
        assert truth is not None
        for kind, estimator, tally in zip(kinds, points, tallies):
            if kind.config.objects.positions != "points":
                sight = Sight(clip, frames.tolist())
                tally.compare(clip, frames, from_poses(clip, sight, ObjectsConfig().confidence))
                continue
            maps = estimator(kind.known(clip), frames.tolist())
            assert maps is not None
            tally.add(clip, maps, _ratio(truth, maps))
    return [tally.quality(kind.what, len(seeds)) for kind, tally in zip(kinds, tallies)]


class _Tally:
    """Collects the errors of one kind of labels."""

    def __init__(self, config: AnnotateConfig) -> None:
        self.config = config
        self.columns: dict[str, list[float]] = {
            k: [] for k in ("scale", "plain", "covered", "centres", "words", "distances")
        }
        self.refused: list[str] = []
        self.sights = 0

    def add(self, clip: Clip, maps: AnyMaps, true_scale: float) -> None:
        assert clip.T_world_camera is not None
        columns, frames = self.columns, maps.frames
        try:
            estimate = estimate_scale(clip, maps, self.config.scale)
        except ClipError as error:
            self.refused.append(error.reason)
            return
        if estimate.calibrated:
            assert estimate.plain_median is not None
            columns["scale"].append(estimate.scale / true_scale - 1)
            columns["plain"].append(estimate.plain_median / true_scale - 1)
            if estimate.low is not None and estimate.high is not None:
                columns["covered"].append(estimate.low <= true_scale <= estimate.high)
        names = [track.name for track in clip.objects or ()]
        boxes, scores = ClipBoxes()(clip, frames.tolist(), names)
        poses = clip.T_world_camera[frames]
        self.compare(clip, frames, locate_objects(clip, maps, estimate, names, boxes, scores, poses, 0.3))

    def compare(self, clip: Clip, frames: np.ndarray, found: list[LocatedObject]) -> None:
        """Objects at these frames, and what is answered about them, with the truth of the clip."""
        assert clip.T_world_camera is not None
        poses, columns, sight = clip.T_world_camera[frames], self.columns, Sight(clip, frames.tolist())
        for a, track in zip(found, clip.objects or ()):
            seen = np.isfinite(a.boxes).all(-1)
            self.sights += int(seen.sum())
            error = np.linalg.norm(a.centres - sight.centres(track), axis=-1)[seen]
            columns["centres"] += error[np.isfinite(error)].tolist()
        geometry = ClipGeometry(frames, poses, tuple(found), locate_hands(clip, sight, HandsConfig()))
        for f in spatial_relations(clip, geometry, RelationsConfig()):
            assert isinstance(f.relation, Relation)
            truth = true_displacement(clip, f.relation, f.frames[0], f.frames[-1])
            if np.isfinite(truth).all():
                said = parse_answer(answer_text(f.relation)).directions
                columns["words"].append(set(said) == set(direction_words(truth)))
                columns["distances"].append(f.relation.distance - float(np.linalg.norm(truth)))

    def quality(self, name: str, clips: int) -> Quality:
        arrays = {k: np.array(v, dtype=float) for k, v in self.columns.items()}
        return Quality(name=name, clips=clips, sights=self.sights, refused=tuple(self.refused), **arrays)


def true_displacement(clip: Clip, relation: Relation, first: int, last: int) -> Float[np.ndarray, "3"]:
    """From the wrist to the object's centre in frame `last`, in the camera of frame `first`, of the clip's truth."""
    assert clip.T_world_camera is not None
    hand, thing = clip.hand(relation.hand), next(t for t in clip.objects or () if t.name == relation.object)
    assert hand is not None
    wrist = clip.T_world_camera[last] @ [*hand.joints_camera[last, WRIST], 1.0]
    return clip.T_world_camera[first, :3, :3].T @ (thing.centres_world[last] - wrist[:3])


def report(qualities: list[Quality], protocol: str) -> str:
    """The page docs/results/annotation_quality.md."""
    head = "| | " + " | ".join(q.name for q in qualities) + " |\n|---|" + "---|" * len(qualities)
    rows = {
        "clips, refused": lambda q: f"{q.clips}, {len(q.refused)}",
        "scale error, median": lambda q: _percent(np.abs(q.scale), 50),
        "scale error, 95th percentile": lambda q: _percent(np.abs(q.scale), 95),
        "plain median (the paper's) error, median": lambda q: _percent(np.abs(q.plain), 50),
        "plain median error, 95th percentile": lambda q: _percent(np.abs(q.plain), 95),
        "scale bias, plain median bias": lambda q: (
            f"{q.scale.mean():+.2%}, {q.plain.mean():+.2%}" if len(q.scale) else "-"
        ),
        "95 % interval holds the true scale": lambda q: f"{q.covered.mean():.1%}" if len(q.covered) else "-",
        "object centres found (of those with a box)": lambda q: f"{len(q.centres) / max(q.sights, 1):.1%}",
        "object centre error, median": lambda q: _metres(q.centres, 50),
        "object centre error, 95th percentile": lambda q: _metres(q.centres, 95),
        "relations compared": lambda q: f"{len(q.words):,}",
        "all direction words right": lambda q: (
            f"{q.words.mean():.1%} [{', '.join(f'{x:.1%}' for x in bootstrap_interval(q.words))}]"
        ),
        "distance error, median": lambda q: _metres(np.abs(q.distances), 50),
        "distance error, mean": lambda q: f"{100 * np.abs(q.distances).mean():.1f} cm",
        "distance bias, mean": lambda q: f"{100 * q.distances.mean():+.1f} cm",
        "distance within 1 cm": lambda q: f"{(np.abs(q.distances) <= 0.01).mean():.1%}",
        "distance within 5 cm": lambda q: f"{(np.abs(q.distances) <= 0.05).mean():.1%}",
    }
    lines = [f"| {label} | " + " | ".join(row(q) for q in qualities) + " |" for label, row in rows.items()]
    reasons = [f"- {q.name}: {reason}" for q in qualities for reason in q.refused[:5]]
    return "\n".join(["# Annotation quality", "", protocol, "", head, *lines, "", *_reasons(reasons)])


@dataclass(frozen=True)
class Settings:
    """Films held-out clips, annotates them with several kinds of geometry, and writes the table."""

    out: Path = Path("docs/results/annotation_quality.md")
    """Markdown file."""
    clips: int = 200
    """Of the test seeds."""
    size: int = 112
    """Pixels of the square images."""
    ambiguity: float = 0.0
    """Of the scenes (docs/worlds.md)."""
    cut3r: str | None = None
    """Weights of the 3D encoder (a folder or hub name); left out, the shipped nano's."""


def run(settings: Settings) -> str:
    """The page that is written."""
    seeds = seeds_of("test")[: settings.clips]
    weights = settings.cut3r or str(beside("nano:foundation", "spatial"))
    kinds = list(labels_of(weights).values())
    qualities = measure(kinds, seeds, settings.size, settings.ambiguity)
    protocol = PROTOCOL.format(**vars(settings), first=seeds[0], last=seeds[-1])
    protocol += f" CUT3R weights: {f'`{settings.cut3r}`' if settings.cut3r else 'the shipped nano'}."
    page = report(qualities, protocol)
    atomic_write(settings.out, f"{page.rstrip()}\n\n{provenance_words()}\n".encode())
    return page


PROTOCOL = """\
Made by `vipa evaluate annotation`: {clips} held-out tabletop clips (ambiguity {ambiguity:g}, seeds {first} to {last},
{size} px), frames at 1 per second, the true hands and boxes. "True geometry": the true poses of objects, which the
engine takes by default where a data set has them. The other columns do without and locate objects inside their boxes
from a point map. "True depth" is the rendered depth. "Sensor depth" has 0.5 % noise per pixel, 0.5 % drift over the
image, flying pixels at edges, 1 mm steps, 3 % missing pixels, and a unit between 0.2 and 5 m that calibration must find
from hands whose joints lie inside the flesh and hide behind objects. "Plain median" takes the paper's scale, others
ours. Direction words (read back from the answers) and distances (as they are before rounding) are those of
hand-to-object relations, against the clip's truth. Brackets: 95 % bootstrap intervals."""


def _ratio(truth: AnyMaps, made: AnyMaps) -> float:
    """Metres per unit of a made map: the median over all pixels of true depth / made depth."""
    height, width = made.depth.shape[1:]
    rows = np.arange(height) * truth.depth.shape[1] // height
    columns = np.arange(width) * truth.depth.shape[2] // width
    return float(np.nanmedian(truth.depth[:, rows][:, :, columns] / made.depth))


def _percent(values: np.ndarray, percentile: float) -> str:
    return f"{np.percentile(values, percentile):.2%}" if len(values) else "-"


def _metres(values: np.ndarray, percentile: float) -> str:
    return f"{100 * np.percentile(values, percentile):.1f} cm" if len(values) else "-"


def _reasons(lines: list[str]) -> list[str]:
    return ["Refused, with the reason (at most five a column):", "", *lines, ""] if lines else []
