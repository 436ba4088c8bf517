"""LIBERO's demonstrations as its authors publish them: an HDF5 file a task, `demo_0`, `demo_1`, ... below `data`.

As in the hub's copies without no-ops (the field's training data): pictures turned by 180 degrees, a state of the end
effector's position, its axis-angle and both fingers, actions as recorded, rows without movement left out.

Surprising: the public files keep with each action the observation *after* it (their script steps the simulator first),
while `states` are those before it. Whoever pairs them row by row trains a policy that repeats the last action. Here the
observation of a row meets the action of the next one. Files that were made again by a replay may keep them otherwise;
`states` tells which it is.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from vipa.robots.contract import ActionContract
from vipa.robots.episodes import Episode, EpisodeSet

VIEWS = {"agentview": "agentview_rgb", "wrist": "eye_in_hand_rgb"}
STILL = 1e-4
"""The norm of six numbers of an action below which it moves nothing."""


@dataclass(frozen=True)
class StoredFrames:
    """Upright pictures of these rows, read when asked for. group: `data/demo_0`."""

    path: Path
    group: str
    name: str
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        with _opened(self.path) as file:
            stored = _numbers(file, self.path, f"{self.group}/obs/{self.name}")
            return np.stack([stored[self.rows[i]][::-1, ::-1] for i in indices])


def read_hdf5(root: Path, contract: ActionContract) -> EpisodeSet:
    """The demonstrations of a file, or of all *.hdf5 below a folder, in order.

    ValueError naming the file and what is missing in it; FileNotFoundError where there is none.
    """
    root = Path(root)
    files = [root] if root.is_file() else sorted(root.rglob("*.hdf5"))
    if not files:
        raise FileNotFoundError(f"{root}: no *.hdf5 of LIBERO here")
    places = [(path, name) for path in files for name in _demonstrations(path)]
    return EpisodeSet(contract, tuple(places), partial(_episode, rate=contract.rate))


def moving(actions: Float[np.ndarray, "n 7"]) -> Bool[np.ndarray, "n"]:
    """Whether each action moves the arm, or the gripper otherwise than the last action that is kept."""
    kept: list[bool] = []
    gripper = None
    for action in actions:
        still = np.linalg.norm(action[:-1]) < STILL and gripper in (None, action[-1])
        kept.append(not still)
        gripper = gripper if still else action[-1]
    return np.array(kept, bool)


def _demonstrations(path: Path) -> list[str]:
    with _opened(path) as file:
        if "data" not in file or not (names := [name for name in file["data"] if name.startswith("demo_")]):
            raise ValueError(f"{path}: no data/demo_0; expected LIBERO's demonstrations")
        return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _episode(place: tuple[Path, str], rate: float) -> Episode:
    path, name = place
    group = f"data/{name}"
    with _opened(path) as file:
        actions = _numbers(file, path, f"{group}/actions")[:].astype(np.float64)
        state = np.hstack(
            [_numbers(file, path, f"{group}/obs/{part}")[:] for part in ("ee_states", "gripper_states")]
        )
        if actions.shape[1:] != (7,) or state.shape != (len(actions), 8):
            raise ValueError(
                f"{path}, {name}: actions are {actions.shape} and states {state.shape}; expected 7 and 8"
            )
        late = _observed_after(file, path, group)
        done = bool(np.any(_numbers(file, path, f"{group}/dones")[-1:]))
        text = _instruction(file, path)
    seen = np.arange(len(actions) - 1 if late else len(actions))
    actions = actions[1:] if late else actions
    kept = moving(actions)
    rows = tuple(seen[kept].tolist())
    return Episode(
        id=f"{path.stem.removesuffix('_demo')}_{name.removeprefix('demo_')}",
        views={view: StoredFrames(path, group, stored, rows) for view, stored in VIEWS.items()},
        state=state[list(rows)],
        action=actions[kept],
        text=text,
        rate=rate,
        success=done,
        task=path.stem.removesuffix("_demo"),
        notes={"still_rows_left_out": int((~kept).sum())},
    )


def _observed_after(file: Any, path: Path, group: str) -> bool:
    """Whether a row's observation is the one after its action: its joints are those of the next row's `states`."""
    joints = _numbers(file, path, f"{group}/obs/joint_states")[:]
    before = _numbers(file, path, f"{group}/states")[:, 1 : 1 + joints.shape[1]]
    if len(joints) < 2:
        raise ValueError(f"{path}, {group}: fewer than two rows")
    same, next_one = (float(np.abs(a - b).mean()) for a, b in ((joints, before), (joints[:-1], before[1:])))
    return next_one < same


def _instruction(file: Any, path: Path) -> str:
    """As the file says it, else of its name."""
    said = json.loads(file["data"].attrs.get("problem_info", "{}")).get("language_instruction")
    if said is None:
        said = re.sub(r"^[A-Z_]+SCENE\d+_", "", path.stem.removesuffix("_demo")).replace("_", " ")
    return ("".join(said) if isinstance(said, list) else str(said)).strip().strip('"')


def _numbers(file: Any, path: Path, name: str) -> Any:
    if name not in file:
        raise ValueError(f"{path}: {name} is missing; expected LIBERO's demonstrations, with pictures and states")
    return file[name]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py

    try:
        file = h5py.File(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as HDF5 ({error})") from None
    with file:
        yield file
