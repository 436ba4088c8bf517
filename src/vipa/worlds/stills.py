"""Single frames and short sequences of random scenes, for the foundation training."""

from dataclasses import dataclass

import numpy as np

from vipa.geometry import Intrinsics, invert, matrix_from_axis_angle, project, rigid, transform
from vipa.hands.skeleton import Side
from vipa.worlds.hand import HandLook, HandPose, pinch_closure, reaching_pose, sample_look
from vipa.worlds.motions import look_around
from vipa.worlds.objects import SceneObject
from vipa.worlds.scene import Scene, glance, sample_scene
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


def still(seed: int, size: int = 112, ambiguity: float = 0.0) -> Still:
    """The frame of a seed, size x size pixels: a scene and no, one or both hands, reaching or grasping. ambiguity: of
    the scene."""
    scene = sample_scene(seed, ambiguity=ambiguity)
    hands = _sample_hands(_second_stream(seed), scene)
    return _take(Studio(scene, size, size), scene, scene.T_world_camera, scene.intrinsics(size, size), hands)


def stills(seed: int, frames: int = 4, size: int = 112, ambiguity: float = 0.0) -> tuple[Still, ...]:
    """The frames of `sequence` with the whole truth of each."""
    scene = sample_scene(seed, ambiguity=ambiguity)
    studio, intrinsics = Studio(scene, size, size), scene.intrinsics(size, size)
    return tuple(_take(studio, scene, T, intrinsics, hands) for T, hands in _walk(scene, frames))


def sequence(seed: int, frames: int = 4, size: int = 112, ambiguity: float = 0.0) -> Sequence:
    """The scene of a seed from a head that moves up to 15 cm and turns up to 15 degrees, while hands move. ambiguity:
    of the scene; the head also goes from one look around to another, as it does in clips."""
    scene = sample_scene(seed, ambiguity=ambiguity)
    intrinsics, studio = scene.intrinsics(size, size), Studio(scene, size, size)
    walk = _walk(scene, frames)
    shots = [studio.shoot(T, intrinsics, hands) for T, hands in walk]
    return Sequence(
        np.stack([s.rgb for s in shots]),
        np.stack([s.depth for s in shots]),
        np.stack([T for T, _ in walk]),
        intrinsics,
        scene,
    )


def _walk(scene: Scene, frames: int) -> list[tuple[np.ndarray, list[tuple[HandPose, HandLook]]]]:
    """The camera pose and the hands of each frame, around the scene's own."""
    rng = _second_stream(scene.seed)
    hands = _sample_hands(rng, scene)
    turn, step = rng.normal(size=(2, 3))
    turn *= np.deg2rad(rng.uniform(0, 15)) / np.linalg.norm(turn)
    step *= rng.uniform(0, 0.15) / np.linalg.norm(step)
    drift = rng.uniform(-0.12, 0.12, (2, 3)) * [1, 1, 0.3]
    times = np.linspace(-0.5, 0.5, frames)
    around = np.tile(scene.T_world_camera, (frames, 1, 1))
    if scene.ambiguity:
        first, last = np.array(look_around(scene.ambiguity, rng)), np.array(look_around(scene.ambiguity, rng))
        around = glance(scene, *(first[:, None] + (times[:, None] + 0.5) * (last - first)[:, None]))
        turn, step = 0.4 * turn, 0.4 * step
    walk = []
    for t, pose in zip(times, around):
        T = pose @ rigid(matrix_from_axis_angle(t * turn), t * step)
        moved = [
            (HandPose(p.side, rigid(np.eye(3), t * drift[k]) @ p.T_world_hand, p.closure, p.spread), look)
            for k, (p, look) in enumerate(hands)
        ]
        walk.append((T, moved))
    return walk


def _take(
    studio: Studio, scene: Scene, T: np.ndarray, intrinsics: Intrinsics, hands: list[tuple[HandPose, HandLook]]
) -> Still:
    shot = studio.shoot(T, intrinsics, hands, segmentation=True)
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


def _second_stream(seed: int) -> np.random.Generator:
    """Random numbers of the hands, apart from the scene's own."""
    return np.random.default_rng([seed, 1])


def _sample_hands(rng: np.random.Generator, scene: Scene) -> list[tuple[HandPose, HandLook]]:
    choices: tuple[tuple[Side, ...], ...] = ((), ("right",), ("left",), ("left", "right"))
    sides = choices[int(rng.choice(4, p=[0.25, 0.35, 0.2, 0.2]))]
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
