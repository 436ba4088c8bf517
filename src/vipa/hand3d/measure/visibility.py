"""What the pictures of a clip show: what is before the camera, inside the picture, and behind nothing nearer.

Nearer is what a depth image says, where there is one with a value; else the flesh of the hands, and the surfaces of
those objects whose poses and meshes are known. What nothing tells of hides nothing.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from vipa.clips.clip import Clip, Hand, ObjectTrack
from vipa.clips.video import FrameSubset, UndistortedFrames
from vipa.geometry import Intrinsics, invert, project, transform
from vipa.hand3d.measure.calibration import THICKNESS, sample_depth, self_visible
from vipa.hands.skeleton import BONES

NEAR = 0.02
"""Metres before the camera from which on something can be seen."""

CELLS = 12
"""An object's outline is looked at in cells, so many along its longer side."""

UNKNOWN_SIZE = 0.06
"""Metres across of an object whose size is not known; what hides it is then `UNKNOWN_DEPTH` before its middle."""
UNKNOWN_DEPTH = 0.1

SKIN = 500
"""Points of another object's surface that hide what is behind them, each twice its share of the surface."""

Depth = Callable[[int], Float[np.ndarray, "height width"]]
"""The depth image of the i-th frame looked at, metres, NaN where unknown; at any size with the picture's shape."""

_BALLS = np.linspace(0.0, 1.0, 4)[:, None]
_PARENTS, _CHILDREN = (np.array(column) for column in zip(*BONES))
_RADII = np.repeat(np.maximum(THICKNESS[_PARENTS], THICKNESS[_CHILDREN]), len(_BALLS))


def in_picture(points: Float[np.ndarray, "*b 3"], camera: Intrinsics) -> Bool[np.ndarray, "*b"]:
    """Which points (metres, the camera's frame) are known, before the camera and inside its picture."""
    ahead = np.isfinite(points).all(-1) & (points[..., 2] > NEAR)
    pixels = project(np.where(ahead[..., None], points, [0.0, 0.0, 1.0]), camera.matrix)
    return ahead & camera.contains(pixels)


class ClipDepth:
    """`Depth` of a clip's own images in metres, a few read together; unknown where one is damaged."""

    def __init__(self, clip: Clip, frames: Sequence[int], at_once: int = 16):
        self.clip, self.frames, self.at_once = clip, [int(f) for f in frames], at_once
        self.block, self.images = -1, np.zeros((0, 1, 1))

    def __call__(self, i: int) -> np.ndarray:
        if i // self.at_once != self.block:
            self.block = i // self.at_once
            wanted = self.frames[self.block * self.at_once :][: self.at_once]
            try:
                self.images = self._read(wanted)
            except ValueError:
                self.images = np.stack([self._one(frame) for frame in wanted])
        return self.images[i % self.at_once]

    def _read(self, frames: list[int]) -> np.ndarray:
        assert self.clip.depth is not None
        return np.asarray(self.clip.depth.read(frames))

    def _one(self, frame: int) -> np.ndarray:
        try:
            return self._read([frame])[0]
        except ValueError:
            return np.full((self.clip.intrinsics.height, self.clip.intrinsics.width), np.nan)


class Sight:
    """What the pictures of a clip show at some of its frames."""

    def __init__(self, clip: Clip, frames: Sequence[int], depth: Depth | None = None, unsure: float = 0.0):
        """depth: None: the clip's own, where it is in metres. unsure: relative error of its unit."""
        if depth is None and clip.depth is not None and clip.depth_is_metric:
            depth = ClipDepth(clip, frames)
        self.clip, self.frames, self.depth, self.unsure = clip, [int(f) for f in frames], depth, unsure

    def inside(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
        """Which points, one a frame in its camera (metres), fall on the part of the picture that is no black border
        of a lens taken out."""
        frames = self.clip.frames
        while isinstance(frames, FrameSubset):
            frames = frames.frames
        seen = in_picture(points, self.clip.intrinsics)
        if isinstance(frames, UndistortedFrames):
            u, v = np.moveaxis(frames.lens.project(np.where(seen[..., None], points, [0.0, 0.0, 1.0])), -1, 0)
            width, height = frames.size
            seen &= (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
        return seen

    def centres(self, track: ObjectTrack) -> Float[np.ndarray, "n 3"]:
        """The object's geometric centre in each frame's camera, metres; NaN where its pose is unknown."""
        assert self.clip.T_world_camera is not None
        return transform(invert(self.clip.T_world_camera[self.frames]), track.centres_world[self.frames, None])[
            :, 0
        ]

    def outlines(self, track: ObjectTrack) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n 4"]]:
        """(share of the object's outline that each picture shows, 0 ... 1; box around it in pixels, NaN: nothing).

        The outline is that of its surface, else of the ellipsoid in its extent, else of a ball of `UNKNOWN_SIZE`.
        Boxes are cut at the picture's border; NaN where the size is not known.
        """
        shares, boxes = np.zeros(len(self.frames)), np.full((len(self.frames), 4), np.nan)
        for i, frame in enumerate(self.frames):
            points, slack = self._points(track, i, frame)
            if points is None:
                continue
            front = _front(points, self.clip.intrinsics)
            seen = self.inside(points[front])
            if not seen.any():
                continue
            if track.surface is not None or track.extent is not None:
                boxes[i] = _box(points, self.clip.intrinsics)
            near = points[front[seen]]
            shown = ~self._hidden(i, near, 0.02 + slack, hand=None, track=track)
            shares[i] = shown.sum() / len(front) * (points[:, 2] > NEAR).mean()
        return shares, boxes

    def joints(self, hand: Hand) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """(how many of the 21 joints are known and in each picture; share of them that nothing but the hand itself
        hides, 0 ... 1)."""
        joints = hand.joints_camera[self.frames]
        seen = self.inside(joints) & (hand.confidence[self.frames] > 0)
        own = self_visible(joints, self.clip.intrinsics.matrix) & seen
        shares = np.zeros(len(joints))
        for i in np.flatnonzero(own.any(1)).tolist():
            hidden = self._hidden(i, joints[i, own[i]], 0.03 + 2 * THICKNESS[own[i]], hand=hand, track=None)
            shares[i] = 1 - hidden.mean()
        return seen.sum(1).astype(float), shares

    def _points(
        self, track: ObjectTrack, i: int, frame: int
    ) -> tuple[Float[np.ndarray, "points 3"] | None, float]:
        """(points of the object in the camera, how much nearer than these its own skin may be); None: no pose."""
        if self.clip.T_world_camera is None or track.T_world_object is None:
            return None, 0.0
        T = invert(self.clip.T_world_camera[frame]) @ track.T_world_object[frame]
        if not np.isfinite(T).all():
            return None, 0.0
        own = track.surface_at(frame)
        if own is not None:
            return transform(T, own), 0.0
        extent = np.full(3, UNKNOWN_SIZE) if track.extent is None else track.extent
        slack = UNKNOWN_DEPTH if track.extent is None else 0.25 * float(np.max(extent))
        return transform(T, track.centre_at(frame) + _SPHERE * extent / 2), slack

    def _hidden(
        self,
        i: int,
        points: Float[np.ndarray, "points 3"],
        slack: float | np.ndarray,
        *,
        hand: Hand | None,
        track: ObjectTrack | None,
    ) -> Bool[np.ndarray, "points"]:
        """Behind something that is nearer by more than `slack` metres and is neither this hand nor this object."""
        hidden, open_ = np.zeros(len(points), bool), np.ones(len(points), bool)
        if self.depth is not None:
            image = self.depth(i)
            camera = self.clip.intrinsics.resized(image.shape[1], image.shape[0])
            surface = sample_depth(image, points, camera)
            open_ = ~(surface > 0)
            hidden = ~open_ & (surface < points[:, 2] * (0.99 - self.unsure) - slack)
        if open_.any():
            for centres, radii in self._balls(i, hand, track):
                hidden |= open_ & _behind(points, centres, radii)
        return hidden

    def _balls(
        self, i: int, hand: Hand | None, track: ObjectTrack | None
    ) -> Iterator[tuple[Float[np.ndarray, "balls 3"], Float[np.ndarray, "balls"]]]:
        """Centres and radii, metres, of the other hands' flesh and the other objects' skin in the i-th frame."""
        frame = self.frames[i]
        for other in self.clip.hands:
            if hand is None or other.side != hand.side:
                joints = other.joints_camera[frame]
                start, end = joints[_PARENTS, None], joints[_CHILDREN, None]
                centres = (start * (1 - _BALLS) + end * _BALLS).reshape(-1, 3)
                known = np.isfinite(centres).all(-1) & (centres[:, 2] > NEAR)
                yield centres[known], _RADII[known]
        for other in self.clip.objects or ():
            if other is not track and other.surface is not None and other.extent is not None:
                points, _ = self._points(other, i, frame)
                if points is not None:
                    points = points[:: max(1, len(points) // SKIN)]
                    a, b, c = other.extent
                    own = 2 * (a * b + b * c + c * a) / len(points)  # square metres
                    yield points, np.full(len(points), np.sqrt(2 * own / np.pi))


def _behind(points: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> Bool[np.ndarray, "points"]:
    """Whether a ball lies between the camera and the point, on its line of sight."""
    if not len(centres):
        return np.zeros(len(points), bool)
    away = np.linalg.norm(points, axis=-1)
    along = (points / away[:, None]) @ centres.T  # (points, balls): how far along the line of sight
    off = (centres**2).sum(-1) - along**2
    return ((off < radii**2) & (along > 0) & (along + radii / 2 + 0.005 < away[:, None])).any(-1)


def _front(points: Float[np.ndarray, "points 3"], camera: Intrinsics) -> np.ndarray:
    """Indices of the nearest point of each cell of the outline."""
    ahead = np.flatnonzero(points[:, 2] > NEAR)
    if not len(ahead):
        return ahead
    ahead = ahead[np.argsort(points[ahead, 2], kind="stable")]
    pixels = project(points[ahead], camera.matrix)
    cell = max(float(np.ptp(pixels, axis=0).max()) / CELLS, 1e-6)
    column, row = ((pixels - pixels.min(0)) / cell).astype(int).T
    _, first = np.unique(row * (CELLS + 2) + column, return_index=True)
    return ahead[first]


def _box(points: Float[np.ndarray, "points 3"], camera: Intrinsics) -> Float[np.ndarray, "4"]:
    pixels = project(points[points[:, 2] > NEAR], camera.matrix)
    border = np.array([camera.width, camera.height] * 2) - 0.5
    return np.clip(np.concatenate([pixels.min(0), pixels.max(0)]), -0.5, border)


def _sphere(count: int = 300) -> np.ndarray:
    """(count, 3) points spread evenly over the unit sphere."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], -1)


_SPHERE = _sphere()
