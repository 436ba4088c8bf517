"""Instructed robot tasks on the tabletop: what is asked, of which object, and when it is done.

Words matter: among the objects there is always one of the target's kind in another colour and, but in `place`,
one of the target's colour and another kind; `place` has two sources and two destinations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vipa.worlds.objects import COLOURS, KINDS, SceneObject, sample_size, vary_size
from vipa.worlds.scene import Scene, look_at, sample_scene, varied_camera

STEP_LIMITS = {"touch": 40, "push": 60, "lift": 60, "place": 100}
"""Actions allowed per episode, at 10 a second."""

TASKS: tuple[str, ...] = tuple(STEP_LIMITS)

AREA = np.array([[-0.20, -0.14], [0.20, 0.16]])
"""Centres of objects (low, high) of x and y, metres."""

FREE_CENTRE = 0.035
"""Metres between the area's centre and any object in `touch`: going straight down touches nothing."""

DIRECTIONS: dict[str, tuple[float, float]] = {
    "to the left": (-1.0, 0.0),
    "to the right": (1.0, 0.0),
    "forward": (0.0, 1.0),
    "backward": (0.0, -1.0),
}
"""Words of `push` and their direction in the world, as the camera sees it."""

TARGET_KINDS = {
    "touch": KINDS,
    "push": ("box", "cup", "can", "bowl", "book"),
    "lift": ("box", "cup", "can", "ball", "bottle"),
    "place": ("box", "cup", "can", "ball"),
}
GOAL_KINDS = {"box": ("plate", "bowl"), "can": ("plate", "bowl"), "cup": ("plate",), "ball": ("plate",)}
"""What each kind is put on in `place`."""

MAX_GRASP = {
    "cup": np.array([0.075, 0.075, 0.095]),
    "ball": np.full(3, 0.065),
    "box": np.full(3, 0.062),
}
"""Largest extents in tasks that grasp, metres: the fingers open to 0.1."""

WIDEST_GRASP, LOWEST, ROOM = 0.075, 0.03, 0.85
"""Where ambiguity varies sizes: metres that a thing to grasp measures at most across, and at least in height; and how
wide what is put somewhere may be at most, of what it is put on."""

TOUCH_DISTANCE = 0.02  # metres from the tool's origin to the object's bounding box or cylinder
PUSH_DISTANCE = 0.05
LIFT_HEIGHT = 0.06
DISTURBED = 0.03  # a distractor that moved so far fails `push`, one lifted so high fails `lift`


@dataclass(frozen=True, eq=False)
class TaskInstance:
    """One episode's task; all of it follows from (name, seed)."""

    name: str
    seed: int
    scene: Scene
    text: str
    target: int  # index into scene.objects
    goal: int | None  # `place`: the object to put it on
    direction: np.ndarray | None  # `push`: (2,) unit vector, world x and y
    start: np.ndarray  # (3,) where the gripper begins, metres
    step_limit: int


def sample_task(name: str, seed: int, ambiguity: float = 0.0) -> TaskInstance:
    """The task of a seed. ambiguity: of its scene. ValueError for an unknown name, or an ambiguity outside 0..1."""
    if name not in TASKS:
        raise ValueError(f"robot task {name!r} is unknown; known: {', '.join(TASKS)}")
    rng = np.random.default_rng([seed, 2, TASKS.index(name)])
    varied = np.random.default_rng([seed, 5, TASKS.index(name)])
    words, free, layout, camera = list(DIRECTIONS), [], None, None
    while layout is None or (name == "push" and not free) or (ambiguity and camera is None):
        layout = _sample_objects(name, rng, ambiguity, varied)
        if layout is not None:
            rng.shuffle(words)
            free = [w for w in words if is_free(layout, np.array(DIRECTIONS[w]))]
            if ambiguity:
                camera = varied_camera(
                    varied, layout, ambiguity, distances=(0.54, 0.57), centre=(0.0, 0.045, 0.06)
                )
    direction_text, direction = "", None
    if name == "push":
        direction_text, direction = free[0], np.array(DIRECTIONS[free[0]])
    order = rng.permutation(len(layout))
    objects = tuple(layout[i] for i in order)
    target, goal = int(np.argmin(order)), int(np.flatnonzero(order == 1)[0]) if name == "place" else None
    thing = objects[target].name
    text = {
        "touch": f"touch the {thing}",
        "push": f"push the {thing} {direction_text}",
        "lift": f"pick up the {thing}",
        "place": f"put the {thing} on the {objects[goal or 0].name}",
    }[name]
    T_world_camera, fov = camera or _sample_camera(rng)
    around = sample_scene(seed, count=(1, 1), ambiguity=ambiguity)
    scene = replace(around, objects=objects, T_world_camera=T_world_camera, fov=fov)
    start = rng.uniform([-0.08, 0.05, 0.19], [0.08, 0.13, 0.23])
    return TaskInstance(name, seed, scene, text, target, goal, direction, start, STEP_LIMITS[name])


def _sample_camera(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The third-person view: across the table from the robot, moved by a centimetre or two."""
    pitch, side, distance = np.deg2rad(rng.uniform(51, 55)), rng.uniform(-0.06, 0.06), rng.uniform(0.54, 0.57)
    eye = distance * np.array([np.cos(pitch) * np.sin(side), -np.cos(pitch) * np.cos(side), np.sin(pitch)])
    target = np.array([0.0, 0.045, 0.06]) + rng.uniform(-0.008, 0.008, 3)
    return look_at(eye + target, target), float(np.deg2rad(rng.uniform(57, 59)))


def _sample_objects(
    name: str, rng: np.random.Generator, ambiguity: float, varied: np.random.Generator
) -> list[SceneObject] | None:
    """Target first, then for `place` its destination, then distractors; None where they do not fit."""
    colours = list(COLOURS)

    def other(names: Sequence[str], than: str) -> str:
        return str(rng.choice([n for n in names if n != than]))

    kind, colour = str(rng.choice(TARGET_KINDS[name])), str(rng.choice(colours))
    wanted = [(kind, colour)]
    if name == "place":
        goal, goal_colour = str(rng.choice(GOAL_KINDS[kind])), str(rng.choice(colours))
        wanted += [(goal, goal_colour), (kind, other(colours, colour)), (goal, other(colours, goal_colour))]
    else:
        small = KINDS if name == "touch" else [k for k in KINDS if k not in ("plate", "banana")]
        wanted += [(kind, other(colours, colour)), (other(small, kind), colour)]
        if name == "touch" or rng.random() < 0.4:
            wanted.append((str(rng.choice(small)), str(rng.choice(colours))))
    if len(set(wanted)) < len(wanted):
        return None
    gap = {"touch": 0.035, "push": 0.03, "lift": 0.04, "place": 0.03}[name]
    placed: list[SceneObject] = []
    common = float(varied.normal())
    for kind, colour in wanted:
        size = sample_size(kind, rng)
        if name == "place" and kind == "plate":
            size[:2] = 0.15
        if name in ("lift", "place"):
            size = np.minimum(size, MAX_GRASP.get(kind, np.inf))
        if ambiguity:
            size = vary_size(kind, size, ambiguity, common, varied)
            if len(placed) == 0 and not _handy(name, size):
                return None
        yaw = float(rng.uniform(-0.4, 0.4) if kind in ("box", "book", "banana") else rng.uniform(-np.pi, np.pi))
        rgb = np.clip(np.array(COLOURS[colour]) + rng.uniform(-0.05, 0.05, 3), 0.02, 0.98)
        for _ in range(30):
            position = np.array([*rng.uniform(*AREA), size[2] / 2])
            tint = (float(rgb[0]), float(rgb[1]), float(rgb[2]))
            thing = SceneObject(kind, colour, f"{colour} {kind}", tint, size, position, yaw, "plain")
            apart = all(np.hypot(*(position - o.position)[:2]) > thing.radius + o.radius + gap for o in placed)
            off_centre = np.hypot(*(position[:2] - AREA.mean(0))) > thing.radius + FREE_CENTRE
            if apart and (off_centre or name != "touch"):
                placed.append(thing)
                if name == "place" and len(placed) == 2 and ambiguity and thing.radius * ROOM < placed[0].radius:
                    return None
                break
        else:
            return None
    return placed


def _handy(name: str, size: np.ndarray) -> bool:
    """Whether the gripper can do with a thing of this size what the task asks."""
    if name in ("lift", "place"):
        return bool(size[:2].max() <= WIDEST_GRASP and size[2] >= LOWEST)
    return bool(name != "push" or size[2] >= LOWEST)


def is_free(objects: Sequence[SceneObject], direction: np.ndarray, beyond: float = 0.0) -> bool:
    """Whether the first object can be pushed this way: no other one near the strip that the fist sweeps. beyond: metres
    that it may end farther out than in training."""
    target = objects[0]
    begin, end = -(target.radius + 0.06), target.radius + 0.10
    if (np.abs((target.position[:2] + 0.08 * direction) - AREA.mean(0)) > np.array([0.21, 0.18]) + beyond).any():
        return False
    for thing in objects[1:]:
        offset = thing.position[:2] - target.position[:2]
        along = float(offset @ direction)
        across = abs(float(offset[0] * direction[1] - offset[1] * direction[0]))
        wide = max(target.radius, 0.03) if along > 0 else 0.06
        if begin - thing.radius < along < end + thing.radius and across < wide + thing.radius + 0.015:
            return False
    return True


def surface_distance(thing: SceneObject, T_world_object: np.ndarray, point: np.ndarray) -> float:
    """Metres from a point (3,) to the object's bounding box, or cylinder for round kinds; 0 inside."""
    local = T_world_object[:3, :3].T @ (point - T_world_object[:3, 3])
    half = thing.size / 2
    if abs(thing.size[0] - thing.size[1]) < 1e-9:
        outside = np.array([np.hypot(local[0], local[1]) - half[0], abs(local[2]) - half[2]])
    else:
        outside = np.abs(local) - half
    return float(np.linalg.norm(np.maximum(outside, 0.0)))
