"""DexYCB: one hand grasps a YCB object, eight fixed RGB-D cameras (NVlabs/dex-ycb-toolkit)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from vipa.clips.clip import Clip, ClipError, Hand, ObjectTrack, Split, Text
from vipa.clips.depth import depth_images
from vipa.clips.mano_hands import have_mano, mano_hand, mano_layer
from vipa.clips.meshes import add_shapes
from vipa.clips.reading import chunks, each_file, existing_root, make_hand, read_each, sound_images
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import ImageFrames
from vipa.geometry import Intrinsics, matrix_from_axis_angle
from vipa.hands.skeleton import Side

OPTIONS = ("mano", "view", "seconds")
LICENCE = "CC BY-NC 4.0"
DOWNLOAD = "dex-ycb.github.io: the subjects' archives, calibration.tar.gz; models.tar.gz for meshes"
LAYOUT = """\
ROOT/
  20200709-subject-01/ ...
    20200709_141754/ ...
      meta.yml  pose.npz
      836212060125/ ...            eight cameras (option view: one of them)
        color_000000.jpg  aligned_depth_to_color_000000.png  labels_000000.npz
  calibration/
    intrinsics/836212060125_640x480.yml ...
    extrinsics_<id>/extrinsics.yml
    mano_<id>/mano.yml
  models/002_master_chef_can/textured_simple.obj ...     for where an object's middle and its surface are
"""

RATE = 30.0
WIDTH, HEIGHT = 640, 480
YCB = {
    1: "002_master_chef_can", 2: "003_cracker_box", 3: "004_sugar_box", 4: "005_tomato_soup_can",
    5: "006_mustard_bottle", 6: "007_tuna_fish_can", 7: "008_pudding_box", 8: "009_gelatin_box",
    9: "010_potted_meat_can", 10: "011_banana", 11: "019_pitcher_base", 12: "021_bleach_cleanser",
    13: "024_bowl", 14: "025_mug", 15: "035_power_drill", 16: "036_wood_block", 17: "037_scissors",
    18: "040_large_marker", 20: "052_extra_large_clamp", 21: "061_foam_brick",
}  # fmt: skip
"""Object id -> YCB name; there is no 19."""


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = existing_root(root)
    found = []
    for meta in sorted(root.glob("*/*/meta.yml")):
        sequence = meta.parent
        for camera in sorted(p for p in sequence.iterdir() if p.is_dir()):
            if options.view in (None, camera.name):
                found.append((f"{sequence.parent.name}_{sequence.name}_{camera.name}", camera))
    return read_each("dexycb", root, LAYOUT, found, lambda name, camera: _read(name, root, camera, options))


def object_name(ycb_id: int) -> str:
    """'006_mustard_bottle' as people say it: 'mustard bottle'. An id that is not YCB's keeps its number."""
    return YCB[ycb_id].split("_", 1)[1].replace("_", " ") if ycb_id in YCB else f"object {ycb_id}"


def pick_up(name: str) -> str:
    """What the hand does with the grasped object; one without a name is 'the object'."""
    return f"pick up the {'object' if name.startswith('object ') else name}"


def _read(name: str, root: Path, camera: Path, options: SourceOptions) -> Iterator[Clip | ClipError]:
    sequence = camera.parent
    meta = _yaml(sequence / "meta.yml")
    calibration = root / "calibration"
    color = _yaml(calibration / "intrinsics" / f"{camera.name}_{WIDTH}x{HEIGHT}.yml")["color"]
    K = [float(color[k]) for k in ("fx", "fy", "ppx", "ppy")]
    intrinsics = Intrinsics(*K, WIDTH, HEIGHT, "calibrated")
    extrinsics = _yaml(calibration / f"extrinsics_{meta['extrinsics']}" / "extrinsics.yml")["extrinsics"]
    T_world_camera = np.eye(4)  # the world is the master camera
    serials = {str(key): value for key, value in extrinsics.items()}
    T_world_camera[:3] = np.array(serials[camera.name], dtype=np.float64).reshape(3, 4)

    n = int(meta["num_frames"])
    notes = {"texts": "made from the grasped object's name; the data set has no sentences"}
    images = [camera / f"color_{i:06d}.jpg" for i in range(n)]
    shown, size = sound_images(images, notes)
    frames = ImageFrames(tuple(images[i] for i in shown))
    stems = [f"{i:06d}" for i in shown]
    paths = [camera / f"labels_{s}.npz" for s in stems]
    read = each_file(paths, lambda path: _labels(path, len(meta["ycb_ids"])), notes)
    if not any(read):
        raise FileNotFoundError(f"{camera}: no labels_*.npz of any frame")
    unknown = {"pose_y": np.zeros((len(meta["ycb_ids"]), 3, 4)), "pose_m": np.zeros((1, 51))}
    unknown["joint_3d"] = np.full((1, 21, 3), -1.0)
    labels = [unknown if label is None else label for label in read]
    poses = np.repeat(T_world_camera[None], len(shown), 0)
    side: Side = "left" if str(meta["mano_sides"][0]) == "left" else "right"
    hand = _hand(side, labels, _betas(calibration, meta), options)
    if hand is None:
        raise ValueError("no hand is annotated in any frame")
    ycb_ids = [int(ycb) for ycb in meta["ycb_ids"]]
    tracks = [ObjectTrack(object_name(ycb), _track(labels, k, T_world_camera)) for k, ycb in enumerate(ycb_ids)]
    meshes = [root / "models" / YCB[ycb] / "textured_simple.obj" if ycb in YCB else None for ycb in ycb_ids]
    depth = [camera / f"aligned_depth_to_color_{s}.png" for s in stems]
    grasped = object_name(int(meta["ycb_ids"][int(meta["ycb_grasp_ind"])]))
    clip = Clip(
        id=name,
        source="dexycb",
        source_video=f"{sequence.parent.name}/{sequence.name}",
        frames=frames,
        timestamps=np.array(shown) / RATE - shown[0] / RATE,
        intrinsics=intrinsics.for_size(*size),
        T_world_camera=poses,
        hands=(hand,),
        depth=depth_images(depth, 1e-3, size, notes),
        objects=add_shapes(tracks, meshes, notes),
        texts=(Text(pick_up(grasped), 0.0, n / RATE, side),),
        split=_split(sequence),
        licence=LICENCE,
        notes=notes,
    )
    yield from chunks(clip, options.seconds)


def _yaml(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    with open(path, encoding="utf-8") as file:
        data = yaml.safe_load(file)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: no mapping in this YAML file")
    return data


def _labels(path: Path, count: int) -> dict[str, np.ndarray]:
    """pose_y (count, 3, 4), pose_m (1, 51) and joint_3d (1, 21, 3). ValueError where one has another shape."""
    with np.load(path, allow_pickle=False) as data:
        out = {key: data[key] for key in ("pose_y", "pose_m", "joint_3d")}
    if out["pose_y"].shape != (count, 3, 4) or out["pose_m"].size != 51 or out["joint_3d"].size != 63:
        raise ValueError(f"{path}: pose_y, pose_m and joint_3d have shapes {[v.shape for v in out.values()]}")
    return out


def _betas(calibration: Path, meta: dict) -> np.ndarray:
    path = calibration / f"mano_{meta['mano_calib'][0]}" / "mano.yml"
    return np.array(_yaml(path)["betas"], dtype=np.float64)


def _hand(side: Side, labels: list[dict], betas: np.ndarray, options: SourceOptions) -> Hand | None:
    """joint_3d is -1 throughout where there is no hand; pose_m: 3 axis-angle, 45 PCA coefficients, 3 metres."""
    joints = np.stack([d["joint_3d"].reshape(21, 3) for d in labels]).astype(np.float64)
    known = ~(joints == -1).all((1, 2))
    joints[~known] = np.nan
    if not have_mano(options.mano):
        return make_hand(side, joints)
    parameters = np.stack([d["pose_m"].reshape(51) for d in labels]).astype(np.float64)
    return mano_hand(
        mano_layer(side, options.mano, True),
        orientation=matrix_from_axis_angle(parameters[:, :3]),
        pose=parameters[:, 3:48],
        form="pca",
        add_mean=True,
        betas=betas,
        translation=parameters[:, 48:],
        tips="manopth",
        known=known & (parameters != 0).any(1),
        joints_camera=joints,
    )


def _track(labels: list[dict], k: int, T_world_camera: np.ndarray) -> np.ndarray:
    T = np.tile(np.eye(4), (len(labels), 1, 1))
    T[:, :3] = np.stack([d["pose_y"][k] for d in labels])
    unknown = (T[:, :3] == 0).all((1, 2))
    T = T_world_camera @ T
    T[unknown] = np.nan
    return T


def _split(sequence: Path) -> Split | None:
    """The toolkit's s0: of a subject's 100 sequences every fifth is held out. Unknown where some are not here."""
    sequences = sorted(p.parent.name for p in sequence.parent.glob("*/meta.yml"))
    if len(sequences) != 100:
        return None
    if sequences.index(sequence.name) % 5 != 4:
        return "train"
    return "validation" if sequence.parent.name.endswith(("-01", "-02")) else "test"
