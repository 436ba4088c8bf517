"""What `VideoFrames` gives is what a player shows: frames, times and pictures; or one line that says why not.

The oracle of frames is decoding the whole file in order; of edit lists and display matrices, their definition.
"""

import os
import shutil
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vipa.clips.sources import load_source
from vipa.clips.video import VideoFrames

os.environ.setdefault("SVT_LOG", "-1")  # the AV1 encoder keeps quiet
RATE = 30


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    blocks = np.random.default_rng(0).integers(0, 255, (48, 4, 6, 3), dtype=np.uint8)
    return blocks.repeat(16, 1).repeat(16, 2)


def write(
    path: Path, images: np.ndarray, codec="libx264", pixels="yuv420p", times=None, mux=None, sar=None, **options
):
    """options: of the encoder; mux: of the container; times: of the frames in 1 / RATE seconds."""
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"this PyAV has no encoder {codec}")
    with av.open(str(path), "w", options=mux or {}) as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], pixels
        if sar is not None:
            stream.codec_context.sample_aspect_ratio = sar
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shown(path: Path) -> list[np.ndarray]:
    return played(path)[1]


def played(path: Path) -> tuple[list[float], list[np.ndarray]]:
    """(times, pictures) of decoding the whole file in order."""
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.video[0]))
        return [frame.time for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]


def assert_like_a_player(path: Path) -> VideoFrames:
    """In order, backwards, and each frame alone."""
    video, (times, expected) = VideoFrames(path), played(path)
    if None not in times and times == sorted(times):  # not of AVI
        np.testing.assert_allclose(video.timestamps + video.start, times, atol=1e-6)
    assert len(video) == len(expected)
    backwards = range(len(video))[::-1]
    assert np.array_equal(video.read(backwards)[::-1], expected)
    for i in range(0, len(video), 5):
        assert np.array_equal(video.read([i])[0], expected[i]), i
    assert (np.diff(video.timestamps) > 0).all()
    return video


CODECS = {
    "h264": ("libx264", "yuv420p", "mp4 mkv avi ts", {"g": "12", "bf": "3", "preset": "ultrafast"}),
    "h264-open": ("libx264", "yuv420p", "mp4 ts", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
    "h264-far": ("libx264", "yuv420p", "mp4", {"g": "250", "bf": "3"}),
    "h264-refresh": ("libx264", "yuv420p", "mp4", {"g": "12", "x264-params": "intra-refresh=1"}),
    "h264-10-bit": ("libx264", "yuv420p10le", "mp4", {"g": "12"}),
    "h264-444": ("libx264", "yuv444p", "mp4", {"g": "12"}),
    "h264-interlaced": ("libx264", "yuv420p", "mp4", {"g": "12", "x264-params": "tff=1"}),
    "hevc-open": (
        "libx265",
        "yuv420p",
        "mp4 ts",
        {"x265-params": "keyint=12:bframes=3:open-gop=1:log-level=none"},
    ),
    "av1": ("libsvtav1", "yuv420p", "mp4 mkv", {"g": "20", "preset": "12"}),
    "av1-near": ("libsvtav1", "yuv420p", "mp4", {"g": "2", "preset": "12"}),
    "vp9": ("libvpx-vp9", "yuv420p", "mp4 mkv", {"g": "16", "auto-alt-ref": "1", "lag-in-frames": "12"}),
    "vp8": ("libvpx", "yuv420p", "mkv", {"g": "16", "auto-alt-ref": "1", "lag-in-frames": "12"}),
    "mpeg4": ("mpeg4", "yuv420p", "mp4 avi", {"g": "12", "bf": "2"}),
    "mpeg2": ("mpeg2video", "yuv420p", "mkv", {"g": "12", "bf": "2"}),
    "mjpeg": ("mjpeg", "yuvj420p", "mp4 avi", {}),
    "prores": ("prores_ks", "yuv422p10le", "mov", {}),
    "ffv1": ("ffv1", "yuv420p", "mkv", {}),
}


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_reads_in_full_in_any_order(tmp_path, images, name):
    codec, pixels, containers, options = CODECS[name]
    for container in containers.split():
        video = assert_like_a_player(write(tmp_path / f"v.{container}", images, codec, pixels, **options))
        assert len(video) == 48
        np.testing.assert_allclose(video.timestamps, np.arange(48) / RATE, atol=2e-3)


def test_odd_sizes_are_kept(tmp_path, images):
    assert assert_like_a_player(write(tmp_path / "v.mkv", images[:6, :63, :95], "ffv1")).size == (95, 63)


# -- edit lists and other clocks ------------------------------------------------------------------------------------


def find(data: bytes, names: list[bytes]) -> list[int]:
    """Where each of these nested MP4 boxes begins."""
    at, end, places = 0, len(data), []
    for name in names:
        while data[at + 4 : at + 8] != name:
            at += struct.unpack(">I", data[at : at + 4])[0]
            assert at < end, name
        places.append(at)
        at, end = at + 8, at + struct.unpack(">I", data[at : at + 4])[0]
    return places


def with_edits(source: Path, out: Path, edits: list[tuple[float, float | None]]) -> Path:
    """edits: (seconds shown, second of the media where that begins; None: nothing is shown)."""
    data = bytearray(source.read_bytes())
    movie, media = (
        struct.unpack(">I", data[find(data, place)[-1] + 20 :][:4])[0]
        for place in ([b"moov", b"mvhd"], [b"moov", b"trak", b"mdia", b"mdhd"])
    )
    places = find(data, [b"moov", b"trak", b"edts", b"elst"])
    body = struct.pack(">II", 0, len(edits))
    for seconds, start in edits:
        body += struct.pack(">IiI", round(seconds * movie), -1 if start is None else round(start * media), 1 << 16)
    (size,) = struct.unpack(">I", data[places[-1] :][:4])
    data[places[-1] : places[-1] + size] = struct.pack(">I4s", 8 + len(body), b"elst") + body
    for at in places[:-1]:
        (before,) = struct.unpack(">I", data[at : at + 4])
        data[at : at + 4] = struct.pack(">I", before + 8 + len(body) - size)
    out.write_bytes(data)
    return out


@pytest.mark.parametrize(
    ("edits", "frames", "start"),
    [
        ([(1.2, 0.4)], range(12, 48), 0.0),
        ([(1.0, 0.0)], range(30), 0.0),
        ([(0.7, 0.5)], range(15, 36), 0.0),
        ([(0.5, None), (1.6, 0.0)], range(48), 0.5),
        ([(0.5, None), (0.8, 0.3)], range(9, 33), 0.5),
        ([(0.5, 0.2), (0.4, 1.1)], [*range(6, 21), *range(33, 45)], 0.0),
        ([(0.4, 0.2), (0.4, 0.2)], [*range(6, 18)] * 2, 0.0),
    ],
)
def test_an_edit_list_shows_the_frames_that_it_names(tmp_path, images, edits, frames, start):
    plain = write(tmp_path / "plain.mp4", images, g="20", bf="2")
    delay = 2 / RATE  # of decoding: B-frames
    cut = with_edits(plain, tmp_path / "cut.mp4", [(s, None if t is None else t + delay) for s, t in edits])
    video = assert_like_a_player(cut)
    assert np.array_equal(video.read(range(len(video))), np.array(shown(plain))[list(frames)])
    np.testing.assert_allclose(video.timestamps, np.arange(len(frames)) / RATE, atol=delay + 1e-3)
    assert video.start == pytest.approx(start, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "times", "mux"),
    [
        ("later.mkv", [i + 45 for i in range(48)], {}),
        ("earlier.mkv", [i - 10 for i in range(48)], {}),
        ("gap.mp4", [i + 40 * (i > 30) for i in range(48)], {}),
        ("slower.mp4", [i if i < 20 else 20 + 6 * (i - 20) for i in range(48)], {}),
        ("bare.mp4", None, {"use_editlist": "0"}),
        ("fragments.mp4", None, {"movflags": "frag_keyframe+empty_moov"}),
    ],
)
def test_frames_are_timed_as_they_are_shown(tmp_path, images, name, times, mux):
    video = assert_like_a_player(write(tmp_path / name, images, times=times, mux=mux, g="12", bf="2"))
    expected = np.arange(48) if times is None else np.array(times)
    np.testing.assert_allclose(video.timestamps, (expected - expected[0]) / RATE, atol=2e-3)
    if name == "later.mkv":
        assert video.start == pytest.approx(1.5, abs=2e-3)


# -- display matrices and pixels --------------------------------------------------------------------------------------

MATRICES = {  # a b c d of x' = a x + c y, y' = b x + d y, and what a player shows of a picture
    "0": ((1, 0, 0, 1), lambda p: p),
    "90": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "180": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "270": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "transposed": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "transversed": ((0, -1, -1, 0), lambda p: p.swapaxes(0, 1)[::-1, ::-1]),
}


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    values = [a, b, 0, c, d, 0, 0, 0]
    data[at : at + 36] = struct.pack(">9i", *(round(v * 65536) for v in values), 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", MATRICES)
def test_pictures_are_turned_and_mirrored_as_players_do(tmp_path, images, name):
    path = write(tmp_path / "v.mp4", images[:8])
    stored = shown(path)
    numbers, player = MATRICES[name]
    video = VideoFrames(with_matrix(path, *numbers))
    expected = player(stored[5])
    assert np.array_equal(video.read([5])[0], expected)
    assert video.size == expected.shape[1::-1]
    index = video.index
    turned = np.rot90(stored[5], index.rotation // 90)
    assert np.array_equal(turned[:, ::-1] if index.mirrored else turned, expected)


def test_a_matrix_of_no_quarter_turn_is_refused_and_one_of_zeros_says_nothing(tmp_path, images):
    path = write(tmp_path / "v.mp4", images[:8])
    with pytest.raises(ValueError, match=r"v\.mp4: players show this video turned by 30 degrees"):
        VideoFrames(with_matrix(path, 0.866, 0.5, -0.5, 0.866))
    assert VideoFrames(with_matrix(path, 0, 0, 0, 0)).index.rotation == 0


@pytest.mark.parametrize(("sar", "size"), [(Fraction(4, 3), (128, 64)), (Fraction(640, 639), (96, 64))])
def test_pixels_come_out_square(tmp_path, images, sar, size):
    smooth = np.broadcast_to(np.linspace(0, 255, 96)[None, None, :, None], (4, 64, 96, 3)).astype(np.uint8)
    video = VideoFrames(write(tmp_path / "v.mp4", smooth, sar=sar, crf="1"))
    assert video.size == size
    image = video.read([2])[0]
    assert image.shape == (size[1], size[0], 3)
    expected = np.interp(np.linspace(0, 95, size[0]), np.arange(96), smooth[0, 0, :, 0])
    assert np.abs(image[32, :, 0] - expected).mean() < 6


def test_a_cover_picture_is_not_the_video(tmp_path, images):
    plain = write(tmp_path / "plain.mp4", images, g="12")
    cover = write(tmp_path / "cover.mjpg.mkv", images[:1, :32, :32], "mjpeg", "yuvj420p")
    path = tmp_path / "v.mp4"
    with av.open(str(plain)) as video, av.open(str(cover)) as picture, av.open(str(path), "w") as out:
        streams = [out.add_stream_from_template(c.streams.video[0]) for c in (picture, video)]
        streams[0].disposition = av.stream.Disposition.attached_pic
        for source, stream in zip((picture, video), streams):
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    video = VideoFrames(path)
    assert (len(video), video.size) == (48, (96, 64))
    assert np.array_equal(video.read([17])[0], shown(plain)[17])


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "v.m4a"), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"v\.m4a: no video in this file"):
        VideoFrames(tmp_path / "v.m4a")


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "name"), [("libx264", "v.mp4"), ("libx265", "v.mp4"), ("mpeg4", "v.mp4"), ("mjpeg", "v.mkv")]
)
def test_a_damaged_part_in_the_middle_is_said_and_no_wrong_picture_is_given(tmp_path, images, codec, name):
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write(tmp_path / name, images, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p", g="15", **quiet)
    whole = VideoFrames(path).read(range(48))
    with av.open(str(path)) as container:
        place = [(p.pos, p.size) for p in container.demux(video=0) if p.size][20]
    data = bytearray(path.read_bytes())
    if codec.startswith(
        "libx26"
    ):  # their packets carry no checksum: what decoders surely notice is a wrong length
        data[place[0] : place[0] + 4] = b"\xff" * 4
    else:
        for at in range(place[0] + 12, sum(place), 3):
            data[at] ^= 0x5A
    path.write_bytes(data)
    video, lost = VideoFrames(path), {}
    for i in range(48):
        try:
            assert np.array_equal(video.read([i])[0], whole[i]), i
        except ValueError as error:
            lost[i] = str(error)
    assert all(f"{name}: frame {i} cannot be decoded, the video is damaged" in lost[i] for i in lost)
    assert 1 <= len(lost) <= 15
    assert min(lost) >= 15
    assert max(lost) < 30


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mjpeg"])
def test_frames_are_not_counted_from_the_second_where_the_first_is_damaged(tmp_path, images, codec):
    path = write(tmp_path / "v.mp4", images, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p", g="15")
    whole = VideoFrames(path).read(range(48))
    with av.open(str(path)) as container:
        at, size = next((p.pos, p.size) for p in container.demux(video=0))
    data = bytearray(path.read_bytes())
    data[at : at + size] = b"\xff" * size
    path.write_bytes(data)
    try:
        video = VideoFrames(path)
    except ValueError as error:
        assert "v.mp4: the video's first frame cannot be decoded" in str(error)  # noqa: PT017
        return
    assert len(video) == 48
    assert np.array_equal(video.read([40])[0], whole[40])


@pytest.mark.parametrize("name", ["v.mkv", "v.avi", "fragments.mp4"])
def test_a_truncated_file_is_said_to_be_in_every_container_that_says_its_length(tmp_path, images, name):
    mux = {"movflags": "frag_keyframe+empty_moov"} if name == "fragments.mp4" else {}
    path = write(tmp_path / name, images, mux=mux, g="12")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(ValueError, match=f"{name}.*truncated"):
        VideoFrames(path)


def test_a_picture_whose_size_changes_is_said(tmp_path, images):
    small, large = (write(tmp_path / f"{n}.ts", images[:12, : 32 * n], g="12") for n in (1, 2))
    path = tmp_path / "v.h264"
    with open(path, "wb") as out:
        for part in (large, small):
            with av.open(str(part)) as container:
                for packet in container.demux(video=0):
                    out.write(bytes(packet))
    video = VideoFrames(path)
    assert video.read([0]).shape == (1, 64, 96, 3)
    with pytest.raises(ValueError, match="changes from 96 x 64 to 96 x 32"):
        video.read([20])


# -- rows that belong to frames ---------------------------------------------------------------------------------------


def test_poses_of_frames_that_are_not_shown_are_refused_and_not_paired_from_the_first(fixture_of, tmp_path):
    fixture = fixture_of("hoi4d")
    root = tmp_path / "hoi4d"
    shutil.copytree(fixture.root, root)
    log = next(root.rglob("output.log"))
    log.write_text(log.read_text() + "\n".join(log.read_text().splitlines()[:10]) + "\n")
    out = list(load_source("hoi4d").read_clips(root, fixture.options))
    assert any(f"{log} has " in str(clip) and "shows" in str(clip) for clip in out)
