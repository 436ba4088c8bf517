"""Looking at annotations: the HTML gallery everywhere, and Rerun where it is installed."""

from pathlib import Path
from typing import Any

import numpy as np

from vipa.clips.clip import Clip, ClipError
from vipa.clips.sources import NO_OPTIONS, load_source
from vipa.geometry import project
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import ClipRecord, FrameRecord
from vipa.hand3d.estimators.base import sample_frames
from vipa.hand3d.estimators.depth_points import DepthPoints
from vipa.hand3d.export.cloud import FusedCloud
from vipa.hand3d.export.gallery import write_gallery
from vipa.hands.skeleton import BONES, SIDES


def view(path: str | Path, out: str | Path | None = None, clips: int = 12, clip_id: str | None = None) -> Path:
    """Writes the gallery (default: gallery.html in the data set) and returns its path."""
    return write_gallery(path, Path(path) / "gallery.html" if out is None else out, clips, clip_id)


def clip_of(path: str | Path, clip_id: str | None) -> ClipRecord:
    """The clip of a data set with this id, or its first. ValueError where there is none."""
    for clip in Hand3D(path).clips():
        if clip_id in (None, clip.id):
            return clip
    raise ValueError(f"{path}: no clips to show" if clip_id is None else f"clip {clip_id!r} is not in {path}")


def source_clip(record: ClipRecord, root: Path) -> Clip:
    """The clip as its source gives it, with depth where it has any; root: folder of the source's files.

    ValueError where the source has no such clip there.
    """
    for clip in load_source(record.source).read_clips(root, NO_OPTIONS):
        if not isinstance(clip, ClipError) and f"{clip.source}/{clip.id}" == record.id:
            return clip
    raise ValueError(f"{root}: source {record.source!r} finds no clip {record.id!r} here")


def view_clip(
    path: str | Path,
    clip_id: str,
    clip: Clip | None = None,
    save: str | Path | None = None,
    cloud: FusedCloud | None = None,
) -> None:
    """One annotated clip in Rerun's 3D viewer, or as a recording file where `save` names one (.rrd).

    Camera path, images, hands, boxes, objects, wrist motions and, along the timeline, the questions. With the Clip
    itself its depth becomes a point cloud at each frame; `cloud` stands still in the first frame's camera, brought to
    the record's scale where that is CUT3R's. A clip without camera poses is shown in each frame's camera.
    ModuleNotFoundError without Rerun (the extra `view`); ValueError for a clip that is not in the data set.
    """
    import rerun as rr

    data, record = Hand3D(path), clip_of(path, clip_id)
    rr.init("vipa", recording_id=clip_id, spawn=save is None)
    if save is not None:
        Path(save).parent.mkdir(parents=True, exist_ok=True)
        rr.save(str(save))
    rr.send_blueprint(_blueprint())
    rr.log("world", rr.ViewCoordinates.RDF, static=True)
    frames = sorted((f for f in data.frames() if f.clip_id == clip_id), key=lambda frame: frame.index)
    questions = [r for r in data.visual() if r.clip_id == clip_id]
    motions = [m for m in data.action() if m.clip_id == clip_id]
    path_so_far: list[np.ndarray] = []
    for frame in frames:
        rr.set_time("video", duration=frame.time)
        path_so_far += _log_camera(frame, data.image(frame.id), path_so_far)
        _log_scene(frame)
        trajectories: dict[str, list[Any]] = {side: [] for side in SIDES}
        for motion in motions:
            if motion.frame_id == frame.id:
                for side, line in motion.trajectories.items():
                    trajectories[side].append((line, motion.text))
        for side, lines in trajectories.items():
            strips, labels = [line for line, _ in lines], [text for _, text in lines]
            rr.log(f"world/camera/motion_{side}", rr.LineStrips3D(strips, labels=labels))
        asked = [f"{r.question} **{r.answer}**" for r in questions if r.frame_ids[-1] == frame.id]
        rr.log("questions", rr.TextDocument("\n\n".join(asked), media_type=rr.MediaType.MARKDOWN))
    if clip is not None and clip.depth is not None:
        _log_points(clip)
    if cloud is not None:
        scale = record.scale if record.points == "cut3r" and record.scale is not None else 1.0
        first = frames[0].T_world_camera if frames else None
        _log_cloud(cloud, scale, np.eye(4) if first is None else np.reshape(first, (4, 4)))
    if save is not None:
        rr.disconnect()


def _log_camera(frame: FrameRecord, image: np.ndarray, before: list[np.ndarray]) -> list[np.ndarray]:
    """The camera, its image and the path up to it; returns its position, nothing where the pose is not known."""
    import rerun as rr

    T = np.eye(4) if frame.T_world_camera is None else np.reshape(frame.T_world_camera, (4, 4))
    fx, fy, cx, cy, width, height = frame.intrinsics
    K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
    rr.log("world/camera", rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3]))
    rr.log("world/camera/image", rr.Pinhole(image_from_camera=K, resolution=[width, height]))
    rr.log("world/camera/image", rr.Image(image).compress())
    if frame.T_world_camera is None:
        return []
    rr.log("world/camera_path", rr.LineStrips3D([[*before, T[:3, 3]]]))
    return [T[:3, 3]]


def _log_scene(frame: FrameRecord) -> None:
    """Hands, objects and boxes of a frame. What is not known there is logged empty: Rerun shows the latest it has."""
    import rerun as rr

    for side, joints in (("left", frame.left_joints), ("right", frame.right_joints)):
        points = np.full((21, 3), np.nan) if joints is None else np.reshape(joints, (21, 3))
        bones = [[points[a], points[b]] for a, b in BONES if np.isfinite(points[[a, b]]).all()]
        rr.log(f"world/camera/{side}_hand", rr.LineStrips3D(bones))
    seen = [o for o in frame.objects if np.isfinite(o["centre"]).all()]
    rr.log("world/camera/objects", rr.Points3D([o["centre"] for o in seen], labels=[o["name"] for o in seen]))
    boxes = [o for o in frame.objects if np.isfinite(o["box"]).all()]
    array = np.array([o["box"] for o in boxes]).reshape(-1, 4)
    shown = rr.Boxes2D(array=array, array_format=rr.Box2DFormat.XYXY, labels=[o["name"] for o in boxes])
    rr.log("world/camera/image/boxes", shown)


def _log_points(clip: Clip) -> None:
    import rerun as rr

    for index in sample_frames(clip, AnnotateConfig().frames.rate).tolist():
        maps = DepthPoints()(clip, [index])
        assert maps is not None
        points, colours = maps.points[0].reshape(-1, 3), clip.frames.read([index])[0]
        known = np.isfinite(points).all(-1)
        camera = clip.intrinsics
        pixels = np.nan_to_num(np.rint(project(points, camera.matrix))).astype(int)
        u, v = np.clip(pixels, 0, [camera.width - 1, camera.height - 1]).T
        rr.set_time("video", duration=float(clip.timestamps[index] - clip.timestamps[0]))
        rr.log("world/camera/points", rr.Points3D(points[known], colors=colours[v, u][known], radii=0.002))


def _log_cloud(cloud: FusedCloud, scale: float, T_world_first: np.ndarray) -> None:
    """Below world/fused: the cloud, and the camera path that the network found."""
    import rerun as rr

    rr.log(
        "world/fused", rr.Transform3D(translation=T_world_first[:3, 3], mat3x3=T_world_first[:3, :3]), static=True
    )
    points = rr.Points3D(cloud.cloud.points * scale, colors=cloud.cloud.colours, radii=0.002)
    rr.log("world/fused/points", points, static=True)
    found = cloud.T_world_camera[:, :3, 3] * scale
    rr.log("world/fused/camera_path", rr.LineStrips3D([found]), static=True)


def _blueprint() -> Any:
    import rerun.blueprint as rrb

    beside = rrb.Vertical(
        rrb.Spatial2DView(origin="world/camera/image", name="image"),
        rrb.TextDocumentView(origin="questions", name="questions"),
    )
    return rrb.Blueprint(
        rrb.Horizontal(rrb.Spatial3DView(origin="world", name="3D"), beside, column_shares=[3, 2])
    )
