"""A hand model in MANO's format made of our own numbers, since the real one may not be shipped.

Rings around finger bones and a palm, in the rest pose and the axes of the official right hand (fingers to -x,
palm to -y, thumb to +z): joints and proportions of a human hand, the fingertip vertices at the official ids,
smooth skinning, ten shape directions and pose blend shapes of a millimetre or two.
"""

import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.sparse

from vipa.hands.mano_files import OFFICIAL_KEYS, PARENTS_16, TIP_VERTICES, ManoModel
from vipa.hands.skeleton import Side

_WRIST = np.array([0.095, 0.006, 0.006])
# finger, first joint in the order of 16, base, direction, bone lengths (two to the next joints, one to the tip),
# radius; all metres
_FINGERS = (
    ("thumb", 13, (0.071, -0.006, 0.030), (-0.68, -0.20, 0.70), (0.034, 0.030, 0.028), 0.0105),
    ("index", 1, (0.007, 0.012, 0.027), (-0.99, -0.02, 0.10), (0.034, 0.022, 0.024), 0.0090),
    ("middle", 4, (0.000, 0.014, 0.004), (-1.00, -0.02, -0.01), (0.036, 0.025, 0.025), 0.0092),
    ("ring", 10, (0.008, 0.011, -0.017), (-0.99, -0.03, -0.12), (0.033, 0.024, 0.025), 0.0085),
    ("little", 7, (0.022, 0.006, -0.036), (-0.96, -0.05, -0.26), (0.024, 0.017, 0.022), 0.0075),
)
_AROUND = 12
_FINGER_RINGS = 9  # + a pole at each end: 110 vertices a finger; the palm has 19 rings: 778 in all
_PALM_RINGS = 19


def synthetic_mano(seed: int = 0, side: Side = "right") -> ManoModel:
    """A plausible hand model; equal for equal seeds. The left is the mirrored right."""
    rng = np.random.default_rng(seed)
    vertices, faces, weights = [], [], []
    rings: dict[int, np.ndarray] = {}  # joint -> indices of the ring centred on it
    tips: dict[str, tuple[int, list[int]]] = {}
    count = 0
    for name, first, base, direction, lengths, radius in _FINGERS:
        points, triangles, skin, joint_rings = _finger(np.array(base), direction, lengths, radius, first)
        tips[name] = (count + len(points) - 1, [count + len(points) - 2 - k for k in (0, _AROUND // 2)])
        rings |= {joint: index + count for joint, index in joint_rings.items()}
        vertices.append(points)
        faces.append(triangles + count)
        weights.append(skin)
        count += len(points)
    points, triangles, skin = _palm()
    rings[0] = count + np.arange(_AROUND)
    template = np.concatenate([*vertices, points])
    triangles = np.concatenate([*faces, triangles + count])
    skin = np.concatenate([*weights, skin])

    regressor = np.zeros((16, 778))
    for joint, ring in rings.items():
        regressor[joint, ring] = 1 / len(ring)
    order = _order(tips)
    rank = np.argsort(order)
    template, skin, regressor = template[order], skin[order], regressor[:, order]
    joints = regressor @ template
    model = ManoModel(
        side="right",
        template=template,
        shape_directions=_shape_directions(rng, template),
        pose_directions=_pose_directions(rng, template, skin),
        joint_regressor=regressor,
        weights=skin,
        faces=rank[triangles],
        pose_components=_components(rng),
        pose_mean=_flexion(joints) * rng.uniform(0.15, 0.35),
    )
    return model if side == "right" else model.mirrored()


def _finger(
    base: np.ndarray, direction: tuple[float, ...], lengths: tuple[float, ...], radius: float, first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """Vertices (110, 3), faces, weights (110, 16), and the ring of each of its three joints."""
    axis = np.array(direction) / np.linalg.norm(direction)
    side = np.cross(axis, [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    up = np.cross(side, axis)
    joints = np.concatenate([[0.0], np.cumsum(lengths[:2])])
    end = joints[-1] + lengths[2]
    # two rings on the way to each joint, one ring on each joint, three on the last bone
    at = np.sort([*joints, joints[1] / 3, joints[1] * 2 / 3, *np.linspace(joints[1], joints[2], 4)[1:-1],
                  *(joints[2] + lengths[2] * np.array([0.45, 0.85]))])  # fmt: skip
    assert len(at) == _FINGER_RINGS
    turn = np.arange(_AROUND) * 2 * np.pi / _AROUND
    taper = 1 - 0.35 * (at / end) ** 2
    rings = (
        base
        + at[:, None, None] * axis
        + radius * taper[:, None, None] * (np.cos(turn)[:, None] * up + np.sin(turn)[:, None] * side)
    )
    points = np.concatenate([[base - 0.3 * radius * axis], rings.reshape(-1, 3), [base + end * axis]])
    tube = _tube(_FINGER_RINGS) + 1
    near = np.stack([np.zeros(_AROUND, int), 1 + np.roll(np.arange(_AROUND), -1), 1 + np.arange(_AROUND)], -1)
    last = 1 + (_FINGER_RINGS - 1) * _AROUND
    pole = len(points) - 1
    far = np.stack([np.full(_AROUND, pole), last + np.arange(_AROUND), last + np.roll(np.arange(_AROUND), -1)], -1)

    along = (points - base) @ axis
    weights = np.zeros((len(points), 16))
    share = [1 / (1 + np.exp(-(along - j) / (0.18 * radius + 0.0015))) for j in joints]  # past joint j
    weights[:, 0] = 1 - share[0]
    weights[:, first] = share[0] * (1 - share[1])
    weights[:, first + 1] = share[0] * share[1] * (1 - share[2])
    weights[:, first + 2] = share[0] * share[1] * share[2]
    index = {
        first + k: 1 + int(np.argmin(np.abs(at - j))) * _AROUND + np.arange(_AROUND) for k, j in enumerate(joints)
    }
    return points, np.concatenate([near, tube, far]), weights, index


def _palm() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (228, 3), faces, weights (228, 16): elliptic rings from the wrist to the knuckles."""
    s = np.linspace(0, 1, _PALM_RINGS)[:, None, None]
    turn = (np.arange(_AROUND) * 2 * np.pi / _AROUND)[:, None]
    centre = _WRIST + s * (np.array([0.006, 0.011, -0.004]) - _WRIST)
    width = 0.024 + 0.016 * np.sin(s * np.pi * 0.62)
    height = 0.016 - 0.004 * s
    ring = centre + width * np.sin(turn) * [0.0, 0.0, 1.0] + height * np.cos(turn) * [0.0, 1.0, 0.0]
    weights = np.zeros((_PALM_RINGS * _AROUND, 16))
    weights[:, 0] = 1.0
    fan = np.arange(1, _AROUND - 1)
    near = np.stack([np.zeros_like(fan), fan + 1, fan], -1)
    last = (_PALM_RINGS - 1) * _AROUND
    far = last + np.stack([np.zeros_like(fan), fan, fan + 1], -1)
    faces = np.concatenate([near, _tube(_PALM_RINGS), far])[:, ::-1]  # outwards
    return ring.reshape(-1, 3), faces, weights


def _tube(rings: int) -> np.ndarray:
    k = np.arange(_AROUND)
    n = np.roll(k, -1)
    quads = [
        np.concatenate([np.stack([a + k, a + n, b + k], -1), np.stack([a + n, b + n, b + k], -1)])
        for a, b in ((r * _AROUND, (r + 1) * _AROUND) for r in range(rings - 1))
    ]
    return np.concatenate(quads)


def _order(tips: dict[str, tuple[int, list[int]]]) -> np.ndarray:
    """A permutation (778,): new vertex i is old vertex order[i]; tip vertices land on the official ids."""
    place: dict[int, int] = {}
    for i, (pole, ring) in enumerate(tips.values()):
        place[TIP_VERTICES["smplx"]["right"][i]] = pole
        place[TIP_VERTICES["manopth"]["right"][i]] = ring[0]
        place.setdefault(TIP_VERTICES["manopth"]["left"][i], ring[1])
    rest = iter(sorted(set(range(778)) - set(place.values())))
    return np.array([place[i] if i in place else next(rest) for i in range(778)])


def _shape_directions(rng: np.random.Generator, template: np.ndarray) -> np.ndarray:
    """(778, 3, 10): size, length, width, thickness, then six smooth random fields; about 2 mm a unit."""
    centred = template - _WRIST
    out = np.zeros((778, 3, 10))
    out[:, :, 0] = 0.035 * centred
    for k, axis in enumerate((0, 2, 1), start=1):
        out[:, axis, k] = 0.05 * centred[:, axis]
    p = centred / 0.08
    basis = np.stack([p[:, 0], p[:, 1], p[:, 2], p[:, 0] * p[:, 2], p[:, 0] ** 2, p[:, 2] ** 2], -1)
    out[:, :, 4:] = np.einsum("vb,bcs->vcs", 0.0006 * basis, rng.normal(size=(6, 3, 6)))
    return out


def _pose_directions(rng: np.random.Generator, template: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(778, 3, 135): each finger joint's rotation moves the skin it holds by about a millimetre."""
    p = (template - _WRIST) / 0.08
    basis = np.concatenate([np.ones((778, 1)), p], -1)
    fields = np.einsum("vb,bcjr->vcjr", basis, rng.normal(size=(4, 3, 15, 9))) * 0.0007
    return (fields * weights[:, None, 1:, None]).reshape(778, 3, 135)


def _flexion(joints: np.ndarray) -> np.ndarray:
    """(45,) axis-angle that bends every finger joint by one radian towards the palm."""
    out = np.zeros((15, 3))
    for i in range(15):
        joint = i + 1
        child = joint + 1 if joint % 3 else joint
        parent = PARENTS_16[child]
        bone = joints[child] - joints[parent]
        axis = np.cross(bone, [0.0, -1.0, 0.0] if joint < 13 else [0.0, -0.6, -0.8])
        out[i] = axis / np.linalg.norm(axis)
    return out.ravel()


def _components(rng: np.random.Generator) -> np.ndarray:
    """(45, 45) orthonormal rows: random principal poses, the first a common bend of all fingers."""
    matrix = rng.normal(size=(45, 45))
    matrix[:, 0] = np.tile([0.0, 0.0, 1.0], 15) + 0.1 * rng.normal(size=45)
    q, r = np.linalg.qr(matrix)
    return (q * np.sign(np.diag(r))).T.copy()  # signs differ between LAPACKs


@contextmanager
def _fake_chumpy() -> Iterator[tuple[type, type]]:
    """Classes that pickle under chumpy's names while chumpy is not installed."""
    modules = {n: types.ModuleType(n) for n in ("chumpy", "chumpy.ch", "chumpy.reordering")}
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    select = type("Select", (ch,), {"__module__": "chumpy.reordering"})
    vars(modules["chumpy.ch"])["Ch"] = ch
    vars(modules["chumpy.reordering"])["Select"] = select
    before = {n: sys.modules.get(n) for n in modules}
    sys.modules.update(modules)
    try:
        yield ch, select
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def write_official_like_pkl(model: ManoModel, path: str | Path, *, chumpy: bool = True) -> Path:
    """Write a model the way the official files are: a protocol-2 pickle with their keys.

    chumpy: shapedirs is a chumpy Select of a chumpy array, as in the official file (chumpy itself is not
    needed); False: plain arrays, which other public layers read without chumpy.
    """
    raw = {key: getattr(model, field) for field, key in OFFICIAL_KEYS.items()}
    raw["J_regressor"] = scipy.sparse.csc_matrix(model.joint_regressor)
    raw["J"] = model.joint_regressor @ model.template
    raw["f"] = model.faces.astype(np.uint32)
    raw["kintree_table"] = np.array([[4294967295, *PARENTS_16[1:]], range(16)], dtype=np.uint32)
    raw["bs_style"], raw["bs_type"] = "lbs", "lrotmin"
    path = Path(path)
    with _fake_chumpy() as (ch, select):
        if chumpy:
            source, chosen = ch(), select()
            # the official array has more directions than the ten that are selected
            wide = np.concatenate([model.shape_directions, np.zeros((778, 3, 5))], -1)
            vars(source).update(x=wide, _dirty_vars=set(), _itr=None)
            index = np.arange(wide.size).reshape(wide.shape)[..., :10].ravel()
            vars(chosen).update(a=source, idxs=index, preferred_shape=(778, 3, 10), _dirty_vars={"a"})
            raw["shapedirs"] = chosen
        path.write_bytes(pickle.dumps(raw, protocol=2))
    return path
