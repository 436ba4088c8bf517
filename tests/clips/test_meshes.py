"""Meshes as data sets ship them, whole and damaged; and an object's centre from them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vipa.clips.clip import Clip, ObjectTrack
from vipa.clips.meshes import add_shapes, mesh_shape, read_mesh
from vipa.clips.sources import load_source
from vipa.geometry import rigid
from vipa.worlds.fixtures.writing import write_glb, write_npy, write_obj, write_ply

HOT3D = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "hot3d_sample"

CORNERS = np.array([[x, y, z] for x in (0, 0.2) for y in (0, 0.1) for z in (0, 0.06)])
SIDES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
FACES = np.array([t for a, b, c, d in SIDES for t in ((a, b, c), (a, c, d))])
CENTRE = [0.1, 0.05, 0.03]


def ascii_ply(path: Path) -> Path:
    lines = [
        "ply",
        "format ascii 1.0",
        "comment made",
        "element vertex 8",
        *(f"property double {a}" for a in "xyz"),
    ]
    lines += ["property uchar red", "element face 6", "property list uchar int vertex_index", "end_header"]
    lines += [f"{x} {y} {z} 255" for x, y, z in CORNERS] + [f"4 {a} {b} {c} {d}" for a, b, c, d in SIDES]
    path.write_text("\n".join(lines) + "\n")
    return path


def big_endian_ply(path: Path) -> Path:
    head = "ply\nformat binary_big_endian 1.0\nelement vertex 8\n"
    head += "".join(f"property float {a}\n" for a in "xyz") + "property float nx\n"
    head += "element face 12\nproperty uchar flags\nproperty list uchar uint vertex_indices\nend_header\n"
    vertices = np.concatenate([CORNERS, np.ones((8, 1))], 1).astype(">f4").tobytes()
    path.write_bytes(head.encode() + vertices + b"".join(b"\0\3" + f.tobytes() for f in FACES.astype(">u4")))
    return path


def quads(path: Path) -> Path:
    """Relative indices and polygons, colours behind the coordinates, groups."""
    text = "# made\nmtllib a.mtl\no box\n" + "".join(f"v {x} {y} {z} 0.5 0.5 0.5\n" for x, y, z in CORNERS)
    text += "g side\nusemtl a\n" + "".join(f"f {a - 8}// {b - 8} {c - 8} {d - 8}\n" for a, b, c, d in SIDES)
    path.write_text(text)
    return path


WRITERS = {
    "triangles.obj": lambda p: write_obj(p, CORNERS, FACES),
    "quads.obj": quads,
    "ascii.ply": ascii_ply,
    "little.ply": lambda p: write_ply(p, CORNERS, FACES),
    "big.ply": big_endian_ply,
    "scaled.glb": lambda p: write_glb(p, CORNERS * 1000, FACES, 0.001),
}


@pytest.mark.parametrize("name", WRITERS)
def test_centre_size_and_surface_of_a_box_in_every_form(name, tmp_path):
    shape = mesh_shape(WRITERS[name](tmp_path / name))
    np.testing.assert_allclose(shape.centre, CENTRE, atol=1e-6)
    np.testing.assert_allclose(shape.extent, [0.2, 0.1, 0.06], atol=1e-6)
    assert 200 <= len(shape.surface) <= 2000
    off = np.abs(shape.surface - CENTRE) - np.array([0.1, 0.05, 0.03])
    np.testing.assert_allclose(off.max(-1), 0, atol=1e-6)  # every point is on a side
    top = (np.abs(shape.surface[:, 2] - 0.06) < 1e-6).mean()
    assert top == pytest.approx(0.02 / 0.076, abs=0.03)  # by area
    np.testing.assert_array_equal(shape.surface, mesh_shape(tmp_path / name).surface)


def test_units_and_what_no_face_uses(tmp_path):
    stray = np.concatenate([CORNERS, [[50.0, 50.0, 50.0]]]) * 100
    path = write_obj(tmp_path / "scan_cm.obj", stray, FACES)
    np.testing.assert_allclose(mesh_shape(path, 0.01).centre, CENTRE, atol=1e-9)
    with pytest.raises(ValueError, match=r"scan_cm.obj: the mesh is 20 m long"):
        mesh_shape(path)


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_meshes_are_said_by_name(name, tmp_path):
    path = WRITERS[name](tmp_path / name)
    whole = path.read_bytes()
    for data in (b"", b"version https://git-lfs", whole[: len(whole) // 2], whole[:30], b"\0" * 100):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=name):
            read_mesh(path)
    path.write_bytes(whole.replace(b"f 0", b"f 99"))
    tracks = [ObjectTrack("cup"), ObjectTrack("lid"), ObjectTrack("pan"), ObjectTrack("pot")]
    path.write_bytes(whole[:30])
    notes: dict[str, str] = {}
    got = add_shapes(tracks, [path, tmp_path / "none.obj", None, None], notes)
    assert [t.centre for t in got] == [None] * 4
    assert "cup: " in notes["meshes"] and "lid: none.obj is missing" in notes["meshes"]
    assert "1 more" in notes["meshes"]


def test_a_face_that_names_no_vertex_is_damage(tmp_path):
    with pytest.raises(ValueError, match="names a vertex that is not there"):
        read_mesh(write_obj(tmp_path / "a.obj", CORNERS, FACES + 4))


def test_a_compressed_or_far_too_deep_glb_is_said(tmp_path):
    path = write_glb(tmp_path / "a.glb", CORNERS, FACES, 1.0)
    data = path.read_bytes()
    for a, b, reason in (
        (b'"scene": 0', b'"scene": 0, "extensionsRequired": ["KHR_draco_mesh_compression"]', "KHR_draco"),
        (b'"mesh": 0', b'"mesh": 0, "children": [0]', "circle"),
    ):
        size = int.from_bytes(data[12:16], "little")
        text = data[20 : 20 + size].strip().replace(a, b)
        text += b" " * (-len(text) % 4)
        whole = data[:8] + (len(data) + len(text) - size).to_bytes(4, "little") + len(text).to_bytes(4, "little")
        path.write_bytes(whole + data[16:20] + text + data[20 + size :])
        with pytest.raises(ValueError, match=reason):
            read_mesh(path)


@pytest.mark.skipif(not HOT3D.is_dir(), reason="the real sample is not here")
def test_meshes_of_hot3d_are_as_large_as_the_things():
    keyboard = mesh_shape(HOT3D / "object_library" / "37787722328019.glb")
    np.testing.assert_allclose(keyboard.extent, [0.429, 0.020, 0.129], atol=0.001)
    np.testing.assert_allclose(keyboard.centre, [0, -0.008, 0.001], atol=0.001)
    phone = mesh_shape(HOT3D / "object_library" / "5462893327580.glb")
    np.testing.assert_allclose(phone.extent, [0.073, 0.010, 0.154], atol=0.001)


def test_an_object_with_a_hinge_has_its_centre_where_it_is():
    surface = np.array([[0, 0, 0], [0.3, 0.2, 0], [0, 0, 0.01], [0.3, 0.2, 0.01]])
    turn = rigid(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.zeros(3))  # y up to z
    track = ObjectTrack(
        "laptop",
        np.tile(rigid(np.eye(3), np.array([1.0, 0, 0])), (2, 1, 1)),
        centre=np.array([0.15, 0.1, 0.005]),
        surface=surface,
        moving=np.array([False, False, True, True]),
        T_object_moving=np.stack([np.eye(4), turn]),
    )
    np.testing.assert_allclose(track.centres_world, [[1.15, 0.1, 0.005], [1.15, 0.095, 0.1]], atol=1e-9)
    np.testing.assert_allclose(track.surface_at(1)[3], [0.3, -0.01, 0.2])
    assert replace(track, T_object_moving=None).centre_at(1).tolist() == [0.15, 0.1, 0.005]


def test_the_lid_of_arctics_objects_turns_about_minus_z(fixture_of, tmp_path):
    fixture = fixture_of("arctic")
    root = tmp_path / "data"
    shutil.copytree(fixture.root, root)
    folder = root / "meta" / "object_vtemplates" / "box"
    write_obj(folder / "mesh.obj", CORNERS * 1000, FACES)
    (folder / "parts.json").write_text(json.dumps((CORNERS[:, 2] > 0.05).tolist()))
    path = root / "raw_seqs" / "s01" / "box_use_01.object.npy"
    rows = np.load(path)
    rows[:, 0] = np.pi / 2
    write_npy(path, rows)
    clip = next(c for c in load_source("arctic").read_clips(root, fixture.options) if isinstance(c, Clip))
    (track,) = clip.objects
    moved = track.surface_at(0)[track.moving]
    assert 0.1 < track.moving.mean() < 0.9
    np.testing.assert_allclose(moved[:, 0], track.surface[track.moving][:, 1], atol=1e-9)  # x' = y, y' = -x
    np.testing.assert_allclose(moved[:, 1], -track.surface[track.moving][:, 0], atol=1e-9)
    for parts in ("[1, 0]", "[1,", "3"):
        (folder / "parts.json").write_text(parts)
        clip = next(c for c in load_source("arctic").read_clips(root, fixture.options) if isinstance(c, Clip))
        assert clip.objects[0].T_object_moving is None
        assert "parts.json does not fit" in clip.notes["meshes"]
