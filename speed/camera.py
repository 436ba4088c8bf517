"""How a camera turned, from its pictures, against the truth; and what it costs.

Run: `python speed/camera.py EGODEX VITRA` with the extra `video`: folders in these layouts. Their videos are read
alone, as anyone's (hands from MediaPipe), with the true field of view given and with none. Writes
speed/results/camera.json.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro

from vipa.clips.camera_motion import CameraMotion, measure_motion
from vipa.clips.clip import Clip
from vipa.clips.sources import SourceOptions, read_source
from vipa.clips.video import FrameSubset, VideoFrames
from vipa.geometry import axis_angle_from_matrix
from vipa.io.cache import cache_folder


def compare(motion: CameraMotion, clip: Clip) -> dict[str, dict[str, float]]:
    """Of pairs of key frames about one second apart, and two or three: the camera's true turn, the error, the interval
    (medians, degrees), the share whose error it holds; how many turns are asked about, and their errors."""
    T, times, n = clip.T_world_camera, clip.timestamps[motion.frames], len(motion.frames)
    assert T is not None
    R, out = T[motion.frames][:, :3, :3], {}
    for name, low, high in (("1 s", 0.8, 1.2), ("2 to 3 s", 1.8, 3.2)):
        rows = []
        for i in range(n):
            for j in range(i + 1, n):
                if low <= times[j] - times[i] <= high and np.isfinite(motion.error[i, j]):
                    own, true = motion.R_world_camera[i].T @ motion.R_world_camera[j], R[i].T @ R[j]
                    angles = [np.linalg.norm(axis_angle_from_matrix(x)) for x in (true, own, own.T @ true)]
                    rows.append(np.degrees([*angles, motion.error[i, j]]))
        if rows:
            turn, said, off, within = np.array(rows).T
            asked = said >= 2 * within
            out[name] = {
                "pairs": len(rows), "turn": float(np.median(turn)), "error": float(np.median(off)),
                "interval": float(np.median(within)), "held": float((off <= within).mean()),
                "asked": int(asked.sum()), "error_asked": float(np.median(off[asked])) if asked.any() else None,
                "worst_asked": float(off[asked].max()) if asked.any() else None,
            }  # fmt: skip
    return out


def main(egodex: tyro.conf.Positional[Path], vitra: tyro.conf.Positional[Path]) -> None:
    results: dict[str, object] = {}
    for clip in [*read_source("egodex", egodex), *read_source("vitra", vitra)]:
        assert isinstance(clip, Clip)
        frames = clip.frames.frames if isinstance(clip.frames, FrameSubset) else clip.frames
        assert isinstance(frames, VideoFrames)
        for kind, degrees in (
            ("given", 2 * np.degrees(np.arctan(clip.intrinsics.width / 2 / clip.intrinsics.fx))),
            ("guessed", None),
        ):
            options = SourceOptions(fov_degrees=degrees, cache=cache_folder("tracked"))
            with tempfile.TemporaryDirectory() as alone:
                (Path(alone) / frames.path.name).symlink_to(frames.path.resolve())
                (own,) = read_source("folder", alone, options)
                assert isinstance(own, Clip) and own.field_of_view is not None
                start = time.process_time()
                motion = measure_motion(own, own.field_of_view)
                cost = (time.process_time() - start) / own.seconds
            row = {"field_of_view": str(motion.field_of_view), "core_seconds_per_second": cost}
            results[f"{clip.source_video}, {kind}"] = row | compare(motion, clip)
            print(f"{clip.source_video}, {kind}", json.dumps(results[f"{clip.source_video}, {kind}"], indent=1))
    place = Path(__file__).parent / "results" / "camera.json"
    place.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
