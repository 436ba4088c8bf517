"""Makes the demo's real video, src/vipa/nano/real, from dex-retargeting's human_hand_video.mp4 (SOURCE.md there).

    python scripts/real_excerpt.py human_hand_video.mp4 hand_landmarker.task      # pip install vipa[mediapipe]

The hand is MediaPipe's, frame by frame, but for its distance: that jumps by centimetres from frame to frame, which
would look like movement. The wrist's distance is the excerpt's median instead, and every joint stays on its pixel, so
that the hand's size bears the error.
"""

import json
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from vipa.clips.drawing import save_video
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics
from vipa.hands.trackers import open_tracker
from vipa.nano.demo import REAL

FIRST, LAST, SIZE = 286, 406, (640, 360)
FOV = 60.0
"""Degrees, horizontal: a guess, the video does not say."""


def main(video: tyro.conf.Positional[Path], model: tyro.conf.Positional[Path]) -> None:
    """Writes hand.mp4, hand.npz and hand.json."""
    frames = VideoFrames(video)
    width, height = frames.size
    focal = width / 2 / np.tan(np.radians(FOV / 2))
    camera = Intrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height, "estimated")
    seen = open_tracker("mediapipe", model)(frames, frames.timestamps, camera)[FIRST:LAST]
    hands = [next(hand for hand in some if hand.side == "right") for some in seen]
    joints = np.stack([hand.joints_camera for hand in hands])
    joints = joints * (np.median(joints[:, 0, 2]) / joints[:, :1, 2:])
    images = [
        np.asarray(Image.fromarray(i).resize(SIZE, Image.Resampling.LANCZOS))
        for i in frames.read(range(FIRST, LAST))
    ]
    save_video(images, REAL / "hand.mp4", 30.0)
    confidence = np.stack([hand.confidence for hand in hands])
    np.savez(
        REAL / "hand.npz",
        right_joints_camera=joints.astype(np.float32),
        right_confidence=confidence.astype(np.float32),
    )
    about = {
        "fov_degrees": FOV,
        "static_camera": True,
        "texts": [
            {
                "text": "touch the thumb with one finger after the other",
                "start": 0.0,
                "end": (LAST - FIRST) / 30,
                "hand": "right",
            }
        ],
        "source_video": "dex-retargeting human_hand_video.mp4",
        "split": "test",
        "licence": "MIT",
    }
    (REAL / "hand.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
