"""A scripted expert for LIBERO's pick-and-place tasks: it sees the simulation's truth and speaks LIBERO's contract.

It answers from where things are now and remembers nothing, so a disturbed arm is corrected. The truth comes with the
observations of `benchmarks/simulator_side/libero_worlds.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from vipa.io.hashing import digest
from vipa.robots.contract import ActionContract
from vipa.robots.known.libero import contract
from vipa.robots.playing import Observation

OPEN, CLOSED = -1.0, 1.0
POSITION, TURN = 0.05, 0.5  # metres and radians that 1.0 of an action stands for
WIDEST = 0.07  # metres that the fingers go around; a wider thing is taken by its rim
CLEARANCE = 0.03  # metres over what is in the way
DEPTH = 0.03  # metres below an object's top where it is taken
SPEED = 0.04  # metres that an action asks for at most; the arm lags behind and makes a quarter of it
REACH = 0.02  # metres around the straight way that must be clear


@dataclass(frozen=True)
class Scene:
    """The truth about a pick-and-place task; metres, in the frame of the robot's state.

    Upright boxes are (x, y, bottom, top, width, length, yaw), yaw being that of the width. target: the box of the
    object to be moved. held: by the hand. goal: (x, y, z) of the place. boxes: of everything else.
    """

    target: Float[np.ndarray, "7"]
    held: bool
    goal: Float[np.ndarray, "3"]
    boxes: Float[np.ndarray, "n 7"]

    def gaps(self, points: Float[np.ndarray, "*k 2"]) -> Float[np.ndarray, "n *k"]:
        """From each box to each point of the floor, seen from above; 0 within."""
        x, y, _, _, width, length, yaw = self.boxes.T.reshape(7, -1, *(1,) * (points.ndim - 1))
        u, v = points[..., 0] - x, points[..., 1] - y
        along, across = u * np.cos(yaw) + v * np.sin(yaw), v * np.cos(yaw) - u * np.sin(yaw)
        return np.hypot(np.maximum(abs(along) - width / 2, 0), np.maximum(abs(across) - length / 2, 0))

    def top_between(self, start: np.ndarray, end: np.ndarray, margin: float) -> float:
        """The highest thing within `margin` of the straight way between two points of the floor (2,)."""
        way = start + np.linspace(0, 1, 9)[:, None] * (end - start)  # (9, 2)
        return float(self.boxes[(self.gaps(way) <= margin).any(-1), 3].max(initial=-np.inf))


@dataclass(frozen=True)
class TrueObservation(Observation):
    """An observation with the truth. scene: None where the task is not of the expert's kind."""

    scene: Scene | None = None


@dataclass(frozen=True)
class LiberoExpert:
    """The expert as a policy that plans one action at a time. views: of its observations, which it ignores.

    Called with `TrueObservation`s. ValueError for a task that is not "put this there".
    """

    views: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        return {"expert": digest(Path(__file__).read_text())}

    @property
    def contract(self) -> ActionContract:
        return replace(contract(), horizon=1, views=self.views, keys={})

    def __call__(self, observations: Sequence[Observation]) -> Float[np.ndarray, "batch 1 7"]:
        return np.stack([[self.act(o)] for o in observations])

    def act(self, observation: Observation) -> Float[np.ndarray, "7"]:
        scene = observation.scene if isinstance(observation, TrueObservation) else None
        if scene is None:
            raise ValueError(
                f"the expert moves one thing to a place; it does not know how to {observation.text!r}"
            )
        hand = Hand.of(observation.state)
        return _carry(scene, hand) if scene.held else _fetch(scene, hand)


@dataclass(frozen=True)
class Hand:
    """position of the point between the fingertips; turn: of the hand; opening between the fingers, metres."""

    position: Float[np.ndarray, "3"]
    turn: Rotation
    opening: float

    @classmethod
    def of(cls, state: Float[np.ndarray, "8"]) -> "Hand":
        return cls(state[:3], Rotation.from_rotvec(state[3:6]), float(state[6] - state[7]))

    @property
    def yaw(self) -> float:
        """Of the axis along which the fingers close."""
        x, y, _ = self.turn.as_matrix()[:, 1]
        return float(np.arctan2(y, x))

    def action(self, step: np.ndarray, gripper: float, yaw: float | None = None) -> Float[np.ndarray, "7"]:
        """Moves by `step` (3,), metres, with the fingers down and closing along `yaw` (None: as they are)."""
        closing = self.yaw + (0.0 if yaw is None else float(_half_turn(yaw - self.yaw)))
        down = Rotation.from_euler("xz", (np.pi, closing + np.pi / 2))
        turn = (down * self.turn.inv()).as_rotvec()
        return np.clip([*step / POSITION, *0.5 * turn / TURN, gripper], -1.0, 1.0)


def _fetch(scene: Scene, hand: Hand) -> np.ndarray:
    """Over the object, down to it, and close."""
    x, y, bottom, top, width, _, yaw = scene.target
    there = np.hypot(*(scene.goal[:2] - [x, y])) < 0.03 and bottom - scene.goal[2] < 0.06
    if there and hand.opening < WIDEST:  # let go first; where it is not enough, it is taken again
        return hand.action(np.array([0.0, 0.0, 0.03]), OPEN)
    place = np.array([x, y, max(top - DEPTH, bottom + 0.01)])
    if width > WIDEST:
        place, yaw = _rim(scene, hand)
    elif width > 0.9 * scene.target[5]:
        yaw = hand.yaw  # round
    offset = place - hand.position
    lateral, turn = float(np.hypot(*offset[:2])), abs(_half_turn(yaw - hand.yaw))
    if lateral < 0.012 and abs(offset[2]) < 0.012 and turn < 0.15:
        return hand.action(0.5 * offset, CLOSED, yaw)
    above = scene.top_between(hand.position[:2], place[:2], REACH + 0.03) + CLEARANCE
    height = place[2] + max(above - place[2], 0.06) * _blend(max(lateral, 0.1 * turn), 0.008, 0.05)
    low = height - hand.position[2]
    sideways = _towards(offset[:2], SPEED) * (1 - _blend(low, 0.02, 0.06))
    return hand.action(np.array([*sideways, *_towards(np.array([low]), SPEED)]), OPEN, yaw)


def _rim(scene: Scene, hand: Hand) -> tuple[np.ndarray, float]:
    """Where a bowl is taken, and the yaw of the fingers there: on the side with most room beside it."""
    x, y, _, top, width, _, _ = scene.target
    angles = np.arange(8) * np.pi / 4
    sides = np.stack([np.cos(angles), np.sin(angles)], -1)  # (8, 2)
    finger = [x, y] + (width / 2 + np.array([0.01, 0.03, 0.05])[:, None, None]) * sides  # (3, 8, 2)
    gaps = scene.gaps(finger)[scene.boxes[:, 3] > top - 0.03].min((0, 1), initial=1.0)
    turns = np.abs(_half_turn(angles - hand.yaw))
    best = int(np.argmax(np.minimum(gaps, 0.05) - 0.005 * turns))
    return np.array([*([x, y] + (width / 2 - 0.006) * sides[best]), top - 0.02]), float(angles[best])


def _carry(scene: Scene, hand: Hand) -> np.ndarray:
    """Up, over the place, down and open."""
    x, y, bottom, _, _, length, _ = scene.target
    offset = scene.goal[:2] - [x, y]
    lateral = float(np.hypot(*offset))
    above = max(scene.top_between(np.array([x, y]), scene.goal[:2], REACH + length / 2), scene.goal[2]) + CLEARANCE
    low = above - bottom
    if lateral > (0.025 if low > 0.02 else 0.012):
        sideways = _towards(offset, SPEED) * (1 - _blend(low, 0.01, 0.05))
        return hand.action(np.array([*sideways, *_towards(np.array([low]), SPEED)]), CLOSED)
    floor = scene.top_between(np.array([x, y]), scene.goal[:2], 0.0)
    down = bottom - max(floor, scene.goal[2]) - 0.01
    if down < 0.005 and lateral < 0.018:
        return hand.action(np.zeros(3), OPEN)
    return hand.action(np.array([*_towards(offset, 0.02), -min(max(down, 0.0) + 0.003, 0.025)]), CLOSED)


def _half_turn(angle: np.ndarray | float) -> Any:
    """The same for fingers, which look alike after half a turn: within -pi/2 .. pi/2."""
    return (np.asarray(angle) + np.pi / 2) % np.pi - np.pi / 2


def _towards(offset: np.ndarray, speed: float, gain: float = 1.5) -> np.ndarray:
    """A step that covers part of the offset, at most `speed` long."""
    step = gain * offset
    length = float(np.linalg.norm(step))
    return step if length <= speed else step * (speed / length)


def _blend(value: float, near: float, far: float) -> float:
    """0 up to `near`, 1 from `far`, smooth between."""
    t = float(np.clip((value - near) / (far - near), 0.0, 1.0))
    return t * t * (3 - 2 * t)
