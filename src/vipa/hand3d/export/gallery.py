"""A Hand3D data set as one self-contained HTML page: what is doubtful first, then clips with their pictures (hands,
boxes, paths), questions and answers."""

import io
import json
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from vipa.clips.drawing import SIDE_COLOURS, Canvas
from vipa.geometry import Intrinsics
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import ActionRecord, ClipRecord, FrameRecord, VisualRecord
from vipa.io.files import atomic_write
from vipa.io.pages import data_url, render_page

WIDTH = 448
"""Pixels of the drawn images."""
NOUNS = {"clips": "clip", "frames": "frame", "visual": "question", "action": "motion"}
FRAMES, MOST = 24, 12
"""Images of a clip, doubtful records and refused clips that a page shows at most."""
LOW, SPREAD, OUTSIDE = 0.7, 0.05, 0.05
"""Doubtful are: a confidence below, a relative spread of the scale above, a share of waypoints above that the motion
tokens cannot hold."""


@dataclass(frozen=True)
class Row:
    """A question or a motion as the page shows it."""

    record: VisualRecord | ActionRecord

    @property
    def motion(self) -> ActionRecord | None:
        return self.record if isinstance(self.record, ActionRecord) else None

    @property
    def about(self) -> str | None:
        return self.record.object if isinstance(self.record, VisualRecord) else None

    @property
    def frame_ids(self) -> list[str]:
        return [self.record.frame_id] if isinstance(self.record, ActionRecord) else self.record.frame_ids

    @property
    def kind(self) -> str:
        kind = self.record.task if isinstance(self.record, ActionRecord) else self.record.category
        return (kind or "").replace("_", " ")

    @property
    def where(self) -> str:
        indices = [str(int(frame.rsplit("/", 1)[1])) for frame in self.frame_ids]
        return f"frame{'s' * (len(indices) > 1)} {', '.join(indices)}"

    @property
    def said(self) -> str:
        return _short(self.record.prompt) if isinstance(self.record, ActionRecord) else self.record.question

    @property
    def answer(self) -> str:
        return _short(self.record.response) if isinstance(self.record, ActionRecord) else self.record.answer

    @property
    def sureness(self) -> float:
        """1: nothing says that the record is wrong."""
        if isinstance(self.record, ActionRecord):
            return 1 - self.record.outside
        known = (self.record.hand_confidence, self.record.object_confidence)
        return min((c for c in known if c is not None), default=1.0)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the record may be wrong, or is not as it was to be."""
        record = self.record
        if isinstance(record, ActionRecord):
            outside = f"{record.outside:.0%} of the waypoints are outside what motion tokens can say"
            return (outside,) if record.outside > OUTSIDE else ()
        confidences = {"hand": record.hand_confidence, "object": record.object_confidence}
        said = [f"{what} confidence {c:.2f}" for what, c in confidences.items() if c is not None and c < LOW]
        if record.scale_spread is not None and record.scale_spread > SPREAD:
            said.append(f"frames disagree by {record.scale_spread:.0%} about the scale")
        if record.wording.startswith("template; "):
            said.append(f"not in other words: {record.wording.removeprefix('template; ')}")
        return tuple(said)


def write_gallery(path: str | Path, out: str | Path, clips: int = 12, clip_id: str | None = None) -> Path:
    """Writes the page of the first clips of every split in turn, or of one clip; returns its path.

    The doubtful records are those of the whole data set, or of the one clip. ValueError for a clip that is not in the
    data set.
    """
    data = Hand3D(path)
    chosen = _choose(data, clips, clip_id)
    rows: dict[str, dict[str, list[Row]]] = {"visual": defaultdict(list), "action": defaultdict(list)}
    doubtful, worst = (
        0,
        dict[tuple[str, tuple[str, ...]], Row](),
    )  # of each clip the worst record for the same reasons
    for row in map(Row, chain(data.visual(), data.action())):
        clip = row.record.clip_id
        if clip in chosen:
            rows["action" if row.motion else "visual"][clip].append(row)
        if row.doubts and clip_id in (None, clip):
            doubtful += 1
            worst.setdefault((clip, row.doubts), row)
            if len(worst) > MOST:
                del worst[max(worst, key=lambda key: worst[key].sureness)]
    needed = {frame for row in worst.values() for frame in row.frame_ids}
    frames = {f.id: f for f in data.frames() if f.clip_id in chosen or f.id in needed}
    clip_frames = defaultdict(list)
    for frame in frames.values():
        clip_frames[frame.clip_id].append(frame)
    refused, left_out = _kept_out(data) if clip_id is None else ([], [])
    tables = (data.columns(table, ["clip_id"]) for table in ("visual", "action"))
    asked = {clip for table in tables for clip in table["clip_id"].to_pylist()}
    unsure = [
        (clip.id, reasons)
        for clip in data.clips()
        if clip_id in (None, clip.id) and (reasons := _clip_doubts(clip, clip.id in asked))
    ]
    page = render_page(
        Path(__file__).parent / "gallery.html",
        name=Path(path).resolve().name,
        counts=[(data.count(table), noun) for table, noun in NOUNS.items()],
        manifest=data.manifest,
        clips=chosen.values(),
        shown_clips=set(chosen),
        rows=rows,
        frames=frames,
        clip_frames=clip_frames,
        begun={row.frame_ids[0]: row.record for row in chain.from_iterable(rows["action"].values())},
        refused=refused,
        left_out=left_out,
        unsure=unsure,
        doubts=sorted(worst.values(), key=lambda row: row.sureness),
        doubtful=doubtful,
        most=MOST,
        low=LOW,
        evenly=_evenly,
        image_url=lambda frame, motion, about: _image_url(draw_frame(data, frame, motion, about)),
    )
    atomic_write(Path(out), page)
    return Path(out)


def draw_frame(
    data: Hand3D, frame: FrameRecord, motion: ActionRecord | None = None, about: str | None = None
) -> Image.Image:
    """The image, enlarged to WIDTH, with both hands' joints, the objects' boxes, and a motion that begins here.

    about: the one object to show.
    """
    image, (fx, fy, cx, cy, width, height) = data.image(frame.id), frame.intrinsics
    camera = Intrinsics(fx, fy, cx, cy, int(width), int(height), "calibrated")
    canvas = Canvas(image, WIDTH / image.shape[1], camera)
    canvas.boxes((o["name"], np.array(o["box"])) for o in frame.objects if about in (None, o["name"]))
    for side, joints in (("left", frame.left_joints), ("right", frame.right_joints)):
        if joints is not None:
            canvas.hand(np.reshape(joints, (21, 3)), SIDE_COLOURS[side])
    for path in (motion.trajectories if motion is not None else {}).values():
        canvas.path(path, "#ffffff")
    return canvas.picture


def _choose(data: Hand3D, clips: int, clip_id: str | None) -> dict[str, ClipRecord]:
    found = {clip.id: clip for clip in data.clips()}
    if clip_id is not None:
        if clip_id not in found:
            known = ", ".join(list(found)[:5])
            raise ValueError(f"clip {clip_id!r} is not in {data.path}; the first ones are {known}")
        return {clip_id: found[clip_id]}
    return dict(list(found.items())[:clips])


def _clip_doubts(clip: ClipRecord, asked: bool) -> str:
    """What of a whole clip is only guessed, or could not be used."""
    notes = json.loads(clip.notes)
    said = [] if asked else ["nothing is asked of it"]
    if "guessed" in notes.get("field of view", ""):
        said.append(f"field of view {notes['field of view']}: distances may be as wrong")
    if "camera poses" in notes:
        said.append(f"poses that are not used: {notes['camera poses']}")
    return "; ".join(said)


def _kept_out(data: Hand3D) -> tuple[list[tuple[str, str]], list[tuple[str, int]]]:
    """Refused clips with their reasons, and how many relations and motions were left out for which reason."""
    file = data.path / "report.json"
    report = json.loads(file.read_text()) if file.is_file() else {}
    counts = [item for reasons in report.get("left_out", {}).values() for item in reasons.items()]
    return [(clip, reason) for clip, reason in report.get("refused", ())], counts


def _evenly(frames: list[FrameRecord]) -> list[FrameRecord]:
    places = np.unique(np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int))
    return [frames[i] for i in places]


def _image_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return data_url(file.getvalue(), ".jpg")


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."
