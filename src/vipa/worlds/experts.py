"""Scripted experts for the robot tasks, and episodes of them.

Experts see the simulation's truth and answer from where things are now, so that a disturbed arm is corrected.
Episodes are recorded with noise on what is executed but not on what is recorded as the action (after DART,
Laskey et al. 2017): a policy that clones them sees recoveries.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from vipa.worlds.robot import OPENING, POSITION_SCALE, ROTATION_SCALE
from vipa.worlds.robot_env import RobotView, TabletopEnv

OPEN, CLOSED = -1.0, 1.0
TRAVEL_SPEED = 0.026  # metres a step
CAREFUL_SPEED = 0.014
CLEARANCE = 0.05  # metres above the tallest object while travelling
GRASP_DEPTH = 0.026  # metres below an object's top where it is grasped, so that fingers stay out of bowls


def _towards(offset: np.ndarray, speed: float, gain: float = 0.4) -> np.ndarray:
    """A step (n,) that covers part of the remaining offset, at most `speed` long, metres."""
    step = gain * offset
    length = float(np.linalg.norm(step))
    return step if length <= speed else step * (speed / length)


def _blend(distance: float, near: float, far: float) -> float:
    """0 within `near`, 1 beyond `far`, smooth between."""
    t = float(np.clip((distance - near) / (far - near), 0.0, 1.0))
    return t * t * (3 - 2 * t)


@dataclass
class Expert:
    """Answers with an action (7,) for the environment as it is. One instance per episode."""

    env: TabletopEnv
    _closing: int = field(default=0, init=False)
    _pushing: bool = field(default=False, init=False)

    def __call__(self) -> Float[np.ndarray, "7"]:
        return getattr(self, f"_{self.env.task.name}")()

    @property
    def careful(self) -> bool:
        """Whether a jolt now would knock over or drop the object that is to be grasped."""
        if self.env.task.name not in ("lift", "place"):
            return False
        offset = self.env.positions[self.env.task.target] - self.env.robot.tip
        return bool(np.hypot(*offset[:2]) < 0.06 and offset[2] > -0.14)

    def _action(self, step: np.ndarray, gripper: float, turn: float = 0.0) -> np.ndarray:
        action = np.array([*step / POSITION_SCALE, 0.0, 0.0, turn / ROTATION_SCALE, gripper])
        return np.clip(action, -1.0, 1.0)

    @property
    def _travel_height(self) -> float:
        things = self.env.task.scene.objects
        tops = [p[2] + o.height / 2 for p, o in zip(self.env.positions, things) if p[2] < 0.12]
        return min(max([*tops, 0.10]) + CLEARANCE, 0.25)

    def _above_then_down(self, goal: np.ndarray, speed: float = TRAVEL_SPEED) -> np.ndarray:
        """Travel above everything, descend when over the goal (3,). Returns a step (3,), metres."""
        offset = goal - self.env.robot.tip
        lateral = float(np.hypot(*offset[:2]))
        height = goal[2] + (max(self._travel_height, goal[2]) - goal[2]) * _blend(lateral, 0.012, 0.06)
        low = height - self.env.robot.tip[2]  # how far below the path: rise first, then travel
        sideways = _towards(offset[:2], speed) * (1.0 - _blend(low, 0.02, 0.06))
        return np.array([*sideways, *_towards(np.array([low]), speed)])

    def _touch(self) -> np.ndarray:
        i = self.env.task.target
        thing = self.env.task.scene.objects[i]
        goal = self.env.positions[i] + [0.0, 0.0, thing.height / 2 + 0.008]
        return self._action(self._above_then_down(goal), CLOSED)

    def _push(self) -> np.ndarray:
        task = self.env.task
        assert task.direction is not None
        tip, centre, thing = (
            self.env.robot.tip,
            self.env.positions[task.target],
            task.scene.objects[task.target],
        )
        direction = np.array([*task.direction, 0.0])
        height = float(np.clip(0.4 * thing.height, 0.016, 0.03))
        offset = centre - tip
        along = float(offset @ direction)  # how far the object's centre is ahead of the tool
        across = offset[:2] - along * direction[:2]
        behind = along > 0.5 * thing.radius and np.linalg.norm(across) < 0.025
        if behind and tip[2] < height + 0.02:
            step = 0.5 * np.array([*across, 0.0]) + direction * CAREFUL_SPEED
            step[2] = 0.5 * (height - tip[2])
        else:
            start = centre - direction * (thing.radius + 0.04)
            start[2] = height
            step = self._above_then_down(start)
        return self._action(step, CLOSED)

    def _grasp_height(self, thing_height: float, kind: str) -> float:
        """Above the object's bottom, metres."""
        if kind == "bottle":
            return 0.81 * thing_height  # its neck
        if kind == "ball":
            return 0.5 * thing_height
        return max(0.5 * thing_height, thing_height - GRASP_DEPTH)

    def _turn(self, yaw_wanted: float) -> float:
        """Radians towards a yaw, by the shorter way of a hand that looks the same turned by pi."""
        error = (yaw_wanted - self.env.robot.yaw + np.pi / 2) % np.pi - np.pi / 2
        return float(np.clip(0.5 * error, -0.25, 0.25))

    def _yaw_wanted(self) -> float:
        task = self.env.task
        if task.scene.objects[task.target].kind != "box":
            return 0.0
        T = self.env.T_world_object(task.target)
        yaw = float(np.arctan2(T[1, 0], T[0, 0]))
        return (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4

    def _grasp(self) -> np.ndarray | None:
        """The action until the target is held; None once it is."""
        env, task = self.env, self.env.task
        thing = task.scene.objects[task.target]
        goal = env.positions[task.target].copy()
        goal[2] += self._grasp_height(thing.height, thing.kind) - thing.height / 2
        offset = goal - env.robot.tip
        turn = self._turn(self._yaw_wanted())
        if env.holds(task.target) and self._closing >= 3:
            return None
        around = np.hypot(*offset[:2]) < (0.010 if self._closing == 0 else 0.025)
        if around and abs(offset[2]) < 0.014 and abs(turn) < 0.08 and self._closing < 9:
            self._closing += 1
            return self._action(_towards(offset, 0.004), CLOSED)
        self._closing = 0
        if env.robot.fingers.min() < 0.8 * OPENING and offset[2] < -0.01 and np.hypot(*offset[:2]) < 0.06:
            return self._action(np.array([0.0, 0.0, 0.012]), OPEN, turn)  # open before going down
        return self._action(self._above_then_down(goal), OPEN, turn)

    def _lift(self) -> np.ndarray:
        action = self._grasp()
        return self._action(np.array([0.0, 0.0, 0.02]), CLOSED) if action is None else action

    def _place(self) -> np.ndarray:
        env, task = self.env, self.env.task
        assert task.goal is not None
        thing, onto = task.scene.objects[task.target], task.scene.objects[task.goal]
        at, goal = env.positions[task.target], env.positions[task.goal].copy()
        inside = goal[2] - onto.height / 2 + onto.floor + thing.height / 2  # the centre's height at rest
        offset = np.array([*goal[:2], inside + 0.006]) - at
        lateral = float(np.hypot(*offset[:2]))
        over = lateral < 0.02 and abs(offset[2]) < 0.02
        if over or (lateral < onto.radius * 0.7 and not env.holds(task.target) and offset[2] > -0.04):
            return self._action(np.array([0.0, 0.0, 0.02 if not env.holds(task.target) else 0.0]), OPEN)
        action = self._grasp()
        if action is not None:
            return action
        others = [
            p[2] + o.height / 2
            for i, (p, o) in enumerate(zip(env.positions, task.scene.objects))
            if i != task.target
        ]
        travel = max(others) + 0.03 + thing.height / 2
        height = inside + 0.006 + max(travel - inside, 0.0) * _blend(lateral, 0.015, 0.05)
        low = height - at[2]
        sideways = _towards(offset[:2], TRAVEL_SPEED) * (1.0 - _blend(low, 0.02, 0.05))
        return self._action(np.array([*sideways, *_towards(np.array([low]), 0.022)]), CLOSED)


@dataclass(frozen=True)
class Noise:
    """Bursts of Gaussian noise on the executed deltas. rate: chance that a burst starts at a step; length: steps;
    scale: standard deviation as a part of the full action; still: the part of it while grasping or near it."""

    rate: float = 0.10
    length: int = 3
    scale: float = 0.28
    still: float = 0.25


def perform(env: TabletopEnv, noise: Noise | None = None) -> Iterator[tuple[RobotView, np.ndarray]]:
    """The expert's episode: pairs of what was seen and the action it wanted (7,), until the end.

    Afterwards `env.success` says how it went. Deterministic in the environment's task and seed.
    """
    expert, rng = Expert(env), np.random.default_rng([env.task.seed, 3])
    view, burst, push = env.reset(), 0, np.zeros(3)
    while not env.done:
        action = expert()
        yield view, action.copy()
        executed = action.copy()
        if noise is not None:
            if burst == 0 and rng.random() < noise.rate:
                burst, push = noise.length, rng.normal(0.0, noise.scale, 3)
            if burst > 0:
                executed[:3] += push * (noise.still if expert.careful else 1.0)
                burst -= 1
        view = env.step(executed)
