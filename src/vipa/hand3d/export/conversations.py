"""Hand3D for other programs: conversation JSONL of the LLaVA and InternVL kind."""

import json
from pathlib import Path

from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import ActionRecord, VisualRecord
from vipa.io.files import atomic_write

STYLES = ("internvl", "llava")


def export_conversations(
    path: str | Path, out: str | Path, style: str = "internvl", tables: tuple[str, ...] = ("visual", "action")
) -> dict[str, int]:
    """Writes <out>/<table>_<split>.jsonl (llava: .json lists), images below <out>/images, meta.json; returns counts.

    A record has `id`, `image` (path below the image root: one string, or a list for several frames) and `conversations`
    with one turn of "human" and "gpt"; an `<image>` placeholder a frame begins the question. style "internvl" adds
    `width_list` and `height_list` for several frames (`width`, `height` for one) as its loader reads them; "llava"
    has none, and puts questions about several frames into <table>_<split>_several.json, for LLaVA-NeXT: the first
    LLaVA's loader opens one image a record. meta.json is InternVL's list of data sets (root, annotation, repeat_time,
    length), conventions.json what motion tokens and direction words mean. ValueError for a style that is not known.
    """
    if style not in STYLES:
        raise ValueError(f"conversation style {style!r} is unknown; known: {', '.join(STYLES)}")
    data, out = Hand3D(path), Path(out)
    sizes = {}
    for frame in data.frames():
        image = data.encoded_image(frame.id)
        name = image_path(frame.id, image)
        atomic_write(out / "images" / name, image, sync=False)
        sizes[frame.id] = (name, int(frame.intrinsics[4]), int(frame.intrinsics[5]))
    counts, meta = {}, {}
    for table in tables:
        for split in data.manifest["tables"][table]:
            records = data.visual(split) if table == "visual" else data.action(split)
            files: dict[str, list[str]] = {}
            for record in records:
                line = conversation(record, sizes, style)
                several = style == "llava" and isinstance(line["image"], list)
                files.setdefault(f"{table}_{split}{'_several' * several}", []).append(json.dumps(line))
            for name, lines in files.items():
                file = out / (f"{name}.jsonl" if style == "internvl" else f"{name}.json")
                text = "\n".join(lines) + "\n" if style == "internvl" else "[" + ",\n".join(lines) + "]\n"
                atomic_write(file, text)
                counts[name] = len(lines)
                meta[f"hand3d_{name}"] = {
                    "root": str((out / "images").resolve()),
                    "annotation": str(file.resolve()),
                    "data_augment": False,
                    "repeat_time": 1,
                    "length": len(lines),
                }
    atomic_write(out / "conventions.json", json.dumps(data.conventions.to_json(), indent=1))
    atomic_write(out / "meta.json", json.dumps(meta, indent=1))
    return counts


def conversation(
    record: VisualRecord | ActionRecord, sizes: dict[str, tuple[str, int, int]], style: str
) -> dict[str, object]:
    """One line, before it becomes JSON. sizes: frame id -> (image path, width, height)."""
    if isinstance(record, VisualRecord):
        frames, question, answer = record.frame_ids, record.question, record.answer
    else:
        frames, question, answer = [record.frame_id], record.prompt, record.response
    names, widths, heights = (list(column) for column in zip(*(sizes[frame] for frame in frames)))
    if len(frames) == 1:
        marks = "<image>\n"
    elif style == "internvl":
        marks = "".join(f"Image-{i + 1}: <image>\n" for i in range(len(frames)))
    else:
        marks = "<image>\n" * len(frames)
    line: dict[str, object] = {
        "id": record.id,
        "image": names[0] if len(names) == 1 else names,
        "conversations": [{"from": "human", "value": marks + question}, {"from": "gpt", "value": answer}],
    }
    if style == "internvl":
        one = len(frames) == 1
        line |= (
            {"width": widths[0], "height": heights[0]} if one else {"width_list": widths, "height_list": heights}
        )
    return line


def image_path(frame_id: str, image: bytes) -> str:
    """Path of a frame's image file below the image root."""
    return f"{frame_id}.{'png' if image[:4] == bytes([0x89]) + b'PNG' else 'jpg'}"
