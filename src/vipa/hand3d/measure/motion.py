"""Wrist trajectories after an observation image, in its camera, and three tasks of them (section 3.2.1)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vipa.clips.clip import Clip, Text
from vipa.geometry import invert, transform
from vipa.hand3d.config import HandsConfig, MotionConfig
from vipa.hand3d.measure.visibility import Sight
from vipa.hand3d.measure.wrists import REASONS, LocatedHand, WristPath, locate_hands
from vipa.hand3d.words.motion_wordings import CONTINUATION, MOTION_WORDINGS
from vipa.hand3d.words.questions import plain_task
from vipa.hands.motion_codec import MotionCodec
from vipa.hands.skeleton import Side
from vipa.io.hashing import digest

MOTION_TASKS = ("instructional_generation", "contextual_prediction", "motion_translation")


@dataclass(frozen=True)
class Motion:
    """Wrists of one or both hands around an observation image, in its camera (camera movement undone).

    future: (k, 3) metres per hand at 1/rate, 2/rate, ... seconds after the image; past: (h, 3) up to and with the
    image itself, () where the clip begins. outside: share of future waypoints that leave the codec's volume.
    """

    frame: int
    text: str
    rate: float
    future: dict[Side, Float[np.ndarray, "k 3"]]
    past: dict[Side, Float[np.ndarray, "h 3"]]
    outside: float


def find_motions(
    clip: Clip, config: MotionConfig, hands: HandsConfig, distance_error: float = 0.0
) -> tuple[list[Motion], dict[str, int]]:
    """Significant motions under each text, and counts of what was left out, by reason.

    distance_error: share of a hand's distance within which it is taken for still (`trackers.distance_error`).
    The observation image shows each hand whose motion is told, and the wrist is believed all along (see `wrists`).
    """
    if clip.T_world_camera is None:
        return [], {"no camera poses": 1}
    times = clip.timestamps - clip.timestamps[0]
    counts: Counter[str] = Counter()
    motions: list[Motion] = []
    moments = []
    for text in chunked(clip.texts, times[-1], config.chunk):
        for start in np.arange(text.start, text.end, config.stride):
            frame = int(np.argmin(np.abs(times - start)))
            if abs(times[frame] - start) <= config.stride / 2:  # else nothing was recorded there
                moments.append((text, frame))
    frames = sorted({frame for _, frame in moments})
    located = locate_hands(clip, Sight(clip, frames), hands)
    for text, frame in moments:
        seconds = min(config.horizon, min(text.end, times[-1]) - times[frame])
        steps = int(np.floor(seconds * config.rate + 1e-6))
        if steps < 2:
            continue
        ahead = times[frame] + np.arange(1, steps + 1) / config.rate
        back = int(np.floor(min(config.history, times[frame]) * config.rate + 1e-6))
        before = times[frame] - np.arange(back, -1, -1) / config.rate
        future: dict[Side, np.ndarray] = {}
        past: dict[Side, np.ndarray] = {}
        acting = [hand for hand in located if text.hand in (None, "both", hand.side)]
        for hand in acting:
            path = wrists_in_camera(clip, hand.path, np.concatenate([before, ahead]), frame)
            if hand.reasons[frames.index(frame)] == 0 and np.isfinite(path[back:]).all():
                future[hand.side], past[hand.side] = path[back + 1 :], path[: back + 1]
        if not future:
            counts[_why_not(acting, frames.index(frame))] += 1
            continue
        moved = max(np.linalg.norm(future[s] - past[s][-1], axis=-1).max() for s in future)
        least = max(config.least_movement, *(distance_error * past[s][-1, 2] for s in future))
        outside = float(np.mean([config.codec.outside(future[s]) for s in future]))
        if moved < least:
            counts["still"] += 1
        elif outside > config.most_outside:
            counts["outside"] += 1
        else:
            counts["kept"] += 1
            motions.append(Motion(frame, text.text, config.rate, future, past, outside))
    return motions, dict(counts)


def _why_not(hands: Sequence[LocatedHand], i: int) -> str:
    """Why there is no motion: of the hand that came furthest."""
    reasons = [int(hand.reasons[i]) for hand in hands]
    if not reasons:
        return "no hand"
    if 0 in reasons:
        return "hand lost on the way"
    return f"hand {REASONS[max(reasons)]}"


def chunked(texts: tuple[Text, ...], end: float, seconds: float) -> list[Text]:
    """The texts, each cut at multiples of `seconds` of the clip and at its end."""
    pieces = []
    for text in texts:
        start, stop = max(text.start, 0.0), min(text.end, end)
        while start < stop - 1e-6:
            border = min(stop, (np.floor(start / seconds + 1e-6) + 1) * seconds)
            pieces.append(Text(text.text, float(start), float(border), text.hand))
            start = border
    return pieces


def wrists_in_camera(
    clip: Clip, path: WristPath, times: Float[np.ndarray, "k"], frame: int
) -> Float[np.ndarray, "k 3"]:
    """The wrist at these times (seconds since the first frame) in the camera of `frame`, metres; NaN where it is not
    known, or not from where it is in `frame` (see `WristPath`)."""
    assert clip.T_world_camera is not None
    return transform(invert(clip.T_world_camera[frame]), path.at(times, frame))


def motion_task(motion: Motion, task: str, codec: MotionCodec, seed: int) -> tuple[str, str] | None:
    """(prompt, response) of one task; None where the motion does not support it: no past to continue, or no words
    for what it does, where only its continuation can be asked for."""
    if not motion.text and task != "contextual_prediction":
        return None
    sides = list(motion.future)
    hands = "both hands" if len(sides) == 2 else f"the {sides[0]} hand"
    past = {side: path for side, path in motion.past.items() if np.isfinite(path).all()}
    if task == "contextual_prediction" and (set(past) != set(sides) or min(map(len, past.values())) < 2):
        return None
    wordings = MOTION_WORDINGS[task] if motion.text else CONTINUATION
    wording = wordings[int(np.random.default_rng(seed).integers(len(wordings)))]
    spoken = past if task == "contextual_prediction" else motion.future
    prompt = wording.format(
        task=plain_task(motion.text), hands=hands, Hands=hands.capitalize(), motion=codec.to_text(spoken)
    )
    if task == "motion_translation":
        return prompt, sentence(motion.text)
    return prompt, codec.to_text(motion.future)


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def motion_seed(clip: Clip, motion: Motion, task: str, seed: int) -> int:
    return int(digest(f"{seed} {clip.source} {clip.id} {motion.frame} {motion.text} {task}"), 16)
