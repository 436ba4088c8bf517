"""The checks of `vipa doctor`: each looks at one topic and says what to do about what is missing."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

import vipa
from vipa.hands.mano_files import mano_folder
from vipa.hands.trackers import TRACKERS


@dataclass(frozen=True)
class Finding:
    """One line of the report. state: ok, optional (missing, and only some verbs need it) or missing (required)."""

    name: str
    state: Literal["ok", "optional", "missing"]
    found: str
    advice: str = ""


FORMATS = {"h264": "H.264", "hevc": "H.265", "vp9": "VP9", "libdav1d": "AV1"}
"""What phones, headsets and data sets write: FFmpeg's decoder -> the name that people know."""

RENDER_ONE_FRAME = """
import mujoco
xml = '<mujoco><worldbody><light pos="0 0 2"/><geom type="sphere" size="1"/></worldbody></mujoco>'
model = mujoco.MjModel.from_xml_string(xml)
renderer = mujoco.Renderer(model, 32, 32)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer.update_scene(data)
assert renderer.render().max() > 0, "the picture is black"
"""


def check_python() -> Iterator[Finding]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield Finding("Python", "ok", found)
    for package in ("vipa", "torch", "transformers", "mujoco"):
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "missing", "not installed", "make install")


def check_rendering() -> Iterator[Finding]:
    """Renders one frame in a fresh process per backend: what a library says it has is not always what works."""
    working = []
    for backend in ("egl", "osmesa"):
        environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
        command = [sys.executable, "-c", RENDER_ONE_FRAME]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode == 0:
            working.append(backend)
    if working:
        yield Finding("headless rendering", "ok", f"a frame was rendered with {' and '.join(working)}")
    else:
        advice = "as root: apt-get install libegl1 libgl1 libgl1-mesa-dri (or libosmesa6)"
        yield Finding("headless rendering", "missing", "neither EGL nor OSMesa renders a frame", advice)


def check_video() -> Iterator[Finding]:
    try:
        import av

        codec = "libx264" if "libx264" in av.codecs_available else "no libx264"
        state = "ok" if codec == "libx264" else "missing"
        yield Finding("video (PyAV)", state, f"av {av.__version__}, FFmpeg inside, {codec}")
        absent = [name for codec, name in FORMATS.items() if codec not in av.codecs_available]
        found = f"without {', '.join(absent)}" if absent else ", ".join(FORMATS.values())
        advice = "pip install --force-reinstall --no-deps av" if absent else ""
        yield Finding("reads video in", "optional" if absent else "ok", found, advice)
    except ImportError as error:
        yield Finding("video (PyAV)", "missing", str(error), "make install")
    program = shutil.which("ffmpeg")
    found = program or "not installed; nothing here needs it"
    yield Finding("ffmpeg program", "ok" if program else "optional", found)


def check_hands() -> Iterator[Finding]:
    """What finds hands in a video, and MANO's files, which some data sets need. Nothing is loaded."""
    model = Path(vipa.__file__).parent / "weights" / "mediapipe" / "hand_landmarker.task"
    if not _installed("mediapipe"):
        yield Finding("tracker mediapipe", "optional", "MediaPipe is not installed", "pip install 'vipa[video]'")
    elif not model.is_file():
        advice = "pip install --force-reinstall --no-deps vipa"
        yield Finding("tracker mediapipe", "missing", f"its model is not at {model}", advice)
    else:
        size = model.stat().st_size / 1e6
        yield Finding("tracker mediapipe", "ok", f"mediapipe {version('mediapipe')}, model of {size:.1f} MB")
    others = [name for name in TRACKERS.names() if name != "mediapipe"]
    yield Finding("results of trackers", "ok", f"read of {', '.join(others)}: --tracker NAME --hands FILES")
    folder = mano_folder()
    absent = [side for side in ("left", "right") if not (folder / f"mano_{side}.npz").is_file()]
    if absent:
        found = f"no {' and no '.join(absent)} hand in {folder}"
        advice = "vipa import-weights mano mano_v1_2.zip (from mano.is.tue.mpg.de)"
        yield Finding("MANO", "optional", found, advice)
    else:
        yield Finding("MANO", "ok", f"both hands in {folder}")


def check_gpu() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        from vipa.training.parts import multiplies_bf16

        yield Finding("GPU", "optional", "none: preset nano is made for the CPU; vipa-2b wants a GPU")
        has = multiplies_bf16()
        found = (
            "the processor multiplies in it" if has else "no instructions for it: nano computes in float32 here"
        )
        yield Finding("bfloat16", "ok" if has else "optional", found)
        return
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        yield Finding(f"GPU {i}", "ok", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")


def check_optional() -> Iterator[Finding]:
    """Optional extras of pyproject.toml, each with what of it is missing."""
    extras: dict[str, list[str]] = {}
    try:
        requirements = [Requirement(line) for line in requires("vipa") or []]
    except PackageNotFoundError:
        yield Finding("optional parts", "optional", "the package vipa is not installed", "make install")
        return
    for requirement in requirements:
        if requirement.marker is None or requirement.name == "vipa":
            continue
        extra = str(requirement.marker).rpartition("==")[2].strip(" \"'")
        extras.setdefault(extra, []).append(requirement.name)
    for extra, names in extras.items():
        absent = [name for name in names if not _installed(name)]
        if absent:
            found, advice = f"without {', '.join(absent)}", f"pip install 'vipa[{extra}]' when you need it"
            yield Finding(f"extra [{extra}]", "optional", found, advice)
        else:
            yield Finding(f"extra [{extra}]", "ok", ", ".join(names))


def check_weights() -> Iterator[Finding]:
    root = Path(vipa.__file__).parent / "weights"
    folders = sorted({file.parent for file in root.rglob("*.safetensors")})
    if not folders:
        yield Finding(
            "shipped nano weights",
            "missing",
            "none in the package",
            "install again from a complete checkout, or let `vipa demo` train a small foundation first",
        )
    for folder in folders:
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        yield Finding(f"shipped {folder.relative_to(root)}", "ok", f"{size / 1e6:.1f} MB at {folder}")
    yield _cut3r()
    yield _hub()


def check_disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    advice = "the demo writes up to 1 GB under runs/" if free < 2 else ""
    yield Finding("disk", "ok" if free >= 2 else "missing", f"{free:.0f} GB free here", advice)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _cut3r() -> Finding:
    """Where `import-weights` is told to put them in the documents: a folder of ./weights."""
    for config in sorted(Path("weights").glob("*/config.json")):
        try:
            found = json.loads(config.read_text(encoding="utf-8")).get("model_type") == "cut3r"
        except (OSError, ValueError, AttributeError):
            continue
        if found:
            weights = config.with_name("model.safetensors")
            if weights.is_file():
                return Finding("CUT3R", "ok", f"{weights.stat().st_size / 1e6:.0f} MB at {config.parent}")
            return Finding("CUT3R", "optional", f"{config.parent} has no {weights.name}", _IMPORT_CUT3R)
    return Finding("CUT3R", "optional", "none in ./weights; only large models need it", _IMPORT_CUT3R)


_IMPORT_CUT3R = "vipa import-weights cut3r cut3r_512_dpt_4_64.pth --out weights/cut3r-512"


def _hub() -> Finding:
    import socket
    from urllib.parse import urlparse

    from huggingface_hub import constants

    advice = "give verbs a local folder of weights instead of a hub name; nano needs no download"
    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "optional", "HF_HUB_OFFLINE is set", advice)
    host = urlparse(constants.ENDPOINT).hostname or constants.ENDPOINT
    try:
        socket.create_connection((host, 443), timeout=1).close()
    except OSError:
        return Finding("hub", "optional", f"{host} cannot be reached from here", advice)
    return Finding("hub", "ok", f"{host} can be reached")


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": check_python,
    "rendering": check_rendering,
    "video": check_video,
    "hands": check_hands,
    "gpu": check_gpu,
    "optional": check_optional,
    "weights": check_weights,
    "disk": check_disk,
}
