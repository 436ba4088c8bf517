"""What people do with the things on the table: one function per action, chosen by `perform`."""

from collections.abc import Callable, Sequence

import numpy as np

from vipa.geometry import rigid
from vipa.hands.skeleton import Side
from vipa.worlds.hand import hand_joints, hand_rotation
from vipa.worlds.motions import FINGER, Performance, Stage, carried_height, head_path, move_head, turned
from vipa.worlds.scene import Scene, sample_scene

GRASPABLE = ("cup", "box", "ball", "bottle", "can", "banana", "cone")
POURABLE = ("cup", "bottle", "can")
WIDE = ("bowl", "plate", "book")
ANOTHER, LONGEST = 4.5, 12.0
"""Seconds that must be left to begin one more action, and that no action exceeds."""
GRIP = 0.095
"""Metres that a hand spans."""

Action = Callable[[Stage, float], float | None]
"""Plays from a time on; returns when it ends, or None (and nothing happened) where the scene does not allow it."""


def _pick(stage: Stage, kinds: Sequence[str]) -> int | None:
    """A random object of these kinds with nothing resting on it; of things that are grasped one that a hand spans."""
    span = GRIP if kinds in (GRASPABLE, POURABLE) else np.inf
    fits = [
        i
        for i, o in enumerate(stage.scene.objects)
        if o.kind in kinds and min(o.size[:2]) <= span and not _covered(stage, i)
    ]
    return int(stage.rng.choice(fits)) if fits else None


def _covered(stage: Stage, i: int) -> bool:
    """Whether another object rests on or in object i."""
    p, radius = stage.objects[i, :3, 3], stage.scene.objects[i].radius
    others = np.delete(stage.objects, i, axis=0)[:, :3, 3]
    near = np.linalg.norm(others[:, :2] - p[:2], axis=1) < radius
    return bool(near.any())


def _side(stage: Stage, i: int) -> Side:
    """The hand for object i: the one there is, or mostly the nearer."""
    if len(stage.sides) == 1:
        return stage.sides[0]
    near = stage.objects[i, 0, 3] / 0.08
    return "right" if stage.rng.random() < 1 / (1 + np.exp(-near - 0.5)) else "left"


def _free(stage: Stage, i: int, at: np.ndarray) -> bool:
    """Whether object i can stand at `at` (2,) on the table without touching another."""
    margin = 0.03
    low, high = stage.scene.reach
    if not ((at >= low - margin) & (at <= high + margin)).all():
        return False
    gaps = [
        np.linalg.norm(stage.objects[j, :2, 3] - at) - o.radius - stage.scene.objects[i].radius
        for j, o in enumerate(stage.scene.objects)
        if j != i
    ]
    return not gaps or bool(min(gaps) > 0.01)


def _place_at(stage: Stage, i: int, position: np.ndarray) -> np.ndarray:
    """Object i upright at `position`, turned by the little that a wrist turns on the way."""
    T = rigid(stage.objects[i, :3, :3], position)
    return turned(T, np.array([0.0, 0.0, 1.0]), float(stage.rng.uniform(-0.5, 0.5)))


def _transport(stage: Stage, i: int, side: Side, goal: np.ndarray, start: float, words: str) -> float:
    """From grasped to set down at `goal`; returns when it is down."""
    height = stage.arch(i, goal[:3, 3])
    length = float(np.linalg.norm(goal[:3, 3] - stage.objects[i, :3, 3]))
    end = start + max(stage.duration(length) / 0.7, stage.duration(height) / 0.42, 1.1)
    stage.carry(i, (side,), goal, start, end, height=height)
    stage.say(f"the {side} hand moves the {stage.name(i)} {words}", start, end, side)
    return end


def put_on(stage: Stage, start: float) -> float | None:
    """Put something on a plate or a book, or into a bowl."""
    i, j = _pick(stage, GRASPABLE), _pick(stage, WIDE)
    if i is None or j is None:
        return None
    thing, support = stage.scene.objects[i], stage.scene.objects[j]
    if (thing.kind == "banana" and support.kind == "bowl") or thing.radius > 1.25 * support.radius:
        return None
    side = _side(stage, i)
    T = stage.objects[j]
    goal = _place_at(stage, i, np.array([*T[:2, 3], carried_height(thing, support, T)]))
    word = "in" if support.kind == "bowl" else "on"
    held = stage.reach_and_grasp(i, side, start)
    down = _transport(stage, i, side, goal, held, f"{'into' if word == 'in' else 'onto'} the {support.name}")
    end = stage.release(i, side, down)
    stage.say(f"put the {thing.name} {word} the {support.name}", start, end, side)
    return end


def put_next_to(stage: Stage, start: float) -> float | None:
    """Put something down next to another object."""
    i = _pick(stage, GRASPABLE)
    others = [j for j in range(len(stage.scene.objects)) if j != i]
    if i is None or not others:
        return None
    thing = stage.scene.objects[i]
    for _ in range(20):
        j = int(stage.rng.choice(others))
        angle = stage.rng.uniform(-np.pi, np.pi)
        gap = thing.radius + stage.scene.objects[j].radius + stage.rng.uniform(0.012, 0.03)
        at = stage.objects[j, :2, 3] + gap * np.array([np.cos(angle), np.sin(angle)])
        if _free(stage, i, at) and np.linalg.norm(at - stage.objects[i, :2, 3]) > 0.06:
            break
    else:
        return None
    side = _side(stage, i)
    goal = _place_at(stage, i, np.array([*at, thing.height / 2]))
    held = stage.reach_and_grasp(i, side, start)
    down = _transport(stage, i, side, goal, held, f"next to the {stage.name(j)}")
    end = stage.release(i, side, down)
    stage.say(f"put the {thing.name} next to the {stage.name(j)}", start, end, side)
    return end


def lift(stage: Stage, start: float) -> float | None:
    """Pick something up, look at it, and put it back."""
    i = _pick(stage, GRASPABLE)
    if i is None:
        return None
    side = _side(stage, i)
    held = stage.reach_and_grasp(i, side, start)
    home = stage.objects[i].copy()
    up = home.copy()
    up[:3, 3] += [*stage.rng.uniform(-0.05, 0.05, 2), stage.rng.uniform(0.10, 0.18)]
    up = turned(up, np.array([0.0, 0.0, 1.0]), float(stage.rng.uniform(-0.4, 0.4)))
    time = stage.duration(0.18, 0.8)
    stage.carry(i, (side,), up, held, held + time)
    stage.say(f"the {side} hand lifts the {stage.name(i)}", held, held + time, side)
    wait = held + time + float(stage.rng.uniform(0.2, 0.6))
    stage.hold(i, (side,), held + time, wait)
    stage.carry(i, (side,), home, wait, wait + time)
    stage.say(f"the {side} hand puts the {stage.name(i)} down", wait, wait + time, side)
    end = stage.release(i, side, wait + time)
    stage.say(f"pick up the {stage.name(i)} and put it back", start, end, side)
    return end


def pour(stage: Stage, start: float) -> float | None:
    """Tilt a cup, can or bottle over a bowl or another cup, and put it back."""
    i, j = _pick(stage, POURABLE), _pick(stage, ("bowl", "cup"))
    if i is None or j is None or i == j:
        return None
    thing, support = stage.scene.objects[i], stage.scene.objects[j]
    side = _side(stage, i)
    lateral = 1.0 if side == "right" else -1.0
    held = stage.reach_and_grasp(i, side, start)
    home, T = stage.objects[i].copy(), stage.objects[j]
    above = home.copy()
    forearm = stage.hands[side][:3, 1] * [1.0, 1.0, 0.0]  # the wrist turns the thumb inwards about this axis
    forearm /= np.linalg.norm(forearm)
    spout = -lateral * np.cross(forearm, [0.0, 0.0, 1.0])
    above[:3, 3] = T[:3, 3] - (0.5 * thing.height + 0.015) * spout
    above[2, 3] += support.height / 2 + max(0.07, 0.6 * thing.height)
    length = float(np.linalg.norm(above[:3, 3] - home[:3, 3]))
    over = held + max(stage.duration(length) / 0.7, stage.duration(0.12) / 0.42, 1.0)
    height = max(0.02, stage.arch(i, above[:3, 3]) + min(home[2, 3], above[2, 3]) - above[2, 3])
    stage.carry(i, (side,), above, held, over, height=height)
    stage.say(f"the {side} hand moves the {thing.name} over the {support.name}", held, over, side)
    tilted = turned(above, -lateral * forearm, float(stage.rng.uniform(1.5, 1.9)))
    tilted_at, upright_at = over + 0.8, over + 0.8 + float(stage.rng.uniform(0.3, 0.7))
    stage.carry(i, (side,), tilted, over, tilted_at)
    stage.hold(i, (side,), tilted_at, upright_at)
    stage.carry(i, (side,), above, upright_at, upright_at + 0.7)
    stage.say(f"the {side} hand tilts the {thing.name} over the {support.name}", over, upright_at + 0.7, side)
    back = upright_at + 0.7 + (over - held)
    stage.carry(i, (side,), home, upright_at + 0.7, back, height=0.03)
    stage.say(f"the {side} hand puts the {thing.name} down", upright_at + 0.7, back, side)
    end = stage.release(i, side, back)
    stage.say(f"pour from the {thing.name} into the {support.name}", start, end, side)
    return end


def push(stage: Stage, start: float) -> float | None:
    """Push something away across the table with the fingers."""
    i = _pick(stage, ("box", "bowl", "plate", "can", "cup", "cone"))
    if i is None:
        return None
    thing, side = stage.scene.objects[i], _side(stage, i)
    lateral = 1.0 if side == "right" else -1.0
    for _ in range(20):
        angle = np.pi / 2 + lateral * stage.rng.uniform(-0.2, 0.8)
        way = np.array([np.cos(angle), np.sin(angle)])
        length = stage.rng.uniform(0.07, 0.15)
        steps = stage.objects[i, :2, 3] + np.linspace(0.25, 1, 4)[:, None] * length * way
        if all(_free(stage, i, at) for at in steps):
            break
    else:
        return None
    goal = stage.objects[i].copy()
    goal[:2, 3] += length * way
    hand, closure = _pushing_hand(stage, i, side, way)
    back = hand.copy()
    back[:2, 3] -= 0.04 * way
    at = start + stage.duration(float(np.linalg.norm(back[:3, 3] - stage.hands[side][:3, 3])), 0.7)
    stage.move_hand(side, back, closure, start, at, height=0.04)
    stage.move_hand(side, hand, closure, at, at + 0.25)
    stage.say(f"the {side} hand reaches for the {thing.name}", start, at + 0.25, side)
    end = at + 0.25 + stage.duration(length, 0.7)
    stage.carry(i, (side,), goal, at + 0.25, end)
    stage.say(f"the {side} hand pushes the {thing.name} away", at + 0.25, end, side)
    done = stage.release(i, side, end, speak=False)
    stage.say(f"push the {thing.name} away", start, done, side)
    return done


def _pushing_hand(stage: Stage, i: int, side: Side, way: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pose and closure of a hand whose middle fingertip touches object i from behind, seen along `way` (2,)."""
    thing, T = stage.scene.objects[i], stage.objects[i]
    extent = thing.radius
    if thing.kind == "box":
        local = np.abs(T[:2, :2].T @ way)
        extent = float(np.min(thing.size[:2] / 2 / np.maximum(local, 1e-6)))
    tip = T[:3, 3] + [*(-(extent + FINGER) * way), 0.0]
    tip[2] = max(0.014, T[2, 3] - 0.1 * thing.height)
    closure = np.array([0.2, 0.15, 0.15, 0.15, 0.2]) + stage.rng.uniform(-0.04, 0.04, 5)
    R = hand_rotation(side, tip, turn=0.0, pitch=0.35, roll=0.2)
    joints = hand_joints(closure, 0.5, stage.look.scale, side) @ R.T
    tip[2] += max(0.0, 0.012 - (joints - joints[12] + tip)[:, 2].min())
    return rigid(R, tip - joints[12]), closure


BOTH: tuple[tuple[Side, float], ...] = (("left", np.pi), ("right", 0.0))
"""The hands, and the angles about world z of the rims that they take."""


def move_with_both(stage: Stage, start: float) -> float | None:
    """Both hands take a bowl, plate or book by its rims and put it somewhere else."""
    i = _pick(stage, WIDE)
    if i is None or len(stage.sides) < 2:
        return None
    for _ in range(20):
        at = stage.rng.uniform(*stage.scene.reach)
        if _free(stage, i, at) and 0.08 < np.linalg.norm(at - stage.objects[i, :2, 3]) < 0.25:
            break
    else:
        return None
    thing = stage.scene.objects[i]
    held = max(stage.reach_and_grasp(i, side, start, where) for side, where in BOTH)
    goal = rigid(stage.objects[i, :3, :3], np.array([*at, thing.height / 2]))
    height = stage.arch(i, goal[:3, 3])
    length = float(np.linalg.norm(goal[:3, 3] - stage.objects[i, :3, 3]))
    end = held + max(stage.duration(length) / 0.7, stage.duration(height) / 0.42, 1.1)
    stage.carry(i, ("left", "right"), goal, held, end, height=height)
    stage.say(f"both hands move the {thing.name}", held, end, "both")
    done = max(stage.release(i, side, end) for side, _ in BOTH)
    stage.say(f"move the {thing.name} with both hands", start, done, "both")
    return done


ACTIONS: dict[str, tuple[Action, float, tuple[tuple[str, ...], ...]]] = {
    "put_on": (put_on, 0.34, (GRASPABLE, WIDE)),
    "put_next_to": (put_next_to, 0.22, (GRASPABLE,)),
    "lift": (lift, 0.12, (GRASPABLE,)),
    "pour": (pour, 0.12, (POURABLE, ("bowl",))),
    "push": (push, 0.10, (("box", "bowl", "cup"),)),
    "move_with_both": (move_with_both, 0.10, (WIDE,)),
}
"""Name: the function, how often it is chosen, and kinds of which the scene must have one each."""


def film_scene(seed: int, ambiguity: float = 0.0) -> tuple[Scene, str]:
    """The scene of a clip and the action that it starts with; the scene has what the action needs."""
    rng = np.random.default_rng([seed, 2])
    names, weights = list(ACTIONS), np.array([a[1] for a in ACTIONS.values()])
    action = str(rng.choice(names, p=weights / weights.sum()))
    required = [str(rng.choice(kinds)) for kinds in ACTIONS[action][2]]
    return sample_scene(seed, required=required, ambiguity=ambiguity), action


def perform(
    seed: int, rate: float, seconds: float | None = None, ambiguity: float = 0.0
) -> tuple[Scene, Performance]:
    """What a person does in the scene of a seed, at `rate` frames per second: as many actions as fit.

    seconds: the length; None: from 4 seconds to what the actions take. The motion does not depend on the rate.
    ambiguity: of the scene.
    """
    scene, first = film_scene(seed, ambiguity)
    rng = np.random.default_rng([seed, 3])
    both = first == "move_with_both" or rng.random() < 0.6
    one: Side = "right" if rng.random() < 0.65 else "left"
    limit = rng.uniform(4.0, 9.0) if seconds is None else seconds
    times = np.arange(max(1, round((limit + LONGEST) * rate))) / rate
    stage = Stage(scene, times, ("left", "right") if both else (one,), rng)
    now, action = rng.uniform(0.0, 0.3), first
    for attempt in range(20):
        if attempt and now + ANOTHER > limit:
            break
        end = ACTIONS[action][0](stage, now)
        if end is not None:
            now = end + rng.uniform(0.0, 0.3)
        action = str(rng.choice(list(ACTIONS)))
    around = scene.T_world_camera if ambiguity == 0 else head_path(scene, times, np.random.default_rng([seed, 6]))
    camera = move_head(around, times, rng, strength=float(rng.choice([0.3, 1.0, 1.8])))
    performance = Performance(
        times,
        stage.look,
        stage.T_world_hand,
        stage.closure,
        stage.T_world_objects,
        stage.contacts,
        camera,
        tuple(sorted(stage.texts, key=lambda t: (t.start, -t.end))),
    )
    return scene, performance.until(max(1, min(len(times), round((seconds or max(4.0, now)) * rate))))
