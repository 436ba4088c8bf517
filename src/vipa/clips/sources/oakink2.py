"""OakInk2: two-handed complex tasks in steps, four cameras, motion capture (oakink/OakInk2)."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from vipa.clips.clip import Clip, ClipError, Hand, ObjectTrack, Text
from vipa.clips.mano_hands import mano_hand, mano_layer
from vipa.clips.meshes import add_shapes
from vipa.clips.reading import checked, chunks, cut, existing_root, read_each, sound_images
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import ImageFrames
from vipa.geometry import Intrinsics, invert, matrix_from_quaternion_wxyz
from vipa.hands.skeleton import Side
from vipa.io.json_files import read_json
from vipa.io.safe_pickle import load_pickle

OPTIONS = ("mano", "view", "seconds")
LICENCE = "see the card of huggingface.co/datasets/kelvin34501/OakInk-v2 (none in the repository)"
DOWNLOAD = (
    "huggingface.co/datasets/kelvin34501/OakInk-v2: data, anno_preview, object_raw, program; MANO model files"
)
LAYOUT = """\
ROOT/
  data/<sequence>/<camera serial>/000000.jpg ... (or png)
  anno_preview/<sequence>.pkl
  object_raw/obj_desc.json  align_ds/<object id>/*.obj or *.ply  (or object_repair/)
  program/desc_info/<sequence>.json  program/program_info/<sequence>.json
option view: a camera's name (egocentric, allocentric_top, ...); the worn camera by default
"""

RATE = 120.0
"""Frame ids count motion capture; the video has every fourth."""


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = existing_root(root)
    found = [(path.stem.replace("++", "_"), path) for path in sorted((root / "anno_preview").glob("*.pkl"))]
    return read_each("oakink2", root, LAYOUT, found, lambda name, path: _read(name, root, path, options))


def _read(name: str, root: Path, path: Path, options: SourceOptions) -> Iterator[Clip | ClipError]:
    data = load_pickle(path)
    serial, camera = _camera(data["cam_def"], options.view or "egocentric")
    folder = root / "data" / path.stem / serial
    files = {int(p.stem): p for p in sorted(folder.glob("*.*")) if p.stem.isdigit()}
    ids = [int(i) for i in sorted(data["frame_id_list"]) if int(i) in files]
    if not ids:
        raise ValueError(f"{folder}: none of the {len(data['frame_id_list'])} images is here")
    notes: dict[str, str] = {}
    sound, size = sound_images([files[i] for i in ids], notes)
    ids = [ids[i] for i in sound]
    K = np.asarray(data["cam_intr"][camera][ids[0]], dtype=np.float64)
    T_camera_world = np.stack([_matrix(data["cam_extr"][camera].get(i)) for i in ids])
    hands = [_hand(side, data["raw_mano"], ids, T_camera_world, options, notes) for side in ("left", "right")]
    recording = Clip(
        id=name,
        source="oakink2",
        source_video=path.stem,
        frames=ImageFrames(tuple(files[i] for i in ids)),
        timestamps=(np.array(ids) - ids[0]) / RATE,
        intrinsics=Intrinsics.from_recorded(K, (848, 480), size, "calibrated"),
        T_world_camera=invert(T_camera_world),
        hands=tuple(h for h in hands if h is not None),
        objects=_objects(root, data, ids, notes),
        licence=LICENCE,
        notes=notes,
    )
    segments = _segments(root, path.stem)
    if not segments:
        yield from chunks(
            replace(recording, notes=notes | {"segments": "no program; cut by time"}), options.seconds
        )
    for k, (left, right, sentence) in enumerate(segments):
        spans = [span for span in (left, right) if span]
        start = int(np.searchsorted(ids, min(s[0] for s in spans)))
        stop = int(np.searchsorted(ids, max(s[1] for s in spans)))  # half-open, in motion-capture frames
        if stop > start:
            try:
                yield from chunks(_step(recording, ids, start, stop, k, left, right, sentence), options.seconds)
            except ClipError as error:
                yield error


def _matrix(value: object) -> np.ndarray:
    """(4, 4), NaN where it is not there or has another shape."""
    T = np.asarray(value, dtype=np.float64)
    return T if T.shape == (4, 4) else np.full((4, 4), np.nan)


Span = tuple[int, int] | None


def _step(
    recording: Clip, ids: list[int], start: int, stop: int, k: int, left: Span, right: Span, sentence: str
) -> Clip:
    """One step of the program: its frames, its sentence, and only the hands that act in it."""
    clip = cut(recording, start, stop, f"{recording.id}_step{k:02d}")
    acting = {side: span for side, span in (("left", left), ("right", right)) if span}
    texts = []
    for side, span in acting.items():
        begin, end = ((x - ids[start]) / RATE for x in span)
        texts.append(Text(sentence, max(begin, 0.0), end, side))
    hands = tuple(hand for hand in clip.hands if hand.side in acting)
    return checked(replace(clip, hands=hands, texts=tuple(texts) if sentence else ()))


def _camera(cam_def: dict, view: str) -> tuple[str, str]:
    """(serial, name) of the camera whose name is or begins with `view`. ValueError naming those there are."""
    for serial, name in cam_def.items():
        if view in (name, serial) or str(name).startswith(view):
            return str(serial), str(name)
    raise ValueError(f"no camera {view!r}; this sequence has {', '.join(map(str, cam_def.values()))}")


def _hand(
    side: Side,
    raw: dict,
    ids: list[int],
    T_camera_world: np.ndarray,
    options: SourceOptions,
    notes: dict[str, str],
) -> Hand | None:
    """World frame; 16 quaternions wxyz, manotorch centred on the wrist with a flat mean: tsl is the wrist."""
    prefix, n = f"{side[0]}h__", len(ids)
    quaternions, wrist, betas = np.tile([1.0, 0, 0, 0], (n, 16, 1)), np.zeros((n, 3)), np.zeros((n, 10))
    known = np.zeros(n, bool)
    for row, i in enumerate(ids):
        if i in raw and raw[i].get(prefix + "pose_coeffs") is not None:
            try:
                quaternions[row] = np.asarray(raw[i][prefix + "pose_coeffs"], dtype=np.float64).reshape(16, 4)
                wrist[row] = np.asarray(raw[i][prefix + "tsl"], dtype=np.float64).reshape(3)
                betas[row] = np.asarray(raw[i][prefix + "betas"], dtype=np.float64).reshape(10)
            except (KeyError, TypeError, ValueError) as error:
                notes[f"{side} hand"] = f"frame {i} is unknown, its entry is damaged ({error})"
                continue
            known[row] = np.isfinite(quaternions[row]).all() and np.linalg.norm(quaternions[row, 0]) > 0.5
    if not known.any():
        return None
    quaternions[~known] = [1.0, 0, 0, 0]
    return mano_hand(
        mano_layer(side, options.mano, True),
        orientation=matrix_from_quaternion_wxyz(quaternions[:, 0]),
        pose=quaternions[:, 1:],
        form="quaternion_wxyz",
        add_mean=False,
        betas=betas,
        wrist=wrist,
        tips="manopth",
        T_camera_source=T_camera_world,
        known=known,
    )


def _objects(root: Path, data: dict, ids: list[int], notes: dict[str, str]) -> tuple[ObjectTrack, ...]:
    names = {}
    for folder in ("object_raw", "object_repair", "object_preview"):
        path = root / folder / "obj_desc.json"
        if path.is_file():
            names = {k: v["obj_name"] for k, v in read_json(path).items()} | names
    tracks, meshes = [], []
    for obj in data["obj_list"]:
        if obj in data["obj_transf"]:
            poses = [_matrix(data["obj_transf"][obj].get(i)) for i in ids]
            tracks.append(ObjectTrack(str(names.get(obj, obj)), np.stack(poses)))
            meshes.append(_mesh(root, str(obj)))
    return add_shapes(tracks, meshes, notes)


def _mesh(root: Path, obj: str) -> Path | None:
    """The repaired scan of an object, which is closed, else the raw one."""
    for folder in ("object_repair", "object_raw", "object_preview"):
        for kind in ("obj", "ply"):
            files = sorted((root / folder / "align_ds" / Path(obj).name).glob(f"*.{kind}"))
            if files:
                return files[0]
    return None


def _segments(root: Path, sequence: str) -> list[tuple[Span, Span, str]]:
    """(left span, right span, sentence) in motion-capture frames, in time order.

    Keys are Python pairs of intervals written as text, whose spacing differs between files.
    """
    program = {}
    for kind in ("program_info", "desc_info"):
        path = root / "program" / kind / f"{sequence}.json"
        if path.is_file():
            for key, value in read_json(path).items():
                program.setdefault(ast.literal_eval(key), {}).update(value)
    steps = [(left, right, str(v.get("seg_desc") or "")) for (left, right), v in program.items() if left or right]
    return sorted(steps, key=lambda s: min(span[0] for span in s[:2] if span))
