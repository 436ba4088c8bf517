"""MediaPipe's hands after repair against EgoDex's own, and how fast they are found.

Run: `python speed/hands.py EGODEX --workers 2` with the extra `video`. EGODEX: a folder in EgoDex's layout; its mp4 are
tracked, its hdf5 are the truth. Writes speed/results/hands.json. A detection belongs to the true hand whose
joints, projected, are nearest to its pixels; it is on the right side where the repaired wrist within 60 px of it has
that hand's side, lost where there is none.
"""

import json
import os
import platform
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro

from vipa.clips.clip import Clip
from vipa.clips.landmarks import LandmarkFinder, Seen
from vipa.clips.sources import read_source
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics, project
from vipa.hands.repair import HandTrack, repair_hands
from vipa.hands.trackers.mediapipe import MODEL, LandmarkTracker, version

NEAR = 60.0  # pixels
TRACKER = LandmarkTracker(lambda: None)


def true_sides(clip: Clip, seen: Seen) -> list[list[str | None]]:
    """Of every detection; None where it is on no hand."""
    pixels = {hand.side: project(hand.joints_camera, clip.intrinsics.matrix) for hand in clip.hands}
    out: list[list[str | None]] = []
    for i, hands in enumerate(seen):
        row: list[str | None] = []
        for hand in hands:
            off = {s: float(np.linalg.norm(hand.pixels - p[i], axis=-1).mean()) for s, p in pixels.items()}
            side = min(off, key=lambda s: off[s])
            row.append(side if off[side] < 0.5 * np.ptp(hand.pixels, axis=0).max() else None)
        out.append(row)
    return out


def tracks_of(clip: Clip, seen: Seen, fov: float) -> tuple[Intrinsics, tuple[HandTrack, ...]]:
    camera = Intrinsics.from_fov(np.radians(fov), clip.intrinsics.width, clip.intrinsics.height, "estimated")
    return camera, repair_hands(TRACKER.place(seen, camera), clip.timestamps, TRACKER.depth_cutoff).tracks


def compare(clip: Clip, seen: Seen, sides: list[list[str | None]], fov: float) -> dict[str, float]:
    """Counts of detections and wrists, and how far half-second movements of the wrist are off, metres."""
    camera, tracks = tracks_of(clip, seen, fov)
    wrists = {t.side: project(t.joints_camera[:, 0], camera.matrix) for t in tracks}
    found: dict[str, float] = dict.fromkeys(
        ("detections", "right_alone", "right", "wrong", "lost", "wrists_far", "wrists_bridged"), 0
    )
    for i, (hands, true) in enumerate(zip(seen, sides)):
        for hand, side in zip(hands, true):
            if side is None:
                continue
            found["detections"] += 1
            found["right_alone"] += hand.side == side
            off = {s: float(np.linalg.norm(w[i] - hand.pixels[0])) for s, w in wrists.items()}
            near = {s: d for s, d in off.items() if d <= NEAR}
            found["lost" if not near else "right" if min(near, key=lambda s: near[s]) == side else "wrong"] += 1
        for track in tracks:
            if np.isfinite(wrist := wrists[track.side][i]).all():
                far = all(np.linalg.norm(wrist - hand.pixels[0]) > NEAR for hand in hands)
                found["wrists_bridged" if far and _between(seen, i) else "wrists_far"] += far
    return found | movements(clip, tracks)


def _between(seen: Seen, frame: int) -> bool:
    """Whether fewer hands are seen here than just before or after: a gap that is bridged."""
    around = seen[max(0, frame - 9) : frame + 10]
    return len(seen[frame]) < max(map(len, around))


def movements(clip: Clip, tracks: tuple[HandTrack, ...]) -> dict[str, float]:
    off, angles, true_lengths = [], [], []
    for hand in clip.hands:
        for track in tracks:
            if track.side == hand.side:
                step = round(0.5 / float(np.median(np.diff(clip.timestamps))))
                moved, true = (x[step:, 0] - x[:-step, 0] for x in (track.joints_camera, hand.joints_camera))
                known = np.isfinite(moved).all(-1) & np.isfinite(true).all(-1)
                moved, true = moved[known], true[known]
                off += list(np.linalg.norm(moved - true, axis=-1))
                lengths = np.linalg.norm(true, axis=-1)
                cosine = (moved * true).sum(-1) / np.maximum(np.linalg.norm(moved, axis=-1) * lengths, 1e-9)
                angles += list(np.degrees(np.arccos(cosine.clip(-1, 1)))[lengths > 0.05])
                true_lengths += list(lengths)
    return {
        "movement_true_m": round(float(np.median(true_lengths)), 3),
        "movement_error_m": round(float(np.median(off)), 3),
        "movement_error_p90_m": round(float(np.quantile(off, 0.9)), 3),
        "direction_error_degrees_over_5cm": round(float(np.median(angles)), 1) if angles else float("nan"),
    }


STILL, LARGE = 0.02, 0.05  # metres


def asked(clips: list[Clip], seen: list[Seen], fov: float) -> dict[str, dict[str, int]]:
    """Of wrists in every tenth frame and 1 to 3 s later, in the world (true poses): how many still and how many large
    movements are said to be longer than a share of the hand's distance, and how many of all that are said are off by
    more than their length."""
    rows = []
    for clip, found in zip(clips, seen):
        T, times = clip.T_world_camera, clip.timestamps
        assert T is not None
        for track in tracks_of(clip, found, fov)[1]:
            (true,) = (hand.joints_camera[:, 0] for hand in clip.hands if hand.side == track.side)
            said = track.joints_camera[:, 0]
            here, there = (np.einsum("fij,fj->fi", T[:, :3, :3], x) + T[:, :3, 3] for x in (true, said))
            for i in range(0, len(times), 10):
                for j in range(i + 10, len(times), 10):
                    moved, claim = here[j] - here[i], there[j] - there[i]
                    if 1 <= times[j] - times[i] <= 3 and np.isfinite([moved, claim]).all():
                        far = max(said[i, 2], said[j, 2])
                        rows.append([np.linalg.norm(v) for v in (moved, claim, claim - moved)] + [far])
    true, claim, off, far = np.array(rows).T
    out: dict[str, dict[str, int]] = {}
    for name, share in (("3 cm", 0.0), *((f"{s}", s) for s in (0.15, 0.2, 0.25, 0.3))):
        least = share * far if share else 0.03
        said = claim > least
        out[name] = {
            "still": int((said & (true < STILL)).sum()), "of_still": int((true < STILL).sum()),
            "large": int((said & (true > LARGE)).sum()), "of_large": int((true > LARGE).sum()),
            "said": int(said.sum()), "off_by_more": int((said & (off > claim)).sum()),
        }  # fmt: skip
    return out


def main(root: tyro.conf.Positional[Path], workers: int = 2) -> None:
    clips = [clip for clip in read_source("egodex", root) if isinstance(clip, Clip)]
    videos = [clip.frames.path for clip in clips if isinstance(clip.frames, VideoFrames)]
    finder = LandmarkFinder("mediapipe", MODEL, videos=videos, workers=workers)
    before = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    start = time.perf_counter()
    seen = [finder(video) for video in videos]
    seconds = time.perf_counter() - start
    if finder.pool is not None:
        finder.pool.shutdown()
    spent = (
        sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) - before
    )
    results: dict[str, object] = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "workers": workers},
        "mediapipe": version(),
        "frames": sum(map(len, seen)),
        "frames_per_second": round(sum(map(len, seen)) / seconds, 1),
        "frames_per_core_second": round(sum(map(len, seen)) / spent, 1),
    }
    for clip, found in zip(clips, seen):
        sides = true_sides(clip, found)
        rows: dict[str, object] = {f"fov_{fov}": compare(clip, found, sides, fov) for fov in (105, 50, 70, 110)}
        noise = np.random.default_rng(0)
        flipped = [tuple(_turned(h) if noise.random() < 0.2 else h for h in hands) for hands in found]
        rows["labels_flipped_20_percent"] = compare(clip, flipped, sides, 105)
        results[clip.source_video] = rows
        print(clip.source_video, json.dumps(rows, indent=1))
    results["movements_asked"] = {f"fov_{fov}": asked(clips, seen, fov) for fov in (105, 75)}
    print(json.dumps(results["movements_asked"], indent=1))
    out = Path(__file__).parent / "results" / "hands.json"
    out.write_text(json.dumps(results, indent=1) + "\n")
    print(results["frames_per_second"], "frames/s")


def _turned(hand):
    return replace(hand, side="left" if hand.side == "right" else "right")


if __name__ == "__main__":
    tyro.cli(main)
