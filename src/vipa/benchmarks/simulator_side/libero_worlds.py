"""vla-eval's LIBERO with what experts and recordings need: the simulation's truth, cameras of other sizes or none, and
scenes drawn anew instead of the benchmark's own."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from vla_eval.benchmarks.libero.benchmark import LIBERO_DUMMY_ACTION, LIBEROBenchmark

MESH, BOX, CYLINDER, CAPSULE, SPHERE = 7, 6, 5, 3, 2  # mujoco's kinds of geometry
YAWS = np.radians(np.arange(0, 90, 3))


class LIBEROWorlds(LIBEROBenchmark):
    """truth: observations have `scene`, see `Truth`. camera_size: pixels; 0: nothing is rendered, and observations have
    no pictures. new_scenes: an episode's scene is drawn from the task's own ranges with its number (and `seed`) instead
    of being the benchmark's initial state of that number; for demonstrations, so that no policy is tried on a scene
    that it was trained in. look_every: steps from one picture to the next, which is repeated in between; for policies
    that do not look then."""

    def __init__(
        self,
        truth: bool = True,
        camera_size: int = 256,
        new_scenes: bool = False,
        look_every: int = 1,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.truth, self.camera_size, self.new_scenes = truth, camera_size, new_scenes
        self.look_every = look_every
        self._scene: Truth | None = None
        self._eyes: list[Eye] = []
        self._steps = 0

    def reset(self, task: dict[str, Any]) -> Any:
        if self._env is None or self._current_task_id != task["task_id"]:
            self.cleanup()
            self._env, self._current_task_id = self._make(task["task_obj"]), task["task_id"]
            self._env.seed(self.env_seed)
        if self.new_scenes:
            observation = self._draw(task.get("episode_idx", 0))
        else:
            observation = super().reset(task)
        self._scene = Truth(self._env.env) if self.truth else None
        self._steps, self._eyes = 0, self._opened() if self.look_every > 1 else []
        return observation

    def step(self, action: dict[str, Any]) -> Any:
        self._steps += 1
        for eye in self._eyes:
            eye.open = self._steps % self.look_every == 0
        return super().step(action)

    def _opened(self) -> list[Eye]:
        """An eye in the place of each camera's sensor; robosuite puts its own sensors back at a reset."""
        assert self._env is not None
        cameras = [o for o in self._env.env._observables.values() if o.name.endswith("_image")]
        eyes = [Eye(camera) for camera in cameras]
        for camera, eye in zip(cameras, eyes):
            camera.set_sensor(eye)
        return eyes

    def _make(self, task: Any) -> Any:
        from libero.libero import get_libero_path
        from libero.libero.envs.env_wrapper import ControlEnv

        return ControlEnv(
            os.path.join(get_libero_path("bddl_files"), task.problem_folder, task.bddl_file),
            use_camera_obs=self.camera_size > 0,
            has_offscreen_renderer=self.camera_size > 0,
            camera_heights=self.camera_size,
            camera_widths=self.camera_size,
        )

    def _draw(self, number: int) -> Any:
        assert self._env is not None
        self._env.seed(self.seed * 1_000_003 + number)
        observation = self._env.reset()
        for _ in range(self.num_steps_wait):
            observation, _, _, _ = self._env.step(LIBERO_DUMMY_ACTION)
        self._recorder.record_video(self._extract_frame(observation))
        return observation

    def make_obs(self, raw_obs: Any, task: dict[str, Any]) -> dict[str, Any]:
        if self.camera_size:
            observation = super().make_obs(raw_obs, task)
        else:
            state = self._proprio_state(raw_obs)
            observation = {"images": {}, "task_description": task["name"], "states": state}
        if self._scene is not None:
            observation["scene"] = self._scene()
        return observation

    @staticmethod
    def _extract_frame(raw_obs: Any) -> np.ndarray | None:
        return LIBEROBenchmark._extract_frame(raw_obs) if "agentview_image" in raw_obs else None


class Eye:
    """A camera's sensor that renders when it is `open` and repeats the last picture when not."""

    def __init__(self, camera: Any):
        self._sensor, self._last, self.__modality__ = camera._sensor, camera.obs, camera.modality
        self.open = False

    def __call__(self, cache: dict) -> Any:
        if self.open:
            self._last = self._sensor(cache)
        return self._last


class Truth:
    """Where things are, of a pick-and-place task; metres, in the frame of the robot's state.

    Called, it gives {"target": the box of the object to be moved; "held": whether the hand has it; "goal": (x, y, z) of
    where it goes; "boxes": (n, 7) of everything else that can be touched}, or {} for a task of another kind. A box is
    upright: (x, y, bottom, top, width, length, yaw), yaw being that of its width.
    """

    def __init__(self, env: Any):
        self.env, self.model = env, env.sim.model._model
        goals = env.parsed_problem["goal_state"]
        self.moves = len(goals) == 1 and goals[0][0] in ("on", "in") and goals[0][1] in env.objects_dict
        if not self.moves:
            return
        _, self.target, self.place = goals[0]
        self.held = False
        parts = self._below(env.obj_body_id[self.target])
        robot = self._below(self.model.body(env.robots[0].robot_model.root_body).id)
        solid = [
            geom
            for geom in range(self.model.ngeom)
            if (self.model.geom_contype[geom] or self.model.geom_conaffinity[geom])
            and self.model.geom_type[geom] in (MESH, BOX, CYLINDER, CAPSULE, SPHERE)
            and self.model.geom_bodyid[geom] not in robot
        ]
        self.mine = [geom for geom in solid if self.model.geom_bodyid[geom] in parts]
        self.others = [geom for geom in solid if self.model.geom_bodyid[geom] not in parts]
        self.corners = {geom: self._corners(geom) for geom in solid}
        self.poses = np.full((len(self.others), 12), np.nan)
        self.boxes = np.zeros((len(self.others), 7))

    def __call__(self) -> dict[str, Any]:
        if not self.moves:
            return {}
        data = self.env.sim.data
        cloud = np.concatenate([self._placed(geom) for geom in self.mine])
        poses = np.concatenate([data.geom_xpos[self.others], data.geom_xmat[self.others]], 1)
        for place in np.flatnonzero((poses != self.poses).any(1)):
            self.boxes[place] = _upright_box(self._placed(self.others[place]))
        self.poses = poses
        if self.place in self.env.object_sites_dict:
            goal = data.get_site_xpos(self.place)
        else:
            goal = data.body_xpos[self.env.obj_body_id[self.place]]
        thing, gripper = self.env.get_object(self.target), self.env.robots[0].gripper
        # What was taken is held as long as one finger touches it: in a swing the other may lose it for a moment.
        self.held = self.env._check_grasp(gripper, thing) or (self.held and self.env.check_contact(gripper, thing))
        return {
            "target": _upright_box(cloud),
            "held": bool(self.held),
            "goal": np.array(goal, dtype=np.float64),
            "boxes": self.boxes,
        }

    def _below(self, body: int) -> set:
        """A body and all that hang on it."""
        found = {body}
        for child in range(body + 1, self.model.nbody):  # children come after their parents
            if self.model.body_parentid[child] in found:
                found.add(child)
        return found

    def _corners(self, geom: int) -> np.ndarray:
        """Points (n, 3) around a geometry, in its own frame."""
        kind, size = self.model.geom_type[geom], self.model.geom_size[geom]
        if kind == MESH:
            mesh = self.model.geom_dataid[geom]
            start = self.model.mesh_vertadr[mesh]
            return self.model.mesh_vert[start : start + self.model.mesh_vertnum[mesh]]
        half = size
        if kind == SPHERE:
            half = np.full(3, size[0])
        elif kind in (CYLINDER, CAPSULE):
            half = np.array([size[0], size[0], size[1] + (size[0] if kind == CAPSULE else 0)])
        return np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half

    def _placed(self, geom: int) -> np.ndarray:
        data = self.env.sim.data
        return self.corners[geom] @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]


def _upright_box(points: np.ndarray) -> np.ndarray:
    """(x, y, bottom, top, width, length, yaw) of the smallest upright box around points (n, 3)."""
    axes = np.stack([np.cos(YAWS), np.sin(YAWS)])  # (2, yaws)
    along, across = points[:, :2] @ axes, points[:, :2] @ np.stack([-axes[1], axes[0]])
    sizes = np.stack([np.ptp(along, axis=0), np.ptp(across, axis=0)])
    best = int(np.argmin(sizes.prod(0)))
    width, length = sizes[:, best]
    yaw = YAWS[best]
    if width > length:
        width, length, yaw = length, width, yaw + np.pi / 2
    u, v = (along.min(0) + along.max(0))[best] / 2, (across.min(0) + across.max(0))[best] / 2
    x, y = axes[:, best] * u + np.array([-axes[1, best], axes[0, best]]) * v
    return np.array([x, y, points[:, 2].min(), points[:, 2].max(), width, length, yaw])
