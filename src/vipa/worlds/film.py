"""Clips of human hands on the tabletop: the whole truth at once, the pictures when they are read."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from vipa.clips.clip import Clip, Hand, ObjectTrack
from vipa.clips.meshes import Mesh, sample_surface
from vipa.geometry import Intrinsics, invert, project, transform
from vipa.worlds.actions import perform
from vipa.worlds.hand import HandPose, joints_world
from vipa.worlds.motions import Performance
from vipa.worlds.objects import surface_points, triangles
from vipa.worlds.scene import Scene, scene_name
from vipa.worlds.studio import Shot, Studio

LICENCE = "Apache-2.0"
KEPT = 128
"""Pictures that a film remembers, so that reading colour and then depth draws each frame once."""


class Film:
    """Draws the frames of one performance when asked. Can be pickled: the other side draws again."""

    def __init__(self, scene: Scene, performance: Performance, intrinsics: Intrinsics):
        self.scene, self.performance, self.intrinsics = scene, performance, intrinsics
        self._studio: Studio | None = None
        self._shots: OrderedDict[tuple[int, bool], Shot] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_studio": None, "_shots": OrderedDict()}

    def __len__(self) -> int:
        return len(self.performance.times)

    def shot(self, index: int, *, segmentation: bool = False) -> Shot:
        """Frame `index` (negative counts from the end); IndexError outside the film."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} is outside the film of {len(self)} frames")
        key = (index % len(self), segmentation)
        if key not in self._shots:
            if self._studio is None:
                self._studio = Studio(self.scene, self.intrinsics.width, self.intrinsics.height)
            act, i = self.performance, key[0]
            hands = [
                (HandPose(side, T[i], act.closure[side][i]), act.look) for side, T in act.T_world_hand.items()
            ]
            self._shots[key] = self._studio.shoot(
                act.T_world_camera[i], self.intrinsics, hands, act.T_world_objects[i], segmentation=segmentation
            )
            if len(self._shots) > KEPT:
                self._shots.popitem(last=False)
        return self._shots[key]


class FilmFrames:
    """The colour images of a film (clips.Frames), and more than other videos know: `segmentation`."""

    def __init__(self, film: Film):
        self.film = film

    def __len__(self) -> int:
        return len(self.film)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """(n, H, W, 3) uint8 RGB."""
        return _stack([self.film.shot(int(i)).rgb for i in indices], self.film, (3,), np.uint8)

    def segmentation(self, indices: Sequence[int]) -> np.ndarray:
        """(n, H, W) int32: 0 table and background, i + 1 for `objects[i]` of the clip, -1 left, -2 right hand."""
        shots = [self.film.shot(int(i), segmentation=True) for i in indices]
        return _stack([s.segmentation for s in shots if s.segmentation is not None], self.film, (), np.int32)


class FilmDepth:
    """The depth images of a film (clips.DepthFrames)."""

    def __init__(self, film: Film):
        self.film = film

    def __len__(self) -> int:
        return len(self.film)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """(n, H, W) float32, metres along the optical axis."""
        return _stack([self.film.shot(int(i)).depth for i in indices], self.film, (), np.float32)


def _stack(images: list[np.ndarray], film: Film, channels: tuple[int, ...], dtype: type) -> np.ndarray:
    if images:
        return np.stack(images)
    return np.empty((0, film.intrinsics.height, film.intrinsics.width, *channels), dtype)


def film_clip(
    seed: int,
    *,
    seconds: float | None = None,
    rate: float = 10.0,
    size: tuple[int, int] = (112, 112),
    ambiguity: float = 0.0,
) -> Clip:
    """The clip of a seed: one or two hands that do one or more things with what is on the table.

    seconds: length; None: as long as the actions take, 4 seconds or more. rate: frames per second. size: (width,
    height), pixels. ambiguity: of the scene. What happens is the same at every rate and size. Everything is known:
    joints also where they are hidden or outside the picture (confidence 1), objects' poses, 2D boxes of their whole
    outline (not of the visible part alone), NaN where the centre is out of the picture, contacts of every hand with
    every object.
    ValueError for a length, rate or size that is not positive.
    """
    if not (rate > 0 and min(size) > 0 and (seconds is None or seconds > 0)):
        raise ValueError(f"film: seconds={seconds}, rate={rate} and size={size} must be positive")
    scene, act = perform(seed, rate, seconds, ambiguity)
    intrinsics = scene.intrinsics(*size)
    film = Film(scene, act, intrinsics)
    n, T_camera_world = len(film), invert(act.T_world_camera)
    hands = []
    for side, T in act.T_world_hand.items():
        world = np.array([joints_world(HandPose(side, T[k], act.closure[side][k]), act.look) for k in range(n)])
        joints = transform(T_camera_world, world)
        hands.append(Hand(side, joints, np.ones((n, 21))))
    objects = []
    for i, thing in enumerate(scene.objects):
        T_camera_object = T_camera_world @ act.T_world_objects[:, i]
        objects.append(
            ObjectTrack(
                thing.name,
                T_world_object=act.T_world_objects[:, i],
                boxes=_boxes(
                    transform(T_camera_object, surface_points(thing)), T_camera_object[:, :3, 3], intrinsics
                ),
                extent=thing.size,
                surface=sample_surface(Mesh(*triangles(thing)))[0],
            )
        )
    name = f"{scene_name('tabletop', ambiguity)}_{seed:08d}"
    return Clip(
        id=name,
        source="tabletop",
        source_video=name,
        frames=FilmFrames(film),
        timestamps=act.times,
        intrinsics=intrinsics,
        T_world_camera=act.T_world_camera,
        hands=tuple(hands),
        depth=FilmDepth(film),
        objects=tuple(objects),
        contacts={(side, scene.objects[i].name): c for (side, i), c in act.contacts.items()},
        texts=act.texts,
        licence=LICENCE,
    )


def _boxes(points_camera: np.ndarray, centres_camera: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """(frames, 4) pixels left, top, right, bottom of points (frames, n, 3), cut at the image's border."""
    near = points_camera[..., 2] < 0.05
    safe = np.where(near[..., None], np.nan, points_camera)
    pixels = project(safe, intrinsics.matrix)
    boxes = np.concatenate([np.nanmin(pixels, axis=1), np.nanmax(pixels, axis=1)], -1)
    size = np.array([intrinsics.width, intrinsics.height] * 2)
    boxes = np.clip(boxes, -0.5, size - 0.5)
    centre = project(centres_camera[:, None], intrinsics.matrix)[:, 0]
    seen = intrinsics.contains(centre) & (centres_camera[:, 2] > 0.05)
    return np.where(seen[:, None], boxes, np.nan)
