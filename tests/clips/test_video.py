import os
from pathlib import Path

import av
import numpy as np
import pytest

from vipa.clips import decoding
from vipa.clips.video import AbsentFrames, FrameSubset, ImageFrames, VideoFrames, in_order


def write_video(path: Path, images: np.ndarray, codec: str = "libx264", **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    blocks = np.random.default_rng(0).integers(0, 255, (60, 4, 6, 3), dtype=np.uint8)
    return blocks.repeat(16, 1).repeat(16, 2)


def decoded_in_order(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize(
    "options",
    [
        {"g": "250", "bf": "3"},
        {"g": "12", "bf": "2"},
        {"g": "12", "bf": "3", "x264-params": "open-gop=1"},
        {"g": "1"},
    ],
)
def test_frames_read_in_any_order_equal_decoding_everything(tmp_path, images, container, options):
    path = write_video(tmp_path / f"v.{container}", images, **options)
    video, whole = VideoFrames(path), decoded_in_order(path)
    assert len(video) == len(whole) == 60
    for frames in (video, VideoFrames(path, stay_open=True)):
        for indices in (
            [59],
            [0],
            [7, 3, 3, 58],
            list(range(60)),
            [5, 6, 7, 29, 58],
            list(range(2, 60, 6)),
            np.random.default_rng(1).integers(0, 60, 9).tolist(),
        ):
            assert np.array_equal(frames.read(indices), whole[indices])
            assert np.array_equal(np.stack(list(in_order(frames, indices))), whole[indices])
    assert np.allclose(video.timestamps, np.arange(60) / 30, atol=2e-3)


def test_open_files_are_few_are_read_anew_once_changed_and_are_not_shared_with_a_fork(
    tmp_path, images, monkeypatch
):
    monkeypatch.setattr(decoding, "STAY_OPEN", 3)
    paths = [write_video(tmp_path / f"{n}.mp4", images[n:]) for n in range(5)]
    videos = [VideoFrames(path, stay_open=True) for path in paths]

    def right() -> bool:
        return all(np.array_equal(v.read([t]), decoded_in_order(v.path)[[t]]) for t in (30, 2) for v in videos)

    assert right()
    held = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert sum(name.startswith(str(tmp_path)) for name in held) == 3
    write_video(paths[-1], images[::-1])
    child = os.fork()
    if child == 0:
        os._exit(0 if right() else 1)
    assert right()
    assert os.waitpid(child, 0)[1] == 0


def test_pictures_in_order_are_decoded_once_and_damage_is_found_as_in_any_order(tmp_path, images, monkeypatch):
    path = write_video(tmp_path / "v.mp4", images, g="12", bf="2")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        place = [p.pos for p in container.demux(video=0) if p.size][31]
    data[place + 20 : place + 60] = bytes(40)
    (tmp_path / "bad.mp4").write_bytes(data)
    bad = VideoFrames(tmp_path / "bad.mp4")
    sound = [i for i in range(60) if readable(bad, i)]
    assert 12 < len(sound) < 60
    np.testing.assert_array_equal(list(in_order(bad, sound)), bad.read(sound))
    with pytest.raises(ValueError, match="cannot be decoded, the video is damaged"):
        list(in_order(bad, range(60)))
    monkeypatch.setattr(decoding, "decode", None)
    assert len(list(in_order(FrameSubset(VideoFrames(path), tuple(range(3, 60))), range(0, 50, 7)))) == 8


def readable(video: VideoFrames, frame: int) -> bool:
    try:
        return len(video.read([frame])) == 1
    except ValueError:
        return False


def test_a_truncated_video_is_an_error_that_names_it(tmp_path, images):
    whole = write_video(tmp_path / "whole.mp4", images).read_bytes()
    fast = write_video(tmp_path / "fast.mp4", images, movflags="faststart").read_bytes()
    for data in (whole[: len(whole) // 2], fast[: len(fast) // 2], b"", b"no video at all"):
        (tmp_path / "cut.mp4").write_bytes(data)
        with pytest.raises(ValueError, match=r"cut\.mp4.*(truncated|not a video)"):
            VideoFrames(tmp_path / "cut.mp4")


def test_a_missing_video_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.mp4: the video is missing"):
        VideoFrames(tmp_path / "gone.mp4")


def test_a_frame_beyond_the_end_is_an_index_error(tmp_path, images):
    video = VideoFrames(write_video(tmp_path / "v.mp4", images))
    with pytest.raises(IndexError, match="frame 60 of a video of 60"):
        video.read([60])


def test_a_rotated_phone_video_comes_upright(tmp_path, images):
    path = tmp_path / "v.mp4"
    write_video(path, images)
    upright = decoded_in_order(path)
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4 + 40  # the track's display matrix
    quarter_turn = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    path.write_bytes(data[:at] + quarter_turn + data[at + 36 :])
    video = VideoFrames(path)
    assert video.size == (64, 96)
    assert np.array_equal(video.read([5])[0], np.rot90(upright[5], -1))


def test_a_subset_reads_the_frames_it_names(tmp_path, images):
    video = VideoFrames(write_video(tmp_path / "v.mp4", images))
    assert np.array_equal(FrameSubset(video, (50, 10)).read([1]), video.read([10]))


def test_image_files_are_read_and_a_damaged_one_is_named(tmp_path, images):
    from PIL import Image

    Image.fromarray(images[0]).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
    frames = ImageFrames((tmp_path / "0.png", tmp_path / "1.png", tmp_path / "2.png"))
    assert np.array_equal(frames.read([0])[0], images[0])
    with pytest.raises(ValueError, match=r"1\.png: damaged"):
        frames.read([1])
    with pytest.raises(ValueError, match=r"2\.png: the image is missing"):
        frames.read([2])


def test_absent_frames_say_what_to_do():
    frames = AbsentFrames(5, "recording.vrs is not here: download it")
    assert len(frames) == 5
    with pytest.raises(ValueError, match="download it"):
        frames.read([0])
