"""WiLoR's results: what `WiLoR-mini`'s `predict` returns for each frame (hand_bbox, is_right, wilor_preds), saved.

WiLoR defines no file of its own: lists or dicts of frames in .pkl, .npy, .npz or .json are read (`_records`).
"""

from pathlib import Path

from vipa.hands.trackers._records import FrameRecords


def open_tracker(path: Path) -> FrameRecords:
    return FrameRecords("WiLoR", path)
