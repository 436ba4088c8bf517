"""Single frames and short sequences of random scenes, for the foundation training."""

from dataclasses import dataclass

import numpy as np

from vipa.clips.clip import Side
from vipa.geometry import Intrinsics, invert, matrix_from_axis_angle, project, rigid, transform
from vipa.worlds.hand import SHOULDERS, HandLook, HandPose, grip_point, pinch_closure, sample_look
from vipa.worlds.objects import SceneObject
from vipa.worlds.scene import Scene, sample_scene
from vipa.worlds.studio import Studio, joints_camera


@dataclass(frozen=True, eq=False)
class Still:
    """One frame with its whole truth. segmentation: 0 table and background, i + 1 `objects[i]`, -1 left, -2 right
    hand."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32, metres along the optical axis
    segmentation: np.ndarray  # (H, W) int32
    scene: Scene
    intrinsics: Intrinsics
    T_world_camera: np.ndarray  # (4, 4)
    joints_camera: dict[Side, np.ndarray]  # (21, 3) metres, of the hands that are there
    centres: np.ndarray  # (objects, 2) pixels: the projected centres of the objects, hidden or not
    centres_camera: np.ndarray  # (objects, 3) metres
    visible: np.ndarray  # (objects,) pixels of each object / pixels of the image: 0 is hidden or outside

    @property
    def objects(self) -> tuple[SceneObject, ...]:
        return self.scene.objects


@dataclass(frozen=True, eq=False)
class Sequence:
    """A few frames of one scene from a moving head, with moving hands."""

    rgb: np.ndarray  # (frames, H, W, 3) uint8
    depth: np.ndarray  # (frames, H, W) float32, metres along the optical axis
    T_world_camera: np.ndarray  # (frames, 4, 4)
    intrinsics: Intrinsics
    scene: Scene


def still(seed: int, size: int = 112) -> Still:
    """The frame of a seed, size x size pixels: a scene and no, one or both hands, reaching or grasping."""
    scene = sample_scene(seed)
    rng = _second_stream(seed)
    hands = _sample_hands(rng, scene)
    T, intrinsics = scene.T_world_camera, scene.intrinsics(size, size)
    shot = Studio(scene, size, size).shoot(T, intrinsics, hands, segmentation=True)
    assert shot.segmentation is not None
    centres_camera = transform(invert(T), np.array([o.position for o in scene.objects]))
    counts = np.bincount(np.maximum(shot.segmentation, 0).ravel(), minlength=len(scene.objects) + 1)
    return Still(
        shot.rgb,
        shot.depth,
        shot.segmentation,
        scene,
        intrinsics,
        T,
        {pose.side: joints_camera(pose, look, T) for pose, look in hands},
        project(centres_camera, intrinsics.matrix),
        centres_camera,
        counts[1:] / shot.segmentation.size,
    )


def sequence(seed: int, frames: int = 4, size: int = 112) -> Sequence:
    """The scene of a seed from a head that moves up to 15 cm and turns up to 15 degrees, while hands move."""
    scene = sample_scene(seed)
    rng = _second_stream(seed)
    hands = _sample_hands(rng, scene)
    intrinsics, studio = scene.intrinsics(size, size), Studio(scene, size, size)
    turn, step = rng.normal(size=(2, 3))
    turn *= np.deg2rad(rng.uniform(0, 15)) / np.linalg.norm(turn)
    step *= rng.uniform(0, 0.15) / np.linalg.norm(step)
    drift = rng.uniform(-0.12, 0.12, (2, 3)) * [1, 1, 0.3]
    shots, cameras = [], []
    for t in np.linspace(-0.5, 0.5, frames):
        T = scene.T_world_camera @ rigid(matrix_from_axis_angle(t * turn), t * step)
        moved = [
            (HandPose(p.side, rigid(np.eye(3), t * drift[k]) @ p.T_world_hand, p.closure, p.spread), look)
            for k, (p, look) in enumerate(hands)
        ]
        cameras.append(T)
        shots.append(studio.shoot(T, intrinsics, moved))
    return Sequence(
        np.stack([s.rgb for s in shots]),
        np.stack([s.depth for s in shots]),
        np.stack(cameras),
        intrinsics,
        scene,
    )


def _second_stream(seed: int) -> np.random.Generator:
    """Random numbers of the hands, apart from the scene's own."""
    return np.random.default_rng([seed, 1])


def _sample_hands(rng: np.random.Generator, scene: Scene) -> list[tuple[HandPose, HandLook]]:
    sides: tuple[Side, ...] = ((), ("right",), ("left",), ("left", "right"))[
        int(rng.choice(4, p=[0.25, 0.35, 0.2, 0.2]))
    ]
    look = sample_look(rng)
    hands = []
    for side in sides:
        things = sorted(scene.objects, key=lambda o: o.position[0], reverse=side == "right")
        thing = things[int(rng.integers(max(1, (len(things) + 1) // 2)))]  # of the hand's own half
        top = thing.position + np.array([0.0, 0.0, thing.height / 2])
        if rng.random() < 0.4:
            closure, target = pinch_closure(min(2 * thing.radius, 0.08) + 0.015, look.scale), top
        else:
            closure = np.clip(rng.uniform(0.0, 0.6) + rng.uniform(-0.12, 0.12, 5), 0, 1)
            target = top + rng.uniform([-0.06, -0.10, 0.01], [0.06, 0.05, 0.12])
        hands.append((reaching_pose(side, target, closure, look, rng), look))
    return hands


def reaching_pose(
    side: Side, target: np.ndarray, closure: np.ndarray, look: HandLook, rng: np.random.Generator
) -> HandPose:
    """A hand whose grip point is at `target` (3,), its forearm coming from the side's shoulder."""
    lateral = 1.0 if side == "right" else -1.0
    arm = target - SHOULDERS[side]
    heading = np.arctan2(-arm[0], arm[1]) + lateral * rng.uniform(0.0, 0.35)
    pitch, roll = -rng.uniform(0.25, 0.75), -lateral * rng.uniform(0.1, 0.8)
    R = matrix_from_axis_angle([0, 0, heading]) @ matrix_from_axis_angle([pitch, 0, 0])
    R = R @ matrix_from_axis_angle([0, roll, 0])
    wrist = target - R @ grip_point(closure, look.scale, side)
    return HandPose(side, rigid(R, wrist), closure, float(rng.uniform(0.2, 0.8)))
