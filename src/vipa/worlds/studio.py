"""A scene ready to be photographed: its compiled model, its objects that can be put anywhere, and its hands."""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from vipa.geometry import Intrinsics, invert, quaternion_wxyz_from_matrix, transform
from vipa.worlds.hand import HandLook, HandPose, capsules, joints_world
from vipa.worlds.rendering import Renderer
from vipa.worlds.scene import Scene, build_spec


@dataclass(frozen=True)
class Shot:
    """One picture. segmentation: 0 table and background, i + 1 object i, -1 left hand, -2 right hand."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32, metres along the optical axis
    segmentation: np.ndarray | None  # (H, W) int32


class Studio:
    """Draws one scene's objects at given poses, with hands, from any camera; no physics."""

    def __init__(self, scene: Scene, width: int, height: int):
        self.scene = scene
        model = build_spec(scene).compile()
        self._data = mujoco.MjData(model)
        self._renderer = Renderer(model, width, height)
        ids = [model.body(f"object_{i}").id for i in range(len(scene.objects))]
        self._mocap = [int(model.body_mocapid[i]) for i in ids]
        self._object_of_body = np.zeros(model.nbody, np.int32)
        self._object_of_body[ids] = np.arange(len(ids)) + 1
        mujoco.mj_kinematics(model, self._data)
        mujoco.mj_camlight(model, self._data)

    def shoot(
        self,
        T_world_camera: np.ndarray,
        intrinsics: Intrinsics,
        hands: Sequence[tuple[HandPose, HandLook]] = (),
        T_world_objects: np.ndarray | None = None,
        *,
        segmentation: bool = False,
    ) -> Shot:
        """A picture with the objects at T_world_objects (objects, 4, 4); None: where the scene starts."""
        if T_world_objects is not None:
            quaternions = quaternion_wxyz_from_matrix(T_world_objects[:, :3, :3])
            self._data.mocap_pos[self._mocap] = T_world_objects[:, :3, 3]
            self._data.mocap_quat[self._mocap] = quaternions
            mujoco.mj_kinematics(self._renderer.model, self._data)
        flesh = [c for pose, look in hands for c in capsules(pose, look)]
        image = self._renderer.render(self._data, T_world_camera, intrinsics, flesh, segmentation=segmentation)
        ids = None
        if image.bodies is not None:
            ids = np.where(image.bodies < 0, image.bodies, self._object_of_body[np.maximum(image.bodies, 0)])
        return Shot(image.rgb, image.depth, ids)


def joints_camera(pose: HandPose, look: HandLook, T_world_camera: np.ndarray) -> np.ndarray:
    """The 21 joints (21, 3) of a hand in a camera's frame, metres."""
    return transform(invert(T_world_camera), joints_world(pose, look))
