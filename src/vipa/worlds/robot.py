"""A gripper robot on the tabletop: its MuJoCo model and how seven numbers move it.

The gripper hangs on an arm whose base stands behind the table (+y), opposite the camera. A mocap body is the
controller's goal; the gripper follows it through a weld, fingers are force-limited slides, and things are held by
friction alone. The arm's two links are drawn by inverse kinematics and touch nothing.

Tool frame: origin between the fingertips, axes along the world's at rest (so the rest rotation is 0, away from
the jump at pi), fingers open along x, approach direction -z.
"""

from dataclasses import dataclass

import mujoco
import numpy as np

from vipa.geometry import axis_angle_from_matrix, matrix_from_axis_angle, quaternion_wxyz_from_matrix
from vipa.worlds.rendering import Capsule
from vipa.worlds.scene import Scene, build_spec, look_at

RATE = 10.0
"""Actions a second."""

POSITION_SCALE = 0.05
ROTATION_SCALE = 0.5
"""Metres and radians that 1.0 of a delta action stands for, as in robosuite's OSC_POSE."""

OPENING = 0.05
"""How far each finger moves from the middle, metres."""

WORKSPACE = np.array([[-0.30, -0.25, 0.012], [0.30, 0.30, 0.34]])
"""The goal is kept in this box (low, high), world, metres."""

TIMESTEP = 0.004
MAX_LAG = 0.03  # metres the goal may run ahead of the gripper, so that pressing on the table does not wind up
SHOULDER = np.array([0.0, 0.52, 0.30])
UPPER_ARM, FOREARM = 0.36, 0.36
WRIST_HEIGHT = 0.155  # of the wrist above the tool's origin

LIGHT_GREY, DARK_GREY = (0.80, 0.81, 0.84), (0.25, 0.26, 0.29)
ARM_ID = -3  # in segmentations
ELBOW = np.array([0.025, 0.0, 0.0])  # half the elbow's width
WRIST_CAMERA = np.array([0.0, -0.07, 0.10])  # in the tool frame


def build_robot_spec(scene: Scene) -> mujoco.MjSpec:
    """The scene's dynamic model with the robot in it."""
    spec = build_spec(scene, dynamic=True)
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    for geom in spec.geoms:
        geom.friction = [0.6, 0.01, 0.002]  # the fingers' higher friction wins where they touch
        geom.solref, geom.solimp[:2] = [2 * TIMESTEP, 1.0], [0.95, 0.99]  # firm: cups have thin walls
        if geom.type == mujoco.mjtGeom.mjGEOM_SPHERE:
            geom.condim = 6  # rolling friction, or balls would roll for ever
    box, cylinder = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
    drawn = {"contype": 0, "conaffinity": 0, "mass": 0.0}
    world = spec.worldbody
    world.add_body(name="goal", mocap=True)
    hand = world.add_body(name="gripper", gravcomp=1.0)
    hand.add_freejoint(name="gripper_free")
    hand.add_geom(type=box, size=[0.058, 0.017, 0.015], pos=[0, 0, 0.098], rgba=[*LIGHT_GREY, 1], mass=2.0)
    hand.add_geom(type=cylinder, size=[0.020, 0.022, 0], pos=[0, 0, 0.135], rgba=[*DARK_GREY, 1], **drawn)
    hand.add_site(name="tool", size=[0.002] * 3, rgba=[0, 0, 0, 0])
    for side, sign in (("left", -1.0), ("right", 1.0)):
        finger = hand.add_body(name=f"{side}_finger", gravcomp=1.0)
        finger.add_joint(
            name=f"{side}_finger",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[sign, 0, 0],
            limited=True,
            range=[0.0, OPENING],
            damping=20.0,
            armature=0.05,
        )
        finger.add_geom(
            name=f"{side}_pad",
            type=box,
            size=[0.005, 0.012, 0.042],
            pos=[sign * 0.005, 0, 0.036],
            rgba=[*DARK_GREY, 1],
            mass=0.04,
            friction=[2.0, 0.05, 0.001],
            condim=4,
            solref=[2 * TIMESTEP, 1.0],
        )
        actuator = spec.add_actuator(
            name=f"{side}_finger",
            target=f"{side}_finger",
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            forcelimited=True,
            forcerange=[-12.0, 12.0],
        )
        actuator.set_to_position(kp=600.0, kv=10.0)
    weld = spec.add_equality(
        name="follow",
        type=mujoco.mjtEq.mjEQ_WELD,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        name1="goal",
        name2="gripper",
        solref=[0.03, 1.0],
    )
    weld.data[:] = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1.0]
    return spec


@dataclass
class Robot:
    """Drives the gripper of a compiled model. Positions in metres, world frame; rotations as axis-angle."""

    model: mujoco.MjModel
    data: mujoco.MjData

    def __post_init__(self) -> None:
        model = self.model
        self._goal = model.body("goal").mocapid[0]
        self._free = model.joint("gripper_free").qposadr[0]
        self._fingers = [model.joint(f"{side}_finger").qposadr[0] for side in ("left", "right")]
        self._pads = [model.geom(f"{side}_pad").id for side in ("left", "right")]
        self._body = model.body("gripper").id
        self._substeps = round(1 / (RATE * TIMESTEP))

    def place(self, position: np.ndarray, yaw: float = 0.0) -> None:
        """Put the gripper somewhere at once, open."""
        quaternion = [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
        self.data.qpos[self._free : self._free + 7] = [*position, *quaternion]
        self.data.mocap_pos[self._goal], self.data.mocap_quat[self._goal] = position, quaternion
        self.data.qpos[self._fingers] = OPENING
        self.data.ctrl[:] = OPENING
        mujoco.mj_forward(self.model, self.data)

    @property
    def tip(self) -> np.ndarray:
        """(3,) the tool's origin."""
        return self.data.xpos[self._body].copy()

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) R_world_tool."""
        return self.data.xmat[self._body].reshape(3, 3).copy()

    @property
    def yaw(self) -> float:
        return float(np.arctan2(self.rotation[1, 0], self.rotation[0, 0]))

    @property
    def fingers(self) -> np.ndarray:
        """(2,) each finger's distance from the middle, metres."""
        return self.data.qpos[self._fingers].copy()

    @property
    def state(self) -> np.ndarray:
        """(8,) LIBERO's layout: position 3, axis-angle 3, fingers 2 (the second with a minus sign)."""
        left, right = self.fingers
        return np.array([*self.tip, *axis_angle_from_matrix(self.rotation), left, -right])

    def bodies_touching_pads(self) -> tuple[set[int], set[int]]:
        """Body ids in contact with the left and the right finger pad."""
        touching: tuple[set[int], set[int]] = (set(), set())
        contacts = self.data.contact
        for a, b in contacts.geom[: self.data.ncon]:
            for side, pad in enumerate(self._pads):
                if pad in (a, b):
                    touching[side].add(int(self.model.geom_bodyid[b if a == pad else a]))
        return touching

    def apply(self, action: np.ndarray) -> None:
        """Simulate one control period of an action (7,): delta position, delta rotation, gripper.

        Deltas are in the world frame, clipped to [-1, 1] and scaled by POSITION_SCALE and ROTATION_SCALE; they
        move the goal. gripper > 0 closes, otherwise opens. ValueError for another shape or numbers not finite.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise ValueError(f"robot action: expected 7 finite numbers, got {action}")
        delta = np.clip(action[:6], -1.0, 1.0)
        start = self.data.mocap_pos[self._goal].copy()
        end = start + POSITION_SCALE * delta[:3]
        end = np.clip(end, self.tip - MAX_LAG - POSITION_SCALE, self.tip + MAX_LAG + POSITION_SCALE)
        end = np.clip(end, *WORKSPACE)
        before = np.zeros(9)
        mujoco.mju_quat2Mat(before, self.data.mocap_quat[self._goal])
        after = matrix_from_axis_angle(ROTATION_SCALE * delta[3:]) @ before.reshape(3, 3)
        self.data.mocap_quat[self._goal] = quaternion_wxyz_from_matrix(after)
        self.data.ctrl[:] = 0.0 if action[6] > 0 else OPENING
        for k in range(self._substeps):
            self.data.mocap_pos[self._goal] = start + (end - start) * min(1.0, (k + 1) / (0.7 * self._substeps))
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)

    @property
    def arm(self) -> tuple[Capsule, ...]:
        """The arm as it is drawn: base, upper arm and forearm between the shoulder and the wrist, elbow up."""
        wrist = self.tip + WRIST_HEIGHT * self.rotation[:, 2]
        reach = wrist - SHOULDER
        distance = min(float(np.linalg.norm(reach)), UPPER_ARM + FOREARM - 1e-4)
        along = reach / np.linalg.norm(reach)
        up = np.array([0.0, 0.0, 1.0]) - along[2] * along
        a = (UPPER_ARM**2 - FOREARM**2 + distance**2) / (2 * distance)
        elbow = SHOULDER + a * along + np.sqrt(max(UPPER_ARM**2 - a**2, 0.0)) * up / np.linalg.norm(up)
        foot = SHOULDER * [1.0, 1.0, 0.0]
        return (
            Capsule(foot, SHOULDER, 0.045, DARK_GREY, ARM_ID),
            Capsule(SHOULDER, elbow, 0.034, LIGHT_GREY, ARM_ID),
            Capsule(elbow, wrist, 0.023, LIGHT_GREY, ARM_ID),
            Capsule(elbow - ELBOW, elbow + ELBOW, 0.036, DARK_GREY, ARM_ID),
        )

    @property
    def T_world_wrist_camera(self) -> np.ndarray:
        """(4, 4) of a camera on the near side of the palm that looks at the fingertips."""
        eye = self.tip + self.rotation @ WRIST_CAMERA
        return look_at(eye, self.tip + self.rotation @ [0.0, 0.01, 0.0])
