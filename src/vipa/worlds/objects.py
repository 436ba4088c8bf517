"""The things on the table: kinds, colours and sizes, and the geoms they are made of.

An object's own frame has its origin at the centre of its bounding box, z up when it stands. Every kind is one
visual mesh or primitive (group 0) and, where physics is wanted, simple collision geoms (group 3, never drawn).
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import mujoco
import numpy as np
from scipy.special import ndtr

from vipa.geometry import rigid

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.08, 0.08),
    "orange": (0.95, 0.47, 0.05),
    "yellow": (0.93, 0.84, 0.10),
    "green": (0.10, 0.55, 0.15),
    "blue": (0.10, 0.25, 0.80),
    "purple": (0.50, 0.15, 0.65),
    "white": (0.93, 0.93, 0.93),
    "black": (0.07, 0.07, 0.08),
}

# Full extents in metres (x, y, z), smallest and largest; equal x and y ranges are one round measure.
SIZES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "cup": ((0.070, 0.070, 0.075), (0.085, 0.085, 0.095)),
    "bowl": ((0.120, 0.120, 0.045), (0.150, 0.150, 0.060)),
    "plate": ((0.150, 0.150, 0.016), (0.190, 0.190, 0.022)),
    "box": ((0.050, 0.050, 0.050), (0.075, 0.075, 0.075)),
    "ball": ((0.055, 0.055, 0.055), (0.080, 0.080, 0.080)),
    "bottle": ((0.055, 0.055, 0.140), (0.068, 0.068, 0.175)),
    "can": ((0.056, 0.056, 0.085), (0.068, 0.068, 0.110)),
    "banana": ((0.130, 0.060, 0.032), (0.165, 0.075, 0.038)),
    "book": ((0.110, 0.150, 0.022), (0.130, 0.175, 0.035)),
    "cone": ((0.070, 0.070, 0.085), (0.085, 0.085, 0.115)),
}
KINDS: tuple[str, ...] = tuple(SIZES)
ROUND = frozenset({"cup", "bowl", "plate", "ball", "bottle", "can", "cone"})
CONTAINERS = frozenset({"bowl", "plate", "book"})
"""Kinds with an upper face wide enough to put another object on."""

SPREAD, LARGEST = 3.0, 0.20
"""At full ambiguity a kind's sizes vary by this factor more, up to this extent in metres or to 1.6 times as before."""
ALIKE = 0.5
"""Correlation of the things of a scene: where one is small for its kind, the others tend to be."""
STRETCH = 1.35
"""and heights by this one, up and down, against widths."""

SEGMENTS = 20
DENSITY = 250.0  # kg per cubic metre of bounding box: 50-200 g per object


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object where the scene starts. size: full extents in metres in its own frame, position: its centre."""

    kind: str
    colour: str
    name: str  # "red cup"
    rgb: tuple[float, float, float]  # as drawn, near COLOURS[colour]
    size: np.ndarray  # (3,) metres
    position: np.ndarray  # (3,) metres, world
    yaw: float  # radians about world z
    pattern: str  # "plain", "checker" or "noise"

    @property
    def T_world_object(self) -> np.ndarray:
        """(4, 4), where the scene starts."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return rigid(np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]), self.position)

    @property
    def radius(self) -> float:
        """Of the circle on the table that holds the object at any yaw, metres."""
        if self.kind in ROUND:
            return float(self.size[0]) / 2
        return float(np.hypot(self.size[0], self.size[1])) / 2

    @property
    def height(self) -> float:
        return float(self.size[2])

    @property
    def floor(self) -> float:
        """Where something put inside or on top comes to rest, metres above the object's bottom."""
        return {"bowl": 0.15, "plate": 0.45, "cup": 0.08}.get(self.kind, 1.0) * self.height


def vary_size(
    kind: str, size: np.ndarray, ambiguity: float, common: float, rng: np.random.Generator
) -> np.ndarray:
    """The size (3,) of a thing of version 1, made small or large (log-uniform) by as much as `ambiguity` in 0..1 says.

    common: of all things of the scene, a standard normal number.
    """
    if ambiguity == 0:
        return size
    largest = min(1.6, LARGEST / max(SIZES[kind][1]))
    share = ndtr(np.sqrt(ALIKE) * common + np.sqrt(1 - ALIKE) * rng.normal())
    scale = np.exp(ambiguity * (np.log(largest) - share * np.log(SPREAD)))
    stretch = 1.0 if kind == "ball" else np.exp(ambiguity * rng.uniform(-1, 1) * np.log(STRETCH))
    return size * scale * np.array([1.0, 1.0, stretch])


def sample_size(kind: str, rng: np.random.Generator) -> np.ndarray:
    """(3,) full extents in metres, uniform between the kind's smallest and largest."""
    low, high = (np.array(x) for x in SIZES[kind])
    t = rng.random(3)
    if kind in ROUND:
        t[1] = t[0]
    size = low + t * (high - low)
    if kind == "ball":
        size[:] = size[0]
    return size


def add_object(spec: mujoco.MjSpec, thing: SceneObject, name: str, material: str, dynamic: bool) -> mujoco.MjsBody:
    """Add one object as a body called `name` to `spec`, drawn with `material`.

    dynamic: a free body with mass, friction and collision geoms; otherwise a mocap body that only moves when
    told to. Returns the body.
    """
    w, d, h = thing.size / 2
    body = spec.worldbody.add_body(
        name=name,
        pos=thing.position,
        quat=[np.cos(thing.yaw / 2), 0, 0, np.sin(thing.yaw / 2)],
        mocap=not dynamic,
    )
    if dynamic:
        body.add_freejoint(name=f"{name}_free")
    look = {"group": 0, "contype": 0, "conaffinity": 0, "material": material, "mass": 0.0}
    box, sphere, mesh = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_MESH
    if thing.kind == "box":
        body.add_geom(type=box, size=[w, d, h], **look)
    elif thing.kind == "ball":
        body.add_geom(type=sphere, size=[w, 0, 0], **look)
    elif thing.kind == "book":
        pages = {k: v for k, v in look.items() if k != "material"} | {"rgba": [0.93, 0.91, 0.84, 1.0]}
        body.add_geom(type=box, size=[w * 0.97, d * 0.97, h * 0.8], pos=[w * 0.02, 0, 0], **pages)
        for z in (-0.9 * h, 0.9 * h):
            body.add_geom(type=box, size=[w, d, h * 0.1], pos=[0, 0, z], **look)
        body.add_geom(type=box, size=[w * 0.06, d, h * 0.85], pos=[-w * 0.94, 0, 0], **look)
    else:
        vertices, faces = _mesh(thing.kind)
        spec.add_mesh(
            name=f"{name}_mesh",
            uservert=(vertices * thing.size).ravel(),
            userface=faces.ravel(),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
        )
        body.add_geom(type=mesh, meshname=f"{name}_mesh", **look)
        if thing.kind == "can":  # the metal ends that tell a can from a cone or a cup
            metal = {k: v for k, v in look.items() if k != "material"} | {"rgba": [0.75, 0.76, 0.78, 1.0]}
            for z in (-0.96 * h, 0.96 * h):
                body.add_geom(
                    type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[w * 0.96, h * 0.04, 0], pos=[0, 0, z], **metal
                )
        elif thing.kind == "cup":
            for z0, z1, x0, x1 in ((0.5, 0.5, 0.85, 1.35), (0.5, -0.3, 1.35, 1.35), (-0.3, -0.4, 1.35, 0.8)):
                body.add_geom(
                    type=mujoco.mjtGeom.mjGEOM_CAPSULE,
                    fromto=[x0 * w, 0, z0 * h, x1 * w, 0, z1 * h],
                    size=[0.005, 0, 0],
                    **look,
                )
    if dynamic:
        _add_collision(body, thing)
    return body


def _add_collision(body: mujoco.MjsBody, thing: SceneObject) -> None:
    """Boxes and cylinders that touch; bowls and cups are hollow rings, so that things can lie inside."""
    w, d, h = thing.size / 2
    box, cylinder = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
    parts: list[tuple[mujoco.mjtGeom, list[float], list[float], float]] = []  # type, size, position, yaw
    if thing.kind in ("cup", "bowl", "plate"):
        wall = 0.004
        floor = max(thing.floor / 2, 0.002)
        base = {"cup": 0.85, "bowl": 0.75, "plate": 0.9}[thing.kind] * w
        parts.append((cylinder, [base, floor, 0.0], [0.0, 0.0, floor - h], 0.0))
        n = 10
        for k in range(n):
            a = 2 * np.pi * k / n
            r = w - wall
            size = [wall, r * np.tan(np.pi / n), h]
            parts.append((box, size, [r * np.cos(a), r * np.sin(a), 0.0], a))
        if thing.kind == "plate":
            parts = parts[:1] + [(g, [0.010, s[1], h * 0.3], [*p[:2], h * 0.7], a) for g, s, p, a in parts[1:]]
    elif thing.kind in ("box", "book"):
        parts.append((box, [w, d, h], [0.0, 0.0, 0.0], 0.0))
    elif thing.kind == "ball":
        parts.append((mujoco.mjtGeom.mjGEOM_SPHERE, [w, 0.0, 0.0], [0.0, 0.0, 0.0], 0.0))
    elif thing.kind == "banana":
        parts.append((box, [w * 0.5, d * 0.45, h * 0.95], [0.0, -d * 0.3, 0.0], 0.0))
        for side in (-1, 1):
            parts.append((box, [w * 0.28, d * 0.4, h * 0.8], [side * w * 0.65, d * 0.3, 0.0], side * 0.6))
    elif thing.kind == "bottle":
        parts.append((cylinder, [w, h * 0.62, 0.0], [0.0, 0.0, -h * 0.38], 0.0))
        parts.append((cylinder, [w * 0.42, h * 0.38, 0.0], [0.0, 0.0, h * 0.62], 0.0))
    elif thing.kind == "cone":
        for k, r in enumerate((0.85, 0.6, 0.35)):
            parts.append((cylinder, [w * r, h / 3, 0.0], [0.0, 0.0, h * (2 * k - 2) / 3], 0.0))
    else:
        parts.append((cylinder, [w, h, 0.0], [0.0, 0.0, 0.0], 0.0))
    mass = DENSITY * float(np.prod(thing.size))
    for kind, size, pos, yaw in parts:
        body.add_geom(
            type=kind,
            size=size,
            pos=pos,
            quat=[np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)],
            group=3,
            mass=mass / len(parts),
            friction=[1.0, 0.01, 0.001],
            condim=4,
        )


# Outlines (radius, z) of the round kinds in the unit box, from the bottom's centre round to the top's or inside's.
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "cup": [(0, -0.5), (0.38, -0.5), (0.5, 0.5), (0.44, 0.5), (0.33, -0.42), (0, -0.42)],
    "bowl": [
        (0, -0.5), (0.22, -0.5), (0.38, -0.2), (0.46, 0.12), (0.5, 0.5),
        (0.46, 0.5), (0.42, 0.12), (0.33, -0.15), (0.2, -0.35), (0, -0.35),
    ],
    "plate": [(0, -0.5), (0.3, -0.5), (0.5, 0.4), (0.5, 0.5), (0.46, 0.45), (0.33, -0.05), (0, -0.05)],
    "bottle": [
        (0, -0.5), (0.5, -0.5), (0.5, 0.1), (0.42, 0.2), (0.2, 0.3),
        (0.2, 0.4), (0.25, 0.4), (0.25, 0.5), (0, 0.5),
    ],
    "can": [(0, -0.48), (0.5, -0.48), (0.5, 0.48), (0, 0.48)],
    "cone": [(0, -0.5), (0.5, -0.5), (0.5, -0.42), (0.06, 0.5), (0, 0.5)],
}  # fmt: skip


@lru_cache
def _mesh(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (n, 3) in the unit box and triangles (m, 3), outward normals, of a kind that is a mesh."""
    if kind == "banana":
        return _banana()
    return _lathe(np.array(_OUTLINES[kind]))


def _lathe(outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The closed surface swept by an outline (k, 2) of (radius, z) that starts and ends on the axis.

    Sharp edges: rings are doubled, one per side of an edge, because MuJoCo averages normals at a vertex.
    """
    angle = 2 * np.pi * np.arange(SEGMENTS) / SEGMENTS
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    vertices: list[np.ndarray] = []
    faces: list[tuple[int, int, int]] = []
    for (r0, z0), (r1, z1) in pairwise(outline):
        start = 2 * SEGMENTS * (len(vertices) // 2)
        for r, z in ((r0, z0), (r1, z1)):
            vertices.append(np.column_stack([circle * max(r, 1e-4), np.full(SEGMENTS, z)]))
        for i in range(SEGMENTS):
            j = (i + 1) % SEGMENTS
            a, b, c, e = start + i, start + j, start + SEGMENTS + i, start + SEGMENTS + j
            if r0 > 0:
                faces.append((a, b, c))
            if r1 > 0:
                faces.append((b, e, c))
    return np.concatenate(vertices), np.array(faces)


def _banana() -> tuple[np.ndarray, np.ndarray]:
    """A bent tapered tube filling the unit box."""
    rings, around = 9, 8
    t = np.linspace(-1, 1, rings)
    radius = 0.5 * np.sqrt(np.clip(1 - 0.96 * np.abs(t) ** 3, 0, 1))
    bend = 1.1 * t
    centre = np.column_stack([np.sin(bend), 1 - np.cos(bend)])
    angle = 2 * np.pi * np.arange(around) / around
    points = []
    for k in range(rings):
        outward = np.array([-np.sin(bend[k]), np.cos(bend[k])])
        for a in angle:
            xy = centre[k] + outward * 0.22 * radius[k] * 2 * np.cos(a)
            points.append([xy[0], xy[1], radius[k] * np.sin(a)])
    faces = []
    for k in range(rings - 1):
        for i in range(around):
            j = (i + 1) % around
            a, b = k * around + i, k * around + j
            c, e = a + around, b + around
            faces += [(a, c, b), (b, c, e)]
    for k, order in ((0, 1), (rings - 1, -1)):
        points.append([*centre[k], 0.0])
        tip = len(points) - 1
        for i in range(around):
            j = (i + 1) % around
            faces.append((tip, *((k * around + i, k * around + j)[::order])))
    vertices = np.array(points)
    low, high = vertices.min(0), vertices.max(0)
    return (vertices - (low + high) / 2) / (high - low), np.array(faces)[:, ::-1]


def surface_points(thing: SceneObject) -> np.ndarray:
    """Points (n, 3) of the object's surface, own frame, metres: enough for a tight box in an image."""
    if thing.kind in ("box", "book"):
        unit = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), -1).reshape(-1, 3)
    elif thing.kind == "ball":
        a, b = np.meshgrid(np.linspace(0, 2 * np.pi, 24, endpoint=False), np.linspace(0, np.pi, 13))
        unit = 0.5 * np.stack([np.cos(a) * np.sin(b), np.sin(a) * np.sin(b), np.cos(b)], -1).reshape(-1, 3)
    else:
        unit = _mesh(thing.kind)[0]
    return unit * thing.size


def triangles(thing: SceneObject) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (n, 3), own frame, metres, and faces (m, 3) of the object's body, without a cup's handle."""
    if thing.kind in ("box", "book"):
        unit = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
        sides = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
        faces = np.array([t for a, b, c, e in sides for t in ((a, b, c), (a, c, e))])
    elif thing.kind == "ball":
        angle = np.linspace(-np.pi / 2, np.pi / 2, 13)
        unit, faces = _lathe(0.5 * np.stack([np.cos(angle), np.sin(angle)], -1))
    else:
        unit, faces = _mesh(thing.kind)
    return unit * thing.size, faces
