"""Videos that every player and browser shows, written once for films, fixtures, rollouts and robot data."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vipa.io.files import whole_file

CODEC = "libx264" if "libx264" in av.codecs_available else "mpeg4"
"""H.264, or MPEG-4 where this machine's FFmpeg has no encoder of it."""


def write_video(
    path: Path,
    images: Iterable[np.ndarray],
    rate: float,
    options: dict[str, str] | None = None,
    index: bool = False,
) -> Path:
    """An mp4 of (height, width, 3) uint8 RGB images of one even size, frame i at i / rate seconds exactly.

    images: taken one by one. rate: frames a second (a fraction with a denominator of at most 1000). options: of the
    encoder x264, such as crf and preset. index: in front of the pictures, for browsers. Whole or not at all.
    ValueError where there is no image, or one of an odd or another size.
    """
    with (
        whole_file(path) as beside,
        av.open(str(beside), "w", format="mp4", options={"movflags": "faststart"} if index else {}) as container,
    ):
        stream = container.add_stream(CODEC, rate=Fraction(rate).limit_denominator(1000))
        stream.pix_fmt, stream.options = "yuv420p", {**(options or {})} if CODEC == "libx264" else {}
        size = None
        for image in images:
            if size is None:
                size = image.shape
                stream.height, stream.width = size[:2]
            if image.shape != size or size[0] % 2 or size[1] % 2:
                first = f"the first is {size[1]} x {size[0]}"
                raise ValueError(
                    f"{path}: an image is {image.shape[1]} x {image.shape[0]}, {first}: one even size is needed"
                )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        if size is None:
            raise ValueError(f"{path}: a video needs at least one image")
        container.mux(stream.encode())
    return path
