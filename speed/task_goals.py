"""Where the questions about tasks send the hands, and how exact the contacts are that geometry tells.

python speed/task_goals.py labels SOURCE ROOT [--sheet FILE.jpg]   # figures and a table of every label, Markdown
python speed/task_goals.py contacts [--films 40]                   # against the tabletop's truth, Markdown

What they printed is in docs/results/task_goals.md. Labels are made as where no contacts are known. The sheet shows each
label over its picture: where the hand is when asked about (left), the arrow to its goal, and the frame of the goal
(right). Mind the licence of the pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw

from vipa.clips.check import overlay
from vipa.clips.clip import Clip, ClipError, ObjectTrack
from vipa.clips.sources import SourceOptions, load_source
from vipa.geometry import invert, project, transform
from vipa.hand3d.config import ContactsConfig, HandsConfig, RelationsConfig
from vipa.hand3d.estimators.base import sample_frames
from vipa.hand3d.measure.contacts import contacts_from_geometry
from vipa.hand3d.measure.goals import Goal, TaskGoals
from vipa.hand3d.measure.paths import true_runs
from vipa.hand3d.measure.relating import ClipGeometry, task_completions
from vipa.hand3d.measure.relations import Relation
from vipa.hand3d.measure.visibility import Sight
from vipa.hand3d.measure.wrists import locate_hands
from vipa.hand3d.words.questions import answer_text, question_text
from vipa.hands.skeleton import WRIST, Side

AWAY, HALF, EDGE = 0.05, 0.5, 0.1
"""Metres from the start at which a hand is away from it; share of its distance from the start, nearer than which a goal
points back; seconds from a clip's last frame within which a goal lies at its end."""


@dataclass(frozen=True)
class Label:
    """One question about a task. start, now, end: metres, world: the wrist where the whole recording began, at the
    question and at the goal. cut: the text goes on after the clip's end. left: seconds from the goal to that end."""

    clip: Clip
    relation: Relation
    frame: int
    goal: Goal
    start: np.ndarray
    now: np.ndarray
    end: np.ndarray
    cut: bool
    left: float

    @property
    def away(self) -> bool:
        return bool(np.linalg.norm(self.now - self.start) >= AWAY)

    @property
    def back(self) -> bool:
        home = max(AWAY, HALF * float(np.linalg.norm(self.now - self.start)))
        return bool(np.linalg.norm(self.end - self.start) < home)

    @property
    def angle(self) -> float:
        """Degrees between the way to the goal and the way back to the start."""
        a, b = self.end - self.now, self.start - self.now
        return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


def read(source: str, root: Path, seconds: float) -> Iterator[Clip]:
    for clip in load_source(source).read_clips(root, SourceOptions(seconds=seconds)):
        if isinstance(clip, ClipError):
            print(f"refused: {clip}")
        else:
            yield clip


def world_wrists(clip: Clip) -> dict[Side, np.ndarray]:
    """(frames, 3) of every hand in the world, metres; NaN where it is unknown."""
    assert clip.T_world_camera is not None
    out: dict[Side, np.ndarray] = {}
    for hand in clip.hands:
        known = hand.confidence[:, WRIST, None] > 0
        wrists = np.where(known, hand.joints_camera[:, WRIST], np.nan)
        out[hand.side] = transform(clip.T_world_camera, wrists[:, None])[:, 0]
    return out


def find_labels(clips: Iterator[Clip], starts: dict[str, dict[str, np.ndarray]], rate: float) -> list[Label]:
    """Every label of these clips. starts: by source video and hand, where the whole recording began."""
    config, labels = RelationsConfig(), []
    for clip in clips:
        frames = sample_frames(clip, rate)
        assert clip.T_world_camera is not None
        goals = TaskGoals(clip, (), world_wrists(clip), config.goals)  # as where contacts are not known
        texts = {text.text: text for text in clip.texts}
        poses = clip.T_world_camera[frames]
        hands = locate_hands(clip, Sight(clip, frames.tolist()), HandsConfig())
        for found in task_completions(clip, ClipGeometry(frames, poses, (), hands), config):
            r, frame = found.relation, found.frames[-1]
            assert isinstance(r, Relation)
            text = texts[r.task or ""]
            goal = goals.goal(r.hand, text, frame)
            assert goal is not None
            path = goals.wrists[r.hand]
            labels.append(
                Label(
                    clip, r, frame, goal, starts[clip.source_video][r.hand], path[frame], path[goal.frame],
                    cut=text.end > goals.times[-1] + 1.5 * goals.frame_time,
                    left=float(goals.times[-1] - goals.times[goal.frame]),
                )
            )  # fmt: skip
    return labels


def labels(
    source: tyro.conf.Positional[str],
    root: tyro.conf.Positional[Path],
    sheet: Path | None = None,
    seconds: tuple[float, ...] = (10.0, 2.0),
    rate: float = 1.0,
) -> None:
    """Figures and every label of a source. seconds: lengths of the clips; rate: questions a second."""
    starts: dict[str, dict[str, np.ndarray]] = {}
    for clip in read(source, root, 1e6):
        wrists = world_wrists(clip)
        known = {side: path[np.isfinite(path).all(-1)] for side, path in wrists.items()}
        starts[clip.source_video] = {side: path[0] for side, path in known.items() if len(path)}
    print("| seconds | labels | asked away from the start | of those back to it | at a cut | at the clip's end |")
    print("| --- | --- | --- | --- | --- | --- |")
    every = {s: find_labels(read(source, root, s), starts, rate) for s in seconds}
    for s, found in every.items():
        away = [label for label in found if label.away]
        back, ends = sum(label.back for label in away), [label for label in found if label.left < EDGE]
        print(f"| {s:g} | {len(found)} | {len(away)} | {back} | {sum(e.cut for e in ends)} | {len(ends)} |")
    print(
        "\n| seconds | clip | hand | asked at | goal at | kind | cm from the start: now, goal "
        "| degrees from the way back |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for s, found in every.items():
        for label in found:
            times = label.clip.timestamps - label.clip.timestamps[0]
            far = [100 * np.linalg.norm(at - label.start) for at in (label.now, label.end)]
            turned = f"{label.angle:.0f}" if label.away else "-"
            print(
                f"| {s:g} | {label.clip.id} | {label.relation.hand} | {times[label.frame]:.2f} s | "
                f"{times[label.goal.frame]:.2f} s | {label.goal.kind} | {far[0]:.0f}, {far[1]:.0f} | {turned} |"
            )
    if sheet is not None:
        draw_sheet(every[seconds[0]], sheet)


def draw_sheet(found: list[Label], path: Path, columns: int = 2, width: int = 360) -> None:
    """Two pictures a label: now with an arrow to the goal, and the goal's frame; question and answer below."""
    tiles = []
    for label in found:
        clip, T = label.clip, label.clip.T_world_camera
        assert T is not None
        now, then = clip.frames.read([label.frame, label.goal.frame])
        left = overlay(clip, label.frame, now, width)
        ends = transform(invert(T[label.frame]), np.stack([label.now, label.end]))
        if (ends[:, 2] > 0.05).all():
            pixels = project(ends, clip.intrinsics.matrix) * width / now.shape[1]
            draw = ImageDraw.Draw(left)
            draw.line([*pixels[0], *pixels[1]], fill=(255, 0, 0), width=3)
            u, v = pixels[1]
            draw.ellipse([u - 6, v - 6, u + 6, v + 6], outline=(255, 0, 0), width=3)
        right = overlay(clip, label.goal.frame, then, width)
        tile = Image.new("RGB", (2 * width + 4, left.height + 34), (30, 30, 30))
        tile.paste(left, (0, 0))
        tile.paste(right, (width + 2, 0))
        lines = f"{question_text(label.relation, label.frame)}\n{answer_text(label.relation)}  [{label.goal.kind}]"
        ImageDraw.Draw(tile).text((4, left.height + 3), lines, fill=(255, 255, 255))
        tiles.append(tile)
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * tiles[0].width, rows * (tiles[0].height + 4)), (90, 90, 90))
    for k, tile in enumerate(tiles):
        page.paste(tile, (k % columns * tile.width, k // columns * (tile.height + 4)))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, quality=80)


@dataclass
class Errors:
    """Of touches that geometry tells: seconds from the truth, and what it misses or makes up."""

    onset: list[float]
    end: list[float]
    touches: int = 0
    missed: int = 0
    false: int = 0
    frames: int = 0
    unknown: int = 0
    wrong: int = 0


def compare(clip: Clip, errors: Errors) -> None:
    """The contacts of a clip's geometry against its own."""
    found = contacts_from_geometry(clip, ContactsConfig())
    assert found is not None
    assert clip.contacts is not None
    for key, touch in found.items():
        truth, times = np.asarray(clip.contacts[key]) == 1, clip.timestamps
        said = list(true_runs(touch == 1))
        used = set()
        errors.frames += len(truth)
        errors.unknown += int(np.isnan(touch).sum())
        errors.wrong += int(((touch == 1) & ~truth).sum() + ((touch == 0) & truth).sum())
        for start, stop in true_runs(truth):
            errors.touches += 1
            hits = [k for k, (a, b) in enumerate(said) if a < stop and b > start]
            used.update(hits)
            if not hits:
                errors.missed += 1
                continue
            if start > 0:
                errors.onset.append(times[said[hits[0]][0]] - times[start])
            if stop < len(truth):
                errors.end.append(times[said[hits[-1]][1] - 1] - times[stop - 1])
        errors.false += len(said) - len(used)


def degraded(clip: Clip, shape: str, jitter: float, offset: float, rng: np.random.Generator) -> Clip:
    """The film as a data set gives it. shape: surface or extent. jitter: metres, of each joint and frame; offset:
    metres by which each object's poses are off, the same in all frames."""
    hands = tuple(
        replace(h, joints_camera=h.joints_camera + rng.normal(0, jitter, h.joints_camera.shape))
        for h in clip.hands
    )

    def moved(track: ObjectTrack) -> ObjectTrack:
        T = np.array(track.T_world_object)
        way = rng.normal(size=3)
        T[:, :3, 3] += offset * way / np.linalg.norm(way)
        return replace(track, T_world_object=T, surface=track.surface if shape == "surface" else None)

    return replace(clip, hands=hands, objects=tuple(map(moved, clip.objects or ())))


def contacts(films: int = 40) -> None:
    """Films of the validation split, at two rates, exact and as data sets give them."""
    from vipa.worlds.film import film_clip
    from vipa.worlds.seeds import seeds_of

    print(
        "| rate | shape | jitter, offset | touches | missed | false | onset: median [5 %, 95 %] "
        "| end: median [5 %, 95 %] | beyond 0.2 s | unknown | wrong frames |\n" + "| --- " * 11 + "|"
    )
    for rate in (30.0, 10.0):
        clips = [film_clip(seed, rate=rate) for seed in seeds_of("validation")[:films]]
        for shape, jitter, offset in (
            ("surface", 0.0, 0.0), ("extent", 0.0, 0.0), ("surface", 0.003, 0.005), ("extent", 0.003, 0.01),
            ("surface", 0.006, 0.01),
        ):  # fmt: skip
            rng, errors = np.random.default_rng(0), Errors([], [])
            for clip in clips:
                compare(degraded(clip, shape, jitter, offset, rng), errors)
            late = sum(abs(e) > 0.2 + 1e-6 for e in (*errors.onset, *errors.end))
            print(
                f"| {rate:.0f} | {shape} | {1000 * jitter:.0f}, {1000 * offset:.0f} mm | {errors.touches} | "
                f"{errors.missed} | {errors.false} | {_spread(errors.onset)} | {_spread(errors.end)} | "
                f"{late} of {len(errors.onset) + len(errors.end)} | {errors.unknown / errors.frames:.1%} | "
                f"{errors.wrong / errors.frames:.2%} |"
            )


def _spread(seconds: list[float]) -> str:
    low, middle, high = np.percentile(seconds, [5, 50, 95])
    return f"{middle:+.2f} [{low:+.2f}, {high:+.2f}] s"


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"labels": labels, "contacts": contacts})
