"""TabletopEnv: one robot episode on the tabletop, reset, step, observe; exact success; all from (task, seed)."""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from vipa.geometry import Intrinsics, rigid
from vipa.worlds.changes import changed
from vipa.worlds.rendering import Renderer
from vipa.worlds.robot import Robot, build_robot_spec
from vipa.worlds.tasks import (
    DISTURBED,
    LIFT_HEIGHT,
    PUSH_DISTANCE,
    TOUCH_DISTANCE,
    TaskInstance,
    sample_task,
    surface_distance,
)

VIEWS = ("agent", "wrist")
SETTLE_STEPS = 3  # control periods without motion before the first observation


@dataclass(frozen=True)
class RobotView:
    """What the robot sees and feels. images: per view; state: LIBERO's layout (robot.Robot.state)."""

    images: dict[str, UInt8[np.ndarray, "height width 3"]]
    state: Float[np.ndarray, "8"]


class TabletopEnv:
    """One task instance, simulated. `success` and `failure` become true once and stay.

    size: pixels of the square images. views: of "agent" (third person) and "wrist", in the order wanted. ambiguity: of
    the scene. changes: see `changes.changed`; none: as in training. ValueError for an unknown task, view or change.
    """

    def __init__(
        self,
        task: str,
        seed: int,
        *,
        size: int = 112,
        views: tuple[str, ...] = ("agent",),
        changes: Mapping[str, float] | None = None,
        ambiguity: float = 0.0,
    ):
        if unknown := set(views) - set(VIEWS):
            raise ValueError(f"robot views {sorted(unknown)} are unknown; known: {', '.join(VIEWS)}")
        self.task: TaskInstance = changed(sample_task(task, seed, ambiguity), changes or {})
        self.size, self.views = size, views
        self.model = build_robot_spec(self.task.scene).compile()
        self.data = mujoco.MjData(self.model)
        self.robot = Robot(self.model, self.data)
        self._renderer = Renderer(self.model, size, size)
        self._bodies = [self.model.body(f"object_{i}").id for i in range(len(self.task.scene.objects))]
        self._reset_simulation()

    def _reset_simulation(self) -> None:
        mujoco.mj_resetData(self.model, self.data)
        self.robot.place(self.task.start)
        for _ in range(SETTLE_STEPS):
            self.robot.apply(np.array([0.0, 0, 0, 0, 0, 0, -1]))
        self.steps, self.success, self.failure = 0, False, ""
        self._begin = self.positions

    @property
    def text(self) -> str:
        return self.task.text

    @property
    def done(self) -> bool:
        return self.success or bool(self.failure)

    @property
    def positions(self) -> Float[np.ndarray, "objects 3"]:
        """Objects' centres, world, metres."""
        return self.data.xpos[self._bodies].copy()

    def T_world_object(self, index: int) -> Float[np.ndarray, "4 4"]:
        body = self._bodies[index]
        return rigid(self.data.xmat[body].reshape(3, 3), self.data.xpos[body])

    def reset(self) -> RobotView:
        self._reset_simulation()
        return self.observe()

    def observe(self) -> RobotView:
        return RobotView({view: self.render(view) for view in self.views}, self.robot.state)

    def render(self, view: str = "agent", renderer: Renderer | None = None) -> np.ndarray:
        """An RGB image (size, size, 3) of a view, or of another size by another renderer of this model."""
        renderer = renderer or self._renderer
        width, height = renderer.width, renderer.height
        arm = self.robot.arm
        if view == "wrist":
            T, camera = self.robot.T_world_wrist_camera, Intrinsics.from_fov(1.4, width, height, "calibrated")
            arm = arm[:0]  # the camera sits inside the drawn forearm's end
        else:
            T, camera = self.task.scene.T_world_camera, self.task.scene.intrinsics(width, height)
        return renderer.render(self.data, T, camera, arm).rgb

    def step(self, action: Float[np.ndarray, "7"]) -> RobotView:
        """Act for one control period (robot.Robot.apply) and look. ValueError after the episode's end."""
        self.advance(action)
        return self.observe()

    def advance(self, action: Float[np.ndarray, "7"]) -> None:
        """`step` with closed eyes, for whoever plays a chunk blindly: drawing costs as much as the physics."""
        if self.done:
            raise ValueError(f"episode of {self.text!r} is over ({self.failure or 'success'}); call reset")
        self.robot.apply(action)
        self.steps += 1
        getattr(self, f"_judge_{self.task.name}")()
        if not self.done and self.steps >= self.task.step_limit:
            self.failure = "out of time"

    def touched(self) -> set[int]:
        """Objects that the tool is within TOUCH_DISTANCE of, or that a finger pad is in contact with."""
        bodies = set.union(*self.robot.bodies_touching_pads())
        return {
            i
            for i, thing in enumerate(self.task.scene.objects)
            if self._bodies[i] in bodies
            or surface_distance(thing, self.T_world_object(i), self.robot.tip) <= TOUCH_DISTANCE
        }

    def holds(self, index: int) -> bool:
        """Whether both finger pads touch an object."""
        left, right = self.robot.bodies_touching_pads()
        return self._bodies[index] in left and self._bodies[index] in right

    def _judge_touch(self) -> None:
        touched = self.touched()
        if touched - {self.task.target}:
            first = min(touched - {self.task.target})
            self.failure = f"touched the {self.task.scene.objects[first].name}"
        elif touched:
            self.success = True

    def _moved(self) -> np.ndarray:
        return self.positions - self._begin

    def _judge_push(self) -> None:
        assert self.task.direction is not None
        moved = self._moved()[:, :2]
        others = np.delete(np.linalg.norm(moved, axis=1), self.task.target)
        along = float(moved[self.task.target] @ self.task.direction)
        across = float(np.linalg.norm(moved[self.task.target] - along * self.task.direction))
        if others.max(initial=0.0) > DISTURBED:
            self.failure = "moved another object"
        elif along >= PUSH_DISTANCE and across <= 0.5 * along:
            self.success = True

    def _judge_lift(self) -> None:
        raised = self._moved()[:, 2]
        if np.delete(raised, self.task.target).max(initial=0.0) > DISTURBED:
            self.failure = "lifted another object"
        elif raised[self.task.target] >= LIFT_HEIGHT and self.holds(self.task.target):
            self.success = True

    def _judge_place(self) -> None:
        """On or in the goal, let go of, and at rest."""
        assert self.task.goal is not None
        target, goal = self.task.target, self.task.goal
        thing, onto = self.task.scene.objects[target], self.task.scene.objects[goal]
        positions = self.positions
        offset = positions[target] - positions[goal]
        gap = offset[2] + onto.height / 2 - onto.floor - thing.height / 2  # above the goal's inside
        let_go = not any(self._bodies[target] in side for side in self.robot.bodies_touching_pads())
        slow = np.linalg.norm(self.data.cvel[self._bodies[target], 3:]) < 0.05
        inside = np.hypot(*offset[:2]) < onto.radius * 0.75
        if inside and abs(gap) < 0.03 and let_go and slow:
            self.success = True
