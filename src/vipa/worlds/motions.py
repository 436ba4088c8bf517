"""Scripted manipulation as a person does it: reach, grasp, carry, place, pour, push; with words and contacts.

Every movement has a minimum-jerk speed profile (Flash and Hogan 1985), a duration that grows with its length,
and smooth noise that vanishes at its ends, so that things are grasped and set down exactly where the plan says.
A held object and the hands that hold it move rigidly together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vipa.clips.clip import Text
from vipa.geometry import axis_angle_from_matrix, invert, matrix_from_axis_angle, rigid
from vipa.hands.skeleton import Side
from vipa.worlds.hand import HandLook, grip_point, hand_joints, hand_rotation, pinch_closure, sample_look
from vipa.worlds.objects import SceneObject
from vipa.worlds.scene import Scene, glance

PEAK_SPEED = (0.55, 0.90)
"""Range of a person's own peak speed of the hand, metres per second."""
LEAVING = 0.6
"""Seconds at an action's end in which the hand only goes home: the instruction is done before."""
DRIFT = 6.0
"""Seconds in which the head goes from one place to another."""
FINGER = 0.008  # half the thickness of a finger, metres


@dataclass(frozen=True, eq=False)
class Performance:
    """What happens in front of the camera, sampled at `times`. Hands are by side, objects in the scene's order."""

    times: np.ndarray  # (frames,) seconds
    look: HandLook
    T_world_hand: dict[Side, np.ndarray]  # (frames, 4, 4)
    closure: dict[Side, np.ndarray]  # (frames, 5)
    T_world_objects: np.ndarray  # (frames, objects, 4, 4)
    contacts: dict[tuple[Side, int], np.ndarray]  # (frames,) bool: this hand holds or pushes this object
    T_world_camera: np.ndarray  # (frames, 4, 4)
    texts: tuple[Text, ...]

    def until(self, frames: int) -> "Performance":
        """The first `frames` frames. Phrases keep their ends, also later ones (see `Text`); an instruction not done by
        then is dropped, one whose hands only leave ends with them."""
        last = float(self.times[frames - 1])
        texts = tuple(
            text if " hand" in text.text else replace(text, end=min(text.end, last))
            for text in self.texts
            if text.start < last and (text.end <= last + LEAVING or " hand" in text.text)
        )
        return Performance(
            self.times[:frames],
            self.look,
            {side: T[:frames] for side, T in self.T_world_hand.items()},
            {side: closure[:frames] for side, closure in self.closure.items()},
            self.T_world_objects[:frames],
            {key: contact[:frames] for key, contact in self.contacts.items()},
            self.T_world_camera[:frames],
            texts,
        )


def minimum_jerk(s: np.ndarray) -> np.ndarray:
    """Progress 0..1 at relative times s (clipped to 0..1): the smoothest movement between two rests."""
    s = np.clip(s, 0.0, 1.0)
    return s**3 * (10 - 15 * s + 6 * s**2)


def interpolate(T0: np.ndarray, T1: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Poses (n, 4, 4) from T0 (s = 0) to T1 (s = 1): straight in position, the shortest turn in rotation."""
    turn = axis_angle_from_matrix(T0[:3, :3].T @ T1[:3, :3])
    R = T0[:3, :3] @ matrix_from_axis_angle(s[:, None] * turn)
    return rigid(R, T0[:3, 3] + s[:, None] * (T1[:3, 3] - T0[:3, 3]))


class Stage:
    """A performance in the making: every movement overwrites the future from its start on."""

    def __init__(self, scene: Scene, times: np.ndarray, sides: Sequence[Side], rng: np.random.Generator):
        n = len(times)
        self.scene, self.times, self.rng, self.sides = scene, times, rng, tuple(sides)
        self.look = sample_look(rng)
        self.speed = rng.uniform(*PEAK_SPEED)
        self.objects = np.array([o.T_world_object for o in scene.objects])  # now
        self.hands: dict[Side, np.ndarray] = {side: self._rest(side) for side in sides}  # now
        self.closures: dict[Side, np.ndarray] = {
            side: np.clip(rng.uniform(0.15, 0.35) + rng.normal(0, 0.03, 5), 0, 1) for side in sides
        }
        self.T_world_objects = np.tile(self.objects, (n, 1, 1, 1))
        self.T_world_hand: dict[Side, np.ndarray] = {side: np.tile(self.hands[side], (n, 1, 1)) for side in sides}
        self.closure: dict[Side, np.ndarray] = {side: np.tile(self.closures[side], (n, 1)) for side in sides}
        self.contacts: dict[tuple[Side, int], np.ndarray] = {
            (side, i): np.zeros(n, bool) for side in sides for i in range(len(scene.objects))
        }
        self.texts: list[Text] = []

    def _rest(self, side: Side) -> np.ndarray:
        """A hand on the near edge, or below the picture."""
        lateral = 1.0 if side == "right" else -1.0
        near = -0.29 if self.rng.random() < 0.6 else -0.42
        at = np.array([lateral * self.rng.uniform(0.10, 0.20), near + self.rng.uniform(-0.03, 0.03), 0.0])
        at[:2] *= [1 + 0.6 * self.scene.ambiguity, 1 + 0.2 * self.scene.ambiguity]
        R = hand_rotation(side, at, turn=lateral * self.rng.uniform(0.0, 0.3), pitch=0.05, roll=0.3)
        joints = hand_joints(np.full(5, 0.35), 0.5, self.look.scale, side) @ R.T
        at[2] = 0.012 - joints[:, 2].min()
        return rigid(R, at)

    def duration(self, length: float, shortest: float = 0.6) -> float:
        """Seconds for a minimum-jerk movement of this length in metres at this person's peak speed."""
        return max(shortest, 1.875 * length / self.speed)

    def say(self, text: str, start: float, end: float, hand: Literal["left", "right", "both"]) -> None:
        self.texts.append(Text(text, round(float(start), 3), round(float(end), 3), hand))

    def noise(self, s: np.ndarray, metres: float) -> np.ndarray:
        """Smooth wobble (n, 3) of relative times s that is zero, and at rest, at both ends."""
        s = np.clip(s, 0.0, 1.0)[:, None]
        phases, weights = self.rng.uniform(0, 2 * np.pi, (2, 3)), self.rng.normal(0, metres, (2, 3))
        wave = sum(weights[k] * np.sin(2 * np.pi * (k + 1) * s + phases[k]) for k in range(2))
        return np.sin(np.pi * s) ** 2 * wave

    def move_hand(
        self, side: Side, goal: np.ndarray, closure: np.ndarray, start: float, end: float, *,
        opening: np.ndarray | None = None, height: float = 0.0,
    ) -> None:  # fmt: skip
        """A free hand goes to pose `goal` and `closure`, over an arch of `height` metres.

        opening: a closure on the way there, reached at 65 % of the time, as fingers open before a grasp.
        """
        later = self.times >= start
        s = (self.times[later] - start) / (end - start)
        p = minimum_jerk(s)
        T = interpolate(self.hands[side], goal, p)
        T[:, :3, 3] += self.noise(s, 0.004)
        T[:, 2, 3] += height * np.sin(np.pi * p) ** 2
        first = self.closures[side]
        if opening is None:
            bend = first + p[:, None] * (closure - first)
        else:
            q, r = minimum_jerk(s / 0.65)[:, None], minimum_jerk((s - 0.65) / 0.35)[:, None]
            bend = first + q * (opening - first) + r * (closure - opening)
        self.T_world_hand[side][later], self.closure[side][later] = T, bend
        self.hands[side], self.closures[side] = goal, closure

    def carry(
        self, i: int, sides: Sequence[Side], goal: np.ndarray, start: float, end: float, *, height: float = 0.0
    ) -> None:
        """Object i goes to pose `goal` in these hands, raised by `height` metres in between."""
        later = self.times >= start
        s = (self.times[later] - start) / (end - start)
        rise = minimum_jerk(s / 0.42) * (1 - minimum_jerk((s - 0.58) / 0.42)) if height else 0.0 * s
        travel = minimum_jerk((s - 0.15) / 0.7) if height else minimum_jerk(s)
        T0 = self.objects[i]
        T = interpolate(T0, goal, travel)
        T[:, :3, 3] += self.noise(s, 0.003 if height else 0.0)
        T[:, 2, 3] += height * rise
        self.T_world_objects[later, i] = T
        for side in sides:
            T_object_hand = invert(T0) @ self.hands[side]
            self.T_world_hand[side][later] = T @ T_object_hand
            self.closure[side][later] = self.closures[side]
            self.hands[side] = goal @ T_object_hand
            self.contacts[side, i][later] = self.times[later] <= end
        self.objects[i] = goal

    def hold(self, i: int, sides: Sequence[Side], start: float, end: float) -> None:
        """Nothing moves, but the hands touch object i."""
        for side in sides:
            self.contacts[side, i] |= (self.times >= start) & (self.times <= end)

    def name(self, i: int) -> str:
        return self.scene.objects[i].name

    def arch(self, i: int, goal: np.ndarray) -> float:
        """Metres to raise object i so that it passes over what lies between it and `goal` (3,)."""
        start, thing = self.objects[i, :3, 3], self.scene.objects[i]
        tops = [0.05]
        for j, other in enumerate(self.scene.objects):
            if j == i:
                continue
            along = np.clip(np.dot(self.objects[j, :2, 3] - start[:2], goal[:2] - start[:2]), 0, None)
            nearest = start[:2] + (goal - start)[:2] * min(1.0, along / max(1e-9, np.sum((goal - start)[:2] ** 2)))
            if np.linalg.norm(self.objects[j, :2, 3] - nearest) < thing.radius + other.radius + 0.01:
                tops.append(self.objects[j, 2, 3] + other.height / 2 + 0.02)
        lowest = min(start[2], goal[2]) - thing.height / 2
        return float(max(tops) - lowest) + self.rng.uniform(0.0, 0.03)

    # Grasps

    def grasp(self, i: int, side: Side, where: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """T_world_hand (4, 4) and closure (5,) of a hand that holds object i as it stands now.

        where: of a rim or a book, the angle about world z at which it is held; None: on the hand's own side.
        """
        thing, T = self.scene.objects[i], self.objects[i]
        lateral = 1.0 if side == "right" else -1.0
        centre, top = T[:3, 3].copy(), T[:3, 3] + [0.0, 0.0, thing.height / 2]
        u = self.rng.uniform
        if thing.kind in ("bowl", "plate", "book"):
            angle = np.arctan2(-0.45, lateral) + lateral * u(-0.3, 0.3) if where is None else where
            out = np.array([np.cos(angle), np.sin(angle), 0.0])
            reach = thing.radius
            if thing.kind == "book":
                local = T[:3, :3].T @ out
                reach = float(np.min(thing.size[:2] / 2 / np.maximum(np.abs(local[:2]), 1e-6)))
            target, width = centre + (reach - 0.008) * out, 0.012 if thing.kind != "book" else thing.height
            target[2] = top[2] if thing.kind == "bowl" else centre[2] + 0.006
            turn, pitch, roll = lateral * u(0.3, 0.6), u(0.4, 0.7), u(0.5, 0.9)
        elif thing.kind in ("cup", "can", "bottle"):
            width = thing.size[0]
            target = centre.copy()
            target[2] += (u(-0.2, 0.0) if thing.kind == "bottle" else u(0.0, 0.25)) * thing.height
            turn, pitch, roll = lateral * u(0.2, 0.5), u(0.05, 0.3), u(1.1, 1.4)
        else:
            width = min(thing.size[:2])
            target = top - [0.0, 0.0, min(0.4 * thing.height, 0.022)]
            width = 0.5 * width if thing.kind == "cone" else width
            turn, pitch, roll = lateral * u(0.1, 0.4), u(0.7, 1.0), u(0.2, 0.6)
        closure = pinch_closure(width + 2 * FINGER, self.look.scale)
        R = hand_rotation(side, target, turn=turn, pitch=pitch, roll=roll)
        wrist = target - R @ grip_point(closure, self.look.scale, side)
        lowest = (hand_joints(closure, 0.5, self.look.scale, side) @ R.T + wrist)[:, 2].min()
        wrist[2] += max(0.0, 0.012 - lowest)
        return rigid(R, wrist), closure

    def reach_and_grasp(self, i: int, side: Side, start: float, where: float | None = None) -> float:
        """A free hand opens, goes to object i and closes on it; returns when it holds it."""
        goal, closure = self.grasp(i, side, where)
        reach = self.duration(float(np.linalg.norm(goal[:3, 3] - self.hands[side][:3, 3])), 0.7)
        near = goal.copy()
        near[:3, 3] += -0.012 * goal[:3, 1] + np.array([0.0, 0.0, 0.006])
        opening = np.clip(closure - self.rng.uniform(0.12, 0.22), 0.0, 1.0)
        pause, arrive = 0.28, start + reach
        self.move_hand(side, near, opening, start, arrive, height=self.rng.uniform(0.03, 0.07))
        self.move_hand(side, goal, closure, arrive, arrive + pause)
        self.say(f"the {side} hand reaches for the {self.name(i)}", start, arrive, side)
        self.say(f"the {side} hand grasps the {self.name(i)}", arrive, arrive + pause, side)
        return arrive + pause

    def release(self, i: int, side: Side, start: float, *, speak: bool = True) -> float:
        """The hand opens, leaves object i where it is and goes to rest; returns when it rests."""
        T, open_ = self.hands[side].copy(), np.clip(self.closures[side] - 0.18, 0, 1)
        T[:3, 3] += -0.03 * T[:3, 1] + np.array([0.0, 0.0, 0.015])
        let_go, pause = start + 0.12, 0.35
        self.hold(i, (side,), start, let_go)
        self.move_hand(side, T, open_, let_go, let_go + pause)
        rest = self._rest(side)
        home = self.duration(float(np.linalg.norm(rest[:3, 3] - T[:3, 3])), 0.7)
        relaxed = np.clip(self.rng.uniform(0.15, 0.35) + self.rng.normal(0, 0.03, 5), 0, 1)
        self.move_hand(side, rest, relaxed, let_go + pause, let_go + pause + home, height=0.03)
        if speak:
            self.say(f"the {side} hand lets go of the {self.name(i)}", start, let_go + pause, side)
        self.say(f"the {side} hand moves back", let_go + pause, let_go + pause + home, side)
        return let_go + pause + home


def turned(T: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """Pose T (4, 4) turned about a world axis (3,) through its own origin, radians."""
    return rigid(matrix_from_axis_angle(angle * axis) @ T[:3, :3], T[:3, 3])


def look_around(ambiguity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(3,), (3,) metres: how far the eye goes, and what it looks at on the table, where ambiguity moves the head."""
    eye = ambiguity * rng.uniform(-1, 1, 3) * [0.17, 0.11, 0.03]
    gaze = ambiguity * rng.uniform(-1, 1, 3) * [0.10, 0.08, 0.0]
    return eye, gaze


def head_path(scene: Scene, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """T_world_camera (frames, 4, 4) of a head that goes from one look around to the next, each 0.9 to 2.2 seconds."""
    steps, gazes = np.zeros((len(times), 3)), np.zeros((len(times), 3))
    start, (step, gaze) = float(times[0]), look_around(scene.ambiguity, rng)
    while start <= times[-1]:
        end, (next_step, next_gaze) = start + rng.uniform(0.9, 2.2), look_around(scene.ambiguity, rng)
        later = times >= start
        p = minimum_jerk((times[later] - start) / (end - start))[:, None]
        steps[later], gazes[later] = step + p * (next_step - step), gaze + p * (next_gaze - gaze)
        start, step, gaze = end, next_step, next_gaze
    return glance(scene, steps, gazes)


def move_head(
    T_world_camera: np.ndarray, times: np.ndarray, rng: np.random.Generator, *, strength: float = 1.0
) -> np.ndarray:
    """Smooth head motion (frames, 4, 4) about a pose, or one for each frame: sway, and one slow drift over the first
    seconds.

    At strength 1 the head travels a few centimetres and turns a few degrees over some seconds.
    """
    t = (times - times[0])[:, None]

    def wander(sway: float, drift: float) -> np.ndarray:
        total = (minimum_jerk(t / DRIFT) - 0.5) * rng.normal(0, drift, 3)
        for frequency in (0.15, 0.4, 0.9):
            amplitude = rng.normal(0, sway / (1 + 4 * frequency), 3)
            total = total + amplitude * np.sin(2 * np.pi * frequency * t + rng.uniform(0, 2 * np.pi, 3))
        return strength * total

    turn, step = wander(0.03, 0.06), wander(0.012, 0.05)
    return T_world_camera @ rigid(matrix_from_axis_angle(turn), step)


def carried_height(thing: SceneObject, support: SceneObject, T_support: np.ndarray) -> float:
    """World z of `thing`'s centre when it rests on or in `support`."""
    return float(T_support[2, 3]) - support.height / 2 + support.floor + thing.height / 2
