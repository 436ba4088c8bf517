"""MANO model files: the official pickles read once, safely, into our .npz; the numbers of one hand model.

MANO has its own non-commercial licence; users bring the files (https://mano.is.tue.mpg.de).
"""

import os
import re
import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from vipa.hands.skeleton import Side
from vipa.io.files import whole_file
from vipa.io.safe_pickle import load_pickle

Convention = Literal["smplx", "manopth"]
SIDES: tuple[Side, ...] = ("left", "right")
File = TypeVar("File")

TIP_VERTICES: dict[Convention, dict[Side, tuple[int, ...]]] = {
    "smplx": {"right": (744, 320, 443, 554, 671), "left": (744, 320, 443, 554, 671)},
    "manopth": {"right": (745, 317, 444, 556, 673), "left": (745, 317, 445, 556, 673)},
}
"""Vertices that stand for the tips of thumb, index, middle, ring, little. smplx's (HOT3D uses them) and
manopth's (also manotorch; H2O, HOI4D, DexYCB, TACO, OakInk2) differ by millimetres."""

NATIVE_TO_21 = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""Our 21 joints out of [MANO's 16 (wrist, index, middle, little, ring, thumb), then the 5 tips]."""

PARENTS_16 = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
FORMAT = "vipa-mano-1"
_MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class ManoModel:
    """The numbers of one MANO hand, float64, metres; joints in MANO's own order of 16.

    Surprising: some distributed left files have x of `shape_directions` with the wrong sign (smplx issue 48).
    Importing repairs that and sets `left_shape_fixed`; data sets whose annotation was made with the
    unrepaired file (ARCTIC, H2O, TACO) are read with `as_distributed()`.
    """

    side: Side
    template: np.ndarray  # (778, 3)
    shape_directions: np.ndarray  # (778, 3, 10)
    pose_directions: np.ndarray  # (778, 3, 135)
    joint_regressor: np.ndarray  # (16, 778)
    weights: np.ndarray  # (778, 16)
    faces: np.ndarray  # (F, 3) int64
    pose_components: np.ndarray  # (45, 45), rows are principal poses
    pose_mean: np.ndarray  # (45,) radians
    left_shape_fixed: bool = False

    def __post_init__(self) -> None:
        for name, shape in _SHAPES.items():
            array = getattr(self, name)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(
                    f"MANO model: {name} must be finite with shape {shape}, it has shape {array.shape}"
                )
        if self.faces.ndim != 2 or self.faces.shape[1] != 3 or not (self.faces >= 0).all():
            raise ValueError(f"MANO model: faces must have shape (F, 3), they have {self.faces.shape}")
        if self.faces.max(initial=0) >= len(self.template):
            raise ValueError("MANO model: faces name vertices that do not exist")

    @property
    def rest_wrist(self) -> np.ndarray:
        """Where the wrist (3,) of the mean shape is before any translation; several cm from the origin."""
        return (self.joint_regressor @ self.template)[0]

    def mirrored(self) -> "ManoModel":
        """The other side's hand: its mesh for mirrored parameters is this mesh in the mirror x -> -x.

        VITRA and HaWoR represent left hands so. Applied twice, the same model.
        """
        signs = np.tile(_MIRROR, 15)
        features = np.tile(np.outer(_MIRROR, _MIRROR).ravel(), 15)
        return replace(
            self,
            side="left" if self.side == "right" else "right",
            template=self.template * _MIRROR,
            shape_directions=self.shape_directions * _MIRROR[:, None],
            pose_directions=self.pose_directions * _MIRROR[:, None] * features,
            faces=self.faces[:, ::-1].copy(),
            pose_components=self.pose_components * -signs,
            pose_mean=self.pose_mean * -signs,
            left_shape_fixed=False,
        )

    def as_distributed(self) -> "ManoModel":
        """The model as its file had it, the sign fault of some left files included."""
        if not self.left_shape_fixed:
            return self
        return replace(self, shape_directions=_flip_x(self.shape_directions), left_shape_fixed=False)


_SHAPES = {
    "template": (778, 3),
    "shape_directions": (778, 3, 10),
    "pose_directions": (778, 3, 135),
    "joint_regressor": (16, 778),
    "weights": (778, 16),
    "pose_components": (45, 45),
    "pose_mean": (45,),
}

OFFICIAL_KEYS = {
    "template": "v_template",
    "shape_directions": "shapedirs",
    "pose_directions": "posedirs",
    "joint_regressor": "J_regressor",
    "weights": "weights",
    "faces": "f",
    "pose_components": "hands_components",
    "pose_mean": "hands_mean",
}
"""Our field -> its key in the official file."""


def read_official(source: str | Path | bytes, side: Side, name: str = "") -> ManoModel:
    """The model in an official MANO_LEFT.pkl / MANO_RIGHT.pkl, as distributed. chumpy is not needed.

    source: path or bytes. ValueError where a key is missing, has another shape, or the pickle holds anything
    but arrays (`vipa.io.safe_pickle`).
    """
    label = name or (str(source) if not isinstance(source, bytes) else "MANO file")
    raw = load_pickle(source, name=label)
    if not isinstance(raw, dict):
        raise ValueError(f"{label}: a MANO file holds a dict, this one a {type(raw).__name__}")
    missing = [key for key in OFFICIAL_KEYS.values() if key not in raw]
    if missing:
        raise ValueError(f"{label}: not a MANO file, these keys are missing: {', '.join(missing)}")
    values: dict[str, Any] = {field: np.asarray(raw[key]) for field, key in OFFICIAL_KEYS.items()}
    table = np.asarray(raw.get("kintree_table", [PARENTS_16]))
    if tuple(int(p) for p in table[0][1:]) != PARENTS_16[1:]:
        raise ValueError(f"{label}: kintree_table is not MANO's")
    try:
        faces = values.pop("faces").astype(np.int64)
        values = {field: array.astype(np.float64) for field, array in values.items()}
        values["shape_directions"] = values["shape_directions"][..., :10]
        return ManoModel(side=side, faces=faces, **values)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{label}: {error}") from None


def fix_left_shape(left: ManoModel, right: ManoModel) -> ManoModel:
    """`left` with the sign of its shape directions' x right; unchanged where it already is.

    A left hand's shape directions mirror the right's: x has the opposite sign. The faulty files have the same.
    """
    ours, other = left.shape_directions[:, 0], right.shape_directions[:, 0]
    if np.abs(ours + other).sum() <= np.abs(ours - other).sum():
        return left
    return replace(left, shape_directions=_flip_x(left.shape_directions), left_shape_fixed=True)


def _flip_x(shape_directions: np.ndarray) -> np.ndarray:
    return shape_directions * _MIRROR[:, None]


def save_mano(model: ManoModel, path: str | Path) -> Path:
    """Write a model as .npz (arrays only, no pickle)."""
    path = Path(path)
    arrays: dict[str, Any] = {field.name: np.asarray(getattr(model, field.name)) for field in fields(model)}
    with whole_file(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, format=np.asarray(FORMAT), **arrays)
    return path


def mano_folder() -> Path:
    """Where imported models are: $VIPA_MANO, or ~/.cache/vipa/mano."""
    return Path(os.environ.get("VIPA_MANO") or Path.home() / ".cache" / "vipa" / "mano")


def load_mano(side: Side, folder: str | Path | None = None) -> ManoModel:
    """The imported model of one side from `folder` (default `mano_folder()`).

    FileNotFoundError saying how to get it; ValueError for a file that is not ours.
    """
    path = Path(folder or mano_folder()) / f"mano_{side}.npz"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: download MANO from https://mano.is.tue.mpg.de (it has its own licence), "
            "then run `vipa import-weights mano FOLDER_OR_ZIP`"
        )
    try:
        with np.load(path, allow_pickle=False) as data:
            if "format" not in data or str(data["format"]) != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            values: dict[str, Any] = {f.name: data[f.name] for f in fields(ManoModel)}
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an imported MANO model ({error}); import it again") from None
    values["side"], values["left_shape_fixed"] = str(values["side"]), bool(values["left_shape_fixed"])
    return ManoModel(**values)


def import_mano(path: str | Path, out: str | Path | None = None) -> dict[Side, Path]:
    """Read official MANO files once and keep them as mano_left.npz, mano_right.npz in `out`.

    path: MANO_RIGHT.pkl or MANO_LEFT.pkl, a folder with them (or mano_left_C.pkl and the like) somewhere below, or the
    downloaded zip.
    out: default `mano_folder()`. Returns the files written. With both sides the left's shape sign is checked
    and repaired; a left file alone is refused, because it cannot be checked.
    FileNotFoundError where there is none; ValueError as `read_official`, or where a file is the other side's.
    """
    found = _find_official(Path(path))
    if not found:
        raise FileNotFoundError(f"{path}: no MANO_RIGHT.pkl or MANO_LEFT.pkl in it")
    if "right" not in found:
        raise ValueError(
            f"{path}: only MANO_LEFT.pkl is there; some left files have a sign fault that only MANO_RIGHT.pkl "
            "reveals: give the folder with both"
        )
    models: dict[Side, ManoModel] = {
        side: read_official(source, side, name) for side, (source, name) in found.items()
    }
    for side, model in models.items():
        if (model.rest_wrist[0] > 0) != (side == "right"):  # a right hand's wrist is at x = +0.1 m
            raise ValueError(f"{found[side][1]}: holds the other hand (is it exchanged?); give the official files")
    if "left" in models:
        models["left"] = fix_left_shape(models["left"], models["right"])
    folder = Path(out or mano_folder())
    return {side: save_mano(model, folder / f"mano_{side}.npz") for side, model in models.items()}


def _find_official(path: Path) -> dict[Side, tuple[Path | bytes, str]]:
    """side -> (path or bytes, name for errors)."""
    if path.is_dir():
        return {side: (file, str(file)) for side, file in _sides({str(p): p for p in path.rglob("*.pkl")}).items()}
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = {name: name for name in archive.namelist() if not name.startswith("__MACOSX")}
            return {side: (archive.read(name), f"{path}:{name}") for side, name in _sides(inside).items()}
    for side in SIDES:
        if side in path.stem.lower():
            return {side: (path, str(path))}
    raise ValueError(f"{path}: left or right? Keep the official name MANO_LEFT.pkl or MANO_RIGHT.pkl")


def _sides(files: dict[str, File]) -> dict[Side, File]:
    """The file of each side among files by name: MANO_LEFT.pkl, else one named alike (mano_left_C.pkl)."""
    found: dict[Side, File] = {}
    for name in sorted(files, key=lambda name: (len(Path(name).name), name)):
        for side in SIDES:
            if re.search(rf"mano.*(?<![a-z]){side}(?![a-z]).*\.pkl$", Path(name).name.lower()):
                found.setdefault(side, files[name])
    return found
