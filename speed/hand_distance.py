"""How far MediaPipe's hands are placed, against the truth: with the size of its metric hands, and with an adult's.

Run: `python speed/hand_distance.py EGODEX VITRA` with the extra `video`: folders in these layouts. The wrist's distance
over the true one, median over the frames of both hands, with the true camera. Writes speed/results/hand_distance.json.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro

from vipa.clips.clip import Clip
from vipa.clips.landmarks import LandmarkFinder, Seen
from vipa.clips.sources import read_source
from vipa.clips.video import FrameSubset, VideoFrames
from vipa.hands.repair import palm_size, repair_hands
from vipa.hands.trackers.mediapipe import MODEL, LandmarkTracker
from vipa.io.cache import cache_folder

TRACKER = LandmarkTracker(lambda: None)


def ratio(clip: Clip, seen: Seen) -> float:
    """Without the landmarks' depth in pixels, the metric hand's size stays."""
    placed = TRACKER.place(seen, clip.intrinsics)
    tracks = {t.side: t for t in repair_hands(placed, clip.timestamps, TRACKER.depth_cutoff).tracks}
    found = [
        tracks[hand.side].joints_camera[:, 0, 2] / hand.joints_camera[:, 0, 2]
        for hand in clip.hands
        if hand.side in tracks
    ]
    return float(np.nanmedian(np.concatenate(found)))


def main(egodex: tyro.conf.Positional[Path], vitra: tyro.conf.Positional[Path]) -> None:
    results = {}
    for clip in [*read_source("egodex", egodex), *read_source("vitra", vitra)]:
        assert isinstance(clip, Clip)
        frames, shown = clip.frames, range(len(clip))
        if isinstance(frames, FrameSubset):
            frames, shown = frames.frames, frames.indices
        assert isinstance(frames, VideoFrames)
        everything = LandmarkFinder("mediapipe", MODEL, cache_folder("tracked"), workers=1)(frames.path)
        seen = [everything[i] for i in shown]
        flat = [tuple(replace(hand, depth=None) for hand in hands) for hands in seen]
        true = np.concatenate([hand.joints_camera for hand in clip.hands])
        results[clip.source_video] = {
            "metric_hand": round(ratio(clip, flat), 2),
            "adult_hand": round(ratio(clip, seen), 2),
            "palm_cm_metric": round(
                100 * float(np.median([palm_size(h.metres) for hands in seen for h in hands])), 1
            ),
            "palm_cm_true": round(100 * float(np.nanmedian(palm_size(true))), 1),
        }
        print(clip.source_video, results[clip.source_video], flush=True)
    place = Path(__file__).parent / "results" / "hand_distance.json"
    place.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
