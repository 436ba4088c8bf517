"""Your own video against the truth: EgoDex recordings as plain mp4, annotated with the commands that a user types.

Run: `python speed/own_video.py EGODEX --work FOLDER` with the extra `video`. EGODEX: a folder in EgoDex's layout. Its
mp4 alone go into FOLDER/videos, and with the head's poses beside them into FOLDER/posed; each is annotated with the
true field of view given and with none. Records are compared to what the hdf5 say of the same frames. What is in FOLDER
already is not made again. Writes speed/results/own_video.json.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import tyro

from vipa.clips.clip import Clip
from vipa.clips.sources import read_source
from vipa.clips.video import VideoFrames
from vipa.geometry import axis_angle_from_matrix, matrix_from_axis_angle
from vipa.hand3d.dataset.reader import Hand3D

STILL = 0.02  # metres: a hand that moves less is still
AXES = {
    "right": (1, 0, 0), "left": (-1, 0, 0), "down": (0, 1, 0), "up": (0, -1, 0), "forward": (0, 0, 1),
    "backward": (0, 0, -1),
}  # fmt: skip


def quantiles(values: list[float], digits: int) -> list[float]:
    """Median, lower and upper bound of its 95 % interval (bootstrap over the records), worst tenth."""
    if not values:
        return []
    x = np.array(values)
    drawn = np.median(np.random.default_rng(0).choice(x, (2000, len(x))), axis=1)
    return [
        round(float(v), digits) for v in (np.median(x), *np.quantile(drawn, [0.025, 0.975]), np.quantile(x, 0.9))
    ]


def compare(data: Hand3D, truth: dict[str, Clip]) -> dict[str, object]:
    """Of each clip: hand movements, their true and said lengths and errors (centimetres), angles between the two
    directions, how many share a word of direction, how many of still hands; turns of the camera, in degrees."""
    out: dict[str, object] = {}
    for clip_id, clip in truth.items():
        true_cm, said_cm, off_cm, angles, words, still = [], [], [], [], 0, 0
        turn, turn_off = [], []
        for record in data.visual():
            if record.clip_id != f"folder/{clip_id}":
                continue
            a, b = (int(f.rsplit("/", 1)[1]) for f in (record.frame_ids[0], record.frame_ids[-1]))
            assert clip.T_world_camera is not None
            A, B = clip.T_world_camera[a], clip.T_world_camera[b]
            if record.category == "hand_movement":
                (joints,) = (hand.joints_camera[:, 0] for hand in clip.hands if hand.side == record.hand)
                world = (B[:3, :3] @ joints[b] + B[:3, 3]) - (A[:3, :3] @ joints[a] + A[:3, 3])
                true, said = A[:3, :3].T @ world, np.array(record.displacement)
                true_cm.append(100 * np.linalg.norm(true))
                said_cm.append(100 * np.linalg.norm(said))
                off_cm.append(100 * np.linalg.norm(said - true))
                still += bool(np.linalg.norm(true) < STILL)
                cosine = said @ true / np.linalg.norm(said) / max(np.linalg.norm(true), 1e-9)
                angles.append(float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
                words += any(np.dot(AXES[word], true) > 0 for word in record.directions)
            elif record.category == "camera_movement" and record.aspect == "rotation":
                true_R = A[:3, :3].T @ B[:3, :3]
                said = matrix_from_axis_angle(np.array(record.rotation))
                turn.append(float(np.degrees(np.linalg.norm(axis_angle_from_matrix(true_R)))))
                turn_off.append(float(np.degrees(np.linalg.norm(axis_angle_from_matrix(said.T @ true_R)))))
        out[clip_id] = {
            "hand_movements": len(true_cm), "of_still_hands": still, "share_a_word": words,
            "true_cm": quantiles(true_cm, 1), "said_cm": quantiles(said_cm, 1), "off_cm": quantiles(off_cm, 1),
            "direction_off_degrees": quantiles(angles, 1), "camera_turns": len(turn),
            "turn_degrees": quantiles(turn, 2), "turn_off_degrees": quantiles(turn_off, 2),
        }  # fmt: skip
    return out


def annotate(videos: Path, out: Path, *options: str) -> dict[str, object]:
    """The command, and the clips that it refuses."""
    command = [sys.executable, "-m", "vipa", "annotate", str(videos), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (out.parent / f"{out.name}.log").write_text(done.stdout + done.stderr)
    report = json.loads((out / "report.json").read_text())
    return {
        "command": " ".join(["vipa annotate", videos.name, "--out", out.name, *options[: len(options) - 2]]),
        "refused": [reason for _, reason in report["refused"]],
    }


def main(root: tyro.conf.Positional[Path], work: Path, fov_degrees: float = 105.0) -> None:
    truth = {}
    for clip in read_source("egodex", root):
        if isinstance(clip, Clip) and isinstance(clip.frames, VideoFrames):
            name = Path(clip.source_video).parent.name
            truth[name] = clip
            for folder in ("videos", "posed"):
                (work / folder).mkdir(parents=True, exist_ok=True)
                if not (video := work / folder / f"{name}.mp4").exists():
                    shutil.copy(clip.frames.path, video)
            assert clip.T_world_camera is not None
            np.savez(work / "posed" / f"{name}.npz", T_world_camera=clip.T_world_camera)
    results: dict[str, object] = {}
    always = ("--frames.rate", "3", "--cache", str(work / "tracked"))
    for folder in ("videos", "posed"):
        for kind, options in (("given", ("--fov-degrees", f"{fov_degrees:g}")), ("guessed", ())):
            out = work / f"{folder}_{kind}"
            run = annotate(work / folder, out, *options, *always)
            results[out.name] = {"run": run, "clips": compare(Hand3D(out), truth)}
            print(out.name, json.dumps(results[out.name], indent=1))
    place = Path(__file__).parent / "results" / "own_video.json"
    place.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
