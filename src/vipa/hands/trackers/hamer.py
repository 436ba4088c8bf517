"""HaMeR's results: its network's output for each frame (pred_keypoints_3d, pred_cam_t_full, right, focal), saved.

HaMeR defines no file of its own: lists or dicts of frames in .pkl, .npy, .npz or .json are read (`_records`).
"""

from pathlib import Path

from vipa.hands.trackers._records import FrameRecords


def open_tracker(path: Path) -> FrameRecords:
    return FrameRecords("HaMeR", path)
