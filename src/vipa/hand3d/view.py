"""Looking at annotations: the HTML gallery everywhere, and Rerun where it is installed."""

from pathlib import Path

import numpy as np

from vipa.clips.clip import Clip
from vipa.geometry import project
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.dataset import Hand3D
from vipa.hand3d.estimators import sample_frames
from vipa.hand3d.gallery import write_gallery
from vipa.hand3d.pointmaps import DepthPoints
from vipa.hands.skeleton import BONES


def view(path: str | Path, out: str | Path | None = None, clips: int = 12, clip_id: str | None = None) -> Path:
    """Writes the gallery (default: gallery.html in the data set) and returns its path."""
    return write_gallery(path, Path(path) / "gallery.html" if out is None else out, clips, clip_id)


def view_clip(path: str | Path, clip_id: str, clip: Clip | None = None, save: str | Path | None = None) -> None:
    """One annotated clip in Rerun's 3D viewer, or as a recording file where `save` names one (.rrd).

    Camera path, images, hands, boxes, objects, wrist motions and, along the timeline, the questions. With the Clip
    itself its depth becomes a point cloud. ModuleNotFoundError without Rerun (the extra `view`); ValueError for a
    clip that is not in the data set.
    """
    import rerun as rr

    data = Hand3D(path)
    if clip_id not in {c.id for c in data.clips()}:
        raise ValueError(f"clip {clip_id!r} is not in {path}")
    rr.init("vipa", recording_id=clip_id, spawn=save is None)
    if save is not None:
        rr.save(str(save))
    rr.log("world", rr.ViewCoordinates.RDF, static=True)
    centres = []
    for frame in (f for f in data.frames() if f.clip_id == clip_id):
        rr.set_time("video", duration=frame.time)
        T = np.eye(4) if frame.T_world_camera is None else np.reshape(frame.T_world_camera, (4, 4))
        fx, fy, cx, cy, width, height = frame.intrinsics
        K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
        rr.log("world/camera", rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3]))
        rr.log("world/camera/image", rr.Pinhole(image_from_camera=K, resolution=[width, height]))
        rr.log("world/camera/image", rr.Image(data.image(frame.id)).compress())
        for side, joints in (("left", frame.left_joints), ("right", frame.right_joints)):
            if joints is not None:
                points = np.reshape(joints, (21, 3))
                rr.log(f"world/camera/{side}_hand", rr.LineStrips3D([[points[a], points[b]] for a, b in BONES]))
        seen = [o for o in frame.objects if np.isfinite(o["centre"]).all()]
        rr.log("world/camera/objects", rr.Points3D([o["centre"] for o in seen], labels=[o["name"] for o in seen]))
        boxes = [o for o in frame.objects if np.isfinite(o["box"]).all()]
        if boxes:
            array, labels = [o["box"] for o in boxes], [o["name"] for o in boxes]
            shown = rr.Boxes2D(array=array, array_format=rr.Box2DFormat.XYXY, labels=labels)
            rr.log("world/camera/image/boxes", shown)
        centres.append(T[:3, 3])
        rr.log("world/camera_path", rr.LineStrips3D([centres]))
        for motion in (m for m in data.action() if m.frame_id == frame.id):
            for side, line in motion.trajectories.items():
                rr.log(f"world/camera/motion_{side}", rr.LineStrips3D([line], labels=[motion.text]))
        asked = [f"{r.question} **{r.answer}**" for r in data.visual() if r.frame_ids[-1] == frame.id]
        rr.log("questions", rr.TextDocument("\n\n".join(asked), media_type=rr.MediaType.MARKDOWN))
    if clip is not None and clip.depth is not None:
        _log_points(clip)


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
