"""Objects in a calibrated point map: robust centre and extent inside a box, followed through the clip."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vipa.clips.clip import Clip
from vipa.geometry import Intrinsics, invert, project, transform
from vipa.hand3d.calibration import THICKNESS, ScaleEstimate
from vipa.hand3d.objects import LocatedObject
from vipa.hand3d.pointmaps import PointMaps
from vipa.hands.skeleton import BONES

FOREARM, FOREARM_RADIUS = 0.25, 0.045  # metres
STEP = 0.03  # metres between neighbouring pixels that are still one surface
STILL = 0.03  # metres: an object whose estimates stay this close together has not moved


def locate_objects(
    clip: Clip,
    maps: PointMaps,
    scale: ScaleEstimate,
    names: Sequence[str],
    boxes: Float[np.ndarray, "names n 4"],
    scores: Float[np.ndarray, "names n"],
    poses: Float[np.ndarray, "n 4 4"] | None,
    least_confidence: float,
) -> list[LocatedObject]:
    """Where the named objects are at the frames of `maps`, metres. boxes: pixels of the clip's images."""
    height, width = maps.points.shape[1:3]
    camera = clip.intrinsics.resized(width, height)
    factor = np.array([width / clip.intrinsics.width, height / clip.intrinsics.height] * 2)
    centres = np.full((len(names), len(maps.frames), 3), np.nan)
    extents = np.full((len(names), len(maps.frames)), np.nan)
    confidence = np.zeros((len(names), len(maps.frames)))
    for i, frame in enumerate(maps.frames):
        points = maps.points[i] * np.float32(scale.scale)
        hand = hand_mask(clip, int(frame), points, camera)
        for j in range(len(names)):
            if np.isfinite(boxes[j, i]).all():
                box = (boxes[j, i] + 0.5) * factor - 0.5
                centres[j, i], extents[j, i], share = locate_in_box(points, box, hand)
                confidence[j, i] = share * scores[j, i]
    found = []
    for j, name in enumerate(names):
        known = confidence[j] >= least_confidence
        centres[j][~known] = np.nan
        extent = np.full(3, np.nanmedian(extents[j][known])) if known.any() else None
        followed = centres[j] if poses is None else follow(centres[j], poses)
        found.append(LocatedObject(name, followed, boxes[j], confidence[j] * known, extent, "points"))
    return found


def hand_mask(
    clip: Clip, frame: int, points: Float[np.ndarray, "height width 3"], camera: Intrinsics
) -> Bool[np.ndarray, "height width"]:
    """Pixels whose surface lies on a hand: near a bone in the image and in depth. Bones are tubes of flesh."""
    height, width = points.shape[:2]
    mask = np.zeros((height, width), bool)
    t = np.linspace(0.0, 1.0, 6)[:, None]
    for hand in clip.hands:
        joints = hand.joints_camera[frame]
        tubes = [(joints[a], joints[b], 1.3 * max(THICKNESS[a], THICKNESS[b])) for a, b in BONES]
        tubes.append((joints[0], joints[0] + forearm(joints), FOREARM_RADIUS))
        for start, end, radius in tubes:
            along = start * (1 - t) + end * t
            along = along[np.isfinite(along).all(-1) & (along[:, 2] > 0.05)]
            if len(along) == 0:
                continue
            for (u, v), z in zip(project(along, camera.matrix), along[:, 2]):
                r = camera.fx * radius / z + 1.0
                top, bottom = max(int(v - r), 0), min(int(v + r) + 2, height)
                left, right = max(int(u - r), 0), min(int(u + r) + 2, width)
                if top >= bottom or left >= right:
                    continue
                rows, columns = np.ogrid[top:bottom, left:right]
                near = (columns - u) ** 2 + (rows - v) ** 2 <= r * r
                mask[top:bottom, left:right] |= near & (
                    np.abs(points[top:bottom, left:right, 2] - z) < 2.5 * radius
                )
    return mask


def forearm(joints: Float[np.ndarray, "21 3"]) -> Float[np.ndarray, "3"]:
    """From the wrist towards the elbow, metres: straight on from the middle of the palm."""
    palm = joints[[5, 9, 13, 17]].mean(0) - joints[0]
    return -FOREARM * palm / max(float(np.linalg.norm(palm)), 1e-9)


def locate_in_box(
    points: Float[np.ndarray, "height width 3"],
    box: Float[np.ndarray, "4"],
    hand: Bool[np.ndarray, "height width"],
) -> tuple[Float[np.ndarray, "3"], float, float]:
    """(centre in metres, largest extent in metres, share of the box that shows the object, 0 ... 1).

    What the object stands on is a plane seen around the box; what rises above it inside the box, without the hand,
    is the object. The centre is that of the seen points' range along and across the plane, so that it lies inside
    the object and not on its skin. Without a plane, the depth in the middle of the box decides.
    """
    height, width = points.shape[:2]
    left, top, right, bottom = box
    margin = max(3.0, 0.35 * max(right - left, bottom - top))
    rows = slice(max(int(top - margin), 0), min(int(bottom + margin) + 2, height))
    columns = slice(max(int(left - margin), 0), min(int(right + margin) + 2, width))
    crop, covered = points[rows, columns], hand[rows, columns]
    v, u = np.mgrid[rows, columns]
    inside = (u >= left - 0.5) & (u <= right + 0.5) & (v >= top - 0.5) & (v <= bottom + 0.5)
    usable = np.isfinite(crop).all(-1) & ~covered
    if (inside & usable).sum() < 6:
        return np.full(3, np.nan), np.nan, 0.0
    plane = fit_plane(crop[usable & ~inside])
    if plane is None:
        seen = inside & usable & _middle_depth(crop, inside & usable)
    else:
        above = crop @ plane[0] - plane[1]
        seen = inside & usable & (above > np.clip(0.15 * np.nanmax(above[inside]), 0.004, 0.012))
    seen = _whole(crop, seen, (left - columns.start, top - rows.start, right - columns.start, bottom - rows.start))
    if seen.sum() < 6:
        return np.full(3, np.nan), np.nan, 0.0
    share = float(np.clip(seen.sum() / (0.3 * inside.sum()), 0, 1) * (1 - (covered & inside).sum() / inside.sum()))
    if plane is None:
        low, high = np.percentile(crop[seen], [3, 97], axis=0)
        size = float(np.max((high - low)[:2]))
        centre = (low + high) / 2
        centre[2] = min(centre[2], low[2] + size / 2)
        return centre, size, share
    axes = _axes(plane[0])
    along = crop[seen] @ axes.T
    low, high = np.percentile(along, [2, 98], axis=0)
    top = along[along[:, 2] > high[2] - 0.15 * (high[2] - plane[1]), 0]
    if np.ptp(top) < 0.75 * (high[0] - low[0]):  # it narrows upwards: its far side is hidden, and likely round
        high[1] = low[1] + max(high[1] - low[1], min(high[0] - low[0], 1.6 * (high[1] - low[1])))
    if low[2] - plane[1] < 0.03:
        low[2] = plane[1]  # it stands on the plane
    return axes.T @ ((low + high) / 2), float(np.max(high - low)), share


def fit_plane(points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "3"], float] | None:
    """(normal towards the camera, offset) with normal @ p = offset on the plane that most of the points share;
    None where no plane holds 40 % of them."""
    if len(points) < 12:
        return None
    rng = np.random.default_rng(0)
    near = 0.008 * float(np.median(points[:, 2])) + 0.002
    sample = points[rng.integers(len(points), size=(64, 3))]
    normals = np.cross(sample[:, 1] - sample[:, 0], sample[:, 2] - sample[:, 0])
    length = np.linalg.norm(normals, axis=-1)
    sample, normals = sample[length > 1e-9], normals[length > 1e-9] / length[length > 1e-9, None]
    if len(normals) == 0:
        return None
    gaps = np.abs(points @ normals.T - np.einsum("nd,nd->n", sample[:, 0], normals))
    on = gaps[:, (gaps < near).sum(0).argmax()] < near
    if on.mean() < 0.4:
        return None
    middle = points[on].mean(0)
    normal = np.linalg.svd(points[on] - middle, full_matrices=False)[2][2]
    if normal @ middle > 0:
        normal = -normal
    return normal, float(normal @ middle)


def follow(centres: Float[np.ndarray, "n 3"], poses: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 3"]:
    """The centres with each stretch of frames in which the object rested replaced by that stretch's median.

    Where the stretches before and after agree, what lies between was a false sight and is put there too. Both in
    each frame's camera; poses are camera-to-world. Unknown centres stay unknown.
    """
    world = transform(poses, centres[:, None])[:, 0]
    runs: list[list[int]] = []
    for i in np.flatnonzero(np.isfinite(world).all(-1)).tolist():
        if runs and np.linalg.norm(world[i] - np.median(world[runs[-1]], axis=0)) < STILL:
            runs[-1].append(i)
        else:
            runs.append([i])
    middle = 1
    while middle < len(runs) - 1:
        before, after = (np.median(world[runs[k]], axis=0) for k in (middle - 1, middle + 1))
        longer = len(runs[middle - 1]) + len(runs[middle + 1]) > len(runs[middle])
        if longer and np.linalg.norm(before - after) < STILL:
            world[runs[middle]] = (before + after) / 2
            runs[middle - 1 : middle + 2] = [[i for run in runs[middle - 1 : middle + 2] for i in run]]
            middle = max(1, middle - 1)
        else:
            middle += 1
    for run in runs:
        world[run] = np.median(world[run], axis=0)
    return transform(invert(poses), world[:, None])[:, 0]


def _axes(normal: np.ndarray) -> np.ndarray:
    """Rows: across the view and along the plane, away from the camera along the plane, up from the plane."""
    across = np.cross(normal, [0.0, 0.0, 1.0])
    if np.linalg.norm(across) < 1e-6:
        across = np.array([1.0, 0.0, 0.0])
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(across, normal), normal])


def _middle_depth(crop: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Pixels within the depth mode of the middle of the box."""
    v, u = np.nonzero(inside)
    middle = (np.abs(v - np.median(v)) <= np.ptp(v) / 4 + 1) & (np.abs(u - np.median(u)) <= np.ptp(u) / 4 + 1)
    depth = np.median(crop[v[middle], u[middle], 2]) if middle.any() else np.median(crop[v, u, 2])
    return np.abs(crop[..., 2] - depth) < 0.12 * depth


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _whole(crop: np.ndarray, mask: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Of the surfaces in the mask (pixels joined to neighbours less than STEP away) the one that fills the box best:
    largest intersection over union of its outline with the box, weighted by its number of pixels."""
    number = np.cumsum(mask.ravel()).reshape(mask.shape) - 1
    pairs = []
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        near = mask[a] & mask[b] & (np.linalg.norm(crop[a] - crop[b], axis=-1) < STEP)
        pairs.append(np.stack([number[a][near], number[b][near]]))
    rows, columns = np.concatenate(pairs, 1)
    size = int(mask.sum())
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(size, size))
    count, label = connected_components(graph, directed=False)
    if count < 2:
        return mask
    v, u = np.nonzero(mask)
    best, best_score = 0, -1.0
    for part in np.flatnonzero(np.bincount(label) >= 4):
        here = label == part
        outline = (u[here].min() - 0.5, v[here].min() - 0.5, u[here].max() + 0.5, v[here].max() + 0.5)
        width = max(min(outline[2], box[2]) - max(outline[0], box[0]), 0)
        height = max(min(outline[3], box[3]) - max(outline[1], box[1]), 0)
        common, union = width * height, _area(outline) + _area(box) - width * height
        score = common / union * np.sqrt(here.sum() / size)
        if score > best_score:
            best, best_score = part, score
    out = np.zeros_like(mask)
    out[v[label == best], u[label == best]] = True
    return out
