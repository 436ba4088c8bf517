"""Cameras of a Project Aria recording as MPS calibrated them while it ran: online_calibration.jsonl."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from vipa.geometry import matrix_from_quaternion_wxyz, rigid
from vipa.geometry.distortion import Fisheye624

PLACES = ("mps/slam/online_calibration.jsonl", "online_calibration.jsonl")
"""Below a recording's folder."""

LABELS = {"214-1": "camera-rgb", "1201-1": "camera-slam-left", "1201-2": "camera-slam-right"}
"""Of the streams of an Aria."""

_FAR = 1_000_000_000
"""Nanoseconds: no record is farther from a frame that it is of."""


@dataclass(frozen=True)
class OnlineCamera:
    """One camera, record by record.

    clocks: nanoseconds of each record by the device's clock, and by the UTC that the recording assumed. lenses: in
    pixels. T_device_camera: metres.
    """

    clocks: tuple[Int[np.ndarray, "records"], Int[np.ndarray, "records"]]
    lenses: tuple[Fisheye624, ...]
    T_device_camera: Float[np.ndarray, "records 4 4"]

    def records_at(self, times: Int[np.ndarray, "frames"]) -> Int[np.ndarray, "frames"] | None:
        """For each time (nanoseconds) the nearest record, by the clock whose records are never more than a second away;
        None where neither clock is that of the times."""
        for clock in self.clocks:
            nearest = np.abs(clock[None] - times[:, None]).argmin(1)
            if (np.abs(clock[nearest] - times) <= _FAR).all():
                return nearest
        return None


def read_online_calibration(path: Path, label: str) -> OnlineCamera:
    """The records of the camera with this label. ValueError naming file and line of what is no record, and where no
    record has the camera."""
    clocks, lenses, poses = [], [], []
    with open(path, encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            try:
                entry = json.loads(text)
                cameras = {camera["Label"]: camera for camera in entry["CameraCalibrations"]}
                if label not in cameras:
                    continue
                camera, pose = cameras[label], cameras[label]["T_Device_Camera"]
                w, xyz = pose["UnitQuaternion"]
                R = matrix_from_quaternion_wxyz(np.array([w, *xyz], dtype=float))
                lens = Fisheye624.from_params(camera["Projection"]["Params"])
                T = rigid(R, np.array(pose["Translation"], dtype=float))
                if not np.isfinite(T).all():
                    raise ValueError("the pose is not finite")
                clocks.append((int(entry["tracking_timestamp_us"]) * 1000, int(entry.get("utc_timestamp_ns", 0))))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {line}: not a calibration record of MPS ({error})") from None
            lenses.append(lens)
            poses.append(T)
    if not lenses:
        raise ValueError(f"{path}: no record of {label}")
    device, utc = np.array(clocks, dtype=np.int64).T
    return OnlineCamera((device, utc), tuple(lenses), np.stack(poses))
