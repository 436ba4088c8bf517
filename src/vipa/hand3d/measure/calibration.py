"""Metres per unit of a point map, from hands whose joints are known in metres (section 3.2.1).

The paper takes the median of (joint depth / surface depth at the joint's pixel). Two things bias it: joints lie
inside the flesh, 13-35 mm behind the surface, and a hidden joint's pixel shows something else. Here a joint counts
only where the order of depths says that its own flesh is seen, the flesh is part of the model, and the frames of
the clip are combined robustly:

    joint depth = scale * surface depth + flesh * thickness of that joint

How deep joints lie is assumed, and joints that lie d metres deeper make hands at a distance z look d / z farther: the
scale is that much too large, for all joints and frames alike, so that no number of them averages it out. The interval
holds the sampling, and this: the scale for a depth of `DEEPER` times less and times more than assumed.

A network that runs fingers into what lies behind them errs one way only: its hands are too far, by a third where they
are near. Where its weights' configuration says so (`edge`) and most joints do not agree on a scale, the edge of their
ratios that is nearest to the camera is the scale, not their middle. Where a network was trained in metres and the
error of its own unit is known, that unit is one more observation.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from vipa.clips.clip import Clip, ClipError
from vipa.geometry import Intrinsics, project
from vipa.hand3d.config import ScaleConfig
from vipa.hand3d.estimators.pointmaps import AnyMaps
from vipa.hands.skeleton import BONES

THICKNESS = np.array([0.022, *[0.016, 0.011, 0.009, 0.008], *[0.013, 0.010, 0.009, 0.008] * 4])
"""Metres from each joint to the skin towards the camera: of adult hands, palm to tip. One factor (`flesh`) per
clip adapts it to the hand and to how a data set places its joints."""

DEEPER = 3.5
"""The prior of the true depth below the skin over `THICKNESS`, a factor common to all joints of a clip: log-normal with
median 1, 95 % of it between 1 / DEEPER and DEEPER (standard deviation of the logarithm: 0.64).

THICKNESS is half of an adult's fingers, palm and wrist, for joints on the bones' axis. Data sets put joints elsewhere,
and sensors err behind skin: real joints that are seen lie 13-35 mm behind the sensed surface (1.6 times THICKNESS), on
FPHA the wrist 33-44 mm (1.5-2 times) and fingers up to 3 times. The fit's own `flesh` moves the scale but does not
narrow the interval, for it rests on the ratios between joints, and those are as uncertain as the factor."""

IN_FRONT, BEHIND = 0.03, 0.02  # metres the surface may be before / behind the expected skin of a visible joint


@dataclass(frozen=True)
class ScaleEstimate:
    """Metres per unit of a clip's point map.

    low, high: 95 % interval, of sampling and of what is not known (`DEEPER`); None where it was not estimated. spread:
    robust standard deviation of the per-frame scales, relative; of an edge: the standard deviation over resampled
    frames. frames, joints: support. plain_median: the paper's estimate, over all joints that fall on the image,
    for comparison; None without any. calibrated: False where the map was metric and kept as it is.
    """

    scale: float
    low: float | None
    high: float | None
    spread: float
    flesh: float
    frames: int
    joints: int
    plain_median: float | None
    calibrated: bool


def estimate_scale(clip: Clip, maps: AnyMaps, config: ScaleConfig) -> ScaleEstimate:
    """The scale of `maps`; 1 for a metric map unless `config.force`. ClipError where hands give no good answer."""
    if maps.metric and not config.force:
        return ScaleEstimate(1.0, None, None, 0.0, 1.0, 0, 0, None, False)
    z, surface, thickness, frame, on_image = _pairs(clip, maps)
    plain = plain_median(z[on_image], surface[on_image], frame[on_image])
    if config.method == "median":
        return _by_median(clip, plain, z[on_image] / surface[on_image], frame[on_image], config)
    keep = on_image & (thickness > 0)
    z, surface, thickness, frame = z[keep], surface[keep], thickness[keep], frame[keep]
    if len(z) < config.joints:
        raise ClipError(
            clip.id, f"scale: only {len(z)} joints are visible with a depth, {config.joints} are needed"
        )
    scale, flesh, inlier = robust_fit(z, surface, thickness)
    edge = maps.edge if inlier.mean() < config.agree else None
    if edge is not None:
        flesh, inlier = 1.0, np.ones_like(inlier)
    frames, counts = np.unique(frame[inlier], return_counts=True)
    frames = frames[counts >= 3]
    if len(frames) < config.frames or inlier.sum() < config.joints:
        raise ClipError(
            clip.id,
            f"scale: {int(inlier.sum())} joints in {len(frames)} frames agree, "
            f"{config.joints} in {config.frames} are needed",
        )
    ratios = [((z - flesh * thickness) / surface)[inlier & (frame == f)] for f in frames]
    if edge is not None:
        scale, sigma = upper_edge(ratios, edge[0])
        error = float(np.hypot(sigma, edge[1] * scale))
    else:
        per_frame = np.array([np.median(of_frame) for of_frame in ratios])
        scale = float(np.median(per_frame))
        sigma = 1.4826 * float(np.median(np.abs(per_frame - scale)))
        error = 1.2533 * sigma / np.sqrt(len(frames))
    spread = sigma / scale
    if spread > config.spread:
        raise ClipError(clip.id, f"scale: frames disagree by {spread:.1%} (largest accepted {config.spread:.0%})")
    low, high = interval(scale, error, flesh, float(np.median(thickness[inlier] / surface[inlier])))
    if maps.unit_error is not None:
        scale, low, high = with_own_unit(scale, low, high, maps.unit_error)
    return ScaleEstimate(scale, low, high, spread, flesh, len(frames), int(inlier.sum()), plain, True)


def _by_median(
    clip: Clip, scale: float | None, ratios: np.ndarray, frame: np.ndarray, config: ScaleConfig
) -> ScaleEstimate:
    """The paper's plain median as the scale; ClipError for too few joints or frames."""
    frames = np.unique(frame)
    if scale is None or len(ratios) < config.joints or len(frames) < config.frames:
        raise ClipError(
            clip.id,
            f"scale: {len(ratios)} joints in {len(frames)} frames have a depth, "
            f"{config.joints} in {config.frames} are needed",
        )
    per_frame = np.array([np.median(ratios[frame == f]) for f in frames])
    spread = 1.4826 * float(np.median(np.abs(per_frame - scale))) / scale
    return ScaleEstimate(scale, None, None, spread, 0.0, len(frames), len(ratios), scale, True)


def interval(scale: float, error: float, flesh: float, thickness: float) -> tuple[float, float]:
    """(low, high), 95 %: the sampling and the unknown depth of the joints, which are independent.

    error: standard deviation of the scale by sampling. thickness: of the joints, in units of the scale (metres over
    the surface's depth in the map): the scale falls by so much where joints are deeper by one more `THICKNESS`.
    """
    deeper, shallower = max(DEEPER - flesh, 0.0) * thickness, max(flesh - 1 / DEEPER, 0.0) * thickness
    return scale - float(np.hypot(1.96 * error, deeper)), scale + float(np.hypot(1.96 * error, shallower))


def upper_edge(ratios: list[Float[np.ndarray, "joints"]], quantile: float) -> tuple[float, float]:
    """(this quantile of all ratios, its standard deviation over resampled frames), from the ratios per frame."""
    rng = np.random.default_rng(0)
    again = rng.integers(len(ratios), size=(100, len(ratios)))
    resampled = [np.quantile(np.concatenate([ratios[i] for i in frames]), quantile) for frames in again]
    return float(np.quantile(np.concatenate(ratios), quantile)), float(np.std(resampled))


def with_own_unit(scale: float, low: float, high: float, unit_error: float) -> tuple[float, float, float]:
    """The scale that hands give, with its 95 % interval, and the map's own unit (1 +- unit_error, relative), each
    weighted by its precision; in logarithms, for both are factors. Each side of the interval shrinks alike."""
    hands, own = (np.log(high / low) / (2 * 1.96)) ** 2, unit_error**2
    share = float(own / (hands + own))
    combined, shrink = scale**share, share**0.5
    return combined, combined * (low / scale) ** shrink, combined * (high / scale) ** shrink


def plain_median(
    z: Float[np.ndarray, "n"], surface: Float[np.ndarray, "n"], frame: Float[np.ndarray, "n"]
) -> float | None:
    """The paper's estimate: median over the clip of each frame's median of joint depth / surface depth."""
    frames = np.unique(frame)
    if len(frames) == 0:
        return None
    return float(np.median([np.median((z / surface)[frame == f]) for f in frames]))


def robust_fit(
    z: Float[np.ndarray, "n"], surface: Float[np.ndarray, "n"], thickness: Float[np.ndarray, "n"]
) -> tuple[float, float, Bool[np.ndarray, "n"]]:
    """(scale, flesh, which joints agree) of z = scale * surface + flesh * thickness.

    The scale that most joints agree with starts it; then weighted least squares (Huber, prior flesh = 1 +-
    0.5) over the joints whose skin is where it is expected, until they no longer change.
    """
    candidates = np.quantile((z - thickness) / surface, np.linspace(0.02, 0.98, 97))
    agree = _on_skin(z, surface, thickness, candidates[:, None], 1.0, 0.5).sum(-1)
    best = np.flatnonzero(agree >= 0.98 * agree.max())
    scale, flesh = float(np.median(candidates[best])), 1.0
    inlier = _on_skin(z, surface, thickness, scale, flesh)
    for _ in range(20):
        if inlier.sum() < 3:
            break
        a = np.stack([surface[inlier], thickness[inlier]], 1)
        residual = z[inlier] - a @ [scale, flesh]
        sigma = max(1.4826 * float(np.median(np.abs(residual))), 1e-4)
        w = 1 / np.maximum(1.0, np.abs(residual) / (1.5 * sigma))
        prior = (sigma / 0.5) ** 2 * np.sqrt(inlier.sum())  # joints of one frame err together
        normal = (a * w[:, None]).T @ a + np.diag([0.0, prior])
        scale, flesh = np.linalg.solve(normal, (a * w[:, None]).T @ z[inlier] + [0.0, prior])
        flesh = float(np.clip(flesh, 0.0, 3.0))
        now = _on_skin(z, surface, thickness, scale, flesh)
        if (now == inlier).all():
            break
        inlier = now
    return float(scale), flesh, inlier


def _on_skin(z, surface, thickness, scale, flesh: float, strict: float = 1.0) -> np.ndarray:
    gap = z - flesh * thickness - scale * surface  # > 0: something is before the skin
    return (gap < strict * IN_FRONT) & (gap > -strict * BEHIND)


def self_visible(joints: Float[np.ndarray, "*b 21 3"], K: Float[np.ndarray, "3 3"]) -> Bool[np.ndarray, "*b 21"]:
    """Which joints no other part of the same hand hides: bones as tubes of flesh, compared by depth order."""
    parents, children = (np.array(column) for column in zip(*BONES))
    t = np.linspace(0.0, 1.0, 6)[:, None]
    along = joints[..., parents, None, :] * (1 - t) + joints[..., children, None, :] * t  # (*b, bones, samples, 3)
    radius = 0.5 * (THICKNESS[parents] + THICKNESS[children])[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        pixels = (joints[..., :2] / joints[..., 2:])[..., :, None, None, :]
        tubes = (along[..., :2] / along[..., 2:])[..., None, :, :, :]
        focal = np.array([1.0, K[1, 1] / K[0, 0]])
        gap = (((pixels - tubes) * focal) ** 2).sum(-1)  # (*b, 21, bones, samples), tangents of angles
        covers = gap < np.maximum(radius / along[..., 2], 0.0)[..., None, :, :] ** 2
        before = joints[..., 2, None, None] - along[..., None, :, :, 2] > radius + THICKNESS[:, None, None]
    return ~(covers & before).any((-2, -1))


def _pairs(clip: Clip, maps: AnyMaps):
    """Per (frame, hand, joint) on the image with a surface: joint depth, surface depth, thickness (0: hidden
    by the hand itself), frame number, and whether it counts for the plain median."""
    columns: list[np.ndarray] = []
    depth = maps.depth
    camera = clip.intrinsics.resized(depth.shape[2], depth.shape[1])
    for hand in clip.hands:
        joints = hand.joints_camera[maps.frames]
        surface = sample_depth(depth, joints, camera)
        ok = np.isfinite(surface) & (surface > 0) & (hand.confidence[maps.frames] > 0)
        visible = ok & self_visible(joints, camera.matrix)
        frame = np.broadcast_to(np.asarray(maps.frames)[:, None], ok.shape)
        columns.append(np.stack([joints[..., 2], surface, THICKNESS * visible, frame, ok], -1)[ok])
    table = np.concatenate(columns) if columns else np.zeros((0, 5))
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3], table[:, 4].astype(bool)


def sample_depth(
    depth: Float[np.ndarray, "*b height width"], joints: Float[np.ndarray, "*b n 3"], camera: Intrinsics
) -> Float[np.ndarray, "*b n"]:
    """The depth image's value at each joint's pixel (nearest); NaN off the image or behind the camera."""
    out = np.full(joints.shape[:-1], np.nan)
    ok = np.isfinite(joints).all(-1) & (joints[..., 2] > 1e-3)
    pixels = project(np.where(ok[..., None], joints, 1.0), camera.matrix)
    ok &= camera.contains(pixels)
    u, v = np.rint(pixels[ok]).astype(int).T
    image = np.nonzero(ok)[:-1]
    out[ok] = depth[*image, np.clip(v, 0, depth.shape[-2] - 1), np.clip(u, 0, depth.shape[-1] - 1)]
    return out
