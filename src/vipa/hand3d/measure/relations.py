"""What a question is about, as numbers: how hands, objects and the camera lie and move (section 3.2.1).

Structure first, words second: `questions` makes sentences of these records and reads the answers back.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from vipa.geometry import axis_angle_from_matrix, direction_words
from vipa.geometry.directions import GAMMA
from vipa.hands.skeleton import Side

RelationCategory = Literal["spatial_relation", "task_completion", "hand_movement"]
Category = Literal["spatial_relation", "task_completion", "hand_movement", "camera_movement"]
GoalKind = Literal["touch", "release", "stop"]
"""What happens where a task takes a hand: it touches `object`, it lets go of it, or it is only seen to stop."""
CATEGORIES: tuple[Category, ...] = (
    "spatial_relation",
    "task_completion",
    "hand_movement",
    "camera_movement",
)
TURN_WORDS = (("down", "up"), ("left", "right"), ("counterclockwise", "clockwise"))
"""(negative, positive) word of a rotation about x (right), y (down) and z (forward) of an OpenCV camera."""


@dataclass(frozen=True, eq=False)
class Relation:
    """Where a target is from a hand, or where a hand went, in the first frame's camera (section 3.2.1).

    spatial_relation: from the hand's wrist to the object's centre, both in the last frame.
    task_completion: from the hand's wrist now (last frame shown) to where the task takes it next (see `GoalKind`).
    hand_movement: from the wrist in the first frame to the wrist in the last.

    displacement: metres, OpenCV axes of the first frame's camera. object: name without article, required by
    spatial_relation and by goals that touch or let go of one. task: what is to be done, goal: what happens there, both
    for task_completion. contact: None where it is not known.
    Raises ValueError for a displacement that is not three finite numbers, or an object or a goal that is missing.
    """

    category: RelationCategory
    displacement: Float[np.ndarray, "3"]
    hand: Side
    object: str | None = None
    task: str | None = None
    contact: bool | None = None
    gamma: float = GAMMA
    goal: GoalKind | None = None

    def __post_init__(self) -> None:
        if np.shape(self.displacement) != (3,) or not np.isfinite(self.displacement).all():
            raise ValueError(f"relation: displacement must be three finite metres, got {self.displacement}")
        if self.object is None and self.category == "spatial_relation":
            raise ValueError("relation: a spatial relation needs an object")
        if self.category == "task_completion":
            if self.goal not in get_args(GoalKind):
                raise ValueError(
                    f"relation: task completion needs a goal of {get_args(GoalKind)}, got {self.goal!r}"
                )
            if self.object is None and (self.task is None or self.goal != "stop"):
                raise ValueError("relation: task completion needs an object, or a task that ends in a stop")

    @property
    def distance(self) -> float:
        """Metres."""
        return float(np.linalg.norm(self.displacement))

    @property
    def directions(self) -> tuple[str, ...]:
        """Words of the components of the unit displacement that exceed gamma, in the order x, y, z."""
        return direction_words(np.asarray(self.displacement), self.gamma)


@dataclass(frozen=True, eq=False)
class CameraMovement:
    """How the camera turned and moved between two frames, in the first frame's camera (section 3.2.1).

    rotation: axis-angle in radians of T_first_last; translation: metres, NaN where only the rotation is known. aspect:
    which of the two is asked about.
    """

    rotation: Float[np.ndarray, "3"]
    translation: Float[np.ndarray, "3"]
    aspect: Literal["rotation", "translation"]
    gamma: float = GAMMA
    category: Literal["camera_movement"] = "camera_movement"

    def __post_init__(self) -> None:
        for name in ("rotation", "translation"):
            value = getattr(self, name)
            needed = name == "rotation" or self.aspect == "translation" or not np.isnan(value).all()
            if np.shape(value) != (3,) or (needed and not np.isfinite(value).all()):
                raise ValueError(f"camera movement: {name} must be three finite numbers, got {value}")

    @classmethod
    def between(
        cls,
        T_world_first: Float[np.ndarray, "4 4"],
        T_world_last: Float[np.ndarray, "4 4"],
        aspect: Literal["rotation", "translation"],
        gamma: float = GAMMA,
    ) -> "CameraMovement":
        """From two camera poses (camera-to-world); their places are NaN where only rotations are known."""
        R_first_world = T_world_first[:3, :3].T
        translation = R_first_world @ (T_world_last[:3, 3] - T_world_first[:3, 3])
        return cls(axis_angle_from_matrix(R_first_world @ T_world_last[:3, :3]), translation, aspect, gamma)

    @property
    def degrees(self) -> float:
        """Angle of the rotation in degrees (the answer's unit; radians everywhere else)."""
        return float(np.degrees(np.linalg.norm(self.rotation)))

    @property
    def distance(self) -> float:
        """Length of the translation in metres; NaN where it is not known."""
        return float(np.linalg.norm(self.translation))

    @property
    def directions(self) -> tuple[str, ...]:
        """Words of the asked aspect. A camera that turns "right" shows what was right of its view."""
        if self.aspect == "translation":
            return direction_words(np.asarray(self.translation), self.gamma)
        angle = float(np.linalg.norm(self.rotation))
        if angle == 0.0:
            return ()
        axis = np.asarray(self.rotation) / angle
        words = {i: TURN_WORDS[i][int(axis[i] > 0)] for i in range(3) if abs(axis[i]) > self.gamma}
        return tuple(words[i] for i in (1, 0, 2) if i in words)  # left/right first, as in movements


AnyRelation = Relation | CameraMovement
