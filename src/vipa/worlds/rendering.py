"""Headless rendering: colour, metric depth and segmentation of a MuJoCo model from an OpenCV camera.

The conversion from the OpenCV camera to OpenGL's happens here and nowhere else. One OpenGL context serves the
process; models with the same textures share its display lists, so that a new scene costs little.
"""

import atexit
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from vipa.geometry import Intrinsics

NEAR, FAR = 0.03, 12.0  # clipping planes, metres
MAX_GEOMS = 512
TRIES = 3


@dataclass(frozen=True)
class Capsule:
    """A drawn shape that is in no model: a capsule from `start` to `end`, world metres, with an id."""

    start: np.ndarray  # (3,)
    end: np.ndarray  # (3,)
    radius: float
    rgb: tuple[float, float, float]
    id: int  # what the segmentation says where it is seen; negative, so that no body has it


@dataclass(frozen=True)
class Image:
    """rgb (H, W, 3) uint8; depth (H, W) float32, metres along the optical axis; bodies (H, W) int32 or None:
    the MuJoCo body id seen (0: world), or a Capsule's id."""

    rgb: np.ndarray
    depth: np.ndarray
    bodies: np.ndarray | None


class Renderer:
    """Draws one model at one image size. Renderers may alternate freely within a thread."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int):
        self.model, self.width, self.height = model, width, height
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_HAZE] = 0
        self._camera, self._option = mujoco.MjvCamera(), mujoco.MjvOption()

    def render(
        self,
        data: mujoco.MjData,
        T_world_camera: np.ndarray,
        intrinsics: Intrinsics,
        capsules: Sequence[Capsule] = (),
        *,
        segmentation: bool = False,
    ) -> Image:
        """The scene as in `data` (positions computed), with `capsules` added, seen by this camera.

        intrinsics must be for this renderer's size (ValueError otherwise).
        """
        if (intrinsics.width, intrinsics.height) != (self.width, self.height):
            raise ValueError(
                f"renderer: intrinsics are for {intrinsics.width} x {intrinsics.height}, "
                f"the image is {self.width} x {self.height}"
            )
        scene = self._scene
        mujoco.mjv_updateScene(
            self.model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, scene
        )
        for capsule in capsules:
            _append(scene, capsule)
        _place_camera(scene, T_world_camera, intrinsics)
        context = _Graphics.of_process().context(self.model, self.width, self.height)
        rectangle = mujoco.MjrRect(0, 0, self.width, self.height)
        rgb, depth = self._drawn(rectangle, context)
        bodies = self._bodies(rectangle, context) if segmentation else None
        return Image(rgb[::-1].copy(), _metres(depth[::-1]), bodies)

    def _drawn(self, rectangle: mujoco.MjrRect, context: mujoco.MjrContext) -> tuple[np.ndarray, np.ndarray]:
        """Colours and depth buffer, bottom row first. OSError where OpenGL wrote none, which it does not say
        itself: a GPU that 48 processes drew on left numbers that no picture has."""
        for _ in range(TRIES):
            rgb = np.zeros((self.height, self.width, 3), np.uint8)
            depth = np.full((self.height, self.width), np.nan, np.float32)
            mujoco.mjr_render(rectangle, self._scene, context)
            mujoco.mjr_readPixels(rgb, depth, rectangle, context)
            if np.isfinite(depth).all():
                return rgb, depth
        raise OSError(
            f"rendering: OpenGL returned no picture in {TRIES} tries; let fewer processes draw at once, or draw "
            "on the CPU (MUJOCO_GL=osmesa)"
        )

    def _bodies(self, rectangle: mujoco.MjrRect, context: mujoco.MjrContext) -> np.ndarray:
        scene, flags = self._scene, mujoco.mjtRndFlag
        scene.flags[flags.mjRND_SEGMENT] = scene.flags[flags.mjRND_IDCOLOR] = 1
        colours, _ = self._drawn(rectangle, context)
        scene.flags[flags.mjRND_SEGMENT] = scene.flags[flags.mjRND_IDCOLOR] = 0
        body_of = np.zeros(scene.ngeom + 1, np.int32)  # by drawing id + 1; 0 is where nothing was drawn
        for geom in scene.geoms[: scene.ngeom]:
            if geom.segid >= 0:
                own = geom.objtype == mujoco.mjtObj.mjOBJ_GEOM
                body_of[geom.segid + 1] = self.model.geom_bodyid[geom.objid] if own else geom.objid
        ids = colours.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        return body_of[ids[::-1]]


def _append(scene: mujoco.MjvScene, capsule: Capsule) -> None:
    if scene.ngeom >= scene.maxgeom:
        raise ValueError(f"renderer: more than {scene.maxgeom} shapes in one picture")
    geom = scene.geoms[scene.ngeom]
    kind = mujoco.mjtGeom.mjGEOM_CAPSULE
    mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.eye(3).ravel(), np.array([*capsule.rgb, 1.0]))
    mujoco.mjv_connector(geom, kind, capsule.radius, capsule.start, capsule.end)
    geom.category, geom.specular, geom.shininess = mujoco.mjtCatBit.mjCAT_DYNAMIC.value, 0.1, 0.2
    geom.objtype, geom.objid, geom.segid = mujoco.mjtObj.mjOBJ_UNKNOWN.value, capsule.id, scene.ngeom
    scene.ngeom += 1


def _place_camera(scene: mujoco.MjvScene, T_world_camera: np.ndarray, intrinsics: Intrinsics) -> None:
    """OpenCV (x right, y down, z forward; pixel (0, 0) is a centre) to OpenGL (y up; edges at whole pixels)."""
    c = intrinsics
    left, right = (-0.5 - c.cx) / c.fx * NEAR, (c.width - 0.5 - c.cx) / c.fx * NEAR
    for camera in (scene.camera[0], scene.camera[1]):
        camera.pos = T_world_camera[:3, 3]
        camera.forward, camera.up = T_world_camera[:3, 2], -T_world_camera[:3, 1]
        camera.frustum_center, camera.frustum_width = (left + right) / 2, (right - left) / 2
        camera.frustum_top = (c.cy + 0.5) / c.fy * NEAR
        camera.frustum_bottom = (c.cy + 0.5 - c.height) / c.fy * NEAR
        camera.frustum_near, camera.frustum_far = NEAR, FAR


def _metres(buffer: np.ndarray) -> np.ndarray:
    """z in metres of a depth buffer that is 1 at NEAR and 0 at FAR (reversed, floating point)."""
    return (NEAR * FAR / (NEAR + buffer.astype(np.float64) * (FAR - NEAR))).astype(np.float32)


class _Graphics:
    """The process's OpenGL context and, on it, one MuJoCo context that fits the model drawn last.

    A forked child opens its own. Drawing belongs to one thread per process.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._gl: Any = None
        self._context: Any = None
        self._model: mujoco.MjModel | None = None
        self._key: tuple = ()

    def context(self, model: mujoco.MjModel, width: int, height: int) -> mujoco.MjrContext:
        """For this model: the last one where only meshes and materials differ, which are sent, else a new one."""
        if self._gl is None:
            self._gl = _open_gl()
            atexit.register(self._close)  # after mujoco has registered its own, so that ours runs before
        self._gl.make_current()
        if self._model is not model:
            key = (model.tex_data.tobytes(), model.tex_type.tobytes(), model.nhfield, model.nskin)
            planes = (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE).any()
            enough = self._context is not None and 2 * model.nmesh <= self._context.rangeMesh
            if enough and key == self._key and not planes:
                self._send(model)
            else:
                self._create(model)
            self._model, self._key = model, key
        context: Any = self._context
        if context.offWidth < width or context.offHeight < height:
            mujoco.mjr_resizeOffscreen(max(width, context.offWidth), max(height, context.offHeight), context)
        return context

    def _create(self, model: mujoco.MjModel) -> None:
        if self._context is not None:
            self._context.free()
        model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = 128
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def _send(self, model: mujoco.MjModel) -> None:
        for i in range(model.nmesh):
            mujoco.mjr_uploadMesh(model, self._context, i)
        n, roles = model.mat_texid.shape
        self._context.mat_texid[: n * roles] = model.mat_texid.ravel()
        self._context.mat_texuniform[:n] = model.mat_texuniform
        self._context.mat_texrepeat[: 2 * n] = model.mat_texrepeat.ravel()

    def _close(self) -> None:
        if self._gl is not None and self._process == os.getpid():
            if self._context is not None:
                self._context.free()
            self._gl.free()
            self._gl = self._context = None

    @classmethod
    def of_process(cls) -> "_Graphics":
        global _graphics
        if _graphics is None or _graphics._process != os.getpid():
            _inherited.append(_graphics)  # the parent's: neither used nor freed here
            _graphics = cls()
        return _graphics


_graphics: _Graphics | None = None
_inherited: list[_Graphics | None] = []


def _open_gl() -> Any:
    """An offscreen OpenGL context: the one MUJOCO_GL names, else EGL, else OSMesa. RuntimeError if none works."""
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    reasons = []
    for name in (wanted,) if wanted in ("egl", "osmesa") else ("egl", "osmesa"):
        os.environ["PYOPENGL_PLATFORM"] = name
        os.environ.setdefault("LP_NUM_THREADS", "0")  # small pictures: Mesa's threads cost more than they bring
        try:
            context = importlib.import_module(f"mujoco.{name}").GLContext(64, 64)
            context.make_current()
            os.environ["MUJOCO_GL"] = name  # child processes need not try again
            return context
        except Exception as error:  # PyOpenGL raises a different kind for every missing piece
            reasons.append(f"{name}: {' '.join(str(error).split())[:100]}")
            for module in [
                m for m in sys.modules if m.split(".")[0] == "OpenGL" or m.startswith("mujoco." + name)
            ]:
                del sys.modules[module]
    raise RuntimeError(
        "headless rendering does not work here (" + "; ".join(reasons) + "). "
        "Install it: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6"
    )
