"""UmeTrack hands (HOT3D): 22 joint angles, a wrist pose and the user's own hand profile give joints and mesh.

The profile (umetrack_hand_user_profile.json) holds the user's left hand in the rest pose; a right hand is the
same hand in the mirror x -> -x of its own wrist frame. Each finger has four one-angle joints in a row, the
last two angles (of the wrist) are unused by the data.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vipa.geometry import matrix_from_axis_angle, rigid, transform
from vipa.hands.skeleton import MIRROR_X, Side

_FRAMES = 17  # root, wrist, three a finger
_MILLIMETRE = 1e-3
_THUMB_BASE = 1
"""The thumb's joint that stands for `thumb_0`: UmeTrack has no landmark there."""

_LANDMARK_TO_21 = (5, -1, 6, 7, 0, 8, 9, 10, 1, 11, 12, 13, 2, 14, 15, 16, 3, 17, 18, 19, 4)
"""Our joint -> UmeTrack landmark (tips, wrist, the fingers; 20 is the palm's centre); -1: thumb base."""


@dataclass(frozen=True)
class UmeTrackHand:
    """One person's hand, the left one, in its wrist frame; metres.

    joint_axes, joint_positions: (22, 3). landmarks (21, 3) with weights (21, 17); vertices (V, 3) with weights
    (V, 17); faces (F, 3).
    """

    joint_axes: np.ndarray
    joint_positions: np.ndarray
    landmarks: np.ndarray
    landmark_weights: np.ndarray
    vertices: np.ndarray
    vertex_weights: np.ndarray
    faces: np.ndarray

    @classmethod
    def load(cls, path: str | Path) -> "UmeTrackHand":
        """From a profile. FileNotFoundError; ValueError naming the file and the field that is missing or wrong."""
        try:
            raw: dict[str, Any] = json.loads(Path(path).read_text())["hand_model"]
            bones = np.array(raw["landmark_rest_bone_indices"], dtype=np.int64)
            landmark_weights = np.zeros((len(bones), _FRAMES))
            np.add.at(
                landmark_weights,
                (np.arange(len(bones))[:, None], bones),
                np.array(raw["landmark_rest_bone_weights"], dtype=np.float64),
            )
            hand = cls(
                np.array(raw["joint_rotation_axes"], dtype=np.float64),
                np.array(raw["joint_rest_positions"], dtype=np.float64) * _MILLIMETRE,
                np.array(raw["landmark_rest_positions"], dtype=np.float64) * _MILLIMETRE,
                landmark_weights,
                np.array(raw["mesh_vertices"], dtype=np.float64) * _MILLIMETRE,
                np.array(raw["dense_bone_weights"], dtype=np.float64),
                np.array(raw["mesh_triangles"]).astype(np.int64),
            )
        except FileNotFoundError:
            raise
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ValueError(f"{path}: not a UmeTrack hand profile ({type(error).__name__}: {error})") from None
        if hand.joint_axes.shape != (22, 3) or hand.vertex_weights.shape != (len(hand.vertices), _FRAMES):
            raise ValueError(f"{path}: a UmeTrack profile has 22 joints and {_FRAMES} bones; this one does not")
        return hand

    def joints(
        self,
        side: Side,
        angles: Float[np.ndarray, "*b 22"],
        T_world_wrist: Float[np.ndarray, "*b 4 4"],
    ) -> Float[np.ndarray, "*b 21 3"]:
        """The 21 joints in the world, metres. angles: radians.

        `thumb_0` is where the thumb's second joint axis stands; the other twenty are UmeTrack's landmarks.
        """
        frames, thumb_base = self._frames(side, angles, T_world_wrist)
        points = _skin(frames, self.landmark_weights, self.landmarks)
        return np.stack([thumb_base if i < 0 else points[..., i, :] for i in _LANDMARK_TO_21], -2)

    def mesh(
        self,
        side: Side,
        angles: Float[np.ndarray, "*b 22"],
        T_world_wrist: Float[np.ndarray, "*b 4 4"],
    ) -> Float[np.ndarray, "*b v 3"]:
        """The vertices in the world, metres."""
        return _skin(self._frames(side, angles, T_world_wrist)[0], self.vertex_weights, self.vertices)

    def _frames(self, side: Side, angles: np.ndarray, T_world_wrist: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bone transforms (*b, 17, 4, 4) from the rest pose to the world, and the thumb's base (*b, 3)."""
        angles = np.asarray(angles, dtype=np.float64)
        if angles.shape[-1] != 22:
            raise ValueError(f"UmeTrack: 22 joint angles are needed, got {angles.shape[-1]}")
        wrist = np.asarray(T_world_wrist, dtype=np.float64)
        if side == "right":
            wrist = wrist @ rigid(MIRROR_X, np.zeros(3))
        R = matrix_from_axis_angle(self.joint_axes * angles[..., None])
        local = rigid(R, self.joint_positions - (R @ self.joint_positions[..., None])[..., 0])
        frames, thumb_base = [wrist, wrist], wrist[..., :3, 3]
        for finger in range(5):
            frame = wrist
            for k in range(4):
                joint = 4 * finger + k
                if joint == _THUMB_BASE:
                    thumb_base = transform(frame, self.joint_positions[_THUMB_BASE][None])[..., 0, :]
                frame = frame @ local[..., joint, :, :]
                if k > 0:
                    frames.append(frame)
        return np.stack(np.broadcast_arrays(*frames), -3), thumb_base


def _skin(frames: np.ndarray, weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    blended = np.einsum("vf,...fab->...vab", weights, frames)
    return (blended[..., :3, :3] @ points[..., None])[..., 0] + blended[..., :3, 3]
