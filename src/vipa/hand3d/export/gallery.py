"""A Hand3D data set as one self-contained HTML page: images with hands, boxes and paths, questions and answers."""

import base64
import html
import io
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vipa.geometry import project
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import ActionRecord, FrameRecord
from vipa.hands.skeleton import BONES
from vipa.io.files import atomic_write

COLOURS = {"left": (255, 120, 60), "right": (60, 170, 255)}
BOX, PATH = (120, 220, 90), {"left": (255, 200, 80), "right": (120, 230, 255)}
WIDTH = 448  # pixels of the drawn images

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>
:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }}
body {{ max-width: 76rem; margin: 0 auto; padding: 1rem; }}
section {{ border-top: 1px solid #8885; padding: 1rem 0; }}
.frames {{ display: flex; gap: .5rem; overflow-x: auto; }}
figure {{ margin: 0; flex: 0 0 auto; width: min(20rem, 80vw); }}
img {{ width: 100%; height: auto; border-radius: 6px; }} figcaption, .note {{ color: #888; font-size: .85rem; }}
table {{ border-collapse: collapse; width: 100%; }} td {{ padding: .2rem .5rem; vertical-align: top; }}
td:nth-child(1) {{ color: #888; white-space: nowrap; }} td:nth-child(3) {{ font-weight: 600; }}
summary {{ cursor: pointer; }} @media (max-width: 40rem) {{ td {{ display: block; }} }}
</style></head><body><h1>{title}</h1><p class="note">{note}</p>{body}</body></html>"""


def write_gallery(path: str | Path, out: str | Path, clips: int = 12, clip_id: str | None = None) -> Path:
    """Writes the page of the first clips of every split in turn, or of one clip; returns its path.

    ValueError for a clip that is not in the data set.
    """
    data = Hand3D(path)
    chosen = _choose(data, clips, clip_id)
    frames, visual, action = defaultdict(list), defaultdict(list), defaultdict(list)
    for table, rows in ((frames, data.frames()), (visual, data.visual()), (action, data.action())):
        for row in rows:
            if row.clip_id in chosen:
                table[row.clip_id].append(row)
    sections = []
    for clip in chosen.values():
        motions = {r.frame_id: r for r in action[clip.id]}
        figures = "".join(_figure(data, frame, motions.get(frame.id)) for frame in frames[clip.id])
        questions = "".join(
            f"<tr><td>{_cell(r.category.replace('_', ' '))}<br>frames {_indices(r.frame_ids)}</td>"
            f"<td>{_cell(r.question)}</td><td>{_cell(r.answer)}</td></tr>"
            for r in visual[clip.id]
        )
        motion_rows = "".join(
            f"<tr><td>{_cell(r.task.replace('_', ' '))}<br>frame {_indices([r.frame_id])}</td>"
            f"<td>{_cell(_short(r.prompt))}</td><td>{_cell(_short(r.response))}</td></tr>"
            for r in action[clip.id]
        )
        texts = "; ".join(f"{t['text']} ({t['start']:.1f}-{t['end']:.1f} s)" for t in clip.texts)
        scale = "" if not clip.scale_spread else f", scale {clip.scale:.4g} +- {clip.scale_spread:.1%}"
        sections.append(
            f"<section><h2>{_cell(clip.id)}</h2><p class='note'>{clip.split}, {clip.seconds:.1f} s at "
            f"{clip.rate:.0f} frames/s{scale}. {_cell(texts)}</p><div class='frames'>{figures}</div>"
            f"<details open><summary>{len(visual[clip.id])} questions</summary><table>{questions}</table></details>"
            f"<details><summary>{len(action[clip.id])} motions</summary><table>{motion_rows}</table></details>"
            "</section>"
        )
    counts = {table: data.count(table) for table in data.manifest["tables"]}
    note = f"{json.dumps(counts)[1:-1]}. Version {data.manifest['version']}, {data.manifest['config_hash']}."
    page = PAGE.format(
        title=f"Hand3D: {_cell(Path(path).resolve().name)}", note=_cell(note), body="".join(sections)
    )
    atomic_write(Path(out), page)
    return Path(out)


def draw_frame(data: Hand3D, frame: FrameRecord, motion: ActionRecord | None = None) -> Image.Image:
    """The image, enlarged to WIDTH, with both hands' joints, the objects' boxes, and a motion that begins here."""
    picture = Image.fromarray(data.image(frame.id))
    factor = WIDTH / picture.width
    picture = picture.resize((WIDTH, round(picture.height * factor)), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    fx, fy, cx, cy = frame.intrinsics[:4]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])

    def place(points: np.ndarray) -> list[tuple[float, float] | None]:
        with np.errstate(invalid="ignore", divide="ignore"):
            pixels = (project(points, K) + 0.5) * factor
        good = np.isfinite(pixels).all(-1) & (points[:, 2] > 0.02) & (np.abs(pixels) < 1e4).all(-1)
        return [tuple(p) if ok else None for p, ok in zip(pixels.tolist(), good)]

    for thing in frame.objects:
        box = (np.array(thing["box"]) + 0.5) * factor
        if np.isfinite(box).all():
            draw.rectangle(box.tolist(), outline=BOX, width=2)
            draw.text((box[0] + 3, box[1] + 2), thing["name"], fill=BOX)
    for side, joints in (("left", frame.left_joints), ("right", frame.right_joints)):
        if joints is None:
            continue
        places = place(np.reshape(joints, (21, 3)))
        for a, b in BONES:
            if (start := places[a]) is not None and (end := places[b]) is not None:
                draw.line([start, end], fill=COLOURS[side], width=3)
    for side, path in (motion.trajectories if motion is not None else {}).items():
        line = [p for p in place(path) if p is not None]
        if len(line) > 1:
            draw.line(line, fill=PATH[side], width=3)
            draw.ellipse([line[-1][0] - 4, line[-1][1] - 4, line[-1][0] + 4, line[-1][1] + 4], fill=PATH[side])
    return picture


def _choose(data: Hand3D, clips: int, clip_id: str | None) -> dict:
    found = {clip.id: clip for clip in data.clips()}
    if clip_id is not None:
        if clip_id not in found:
            known = ", ".join(list(found)[:5])
            raise ValueError(f"clip {clip_id!r} is not in {data.path}; the first ones are {known}")
        return {clip_id: found[clip_id]}
    return dict(list(found.items())[:clips])


def _figure(data: Hand3D, frame: FrameRecord, motion: ActionRecord | None) -> str:
    file = io.BytesIO()
    draw_frame(data, frame, motion).save(file, "JPEG", quality=85)
    url = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    text = f"frame {frame.index}, {frame.time:.1f} s" + (f": {motion.text}" if motion is not None else "")
    image = f'<img src="{url}" alt="{_cell(text)}" loading="lazy">'
    return f"<figure>{image}<figcaption>{_cell(text)}</figcaption></figure>"


def _indices(frame_ids: list[str]) -> str:
    return ", ".join(str(int(f.rsplit("/", 1)[1])) for f in frame_ids)


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."


def _cell(text: str) -> str:
    return html.escape(text)
