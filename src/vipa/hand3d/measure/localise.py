"""Objects in a calibrated point map: robust centre and extent inside a box, followed through the clip."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from vipa.clips.clip import Clip
from vipa.geometry import Intrinsics, invert, project, transform
from vipa.hand3d.estimators.pointmaps import AnyMaps
from vipa.hand3d.measure.calibration import ScaleEstimate
from vipa.hand3d.measure.handmask import find_flesh, hand_mask
from vipa.hand3d.measure.positions import LocatedObject
from vipa.hand3d.measure.visibility import in_picture

ACROSS = 32
"""Pixels of a box's longer side that are looked at: finer maps are thinned, so that a box costs at most so much."""
STEP = 0.03  # metres between neighbouring pixels that are still one surface
FLOATS = 0.06  # metres above what is around it: something holds it, or it is something else before the object
STILL = 0.03  # metres: an object whose estimates stay this close together has not moved
VOTERS = 600  # points that make a plane; every third chooses it

Sight = tuple[Float[np.ndarray, "3"], float, float]
NOTHING: Sight = (np.full(3, np.nan), np.nan, 0.0)


def locate_objects(
    clip: Clip,
    maps: AnyMaps,
    scale: ScaleEstimate,
    names: Sequence[str],
    boxes: Float[np.ndarray, "names n 4"],
    scores: Float[np.ndarray, "names n"],
    poses: Float[np.ndarray, "n 4 4"] | None,
    least_confidence: float,
) -> list[LocatedObject]:
    """Where the named objects are at the frames of `maps`, metres. boxes: pixels of the clip's images."""
    height, width = maps.depth.shape[1:]
    camera = clip.intrinsics.resized(width, height)
    factor = np.array([width / clip.intrinsics.width, height / clip.intrinsics.height] * 2)
    centres = np.full((len(names), len(maps.frames), 3), np.nan)
    extents = np.full((len(names), len(maps.frames)), np.nan)
    confidence = np.zeros((len(names), len(maps.frames)))
    flesh = find_flesh(clip, maps, scale.scale, camera)
    for j, i in np.argwhere(np.isfinite(boxes).all(-1)).tolist():
        here = (boxes[:, i] + 0.5) * factor - 0.5
        rows, columns, seen = window(camera, here[j])
        points = maps.crop(i, rows, columns) * np.float32(scale.scale)
        here = (here - np.array([columns.start, rows.start] * 2)) / rows.step
        covered = hand_mask(points[..., 2], seen, flesh, i) | others_mask(here, j, points.shape[:2])
        centres[j, i], extents[j, i], share = locate_in_box(points, here[j], covered)
        confidence[j, i] = share * scores[j, i]
    unsure = 0.0  # of every distance, relative: what is nearer together is not told apart
    if scale.low is not None and scale.high is not None:
        unsure = 0.5 * (scale.high - scale.low) / scale.scale
    found = []
    for j, name in enumerate(names):
        known = confidence[j] >= least_confidence
        centres[j][~known] = np.nan
        sizes = extents[j][known & np.isfinite(extents[j])]
        extent = np.full(3, np.median(sizes)) if len(sizes) else None
        followed = centres[j]
        if poses is not None and known.any():
            still = max(STILL, unsure * float(np.nanmedian(followed[:, 2])))
            followed = settle(followed, confidence[j], boxes[j], poses, clip.intrinsics, still)
            followed = follow(followed, poses, still)
        known &= in_picture(followed, clip.intrinsics)
        followed = np.where(known[:, None], followed, np.nan)
        found.append(LocatedObject(name, followed, boxes[j], confidence[j] * known, extent, "points"))
    return found


def window(camera: Intrinsics, box: Float[np.ndarray, "4"]) -> tuple[slice, slice, Intrinsics]:
    """(rows, columns, their camera): the box and what is around it, every step-th pixel of a large one."""
    left, top, right, bottom = box.tolist()
    size = max(right - left, bottom - top)
    margin, step = max(3.0, 0.35 * size), max(1, math.ceil(size / ACROSS))
    rows = slice(max(int(top - margin), 0), min(int(bottom + margin) + 2, camera.height), step)
    columns = slice(max(int(left - margin), 0), min(int(right + margin) + 2, camera.width), step)
    thinned = replace(
        camera,
        fx=camera.fx / step,
        fy=camera.fy / step,
        cx=(camera.cx - columns.start) / step,
        cy=(camera.cy - rows.start) / step,
    )
    return rows, columns, thinned


def others_mask(
    boxes: Float[np.ndarray, "n 4"], j: int, shape: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """Pixels in the boxes of smaller things that are mostly inside box j: on it, in it or before it. Nothing where
    little of box j would be left."""
    mask, sizes = np.zeros(shape, bool), boxes[:, 2:] - boxes[:, :2]
    common = np.minimum(boxes[:, 2:], boxes[j, 2:]) - np.maximum(boxes[:, :2], boxes[j, :2])
    areas, inside = sizes.prod(-1), np.maximum(common, 0).prod(-1)
    found = np.flatnonzero((inside > 0.5 * areas) & (areas < 0.7 * areas[j]))
    if len(found) == 0:
        return mask
    for k in found:
        left, top, right, bottom = np.maximum(np.rint(boxes[k] + 0.5), 0).astype(int)
        mask[top:bottom, left:right] = True
    left, top, right, bottom = np.maximum(np.rint(boxes[j] + 0.5), 0).astype(int)
    own = mask[top:bottom, left:right]
    return mask if own.size and own.mean() < 0.6 else np.zeros(shape, bool)


def locate_in_box(
    points: Float[np.ndarray, "height width 3"],
    box: Float[np.ndarray, "4"],
    covered: Bool[np.ndarray, "height width"],
) -> Sight:
    """(centre in metres, largest extent in metres, share of the box that shows the object, 0 ... 1).

    points: what is in the box (left, top, right, bottom in pixels of `points`) and around it; covered: where a hand
    or something else is before it. What the object stands on is a plane seen around the box; what rises above it
    inside the box is the object. The centre is that of the object's range along and across the plane, as far as the
    points and the box's edges show it, so that it lies inside the object and not on its skin. Without a plane, the
    depth in the middle of the box decides.
    """
    left, top, right, bottom = box.tolist()
    v, u = np.ogrid[: points.shape[0], : points.shape[1]]
    inside = ((v >= top - 0.5) & (v <= bottom + 0.5)) & ((u >= left - 0.5) & (u <= right + 0.5))
    usable = np.isfinite(points[..., 2]) & ~covered
    here = inside & usable
    if here.sum() < 6:
        return NOTHING
    plane = fit_plane(points[usable & ~inside])
    if plane is None:
        seen = here & _middle_depth(points, here)
    else:
        above = points @ plane[0] - plane[1]
        seen = here & (above > np.clip(0.15 * np.nanmax(above[inside]), 0.004, 0.012))
    seen = _whole(points, seen, (left, top, right, bottom))
    if seen.sum() < 6:
        return NOTHING
    area = int(inside.sum())
    share = float(np.clip(seen.sum() / (0.3 * area), 0, 1) * (1 - (covered & inside).sum() / area))
    if plane is None:
        low, high = _reach(points[seen], 0.03)
        size = float(np.max((high - low)[:2]))
        centre = (low + high) / 2
        centre[2] = min(centre[2], low[2] + size / 2)
        return centre, size, share
    axes = _axes(plane[0])
    along = points[seen] @ axes.T
    low, high = _reach(along, 0.02)
    summit = along[along[:, 2] > high[2] - 0.15 * (high[2] - plane[1]), 0]
    narrow = np.ptp(summit) / max(high[0] - low[0], 1e-6)
    if low[2] - plane[1] < 0.03:
        low[2] = plane[1]  # it stands on the plane
    elif low[2] - plane[1] > FLOATS:
        share *= 0.8 if covered.any() else 0.25
    least, most, wide = _edges(points, here, axes, box, low, high)
    reach = np.maximum(high - low, (high - low)[0])
    low, high = (
        np.clip(np.minimum(low, least), low - reach, low),
        np.clip(np.maximum(high, most), high, high + reach),
    )
    if narrow < 0.6:  # a cone, a bottle: the far side is hidden, and likely round
        wide = wide * float(np.median(points[seen][:, 2])) if np.isfinite(wide) else high[0] - low[0]
        high[1] = max(high[1], low[1] + min(wide, 1.6 * (high[1] - low[1])))
    elif (
        narrow < 0.95 and np.isfinite([least[1], most[1]]).all()
    ):  # a ball: the edges touch it opposite each other
        middle = 0.5 * (least[1] + most[1])
        half = max(middle - low[1], high[1] - middle)
        low[1], high[1] = middle - half, middle + half
    return axes.T @ ((low + high) / 2), float(np.max(high - low)), share


def _edges(
    points: np.ndarray, known: np.ndarray, axes: np.ndarray, box: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """What the edges of a box tell of what is in it: (least, most) (3,) along the axes, inf and -inf: nothing; and
    its width at a depth of one, NaN: nothing.

    An edge is a plane of sight that touches the object, where is not known. But the object reaches at least as far
    as that plane does at the height, of those between low[2] and high[2], where this is least. An edge at the border
    of the picture tells nothing.
    """
    least, most = np.full(3, np.inf), np.full(3, -np.inf)
    v, u = np.nonzero(known)
    slopes = points[v, u, :2] / points[v, u, 2:]

    def line(axis: int, pixels: np.ndarray) -> Callable[[float], float]:
        middle, s = pixels.mean(), slopes[:, axis]
        d = pixels - middle
        mean, gain = s.mean(), (d @ s) / max(d @ d, 1e-9)
        return lambda pixel: float(mean + gain * (pixel - middle))

    slope_x, slope_y = line(0, u), line(1, v)
    left, top, right, bottom = box.tolist()
    x = 0.5 * (low[0] + high[0])
    for edge, height, shown, out in (
        (bottom, low[2], bottom < len(points) - 2, least),
        (top, high[2], top > 1, most),
    ):
        m = slope_y(edge)  # y = m z in the camera
        away = m * axes[1, 2] - axes[1, 1]
        if shown and away > 0.1:
            out[1] = (x * axes[0, 1] + height * (axes[2, 1] - m * axes[2, 2])) / away
    y = 0.5 * (min(low[1], least[1]) + max(high[1], most[1]))
    wide = 0.0
    for edge, shown, out, inner, sign in (
        (left, left > 1, least, np.max, -1),
        (right, right < points.shape[1] - 2, most, np.min, 1),
    ):
        wide += sign * slope_x(edge) if shown else np.nan
        if shown:
            m, z = slope_x(edge), np.array([low[2], high[2]])  # x = m z in the camera
            depth = y * axes[1, 2] + z * axes[2, 2]
            out[0] = inner((m * depth - y * axes[1, 0] - z * axes[2, 0]) / axes[0, 0])
    return least, most, wide


def fit_plane(points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "3"], float] | None:
    """(normal towards the camera, offset) with normal @ p = offset on the plane that most of the points share;
    None where no plane holds 40 % of them."""
    if len(points) < 12:
        return None
    points = points[:: math.ceil(len(points) / VOTERS)].astype(np.float64)
    rng = np.random.default_rng(0)
    voters = points[::3]
    near = 0.008 * float(np.median(voters[:, 2])) + 0.002
    sample = points[rng.integers(len(points), size=(64, 3))]
    a, b = sample[:, 1] - sample[:, 0], sample[:, 2] - sample[:, 0]
    normals = _cross(a, b)
    length = np.sqrt((normals**2).sum(-1))
    sample, normals = sample[length > 1e-9, 0], normals[length > 1e-9] / length[length > 1e-9, None]
    if len(normals) == 0:
        return None
    offsets = (sample * normals).sum(-1)
    best = (np.abs(voters @ normals.T - offsets) < near).sum(0).argmax()
    on = np.abs(points @ normals[best] - offsets[best]) < near
    if on.mean() < 0.4:
        return None
    middle = points[on].mean(0)
    spread = points[on] - middle
    normal = np.linalg.eigh(spread.T @ spread)[1][:, 0]  # of the smallest eigenvalue
    if normal @ middle > 0:
        normal = -normal
    return normal, float(normal @ middle)


def settle(
    centres: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, "n"],
    boxes: Float[np.ndarray, "n 4"],
    poses: Float[np.ndarray, "n 4 4"],
    camera: Intrinsics,
    still: float = STILL,
) -> Float[np.ndarray, "n 3"]:
    """The centres with those replaced that saw something before the object: where the frame's box is where and as
    large as it would be with the object at a place that was seen better at other frames, the object is there.

    Centres in each frame's camera, NaN unknown; weights: of each sight; poses are camera-to-world.
    """
    world = transform(poses, centres[:, None])[:, 0]
    groups: list[list[int]] = []
    points = world.tolist()
    for i in np.flatnonzero(np.isfinite(world).all(-1)).tolist():
        near = [g for g in groups if math.dist(points[i], points[g[0]]) < still]
        near[0].append(i) if near else groups.append([i])
    if len(groups) < 2:
        return centres
    places = np.array([np.median(world[g], axis=0) for g in groups])
    totals = np.array([weights[g].sum() for g in groups])
    ahead = transform(invert(poses), places[None])  # (n, groups, 3)
    ahead = np.where(ahead[..., 2:] > 0.05, ahead, np.nan)
    pixels = project(ahead, camera.matrix)
    middle, size = 0.5 * (boxes[:, :2] + boxes[:, 2:]), (boxes[:, 2:] - boxes[:, :2]).max(-1)[:, None]
    fits = np.zeros(pixels.shape[:2], bool)
    for g, group in enumerate(groups):
        offset = pixels[:, g] - middle
        usual, large = (
            np.median(offset[group] / size[group], axis=0),
            np.median(size[group, 0] * ahead[group, g, 2]),
        )
        off = np.linalg.norm(offset - usual * size, axis=-1), np.abs(large / ahead[:, g, 2] - size[:, 0])
        fits[:, g] = np.maximum(*off) < 0.06 * size[:, 0] + 0.7
    settled = centres.copy()
    for own, group in enumerate(groups):
        for i in group:
            best = int(np.where(fits[i], totals, 0.0).argmax())
            if totals[best] > totals[own] and fits[i, best]:
                settled[i] = ahead[i, best]
    return settled


def follow(
    centres: Float[np.ndarray, "n 3"], poses: Float[np.ndarray, "n 4 4"], still: float = STILL
) -> Float[np.ndarray, "n 3"]:
    """The centres with each stretch of frames in which the object rested replaced by that stretch's median.

    Both in each frame's camera; poses are camera-to-world. Unknown centres stay unknown.
    """
    world = transform(poses, centres[:, None])[:, 0]
    runs: list[list[int]] = []
    for i in np.flatnonzero(np.isfinite(world).all(-1)).tolist():
        if runs and np.linalg.norm(world[i] - np.median(world[runs[-1]], axis=0)) < still:
            runs[-1].append(i)
        else:
            runs.append([i])
    for run in runs:
        world[run] = np.median(world[run], axis=0)
    return transform(invert(poses), world[:, None])[:, 0]


def _reach(values: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Of (n, d) values without a share at either end: (least, most), (d,) each."""
    cut = round(share * (len(values) - 1))
    ordered = np.partition(values, (cut, len(values) - 1 - cut), axis=0)
    return ordered[cut], ordered[-1 - cut]


def _axes(normal: np.ndarray) -> np.ndarray:
    """Rows: across the view and along the plane, away from the camera along the plane, up from the plane."""
    across = np.array([normal[1], -normal[0], 0.0])  # normal x depth
    if np.linalg.norm(across) < 1e-6:
        across = np.array([1.0, 0.0, 0.0])
    across /= np.linalg.norm(across)
    return np.stack([across, _cross(across, normal), normal])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a x b of (..., 3), in under half the time that numpy takes for a pair of vectors."""
    return a[..., [1, 2, 0]] * b[..., [2, 0, 1]] - a[..., [2, 0, 1]] * b[..., [1, 2, 0]]


def _middle_depth(points: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Pixels within the depth mode of the middle of the box."""
    v, u = np.nonzero(inside)
    middle = (np.abs(v - np.median(v)) <= np.ptp(v) / 4 + 1) & (np.abs(u - np.median(u)) <= np.ptp(u) / 4 + 1)
    depth = np.median(points[v[middle], u[middle], 2]) if middle.any() else np.median(points[v, u, 2])
    return np.abs(points[..., 2] - depth) < 0.12 * depth


def _whole(points: np.ndarray, mask: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Of the surfaces in the mask (pixels joined to neighbours less than STEP away) the one that fills the box best:
    largest intersection over union of its outline with the box, weighted by its number of pixels."""
    top, left = (max(math.floor(edge), 0) for edge in (box[1], box[0]))
    part = np.s_[top : math.ceil(box[3]) + 2, left : math.ceil(box[2]) + 2]  # nothing of the mask is outside
    best = _best_surface(points[part], mask[part], (box[0] - left, box[1] - top, box[2] - left, box[3] - top))
    out = np.zeros_like(mask)
    out[part] = best
    return out


def _best_surface(points: np.ndarray, mask: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    height, width = mask.shape
    joined = np.zeros((2 * height - 1, 2 * width - 1), bool)  # pixels, and between two pixels whether they join
    joined[::2, ::2] = mask
    for between, a, b in (
        (np.s_[::2, 1::2], np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[1::2, ::2], np.s_[:-1], np.s_[1:]),
    ):
        step = points[a] - points[b]
        joined[between] = mask[a] & mask[b] & (np.einsum("ijk,ijk->ij", step, step) < STEP**2)
    label, count = ndimage.label(joined)  # type: ignore[misc]
    if count < 2:
        return mask
    label = label[::2, ::2]
    pixels = np.bincount(label.ravel())
    best, best_score = 0, -1.0
    for part, (rows, columns) in enumerate(ndimage.find_objects(label), 1):
        if pixels[part] < 4:
            continue
        outline = columns.start - 0.5, rows.start - 0.5, columns.stop - 0.5, rows.stop - 0.5
        across = max(min(outline[2], box[2]) - max(outline[0], box[0]), 0)
        down = max(min(outline[3], box[3]) - max(outline[1], box[1]), 0)
        common, union = across * down, _area(outline) + _area(box) - across * down
        score = common / union * math.sqrt(pixels[part] / mask.sum())
        if score > best_score:
            best, best_score = part, score
    return label == best if best else np.zeros_like(mask)


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
