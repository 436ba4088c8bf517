"""Robot tasks as no training shows them: axes of change, each with a strength from 0 (as trained) to 1.

What is drawn comes from the task's seed and the axis alone: an axis changes an episode the same way whatever else is
changed, and two policies meet the same scenes. What is asked stays possible: the same thing is to be moved to the same
goal, in view, within the same number of steps.
"""

import colorsys
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from vipa.geometry import invert, transform
from vipa.worlds.objects import COLOURS, KINDS, SceneObject, sample_size
from vipa.worlds.robot import WORKSPACE
from vipa.worlds.scene import Light, Scene, Surface, look_at
from vipa.worlds.tasks import AREA, FREE_CENTRE, TaskInstance, is_free

Draw = np.random.Generator

GAP = 0.03  # metres between any two objects, as in training
TRIES = 400  # at a place; a table where that finds none is full


def changed(task: TaskInstance, changes: Mapping[str, float]) -> TaskInstance:
    """The task with every axis of `changes` moved by its strength. ValueError for unknown axes and strengths outside
    0..1."""
    if unknown := set(changes) - set(CHANGES):
        raise ValueError(f"changes {sorted(unknown)} are unknown; known: {', '.join(CHANGES)}")
    for number, (axis, change) in enumerate(CHANGES.items()):
        strength = changes.get(axis, 0.0)
        if not 0 <= strength <= 1:
            raise ValueError(f"change {axis}: strength {strength} must be within 0..1")
        if strength:
            task = change(task, strength, np.random.default_rng([task.seed, 6, number]))
    return task


def _camera_pose(task: TaskInstance, strength: float, rng: Draw) -> TaskInstance:
    """The camera goes round the table by 12 to 23 degrees, up or down by 5 to 10, and leans by up to 6.

    Training's stands within 4 degrees of straight ahead and within 2 of one height.
    """
    scene = task.scene
    eye, forward = scene.T_world_camera[:3, 3], scene.T_world_camera[:3, 2]
    target = eye + forward * (0.06 - eye[2]) / forward[2]
    distance, away = float(np.linalg.norm(eye - target)), (eye - target) / np.linalg.norm(eye - target)
    while True:
        side, rise = rng.choice([-1, 1], 2) * np.deg2rad(rng.uniform([12, 5], [23, 10])) * strength
        pitch, round_ = np.arcsin(away[2]) + rise, np.arctan2(away[1], away[0]) + side
        direction = np.array([np.cos(pitch) * np.cos(round_), np.cos(pitch) * np.sin(round_), np.sin(pitch)])
        lean = float(rng.uniform(-0.1, 0.1)) * strength
        seen = replace(scene, T_world_camera=look_at(target + distance * direction, target, lean))
        if _in_view(seen):
            return replace(task, scene=seen)
        distance *= 1.02


def _light(task: TaskInstance, strength: float, rng: Draw) -> TaskInstance:
    """Towards a lamp that stands low, in a room that is dim or glaring; training's stands high, in between."""
    light, angle = task.scene.light, rng.uniform(-np.pi, np.pi)
    direction = np.array([2.0 * np.cos(angle), 2.0 * np.sin(angle), -1.0])
    diffuse, ambient, head = ((0.30, 0.14, 0.05), (1.1, 0.5, 0.6))[int(rng.integers(2))]

    def towards(value: float, other: float) -> float:
        return (1 - strength) * value + strength * other

    there = Light(
        (1 - strength) * light.direction + strength * direction,
        towards(light.diffuse, diffuse),
        towards(light.ambient, ambient),
        towards(light.head, head),
    )
    return replace(task, scene=replace(task.scene, light=there))


def _textures(task: TaskInstance, strength: float, rng: Draw) -> TaskInstance:
    """Table, floor and wall towards strong colours, with patterns coarser or finer than training's; things patterned.

    Training's surfaces are muted and its robot's things plain. The table does not take the colour of a thing on it.
    """
    scene = task.scene
    taken = [np.array(thing.rgb) for thing in scene.objects]

    def strong(surface: Surface, apart: float) -> Surface:
        while True:
            rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.6, 0.9), rng.uniform(0.35, 0.9))
            if all(np.linalg.norm(np.array(rgb) - other) > apart for other in taken):
                break
        mixed = (1 - strength) * np.array(surface.rgb) + strength * np.array(rgb)
        pattern, repeat = str(rng.choice(["checker", "noise"])), float(rng.choice([2.0, 30.0]))
        if rng.random() >= strength:
            pattern, repeat = surface.pattern, surface.repeat
        return Surface((float(mixed[0]), float(mixed[1]), float(mixed[2])), pattern, repeat)

    def patterned(thing: SceneObject) -> SceneObject:
        pattern = str(rng.choice(["checker", "noise"]))
        return replace(thing, pattern=pattern if rng.random() < strength else thing.pattern)

    surfaces = {
        "table": strong(scene.table, 0.35),
        "floor": strong(scene.floor, 0.0),
        "wall": strong(scene.wall, 0.0),
    }
    return replace(task, scene=replace(scene, **surfaces, objects=tuple(map(patterned, scene.objects))))


def _distractors(task: TaskInstance, strength: float, rng: Draw) -> TaskInstance:
    """Up to four more things with other names, where they leave room to do what is asked (fewer where they do not).

    Training has three or four things on the table.
    """
    objects = list(task.scene.objects)
    for _ in range(max(1, round(4 * strength))):
        for _ in range(TRIES):
            kind, colour = str(rng.choice(KINDS)), str(rng.choice(list(COLOURS)))
            size = sample_size(kind, rng)
            position = np.array([*rng.uniform(AREA[0] - 0.03, AREA[1] + 0.03), size[2] / 2])
            red, green, blue = COLOURS[colour]
            yaw = float(rng.uniform(-np.pi, np.pi))
            thing = SceneObject(kind, colour, f"{colour} {kind}", (red, green, blue), size, position, yaw, "plain")
            scene = replace(task.scene, objects=(*objects, thing))
            if thing.name not in {o.name for o in objects} and _possible(replace(task, scene=scene)):
                objects.append(thing)
                break
    return replace(task, scene=replace(task.scene, objects=tuple(objects)))


def _layout(task: TaskInstance, strength: float, rng: Draw) -> TaskInstance:
    """The same things elsewhere, the target up to 6 cm beyond the rectangle that training puts things in."""
    beyond = 0.06 * strength
    low, high = AREA[0] - beyond, AREA[1] + beyond
    objects = list(task.scene.objects)
    for _ in range(100 * TRIES):
        placed = [replace(o, position=np.array([*rng.uniform(low, high), o.position[2]])) for o in objects]
        x, y = placed[task.target].position[:2]
        outside = max(AREA[0][0] - x, x - AREA[1][0], AREA[0][1] - y, y - AREA[1][1])
        there = replace(task, scene=replace(task.scene, objects=tuple(placed)))
        if outside > 0.3 * beyond and _possible(there, beyond):
            return there
    raise ValueError(f"{task.name} {task.seed}: no other layout is found")


def _wording(task: TaskInstance, strength: float, rng: Draw) -> TaskInstance:
    """Up to 1/3 a politer sentence, up to 2/3 another verb too, above other nouns as well."""
    text = task.text
    for wanted, words in ((1 / 3, VERBS), (2 / 3, NOUNS)):
        if strength > wanted:
            for word, others in words.items():
                text = re.sub(rf"\b{word}\b", str(rng.choice(others)), text)
    frame = str(rng.choice(FRAMES))
    return replace(task, text=frame.format(text))


FRAMES = ("please {}", "{}, please", "now {}", "could you {}")
VERBS = {
    "touch": ("tap", "reach for", "poke"),
    "push": ("shove", "slide", "move"),
    "pick up": ("lift", "raise", "grab"),
    "put": ("set", "lay", "place"),
}
NOUNS = {
    "cup": ("mug", "beaker"),
    "bowl": ("dish", "basin"),
    "plate": ("platter", "saucer"),
    "ball": ("sphere", "globe"),
    "bottle": ("flask", "flagon"),
    "can": ("tin", "canister"),
    "box": ("cube", "carton"),
    "book": ("volume", "notebook"),
    "cone": ("pylon", "peak"),
    "banana": ("piece of fruit", "plantain"),
}

CHANGES: dict[str, Callable[[TaskInstance, float, Draw], TaskInstance]] = {
    "camera_pose": _camera_pose,
    "light": _light,
    "textures": _textures,
    "distractors": _distractors,
    "layout": _layout,
    "wording": _wording,
}
"""The axes, in the order in which they are applied."""


def _in_view(scene: Scene) -> bool:
    """Whether every object's centre is 5 % of the picture inside its border."""
    p = transform(invert(scene.T_world_camera), np.array([o.position for o in scene.objects]))
    return bool(np.abs(p[:, :2] / p[:, 2:]).max() < 0.9 * np.tan(scene.fov / 2))


def _possible(task: TaskInstance, beyond: float = 0.0) -> bool:
    """Whether things are apart, in view, and leave room for the task, by training's rules. beyond: see `is_free`."""
    objects = task.scene.objects
    for i, a in enumerate(objects):
        for b in objects[:i]:
            if np.hypot(*(a.position - b.position)[:2]) < a.radius + b.radius + GAP:
                return False
    if task.name == "touch":
        clear = [np.hypot(*(o.position[:2] - AREA.mean(0))) > o.radius + FREE_CENTRE for o in objects]
        if not all(clear):
            return False
    if task.direction is not None:
        target = objects[task.target]
        others = [o for i, o in enumerate(objects) if i != task.target]
        behind = target.position[:2] - (target.radius + 0.05) * task.direction  # where a push begins
        reached = (WORKSPACE[0][:2] < behind).all() and (behind < WORKSPACE[1][:2]).all()
        if not reached or not is_free([target, *others], task.direction, beyond):
            return False
    return _in_view(task.scene)
