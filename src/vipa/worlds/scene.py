"""One tabletop scene: every random choice, made from its seed, and the MuJoCo model of it.

World frame: origin at the centre of the table's top, z up, x to the person's right, y away from the person.
Metres, radians.

`ambiguity` is how little a picture's boxes say about distances. 0 is version 1 of the world, to the bit: things of a
kind have about one size, the camera about one place. At 1 a kind's sizes vary by a factor of 3 and more, fields of
view, pitches and distances by 2 and more. Hands keep their size, and the head about its height above the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from vipa.geometry import Intrinsics, rigid
from vipa.worlds.objects import COLOURS, KINDS, SceneObject, add_object, sample_size, vary_size

TABLE_HEIGHT = 0.75
REACH = np.array([[-0.21, -0.16], [0.21, 0.17]])
"""Objects' centres lie in this rectangle (low, high) of x and y, metres; at full ambiguity in one WIDER times it."""
WIDER = 1.35
APPARENT = (0.07, 0.75)
"""Largest extent of a thing in the picture, of its width, where ambiguity varies the camera (least, most)."""

VARIED = 2
"""Version of what ambiguity does, raised when the same seed and ambiguity give another scene or another head."""

Rgb = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Surface:
    """How the table top, the floor or the wall looks."""

    rgb: Rgb
    pattern: str  # "plain", "checker" or "noise"
    repeat: float  # tiles per metre


@dataclass(frozen=True, eq=False)
class Light:
    """One directional lamp (towards `direction`, world) and the light that follows the camera."""

    direction: np.ndarray  # (3,)
    diffuse: float
    ambient: float
    head: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A table with objects, a light and an egocentric camera; all of it follows from `seed`."""

    seed: int
    objects: tuple[SceneObject, ...]
    table_size: np.ndarray  # (2,) metres, full, x and y
    table: Surface
    floor: Surface
    wall: Surface
    light: Light
    T_world_camera: np.ndarray  # (4, 4)
    fov: float  # horizontal, radians
    ambiguity: float = 0.0  # 0 (version 1) ... 1

    @property
    def reach(self) -> np.ndarray:
        """(2, 2) where things may be put: low and high of x and y, metres."""
        return wider(REACH, self.ambiguity)

    def intrinsics(self, width: int, height: int) -> Intrinsics:
        """Of an image of this size: square pixels, centred principal point."""
        return Intrinsics.from_fov(self.fov, width, height, "calibrated")


def scene_name(what: str, ambiguity: float) -> str:
    """Of what is made of the scenes of an ambiguity: such as "clip-1v2", and "clip" at 0."""
    return f"{what}-{ambiguity:g}v{VARIED}" if ambiguity else what


def scene_settings(ambiguity: float) -> dict[str, float | str]:
    """What the scenes follow from beside their seeds, for the record of what is made of them."""
    return {"ambiguity": ambiguity} | ({"scenes": VARIED} if ambiguity else {})


def wider(area: np.ndarray, ambiguity: float) -> np.ndarray:
    """A rectangle about the origin, as large as `ambiguity` makes it."""
    return area * (1 + (WIDER - 1) * ambiguity)


def between(range0: tuple[float, float], range1: tuple[float, float], ambiguity: float) -> tuple[float, float]:
    """The range that is range0 at ambiguity 0 and range1 at 1."""
    low, high = ((1 - ambiguity) * a + ambiguity * b for a, b in zip(range0, range1))
    return low, high


def look_at(eye: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """T_world_camera (4, 4), OpenCV, at `eye` (3,) looking at `target` (3,), metres; roll in radians."""
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    c, s = np.cos(roll), np.sin(roll)
    return rigid(np.column_stack([c * x + s * y, c * y - s * x, z]), eye)


def sample_scene(
    seed: int,
    *,
    kinds: Sequence[str] = KINDS,
    required: Sequence[str] = (),
    count: tuple[int, int] = (3, 6),
    unique_names: bool = True,
    ambiguity: float = 0.0,
) -> Scene:
    """The scene of a seed.

    kinds: what may lie on the table. required: kinds that the first objects have, in this order. count: fewest and
    most objects. unique_names: no two objects share colour and kind. Half of the later objects are distractors:
    they share the kind or the colour of an earlier one. ambiguity: see above. ValueError where `count` cannot hold
    `required`, and for an ambiguity outside 0..1.
    """
    if not 0 <= ambiguity <= 1:
        raise ValueError(f"scene: ambiguity {ambiguity} must be in 0..1")
    if not 1 <= count[0] <= count[1] <= 8 or len(required) > count[1]:
        raise ValueError(f"scene: count {count} must be (fewest, most) in 1..8 and hold {len(required)} required")
    rng = np.random.default_rng(seed)
    varied = np.random.default_rng([seed, 5])  # apart, so that ambiguity leaves the other choices as they are
    objects, camera = None, None
    while objects is None or camera is None:
        objects = _sample_objects(rng, kinds, required, count, unique_names, ambiguity, varied)
        if objects is not None:
            camera = _sample_camera(rng, objects) if ambiguity == 0 else varied_camera(varied, objects, ambiguity)
    T_world_camera, fov = camera
    return Scene(
        seed,
        objects,
        table_size=rng.uniform([1.0, 0.7], [1.5, 0.9]),
        table=_sample_surface(rng, ("plain", "checker", "noise", "noise"), 0.35, 0.85),
        floor=_sample_surface(rng, ("plain", "checker"), 0.2, 0.7),
        wall=_sample_surface(rng, ("plain",), 0.4, 0.9),
        light=Light(
            direction=np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.7, 0.7), -1.0]),
            diffuse=float(rng.uniform(0.45, 0.75)),
            ambient=float(rng.uniform(0.25, 0.38)),
            head=float(rng.uniform(0.15, 0.35)),
        ),
        T_world_camera=T_world_camera,
        fov=fov,
        ambiguity=ambiguity,
    )


def _sample_objects(
    rng: np.random.Generator,
    kinds: Sequence[str],
    required: Sequence[str],
    count: tuple[int, int],
    unique_names: bool,
    ambiguity: float,
    varied: np.random.Generator,
) -> tuple[SceneObject, ...] | None:
    """One try at a set of objects that do not touch; None where they do not fit."""
    common = float(varied.normal())
    n = max(len(required), int(rng.integers(count[0], count[1] + 1)))
    chosen: list[SceneObject] = []
    while len(chosen) < n:
        kind = str(rng.choice(kinds)) if len(chosen) >= len(required) else required[len(chosen)]
        colour = str(rng.choice(list(COLOURS)))
        if chosen and len(chosen) >= len(required) and rng.random() < 0.5:
            like = chosen[int(rng.integers(len(chosen)))]
            if rng.random() < 0.5 and like.kind in kinds:
                kind = like.kind
            else:
                colour = like.colour
        if unique_names and any((kind, colour) == (o.kind, o.colour) for o in chosen):
            continue
        rgb = np.clip(np.array(COLOURS[colour]) + rng.uniform(-0.05, 0.05, 3), 0.02, 0.98)
        pattern = str(rng.choice(["plain", "plain", "checker", "noise"]))
        size, yaw = sample_size(kind, rng), float(rng.uniform(-np.pi, np.pi))
        size = vary_size(kind, size, ambiguity, common, varied)
        for _ in range(40):
            thing = SceneObject(
                kind,
                colour,
                f"{colour} {kind}",
                (float(rgb[0]), float(rgb[1]), float(rgb[2])),
                size,
                np.array([*rng.uniform(*wider(REACH, ambiguity)), size[2] / 2]),
                yaw,
                pattern,
            )
            gaps = [np.hypot(*(thing.position - o.position)[:2]) - thing.radius - o.radius for o in chosen]
            if not gaps or min(gaps) > 0.015:
                chosen.append(thing)
                break
        else:
            return None
    return tuple(chosen)


def _sample_camera(rng: np.random.Generator, objects: Sequence[SceneObject]) -> tuple[np.ndarray, float]:
    """A head above the near edge that sees every object's centre, 5 % inside the image's border."""
    centres = np.array([o.position for o in objects])
    while True:
        fov = float(rng.uniform(np.deg2rad(56), np.deg2rad(72)))
        distance, pitch = rng.uniform(0.48, 0.72), rng.uniform(np.deg2rad(38), np.deg2rad(62))
        side = rng.uniform(-0.3, 0.3)
        target = np.array([rng.uniform(-0.04, 0.04), rng.uniform(-0.05, 0.05), rng.uniform(0.0, 0.04)])
        eye = distance * np.array([np.cos(pitch) * np.sin(side), -np.cos(pitch) * np.cos(side), np.sin(pitch)])
        T = look_at(eye, target, roll=float(rng.uniform(-0.08, 0.08)))
        p = (centres - eye) @ T[:3, :3]
        if (np.abs(p[:, :2] / p[:, 2:]).max() < 0.9 * np.tan(fov / 2)) and p[:, 2].min() > 0.2:
            return T, fov


HEAD = (0.46, 0.50)
"""Metres of the head above the table, at full ambiguity."""


def varied_camera(
    rng: np.random.Generator,
    objects: Sequence[SceneObject],
    ambiguity: float,
    *,
    heights: tuple[float, float] = HEAD,
    distances: tuple[float, float] = (0.48, 0.72),
    centre: tuple[float, float, float] = (0.0, 0.0, 0.02),
) -> tuple[np.ndarray, float] | None:
    """T_world_camera (4, 4) and field of view (radians) of a head that sees every object's centre, 5 % inside the
    border, none too small or too large; None where 200 tries find none.

    Metres: heights: of the eye above the table, at ambiguity 1; distances: to what it looks at, at 0. centre: which
    is about there.
    """
    centres = np.array([o.position for o in objects])
    largest = np.array([o.size.max() for o in objects])
    for _ in range(200):
        fov = np.deg2rad(rng.uniform(*between((56, 72), (40, 84), ambiguity)))
        pitch = np.deg2rad(rng.uniform(*between((38, 62), (24, 74), ambiguity)))
        side = rng.uniform(-1, 1) * between((0, 0.3), (0, 0.6), ambiguity)[1]
        target = centre + rng.uniform(-1, 1, 3) * [0.04 + 0.06 * ambiguity, 0.05 + 0.06 * ambiguity, 0.02]
        far = (rng.uniform(*heights) - target[2]) / np.sin(pitch)
        distance = (1 - ambiguity) * rng.uniform(*distances) + ambiguity * far
        eye = target + distance * np.array(
            [np.cos(pitch) * np.sin(side), -np.cos(pitch) * np.cos(side), np.sin(pitch)]
        )
        T = look_at(eye, target, roll=float(rng.uniform(-0.08, 0.08)))
        p = (centres - eye) @ T[:3, :3]
        if p[:, 2].min() < 0.2:
            continue
        apparent = largest / p[:, 2] / (2 * np.tan(fov / 2))
        seen = np.abs(p[:, :2] / p[:, 2:]).max() < 0.9 * np.tan(fov / 2)
        if seen and apparent.min() > APPARENT[0] and apparent.max() < APPARENT[1]:
            return T, float(fov)
    return None


def glance(scene: Scene, step: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """T_world_camera (..., 4, 4) of the scene's camera after its eye went by `step` (..., 3) and what it looks at on
    the table by `gaze` (..., 3), metres, world."""
    T = scene.T_world_camera
    eye = T[:3, 3]
    target = eye - T[:3, 2] * eye[2] / T[2, 2]
    rolled = T[:3, :3].T @ look_at(eye, target)[:3, :3]
    poses = [look_at(eye + s, target + g) for s, g in zip(step.reshape(-1, 3), gaze.reshape(-1, 3))]
    turned = np.array([rigid(pose[:3, :3] @ rolled.T, pose[:3, 3]) for pose in poses])
    return turned.reshape(*step.shape[:-1], 4, 4)


def _sample_surface(rng: np.random.Generator, patterns: Sequence[str], dark: float, light: float) -> Surface:
    """Muted colours, so that the objects stand out."""
    grey = rng.uniform(dark, light)
    wood = np.array([0.10, 0.0, -0.12]) * rng.uniform(-0.3, 1.2)
    rgb = np.clip(grey + wood + rng.uniform(-0.05, 0.05, 3), 0.05, 0.95)
    return Surface(
        (float(rgb[0]), float(rgb[1]), float(rgb[2])), str(rng.choice(patterns)), float(rng.uniform(4, 16))
    )


def build_spec(scene: Scene, *, dynamic: bool = False) -> mujoco.MjSpec:
    """The MuJoCo model of a scene, to compile or to add a robot to.

    Bodies are named "table" and "object_0" ... in the scene's order. dynamic: objects are free bodies
    (joint "object_0_free") with mass, friction and simple collision geoms in group 3; otherwise mocap bodies.
    """
    spec = mujoco.MjSpec()
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    spec.visual.quality.numslices, spec.visual.quality.numstacks = 20, 10
    head, light = spec.visual.headlight, scene.light
    head.ambient, head.diffuse, head.specular = [light.ambient] * 3, [light.head] * 3, [0.05] * 3
    lamp = spec.worldbody.add_light(
        pos=-2 * light.direction, dir=light.direction, diffuse=[light.diffuse] * 3, castshadow=False
    )
    lamp.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    lamp.specular = [0.1] * 3
    touch = {"contype": 1, "conaffinity": 1, "friction": [1.0, 0.01, 0.001]}
    still = {"contype": 0, "conaffinity": 0}
    box = mujoco.mjtGeom.mjGEOM_BOX
    w, d = scene.table_size / 2
    _add_patterns(spec)
    for name, surface in (("table", scene.table), ("floor", scene.floor), ("wall", scene.wall)):
        _add_material(spec, name, surface.rgb, surface.pattern, surface.repeat)
    table = spec.worldbody.add_body(name="table", pos=[0, 0, -0.02])
    table.add_geom(type=box, size=[w, d, 0.02], material="table", **touch)
    world = spec.worldbody
    world.add_geom(type=box, size=[3, 3, 0.01], pos=[0, 0, -TABLE_HEIGHT], material="floor", **still)
    world.add_geom(type=box, size=[3, 0.01, 1.5], pos=[0, 1.6, 0.5], material="wall", **still)
    for side in (-1, 1):
        world.add_geom(type=box, size=[0.01, 3, 1.5], pos=[side * 1.8, 0, 0.5], material="wall", **still)
    for i, thing in enumerate(scene.objects):
        _add_material(spec, f"object_{i}", thing.rgb, thing.pattern)
        add_object(spec, thing, f"object_{i}", f"object_{i}", dynamic)
    return spec


def _add_patterns(spec: mujoco.MjSpec) -> None:
    """The light grey textures that materials tint: always the same, so that scenes can share one GL context."""
    noise = np.random.default_rng(0).uniform(0.7, 1.0, (8, 8)).repeat(4, 0).repeat(4, 1)
    checker = np.where(np.add.outer(np.arange(32) // 16, np.arange(32) // 16) % 2 == 0, 1.0, 0.78)
    for name, image in (("noise", noise), ("checker", checker)):
        flat = (255 * image).astype(np.uint8)[..., None].repeat(3, -1)
        small = flat[::2, ::2]
        for suffix, type_, pixels in (
            ("", mujoco.mjtTexture.mjTEXTURE_2D, flat),
            ("_cube", mujoco.mjtTexture.mjTEXTURE_CUBE, np.concatenate([small] * 6)),
        ):
            height, width = pixels.shape[:2]
            texture = spec.add_texture(name=name + suffix, type=type_, nchannel=3, width=width, height=height)
            texture.data = pixels.tobytes()


def _add_material(spec: mujoco.MjSpec, name: str, rgb: Rgb, pattern: str, repeat: float | None = None) -> None:
    """repeat: tiles per metre of a flat pattern; None wraps the pattern around a body once."""
    material = spec.add_material(name=name, specular=0.2, shininess=0.2, rgba=[*rgb, 1])
    if pattern == "plain":
        return
    flat = repeat is not None
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = pattern + ("" if flat else "_cube")
    if flat:
        material.texuniform, material.texrepeat = True, [repeat] * 2
