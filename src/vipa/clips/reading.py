"""What every source shares: survival, small checked builders, and cutting a recording into clips."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from vipa.clips.clip import Clip, ClipError, DepthFrames, Hand, Mano, ObjectTrack
from vipa.clips.video import FrameSubset
from vipa.geometry import project
from vipa.hands.skeleton import Side

Item = TypeVar("Item")
Label = TypeVar("Label")


def existing_root(root: Path) -> Path:
    """The folder itself. FileNotFoundError where it is not there or is a file."""
    root = Path(root)
    if root.is_file():
        raise FileNotFoundError(f"{root}: this source reads a folder, and this is a file; give the folder")
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    return root


def files_below(root: Path, suffixes: set[str]) -> tuple[Path, list[Path]]:
    """(folder, the files of these suffixes below it); `root` may be one such file: then its folder and that file.

    FileNotFoundError where it is not there; ValueError for a file of another kind.
    """
    root = Path(root)
    if not root.is_file():
        root = existing_root(root)
        return root, [p for p in sorted(root.rglob("*")) if p.suffix.lower() in suffixes]
    if root.suffix.lower() not in suffixes:
        raise ValueError(f"{root}: of this source a single file must be {', '.join(sorted(suffixes))}")
    return root.parent, [root]


def read_each(
    source: str,
    root: Path,
    layout: str,
    found: Iterable[tuple[str, Item]],
    read: Callable[[str, Item], Clip | Iterable[Clip | ClipError]],
) -> Iterator[Clip | ClipError]:
    """Read every (clip id, item); what goes wrong with one becomes its ClipError and the next is read. Items whose
    clips would have one name are not read: each becomes a ClipError that says which they are.

    ValueError at once where `found` is empty, with the layout that was expected.
    """
    items = list(found)
    if not items:
        raise ValueError(f"{root}: nothing of source {source!r} here; expected\n{layout.rstrip()}")

    same: dict[str, list[str]] = {}
    for clip_id, item in items:
        same.setdefault(_as_file(clip_id), []).append(str(item) if isinstance(item, Path) else f"{clip_id} {item}")

    def results() -> Iterator[Clip | ClipError]:
        for clip_id, item in items:
            try:
                if others := same[_as_file(clip_id)][1:]:
                    places = ", ".join((same[_as_file(clip_id)][0], *others))[:500]
                    raise ClipError(
                        clip_id, f"{len(others) + 1} clips would have this same name: rename one of {places}"
                    )
                out = read(clip_id, item)
                for clip in (out,) if isinstance(out, Clip) else out:
                    yield checked(clip) if isinstance(clip, Clip) else clip
            except ClipError as error:
                yield error
            except Exception as error:  # a damaged file can fail in any way; the others are still read
                yield ClipError(clip_id, one_line(error))

    return results()


def distinct(clips: Iterable[Clip | ClipError]) -> Iterator[Clip | ClipError]:
    """The same clips; one whose name another had before becomes a ClipError, so that none replaces the other."""
    taken: set[tuple[str, str]] = set()
    for clip in clips:
        if isinstance(clip, Clip):
            name = clip.source, _as_file(clip.id)
            if name in taken:
                yield ClipError(
                    clip.id, f"another clip of this run has the same name ({clip.source_video}): rename it"
                )
                continue
            taken.add(name)
        yield clip


def _as_file(clip_id: str) -> str:
    """What file names have in common that some disks take for the same: upper and lower case, composed accents."""
    return unicodedata.normalize("NFC", clip_id).casefold()


def one_line(error: Exception) -> str:
    """The reason in one line; the kind of error is named where its message alone would not be understood."""
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):
        return f"the annotation has no entry {text}"
    return text if text and isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {text}"


def checked(clip: Clip) -> Clip:
    """The clip, without the frames whose camera pose is not known (not finite) or no rigid motion, which a note says.

    ClipError where that is more than half of them, or where nothing of its hands is ever in view.
    """
    if clip.T_world_camera is not None:
        T = np.nan_to_num(clip.T_world_camera)
        R = T[:, :3, :3]
        known = np.isfinite(clip.T_world_camera).all((1, 2))
        rigid = (np.abs(R @ R.mT - np.eye(3)).max((1, 2)) < 1e-3) & (np.linalg.det(R) > 0)
        if not (known & rigid).all():
            frame = int(np.argmin(known & rigid))
            what = "not a rotation" if known[frame] else "not finite"
            if (known & rigid).mean() < 0.5:
                raise ClipError(clip.id, f"the camera poses cannot be used: that of frame {frame} is {what}")
            note = f"{(~(known & rigid)).sum()} frames are left out: the camera pose of frame {frame} is {what}"
            clip = cut(clip, 0, len(clip), clip.id, known & rigid)
            clip = replace(clip, notes=clip.notes | {"frames without pose": note})
    if clip.hands and not any(in_view(clip, hand).any() for hand in clip.hands):
        raise ClipError(clip.id, "no hand is ever in view (every joint is unknown, behind the camera or outside)")
    return clip


def in_view(clip: Clip, hand: Hand) -> np.ndarray:
    """(frames, 21) bool: known joints in front of the camera whose pixel is on the image."""
    joints = hand.joints_camera
    ahead = np.isfinite(joints).all(-1) & (joints[..., 2] > 1e-6)
    pixels = project(np.where(ahead[..., None], joints, [0.0, 0.0, 1.0]), clip.intrinsics.matrix)
    return ahead & clip.intrinsics.contains(pixels)


def rows(array: np.ndarray, count: int, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """As float64 with exactly `count` rows of this shape. ValueError naming the field otherwise."""
    array = np.asarray(array, dtype=np.float64)
    if shape is not None and array.size == count * int(np.prod(shape)):
        array = array.reshape(count, *shape)
    if len(array) != count or (shape is not None and array.shape[1:] != shape):
        want = f"{count} rows" + (f" of {shape}" if shape else "")
        raise ValueError(f"{name} has shape {array.shape}, needed {want}")
    return array


def numbers(path: Path, count: int | None = None) -> np.ndarray:
    """The numbers of a text file, any white space between them. ValueError naming a file with another count."""
    try:
        out = np.array(path.read_text().split(), dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{path}: not a file of numbers ({error})") from None
    if count is not None and out.size != count:
        raise ValueError(f"{path}: {count} numbers expected, it has {out.size}")
    return out


def each_file(
    paths: Sequence[Path | None], read: Callable[[Path], Label], notes: dict[str, str]
) -> list[Label | None]:
    """What `read` makes of each frame's own file; None where there is none, or where it cannot be read.

    What could not be read is a note under the folder's name. ValueError, the first file's, where that is every one.
    """
    out: list[Label | None] = []
    faults: list[str] = []
    for path in paths:
        value = None
        if path is not None and path.is_file():
            try:
                value = read(path)
            except Exception as error:  # a damaged file can fail in any way; its frame is unknown
                reason = one_line(error)
                faults.append(reason if path.name in reason else f"{path}: {reason}")
        out.append(value)
    if faults and all(value is None for value in out):
        raise ValueError(faults[0])
    if faults:
        folder = next(p for p in paths if p is not None).parent.name
        notes[folder] = f"{len(faults)} of {len(out)} frames are unknown, their files cannot be read: {faults[0]}"
    return out


def sound_images(paths: Sequence[Path], notes: dict[str, str]) -> tuple[list[int], tuple[int, int]]:
    """(which of the files are pictures of the commonest size, that size as (width, height)), by their heads.

    The others are counted in notes["pictures"]; ValueError where none is a picture. What is damaged further on is
    found when it is read.
    """
    sizes: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                sizes.append(image.size)
        except (OSError, SyntaxError):
            sizes.append(None)
    common = Counter(size for size in sizes if size is not None).most_common(1)
    if not common:
        raise ValueError(f"{paths[0] if paths else 'images'}: damaged or missing, as are all {len(paths)} images")
    good = [i for i, size in enumerate(sizes) if size == common[0][0]]
    if len(good) < len(paths):
        first = paths[next(i for i, size in enumerate(sizes) if size != common[0][0])]
        notes["pictures"] = f"{len(paths) - len(good)} are left out, missing, damaged or of another size: {first}"
    return good, common[0][0]


def runs(labels: Sequence[Label]) -> Iterator[tuple[int, int, Label]]:
    """(start, stop, label) of each stretch of equal labels."""
    start = 0
    for stop in range(1, len(labels) + 1):
        if stop == len(labels) or labels[stop] != labels[start]:
            yield start, stop, labels[start]
            start = stop


def make_hand(
    side: Side, joints_camera: np.ndarray, confidence: np.ndarray | None = None, mano: Mano | None = None
) -> Hand | None:
    """A Hand whose unknown joints (not finite) have confidence 0; None where no joint is ever known.

    joints_camera: (frames, 21, 3) metres. confidence: (frames,) or (frames, 21), 1 where the source gives none.
    """
    joints = np.asarray(joints_camera, dtype=np.float64)
    known = np.isfinite(joints).all(-1)
    if confidence is None:
        confidence = np.ones(known.shape)
    elif confidence.ndim == 1:
        confidence = np.repeat(confidence[:, None], joints.shape[1], 1)
    confidence = np.where(known, np.nan_to_num(np.clip(confidence, 0, 1)), 0.0)
    if not (confidence > 0).any():
        return None
    return Hand(side, np.where(known[..., None], joints, np.nan), confidence, mano)


@dataclass(frozen=True)
class DepthSubset:
    """Some frames of another depth reader."""

    depth: DepthFrames
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return self.depth.read([self.indices[i] for i in indices])


def cut(clip: Clip, start: int, stop: int, clip_id: str, kept: np.ndarray | None = None) -> Clip:
    """Frames start .. stop-1 of a recording as a clip of its own; times start at 0, texts keep their ends (`Text`).

    kept: (frames,) bool of the recording: only these of them; ClipError where there is none.
    """
    index = tuple(i for i in range(start, stop) if kept is None or kept[i])
    if not index:
        raise ClipError(clip_id, "no frame of it can be used")
    rows = list(index)
    times = clip.timestamps - clip.timestamps[0]
    begin, end = times[rows[0]], times[stop] if stop < len(clip) else clip.end - clip.timestamps[0]
    return replace(
        clip,
        id=clip_id,
        frames=FrameSubset(clip.frames, index),
        timestamps=times[rows] - begin,
        T_world_camera=None if clip.T_world_camera is None else clip.T_world_camera[rows],
        hands=tuple(h for h in (_cut_hand(hand, rows) for hand in clip.hands) if h is not None),
        depth=None if clip.depth is None else DepthSubset(clip.depth, index),
        objects=None if clip.objects is None else tuple(_cut_track(t, rows) for t in clip.objects),
        contacts=None if clip.contacts is None else {k: v[rows] for k, v in clip.contacts.items()},
        texts=tuple(
            replace(t, start=float(t.start - begin), end=float(t.end - begin))
            for t in clip.texts
            if t.start < end and t.end > begin
        ),
    )


def _cut_hand(hand: Hand, rows: list[int]) -> Hand | None:
    mano = hand.mano
    if mano is not None:
        mano = Mano(
            mano.global_orientation_camera[rows],
            mano.pose[rows],
            mano.betas,
            mano.wrist_camera[rows],
        )
    return make_hand(hand.side, hand.joints_camera[rows], hand.confidence[rows], mano)


def _cut_track(track: ObjectTrack, rows: list[int]) -> ObjectTrack:
    per_frame = ("T_world_object", "boxes", "T_object_moving")
    values = {name: getattr(track, name) for name in per_frame}
    return replace(track, **{name: value[rows] for name, value in values.items() if value is not None})


def _borders(clip: Clip, seconds: float) -> list[int]:
    """First frames of the pieces, and the number of frames. Cut by time, each border at the frame nearest to it."""
    times = clip.timestamps - clip.timestamps[0]
    wanted = np.arange(seconds, clip.seconds - seconds / 4 - 1e-6, seconds)
    after = np.searchsorted(times, wanted).clip(1, len(times) - 1)
    nearest = np.where(wanted - times[after - 1] < times[after] - wanted, after - 1, after)
    return [0, *np.unique(nearest[nearest > 0]).tolist(), len(clip)]


def chunks(clip: Clip, seconds: float) -> Iterator[Clip | ClipError]:
    """A long recording in pieces of `seconds`; a rest shorter than a quarter of that joins the last piece.

    A recording that is short enough stays as it is, under its own id; pieces are `<id>_000`, `<id>_001`, ...
    Pieces without any hand in view are left out of a recording that has hands elsewhere.
    """
    bounds = _borders(clip, seconds)
    if len(bounds) == 2:
        yield clip
        return
    for k, (start, stop) in enumerate(pairwise(bounds)):
        piece = cut(clip, start, stop, f"{clip.id}_{k:03d}")
        try:
            if piece.hands or not clip.hands:
                yield checked(piece)
        except ClipError as error:
            yield error
