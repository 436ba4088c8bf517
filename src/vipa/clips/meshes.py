"""Meshes of objects as data sets ship them (OBJ, PLY, GLB): geometric centre, size and points of the surface."""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from vipa.clips.clip import ObjectTrack
from vipa.geometry import matrix_from_quaternion_wxyz, transform

POINTS = 1000
"""Points of a surface: 4 mm apart on a cup, 2 cm on a laptop."""

SIZE = (0.005, 4.0)
"""Metres that the longest side of a thing for hands can have; another size is a wrong unit."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """faces: rows of three vertices; none of a cloud of points."""

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]


@dataclass(frozen=True, eq=False)
class Shape:
    """What a mesh tells of an object, metres, in the mesh's own frame.

    centre, extent: middle and full size of the box along the axes around it. surface: points spread evenly by area,
    the same ones every time. vertex: of the mesh, one of each point's triangle.
    """

    centre: Float[np.ndarray, "3"]
    extent: Float[np.ndarray, "3"]
    surface: Float[np.ndarray, "points 3"]
    vertex: Int[np.ndarray, "points"]


def add_shapes(
    tracks: Sequence[ObjectTrack],
    paths: Sequence[Path | None],
    notes: dict[str, str],
    metres_per_unit: float = 1.0,
) -> tuple[ObjectTrack, ...]:
    """The tracks with what their mesh files tell; notes["meshes"] says which are missing or damaged.

    paths: a mesh in the frame of each track's poses, None where the data set has none.
    """
    out, problems = [], []
    for track, path in zip(tracks, paths):
        shape = None
        if path is None or not path.is_file():
            problems.append(f"{track.name}: {'there is none' if path is None else f'{path.name} is missing'}")
        else:
            track = replace(track, mesh=str(path))
            try:
                shape = mesh_shape(path, metres_per_unit)
            except ValueError as error:
                problems.append(f"{track.name}: {error}")
        if shape is not None:
            track = replace(track, centre=shape.centre, extent=shape.extent, surface=shape.surface)
        out.append(track)
    if problems:
        more = f"; {len(problems) - 3} more" if len(problems) > 3 else ""
        notes["meshes"] = "; ".join(problems[:3]) + more
    return tuple(out)


def mesh_shape(path: Path, metres_per_unit: float = 1.0) -> Shape:
    """The shape of the mesh in a file, kept for the next clip. ValueError naming a file that is damaged, empty or of
    a size that no such object has."""
    stat = path.stat()
    return _shape(path, metres_per_unit, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _shape(path: Path, metres_per_unit: float, size: int, time: int) -> Shape:
    mesh = read_mesh(path)
    used = np.unique(mesh.faces) if len(mesh.faces) else np.arange(len(mesh.vertices))
    corners = mesh.vertices[used] * metres_per_unit
    low, high = corners.min(0), corners.max(0)
    longest = float((high - low).max())
    if not SIZE[0] <= longest <= SIZE[1]:
        raise ValueError(f"{path}: the mesh is {longest:.3g} m long: another unit than {metres_per_unit:g} m?")
    surface, vertex = sample_surface(mesh)
    return Shape((low + high) / 2, high - low, surface * metres_per_unit, vertex)


def sample_surface(
    mesh: Mesh, count: int = POINTS
) -> tuple[Float[np.ndarray, "points 3"], Int[np.ndarray, "points"]]:
    """Points spread evenly by area, in the mesh's unit, and a vertex of each one's triangle; of a cloud its own."""
    if not len(mesh.faces):
        chosen = np.unique(np.linspace(0, len(mesh.vertices) - 1, count).astype(int))
        return mesh.vertices[chosen], chosen
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)
    if area.sum() <= 0:
        area = np.ones(len(area))
    ends = np.cumsum(area)
    face = np.searchsorted(ends, (np.arange(count) + 0.5) / count * ends[-1]).clip(max=len(area) - 1)
    s, t = np.random.default_rng(0).random((2, count, 1))
    s, t = np.where(s + t > 1, (1 - s, 1 - t), (s, t))
    return a[face] + s * (b - a)[face] + t * (c - a)[face], mesh.faces[face, 0]


def read_mesh(path: Path) -> Mesh:
    """The triangles of an OBJ, PLY or GLB file, in its own unit. ValueError naming a file that is none."""
    readers = {".obj": _read_obj, ".ply": _read_ply, ".glb": _read_glb}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: a mesh ends in {', '.join(readers)}")
    try:
        vertices, faces = readers[path.suffix.lower()](path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except _Unreadable as error:
        raise ValueError(f"{path}: {error}") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise ValueError(f"{path}: damaged mesh ({type(error).__name__}: {error})") from None
    if not len(vertices) or not np.isfinite(vertices).all():
        raise ValueError(f"{path}: damaged mesh ({'no vertices' if not len(vertices) else 'not finite'})")
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise ValueError(f"{path}: damaged mesh (a face names a vertex that is not there)")
    return Mesh(vertices, faces)


class _Unreadable(Exception):
    """Why a file that is whole is not read."""


Triangles = tuple[Float[np.ndarray, "vertices 3"], Int[np.ndarray, "faces 3"]]


def _fan(polygon: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    yield from ((polygon[0], b, c) for b, c in pairwise(polygon[1:]))


def _faces(rows: list) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _read_obj(data: bytes) -> Triangles:
    """Vertices and faces of all groups; negative indices count back from the last vertex so far."""
    vertices, faces = [], []
    for line in data.decode("utf-8", errors="replace").splitlines():
        if line.startswith("v "):
            vertices.append([float(x) for x in line.split()[1:4]])
        elif line.startswith("f "):
            corners = [int(corner.split("/", 1)[0]) for corner in line.split()[1:]]
            faces += _fan([i - 1 if i > 0 else len(vertices) + i for i in corners])
    if vertices and not faces:
        raise _Unreadable("no faces in this OBJ: cut short?")
    return np.array(vertices, dtype=np.float64).reshape(-1, 3), _faces(faces)


_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


def _read_ply(data: bytes) -> Triangles:
    """ASCII and both binary forms; a file without faces is a cloud of points."""
    head, found, body = data.partition(b"end_header\n")
    if not found:
        head, found, body = data.partition(b"end_header\r\n")
    lines = [line.split() for line in head.decode("latin1").splitlines()]
    if not found or not lines or lines[0] != ["ply"]:
        raise _Unreadable("not a PLY file, or cut in its header")
    form = next(line[1] for line in lines if line and line[0] == "format")
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in lines:
        if line[:1] == ["element"]:
            elements.append((line[1], int(line[2]), []))
        elif line[:1] == ["property"]:
            elements[-1][2].append(line[1:])
    tables = _ply_ascii(body, elements) if form == "ascii" else _ply_binary(body, elements, form)
    faces = [t for polygon in tables.get("face", {}).get("vertices", ()) for t in _fan(polygon)]
    vertex = tables["vertex"]
    return np.stack([np.asarray(vertex[a], dtype=np.float64) for a in "xyz"], -1), _faces(faces)


def _is_corners(row: list[str]) -> bool:
    return row[0] == "list" and row[-1] in ("vertex_indices", "vertex_index")


def _ply_ascii(body: bytes, elements: list) -> dict[str, dict]:
    tables: dict[str, dict] = {}
    words = iter(body.decode("latin1").split())
    for name, count, properties in elements:
        columns: dict[str, list] = {row[-1]: [] for row in properties}
        for _ in range(count):
            for row in properties:
                if row[0] == "list":
                    columns[row[-1]].append([float(_next(words)) for _ in range(int(_next(words)))])
                else:
                    columns[row[-1]].append(float(_next(words)))
        corners = next((columns[row[-1]] for row in properties if _is_corners(row)), [])
        tables[name] = columns | {"vertices": [[int(i) for i in polygon] for polygon in corners]}
    return tables


def _next(words: Iterator[str]) -> str:
    word = next(words, None)
    if word is None:
        raise ValueError("it ends too early")
    return word


def _ply_binary(body: bytes, elements: list, form: str) -> dict[str, dict]:
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}[form]
    tables: dict[str, dict] = {}
    at = 0
    for name, count, properties in elements:
        if all(row[0] != "list" for row in properties):
            kind = np.dtype([(row[-1], order + _PLY_TYPES[row[0]]) for row in properties])
            table = np.frombuffer(body, kind, count, at)
            tables[name] = {row[-1]: table[row[-1]] for row in properties}
            at += count * kind.itemsize
            continue
        polygons: list[list[int]] = []
        for _ in range(count):
            for row in properties:
                length = 1
                if row[0] == "list":
                    length = int(np.frombuffer(body, order + _PLY_TYPES[row[1]], 1, at)[0])
                    at += np.dtype(_PLY_TYPES[row[1]]).itemsize
                kind = np.dtype(order + _PLY_TYPES[row[-2]])
                if _is_corners(row):
                    polygons.append(np.frombuffer(body, kind, length, at).tolist())
                at += length * kind.itemsize
        if at > len(body):
            raise ValueError("it ends too early")
        tables[name] = {"vertices": polygons}
    return tables


_GLB_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6


def _read_glb(data: bytes) -> Triangles:
    """All triangles of the default scene, each node's transform applied; textures are not looked at."""
    magic, version, length = struct.unpack_from("<4sII", data)
    if magic != b"glTF" or version != 2:
        raise _Unreadable("not a binary glTF 2.0 file")
    if length > len(data):
        raise ValueError("it ends too early")
    json_length = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + json_length])
    for extension in ("KHR_draco_mesh_compression", "EXT_meshopt_compression"):
        if extension in document.get("extensionsRequired", ()):
            raise _Unreadable(f"compressed with {extension}, which is not read: export it without")
    binary = data[20 + json_length + 8 :]
    vertices, faces = [np.zeros((0, 3))], [np.zeros((0, 3), dtype=np.int64)]

    def visit(node: dict, parent: np.ndarray, depth: int) -> None:
        if depth > 64:
            raise ValueError("nodes in a circle")
        T = parent @ _node_matrix(node)
        for primitive in document["meshes"][node["mesh"]]["primitives"] if "mesh" in node else ():
            mode = primitive.get("mode", _TRIANGLES)
            if mode not in (_TRIANGLES, _STRIP, _FAN):
                continue  # points and lines
            points = _accessor(document, binary, primitive["attributes"]["POSITION"])
            order = np.arange(len(points))
            if "indices" in primitive:
                order = _accessor(document, binary, primitive["indices"]).astype(np.int64).ravel()
            faces.append(_triangles(order, mode) + sum(map(len, vertices)))
            vertices.append(transform(T, points.astype(np.float64)))
        for child in node.get("children", ()):
            visit(document["nodes"][child], T, depth + 1)

    roots = document["scenes"][document.get("scene", 0)]["nodes"]
    for root in roots:
        visit(document["nodes"][root], np.eye(4), 0)
    return np.concatenate(vertices), np.concatenate(faces)


def _node_matrix(node: dict) -> np.ndarray:
    """(4, 4), with the scale in it. A matrix stands column by column, a quaternion as xyzw."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    T = np.eye(4)
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    T[:3, :3] = matrix_from_quaternion_wxyz(np.array([w, x, y, z], dtype=np.float64))
    T[:3, :3] *= np.array(node.get("scale", (1, 1, 1)), dtype=np.float64)
    T[:3, 3] = node.get("translation", (0, 0, 0))
    return T


def _accessor(document: dict, binary: bytes, index: int) -> np.ndarray:
    """(count, components); integers that stand for fractions are made such."""
    accessor = document["accessors"][index]
    if "sparse" in accessor or "bufferView" not in accessor:
        raise _Unreadable("sparse accessors are not read: export it without")
    view = document["bufferViews"][accessor["bufferView"]]
    kind = np.dtype(_GLB_TYPES[accessor["componentType"]])
    width, count = {"SCALAR": 1, "VEC3": 3}[accessor["type"]], accessor["count"]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride") or width * kind.itemsize
    if count < 1 or start + (count - 1) * stride + width * kind.itemsize > len(binary):
        raise ValueError("it ends too early")
    values = np.ndarray((count, width), kind, binary, start, (stride, kind.itemsize))
    if accessor.get("normalized"):
        return np.maximum(values / np.iinfo(kind).max, -1.0)
    return values


def _triangles(order: np.ndarray, mode: int) -> np.ndarray:
    if mode == _TRIANGLES:
        return order.reshape(-1, 3)
    first = order[:-2] if mode == _STRIP else np.full(len(order) - 2, order[0])
    return np.stack([first, order[1:-1], order[2:]], -1)
