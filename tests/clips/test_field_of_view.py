"""The field of view from what video files say of their camera: containers, QuickTime keys of tracks, GoPro's block."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from vipa.clips import Clip
from vipa.clips.camera_metadata import CameraMetadata, gopro_settings, read_camera_metadata
from vipa.clips.field_of_view import FieldOfView, cameras, from_metadata, from_points, given, guessed
from vipa.clips.sources import SourceOptions, load_source
from vipa.geometry import Intrinsics, unproject_depth

WIDE, TALL = (1920, 1080), (1080, 1920)


def video(path: Path, **tags: str) -> Path:
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update({name.replace("__", "."): value for name, value in tags.items()})
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 90, np.uint8), "rgb24")))
        container.mux(stream.encode())
    return path


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def with_box(path: Path, parents: tuple[bytes, ...], new: bytes) -> Path:
    """The file with a box appended inside nested boxes; `moov` is the last of the file, so that nothing moves."""
    data = bytearray(path.read_bytes())
    places, begin, end = [], 0, len(data)
    for parent in parents:
        at = begin
        while data[at + 4 : at + 8] != parent:
            at += int.from_bytes(data[at : at + 4], "big")
        places.append(at)
        begin, end = at + 8, at + int.from_bytes(data[at : at + 4], "big")
    for at in places:
        data[at : at + 4] = struct.pack(">I", int.from_bytes(data[at : at + 4], "big") + len(new))
    data[end:end] = new
    path.write_bytes(bytes(data))
    return path


def keys(**values: tuple[int, bytes]) -> bytes:
    """A QuickTime `meta` box; values by name, with their type."""
    names = [b"com.apple.quicktime." + name.replace("__", ".").encode() for name in values]
    listed = box(b"keys", struct.pack(">II", 0, len(names)), *(box(b"mdta", name) for name in names))
    items = [
        box(struct.pack(">I", i + 1), box(b"data", struct.pack(">II", kind, 0), value))
        for i, (kind, value) in enumerate(values.values())
    ]
    return box(b"meta", box(b"hdlr", bytes(24)), listed, box(b"ilst", *items))


def field(key: bytes, kind: bytes, size: int, *values: bytes) -> bytes:
    body = b"".join(values)
    return key + kind + bytes([size]) + struct.pack(">H", len(values)) + body + b"\0" * (-len(body) % 4)


def test_a_phones_lens_is_read_from_its_video_track(tmp_path):
    path = video(tmp_path / "a.mov", com__apple__quicktime__make="Apple", com__apple__quicktime__model="iPhone 13")
    assert read_camera_metadata(path) == CameraMetadata("Apple", "iPhone 13")
    lens = keys(
        camera__lens_model=(1, b"iPhone 13 back camera 5.1mm f/1.6"),
        camera__focal_length__35mm_equivalent=(21, struct.pack(">q", 27)),
    )
    said = read_camera_metadata(with_box(path, (b"moov", b"trak"), lens))
    assert said == CameraMetadata("Apple", "iPhone 13", 27.0)
    view = from_metadata(said, WIDE)
    # 27 mm on a diagonal of 43.27 mm: 4:3 pictures are 34.6 mm wide
    assert abs(view.degrees - np.degrees(2 * np.arctan(34.6 / 2 / 27))) < 3
    assert view.origin == "metadata: iPhone 13, 27 mm" and view.low < view.degrees < view.high
    assert len(load_clip(path).frames) == 3  # the file is as good as before


def load_clip(path: Path, **options) -> Clip:
    (clip,) = load_source("folder").read_clips(path, SourceOptions(**options))
    assert isinstance(clip, Clip), clip
    return clip


def test_gopros_block_holds_its_model_and_its_field_of_view(tmp_path):
    block = field(b"DVID", b"L", 4, struct.pack(">I", 1)) + field(
        b"MINF", b"c", 1, *(bytes([c]) for c in b"HERO9 Black")
    )
    block += field(b"ZFOV", b"f", 4, struct.pack(">f", 98.5)) + field(b"VFOV", b"c", 1, b"L")
    settings = box(b"GPMF", field(b"DEVC", b"\0", 1, *(bytes([c]) for c in block)))
    path = with_box(video(tmp_path / "a.mp4"), (b"moov",), box(b"udta", settings))
    said = read_camera_metadata(path)
    assert said == CameraMetadata("GoPro", "HERO9 Black", diagonal_degrees=98.5, lens_mode="linear")
    view = from_metadata(said, (1600, 1200))
    assert abs(view.degrees - np.degrees(2 * np.arctan(0.8 * np.tan(np.radians(98.5 / 2))))) < 1e-9
    wide = from_metadata(
        CameraMetadata("GoPro", "HERO9 Black", diagonal_degrees=98.5, lens_mode="wide"), (1600, 1200)
    )
    assert wide.focal_error > 3 * view.focal_error  # a fisheye is no pinhole
    assert gopro_settings(settings[8:20]) == {}  # cut short


@pytest.mark.parametrize(
    ("make", "model", "degrees", "name"),
    [
        ("Apple", "iPhone X", 61.0, "iPhone X, main camera"),  # what the camera itself says of its 1080p video
        ("Apple", "iPhone 15 Pro", 68.0, "iPhone 15 Pro, main camera"),
        (None, "Ray-Ban Meta Smart Glasses 2", 85.0, "Meta smart glasses"),
        ("GoPro", None, 92.0, "GoPro"),
        ("Xiaomi", "2201123G", 60.0, "2201123G, main camera"),
        ("Meta", "Aria", 105.0, "Project Aria"),
    ],
)
def test_cameras_of_the_table(make, model, degrees, name):
    view = from_metadata(CameraMetadata(make, model), WIDE)
    assert view.low < degrees < view.high and view.origin == f"metadata: {name}"


def test_a_camera_with_changing_lenses_and_an_equivalent_focal_length_is_as_wide_as_full_frame():
    view = from_metadata(CameraMetadata("SONY", "ILCE-7M4", 35.0), WIDE)
    assert abs(view.degrees - np.degrees(2 * np.arctan(18 / 35))) < 3
    assert from_metadata(CameraMetadata("Nobody", "Box"), WIDE) is None
    assert from_metadata(CameraMetadata(), WIDE) is None


def test_every_row_of_the_table_gives_a_field_of_view():
    for row in cameras():
        said = CameraMetadata(model=row["model"][0]) if "model" in row else CameraMetadata(make=row["make"][0])
        view = from_metadata(said, WIDE)
        assert 19 < view.low < view.degrees < view.high < 150, row


def test_a_phone_held_upright_sees_less_to_the_sides():
    wide, tall = (from_metadata(CameraMetadata("Apple", "iPhone 13"), size) for size in (WIDE, TALL))
    half = np.tan(np.radians(wide.degrees) / 2) * 1080 / 1920
    assert abs(tall.degrees - np.degrees(2 * np.arctan(half))) < 1e-9
    assert guessed(TALL).degrees < guessed(WIDE).degrees


def test_a_clips_field_of_view_says_where_it_is_from(tmp_path):
    path = video(tmp_path / "a.mp4")
    clip = load_clip(path)
    assert clip.field_of_view.origin == "guessed" and clip.intrinsics.origin == "guessed"
    assert clip.notes["field of view"] == "75.0 degrees (45 to 115), guessed"
    clip = load_clip(path, fov_degrees=105.0)
    assert clip.notes["field of view"].endswith("given") and 104 < clip.field_of_view.low + 2 < 106
    assert abs(clip.intrinsics.fx - 48 / np.tan(np.radians(52.5))) < 1e-9
    (tmp_path / "a.json").write_text('{"fov_degrees": 60}')
    assert load_clip(path, fov_degrees=105.0).field_of_view.degrees == pytest.approx(60)
    (tmp_path / "a.json").write_text('{"intrinsics": {"fx": 80, "fy": 80, "cx": 47.5, "cy": 31.5}}')
    clip = load_clip(path)
    assert (
        clip.field_of_view is None and clip.intrinsics.origin == "calibrated" and "field of view" not in clip.notes
    )
    pixel = video(tmp_path / "b.mp4", **{"com.android.manufacturer": "Google", "com.android.model": "Pixel 8"})
    clip = load_clip(pixel)
    assert clip.intrinsics.origin == "metadata" and "metadata: Pixel 8, main camera" in clip.notes["field of view"]


def test_an_interval_must_hold_its_middle():
    with pytest.raises(ValueError, match="are needed"):
        FieldOfView(70.0, 71.0, 80.0, "given")
    assert 0.019 < given(90.0).focal_error < 0.021


def test_point_maps_tell_the_field_of_view_of_their_pictures(tmp_path):
    rng = np.random.default_rng(0)
    maps = []
    for degrees in (69.0, 70.0, 71.0):
        camera = Intrinsics.from_fov(np.radians(degrees), 64, 48, "calibrated")
        maps.append(unproject_depth(rng.uniform(0.5, 2, (48, 64)), camera.matrix))
    view = from_points(np.stack(maps), 1920, "estimated: cut3r")
    assert abs(view.degrees - 70) < 0.01 and view.low < 69 and view.high > 71
