"""A self-contained HTML page of records with their pictures: for looking at a data set where there is no viewer."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from vipa.drawing import SIDE_COLOURS, Canvas
from vipa.geometry import Intrinsics
from vipa.hand3d.dataset import Hand3D
from vipa.hand3d.records import ActionRecord, FrameRecord, VisualRecord
from vipa.hand3d.store import atomic_write

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1100px; padding: 20px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 18px; }
article { border: 1px solid #8884; border-radius: 10px; overflow: hidden; } article > div { padding: 10px 12px; }
.frames { display: flex; gap: 2px; padding: 0 !important; background: #111; }
.frames img { flex: 1; min-width: 0; width: 100%; }
.answer { color: #16875a; font-weight: 600; overflow-wrap: anywhere; } small { opacity: .65; overflow-wrap: anywhere; }
"""


def write_gallery(data: Hand3D, out: Path, *, split: str | None = None, count: int = 24, seed: int = 0) -> Path:
    """`count` questions and a third as many motions, drawn at random with a fixed seed, spread over the kinds.

    Each frame shows its hands' joints, named boxes and, for motions, the wrists' paths. ValueError for no records.
    """
    visual = _spread(list(data.visual(split)), lambda r: r.category, count, seed)
    action = _spread(list(data.action(split)), lambda r: r.task, max(1, count // 3), seed)
    if not visual and not action:
        raise ValueError(f"{data.path}: no records{f' in split {split!r}' if split else ''} to show")
    wanted = {f for r in visual for f in r.frame_ids} | {r.frame_id for r in action}
    frames = {f.id: f for f in data.frames(split) if f.id in wanted}
    cards = [_visual_card(data, record, frames) for record in visual]
    cards += [_action_card(data, record, frames) for record in action]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(data.path.name)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(data.path.name)}</h1><p>{len(visual)} questions and {len(action)} motions of "
        f"{data.count('visual', split)} and {data.count('action', split)}.</p>"
        f'<div class="grid">{"".join(cards)}</div></body></html>\n'
    )
    atomic_write(out, page.encode())
    return out


def _spread(records: Sequence, kind, count: int, seed: int) -> list:
    """`count` records, as evenly over their kinds as there are."""
    groups: dict[str, list] = {}
    for i in np.random.default_rng(seed).permutation(len(records)):
        groups.setdefault(kind(records[int(i)]), []).append(records[int(i)])
    chosen = []
    while len(chosen) < count and any(groups.values()):
        chosen += [group.pop() for _, group in sorted(groups.items()) if group]
    return chosen[:count]


def _visual_card(data: Hand3D, record: VisualRecord, frames: dict[str, FrameRecord]) -> str:
    images = [_drawn(data, frames[f]) for f in record.frame_ids if f in frames]
    figures = "".join(_inline(canvas) for canvas in images)
    return (
        f'<article><div class="frames">{figures}</div><div>{escape(record.question)}'
        f'<div class="answer">{escape(record.answer)}</div>'
        f"<small>{escape(record.category)} &middot; {escape(record.id)}</small></div></article>"
    )


def _action_card(data: Hand3D, record: ActionRecord, frames: dict[str, FrameRecord]) -> str:
    canvas = _drawn(data, frames[record.frame_id])
    for side, points in record.trajectories.items():
        canvas.path(points, SIDE_COLOURS[side])
    response = record.response[:160] + ("..." if len(record.response) > 160 else "")
    prompt = record.prompt[:240] + ("..." if len(record.prompt) > 240 else "")
    return (
        f'<article><div class="frames">{_inline(canvas)}</div><div>{escape(prompt)}'
        f'<div class="answer">{escape(response)}</div>'
        f"<small>{escape(record.task)} &middot; {escape(record.id)}</small></div></article>"
    )


def _drawn(data: Hand3D, frame: FrameRecord) -> Canvas:
    """A frame with whatever is known of its hands and objects."""
    fx, fy, cx, cy, width, height = frame.intrinsics
    camera = Intrinsics(fx, fy, cx, cy, int(width), int(height), "calibrated")
    canvas = Canvas(data.image(frame.id), max(1, round(320 / width)), camera)
    canvas.boxes([(o["name"], np.array(o["box"], dtype=float)) for o in frame.objects if o["box"] is not None])
    for joints in (frame.left_joints, frame.right_joints):
        if joints is not None:
            canvas.hand(np.array(joints, dtype=float).reshape(21, 3))
    return canvas


def _inline(canvas: Canvas) -> str:
    file = io.BytesIO()
    Image.fromarray(canvas.array).save(file, "jpeg", quality=85)
    return f'<img alt="a frame" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'
