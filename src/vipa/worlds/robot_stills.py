"""Frames of the robot at its tasks with their whole truth, for the foundation training."""

import mujoco
import numpy as np

from vipa.geometry import invert, project, transform
from vipa.worlds.rendering import Renderer
from vipa.worlds.robot import Robot, build_robot_spec
from vipa.worlds.stills import Still
from vipa.worlds.tasks import TASKS, sample_task


def robot_stills(seed: int, frames: int = 2, size: int = 112, ambiguity: float = 0.0) -> tuple[Still, ...]:
    """The agent view of a seed's task, the gripper anywhere above the table in each frame; no hands. ambiguity: of the
    scene."""
    task = sample_task(TASKS[seed % len(TASKS)], seed, ambiguity)
    scene, rng = task.scene, np.random.default_rng([seed, 4])
    model = build_robot_spec(scene).compile()
    data = mujoco.MjData(model)
    robot, renderer = Robot(model, data), Renderer(model, size, size)
    intrinsics, T = scene.intrinsics(size, size), scene.T_world_camera
    bodies = [model.body(f"object_{i}").id for i in range(len(scene.objects))]
    object_of = np.zeros(model.nbody, np.int32)
    object_of[bodies] = np.arange(len(bodies)) + 1
    out = []
    for _ in range(frames):
        robot.place(rng.uniform([-0.2, -0.15, 0.03], [0.2, 0.17, 0.25]), float(rng.uniform(-0.5, 0.5)))
        image = renderer.render(data, T, intrinsics, robot.arm, segmentation=True)
        assert image.bodies is not None
        segmentation = np.where(image.bodies < 0, 0, object_of[np.maximum(image.bodies, 0)])
        centres = transform(invert(T), data.xpos[bodies])
        counts = np.bincount(segmentation.ravel(), minlength=len(bodies) + 1)[1:]
        pixels = project(centres, intrinsics.matrix)
        out.append(
            Still(
                image.rgb, image.depth, segmentation, scene, intrinsics, T, {}, pixels, centres,
                counts / segmentation.size,
            )
        )  # fmt: skip
    return tuple(out)
