"""ARCTIC: two hands and articulated objects, one worn and eight fixed cameras (zc-alexfan/arctic)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from vipa.clips.clip import Clip, ClipError, Hand, ObjectTrack, Split, Text
from vipa.clips.mano_hands import mano_hand, mano_layer
from vipa.clips.meshes import add_shapes, mesh_shape
from vipa.clips.reading import chunks, existing_root, read_each, rows, sound_images
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import Frames, ImageFrames, UndistortedFrames
from vipa.geometry import Intrinsics, invert, matrix_from_axis_angle, rigid
from vipa.geometry.distortion import RationalLens
from vipa.hands.skeleton import Side
from vipa.io.json_files import read_json
from vipa.io.safe_pickle import load_npy

OPTIONS = ("mano", "view", "seconds")
LICENCE = "ARCTIC licence of the Max Planck Society: non-commercial research"
DOWNLOAD = "arctic.is.tue.mpg.de (registration), scripts of github.com/zc-alexfan/arctic; MANO model files"
LAYOUT = """\
ROOT/                                      (arctic_data/data, or any folder above it)
  raw_seqs/s01/<object>_<grab|use>_01.mano.npy  .object.npy  .egocam.dist.npy
  images/s01/<object>_<grab|use>_01/<view>/00001.jpg    view 0: worn, 1 ... 8: fixed (option view; 0 by default)
  meta/misc.json
  meta/object_vtemplates/<object>/mesh.obj  parts.json    for where an object's middle and its surface are
  splits_json/protocol_p2.json             where there is one, for the official split
"""

RATE = 30.0

WORDS = {"capsulemachine": "capsule machine", "espressomachine": "espresso machine", "waffleiron": "waffle iron"}
"""Names that stand for two words."""


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = existing_root(root)
    if options.view not in (None, *map(str, range(9))):
        raise ValueError(f"view {options.view!r} is unknown; ARCTIC's views are 0 (worn) to 8")
    view = int(options.view or 0)
    data = next((p.parent.parent for p in sorted(root.rglob("meta/misc.json"))), root)
    folders = [p for p in sorted((data / "images").glob(f"*/*/{view}")) if p.is_dir()]
    found = [(f"{p.parts[-3]}_{p.parts[-2]}_view{view}", p) for p in folders]
    return read_each("arctic", root, LAYOUT, found, lambda name, p: _read(name, data, p, view, options))


def _read(name: str, data: Path, folder: Path, view: int, options: SourceOptions) -> Iterator[Clip | ClipError]:
    subject, sequence = folder.parts[-3], folder.parts[-2]
    misc = read_json(data / "meta" / "misc.json")[subject]
    raw = data / "raw_seqs" / subject
    mano = _npy(raw / f"{sequence}.mano.npy")
    count = len(np.asarray(mano["right"]["rot"]))
    offset = int(misc["ioi_offset"])
    images = {int(p.stem) - offset: p for p in sorted(folder.glob("*.jpg")) if p.stem.isdigit()}
    shown = [row for row in sorted(images) if 0 <= row < count]  # the first and last images have no annotation
    if not shown:
        raise ValueError(f"{folder}: no image falls on one of the {count} annotated frames")
    notes = {"texts": "made from the sequence's name; the data set has no sentences"}
    sound, size = sound_images([images[row] for row in shown], notes)
    shown = [shown[i] for i in sound]
    paths = tuple(images[row] for row in shown)
    camera = _worn if view == 0 else _fixed
    frames, intrinsics, T_camera_world = camera(raw, sequence, misc, view, ImageFrames(paths), size, count, shown)
    hands = [_hand(side, mano, shown, T_camera_world, options) for side in ("left", "right")]
    thing, action = sequence.split("_")[:2]
    notes = {"texts": "made from the sequence's name; the data set has no sentences"}
    clip = Clip(
        id=name,
        source="arctic",
        source_video=f"{subject}/{sequence}",
        frames=frames,
        timestamps=(np.array(shown) - shown[0]) / RATE,
        intrinsics=intrinsics,
        T_world_camera=invert(T_camera_world),
        hands=tuple(h for h in hands if h is not None),
        objects=(_object(data, raw / f"{sequence}.object.npy", thing, count, shown, notes),),
        texts=(Text(f"{action} the {WORDS.get(thing, thing)}", 0.0, (shown[-1] - shown[0] + 1) / RATE),),
        split=_split(data, subject, sequence),
        licence=LICENCE,
        notes=notes,
    )
    yield from chunks(clip, options.seconds)


def _npy(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing (the test subject's ground truth is not public)")
    data = load_npy(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: no dict in this file")
    return data


def _worn(
    raw: Path, sequence: str, misc: dict, view: int, images: ImageFrames, size: tuple, count: int, shown: list[int]
) -> tuple[Frames, Intrinsics, np.ndarray]:
    """The head camera: a pose a frame (world to camera) and a lens that is taken out of the images."""
    data = _npy(raw / f"{sequence}.egocam.dist.npy")
    R = rows(data["R_k_cam_np"], count, "R_k_cam_np", (3, 3))
    t = rows(data["T_k_cam_np"], count, "T_k_cam_np", (3,))
    nominal = [int(x) for x in misc["image_size"][0]]
    intrinsics = _intrinsics(data["intrinsics"], nominal, size)
    lens = RationalLens(
        *intrinsics.matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist(),
        coefficients=tuple(np.asarray(data["dist8"], dtype=np.float64).ravel().tolist()),
    )
    return UndistortedFrames(images, lens, size, intrinsics), intrinsics, rigid(R, t)[shown]


def _fixed(
    raw: Path, sequence: str, misc: dict, view: int, images: ImageFrames, size: tuple, count: int, shown: list[int]
) -> tuple[Frames, Intrinsics, np.ndarray]:
    T = np.asarray(misc["world2cam"], dtype=np.float64)[view - 1]
    nominal = [int(x) for x in misc["image_size"][view]]
    return images, _intrinsics(misc["intris_mat"][view - 1], nominal, size), np.repeat(T[None], len(shown), 0)


def _intrinsics(K: np.ndarray, nominal: list[int], size: tuple[int, int]) -> Intrinsics:
    """For the images as they are, which may have been made smaller than the calibration's."""
    return Intrinsics.from_matrix(np.asarray(K, dtype=np.float64), *nominal, "calibrated").for_size(*size)


def _hand(
    side: Side, mano: dict, shown: list[int], T_camera_world: np.ndarray, options: SourceOptions
) -> Hand | None:
    """World frame; smplx with use_pca=False, flat_hand_mean=False: the mean is added, trans is not the wrist."""
    data = mano[side]
    count = len(np.asarray(mano["right"]["rot"]))
    rotation = rows(data["rot"], count, f"{side} rot", (3,))[shown]
    pose = rows(data["pose"], count, f"{side} pose", (45,))[shown]
    translation = rows(data["trans"], count, f"{side} trans", (3,))[shown]
    known = np.isfinite(rotation).all(1) & np.isfinite(pose).all(1) & np.isfinite(translation).all(1)
    return mano_hand(
        mano_layer(side, options.mano, True),
        orientation=matrix_from_axis_angle(np.nan_to_num(rotation)),
        pose=pose,
        form="axis_angle",
        add_mean=True,
        betas=np.asarray(data["shape"], dtype=np.float64).reshape(10),
        translation=translation,
        tips="smplx",
        T_camera_source=T_camera_world,
        known=known,
    )


def _object(data: Path, path: Path, name: str, count: int, shown: list[int], notes: dict[str, str]) -> ObjectTrack:
    """Rows of articulation (radians), axis-angle, and a translation in millimetres, though hands are in metres.

    The pose is the base's. The mesh is in millimetres and closed; of its vertices those that parts.json marks turn
    by the articulation about -z.
    """
    if not path.is_file():
        return ObjectTrack(WORDS.get(name, name))
    values = rows(load_npy(path), count, path.name, (7,))[shown]
    track = ObjectTrack(WORDS.get(name, name), rigid(matrix_from_axis_angle(values[:, 1:4]), values[:, 4:] / 1000))
    folder = data / "meta" / "object_vtemplates" / name
    (track,) = add_shapes([track], [folder / "mesh.obj"], notes, 1e-3)
    if track.surface is None or not (folder / "parts.json").is_file():
        return track
    vertex = mesh_shape(folder / "mesh.obj", 1e-3).vertex
    try:
        parts = np.array(read_json(folder / "parts.json", list), dtype=bool)[vertex]
    except (ValueError, IndexError) as error:
        notes["meshes"] = f"{name}: taken as closed, parts.json does not fit the mesh ({error})"
        return track
    turned = rigid(matrix_from_axis_angle(values[:, :1] * [0.0, 0.0, -1.0]), np.zeros((len(shown), 3)))
    return replace(track, moving=parts, T_object_moving=turned)


def _split(data: Path, subject: str, sequence: str) -> Split | None:
    names: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
    for path in (data / "splits_json" / "protocol_p2.json", data.parent / "splits_json" / "protocol_p2.json"):
        if path.is_file():
            for split, sequences in read_json(path).items():
                if f"{subject}/{sequence}" in sequences:
                    return names.get(split)
    return None
