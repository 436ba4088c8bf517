"""Taste-Rob: short videos of one task each, fixed camera, with a caption and nothing else (GAP-LAB-CUHK-SZ)."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl

from vipa.clips.clip import Clip, ClipError, Text
from vipa.clips.landmarks import LandmarkFinder
from vipa.clips.raw_video import camera_of, landmark_finder, tracked_hands
from vipa.clips.reading import chunks, existing_root, files_below, read_each
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import VideoFrames
from vipa.io.frame_times import end_of

OPTIONS = ("fov_degrees", "tracker", "hands", "seconds", "cache")
LICENCE = "CC BY-NC 4.0"
DOWNLOAD = (
    "github.com/GAP-LAB-CUHK-SZ/TASTE-Rob: SingleHand and DoubleHand archives by scene, captions.xlsx, test.txt"
)
LAYOUT = """\
ROOT/
  SingleHand/<Scene>/<id>.mp4
  DoubleHand/<Scene>/<id>.mp4
  captions.xlsx               sheets Single-Hand, Double-Hand; columns id, scene, caption
  test.txt                    one id a line
no intrinsics are known: give the option fov_degrees; hands come from a tracker (options tracker, hands)
"""

SHEETS = {"SingleHand": "Single-Hand", "DoubleHand": "Double-Hand"}


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = Path(root)
    if root.is_file():  # ROOT/kind/scene/id.mp4
        root, paths = root.parents[2], files_below(root, {".mp4"})[1]
    else:
        paths = sorted(p for kind in SHEETS for p in (existing_root(root) / kind).rglob("*.mp4"))
    paths = [p for p in paths if p.relative_to(root).parts[0] in SHEETS]
    found = [("_".join(p.relative_to(root).with_suffix("").parts), p) for p in paths]
    stems = Counter(p.stem for p in paths)  # ids repeat between scenes
    captions = read_captions(root / "captions.xlsx")
    test = read_test(root / "test.txt")
    finder = landmark_finder(paths, options)
    return read_each(
        "tasterob",
        root,
        LAYOUT,
        found,
        lambda name, path: _read(name, root, path, captions, test, options, stems[path.stem] == 1, finder),
    )


def _read(
    name: str,
    root: Path,
    path: Path,
    captions: dict[tuple[str, str, str], str],
    test: frozenset[str] | None,
    options: SourceOptions,
    one_stem: bool,
    finder: LandmarkFinder | None,
) -> Iterator[Clip | ClipError]:
    kind, scene = path.relative_to(root).parts[:2]
    video = VideoFrames(path)
    caption = captions.get(_key(SHEETS[kind], scene, path.stem))
    notes: dict[str, str] = {} if caption else {"texts": "no caption with this id in this sheet and scene"}
    intrinsics, view = camera_of(video, {}, options, notes)
    end = end_of(video.timestamps)
    clip = Clip(
        id=name,
        source="tasterob",
        source_video=str(path.relative_to(root).with_suffix("")),
        frames=video,
        timestamps=video.timestamps,
        intrinsics=intrinsics,
        T_world_camera=np.repeat(np.eye(4)[None], len(video), 0),  # the camera stands still: it is the world
        hands=tracked_hands(name, path, video, intrinsics, options, notes, one_stem, finder),
        texts=(Text(caption, 0.0, end, "both" if kind == "DoubleHand" else None),) if caption else (),
        split=None if test is None else "test" if path.stem in test else "train",
        licence=LICENCE,
        field_of_view=view,
        notes=notes,
    )
    yield from chunks(clip, options.seconds)


def _key(sheet: str, scene: object, clip_id: object) -> tuple[str, str, str]:
    """Ids repeat between sheets and scenes: only the three together name a clip. Excel may hold 12 as 12.0."""
    number = int(clip_id) if isinstance(clip_id, float) and clip_id.is_integer() else clip_id
    return sheet, str(scene).strip().casefold(), str(number).strip()


def read_captions(path: Path) -> dict[tuple[str, str, str], str]:
    """(sheet, scene, id) -> caption; {} where the table is not there. ValueError where its columns are others."""
    if not path.is_file():
        return {}
    try:
        book: Any = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises whatever its zip and XML readers raise
        raise ValueError(f"{path}: not an Excel workbook ({type(error).__name__})") from None
    out = {}
    for sheet in SHEETS.values():
        if sheet not in book.sheetnames:
            continue
        lines = book[sheet].iter_rows(values_only=True)
        header = [str(cell).strip().casefold() for cell in next(lines, ())]
        if not {"id", "scene", "caption"} <= set(header):
            raise ValueError(f"{path}, sheet {sheet}: columns id, scene, caption expected, it has {header}")
        columns = [header.index(name) for name in ("id", "scene", "caption")]
        for line in lines:
            clip_id, scene, caption = (line[c] if c < len(line) else None for c in columns)
            if clip_id is not None and caption:
                out[_key(sheet, scene, clip_id)] = str(caption).strip()
    return out


def read_test(path: Path) -> frozenset[str] | None:
    """The ids of test.txt; None where it is not there.

    Surprising: the file has bare ids, which repeat between scenes; every clip with such an id is held out.
    """
    if not path.is_file():
        return None
    return frozenset(line.strip() for line in path.read_text().splitlines() if line.strip())
