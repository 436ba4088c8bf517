"""Texts and wordings for clips that bring none: from a vision-language model, or from templates."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vipa.clips.clip import Clip, Text
from vipa.hand3d.estimators.endpoint import Endpoint, json_answer
from vipa.hand3d.measure.paths import true_runs
from vipa.hand3d.measure.relations import AnyRelation, CameraMovement
from vipa.hand3d.words.questions import bare_name, question_text, wording_name

KIND_WORDS = {
    "spatial_relation": {"where", "direction", "position", "location", "located", "far", "way", "distance"},
    "task_completion": {"move", "go", "movement", "motion", "direction", "way", "far", "reach", "travel"},
    "task_release": {
        "move",
        "go",
        "movement",
        "motion",
        "direction",
        "way",
        "far",
        "travel",
        "let",
        "lets",
        "release",
    },
    "task_stop": {"next", "stop", "stops"},
    "hand_movement": {"move", "moved", "go", "went", "movement", "motion", "travel", "travelled", "traveled"},
    "camera_rotation": {"turn", "turned", "rotate", "rotated", "rotation", "degrees", "angle"},
    "camera_translation": {"move", "moved", "go", "went", "movement", "motion", "shift", "shifted", "travel"},
}
"""Of which a question of a kind has at least one word."""

TEXTS = (
    "These images are {count} frames of one video of {seconds:.0f} seconds, one every {step:.1f} seconds, in order. "
    'Say what the hands do. Answer with JSON only: a list of objects with text (an instruction, as in "put the cup on '
    'the plate"), start and end (seconds), and hand (left, right or both). The first is the whole video; then one for '
    "each thing done."
)
ACTIONS = (
    " The movements of the hands begin and end at these seconds, as they were measured; take these times where they "
    "fit: {said}."
)
SNAP = 0.5
REWORD = (
    "Say this question in other words, in one sentence of at most 30 words. Keep the names of objects and the words "
    "left and right as they are. Do not answer it. Question: {question}"
)


def texts_by_model(
    endpoint: Endpoint, clip: Clip, chunk: float, segments: Sequence[Text] = ()
) -> tuple[Text, ...]:
    """Chunk-level and second-level texts, chunk by chunk (seconds), two frames a second at most sixteen.

    segments: what hands do, without words (see `measure.segments`); the model is told when each begins and ends, and a
    time that it gives is moved to the nearest of theirs of that hand that is within `SNAP` seconds.
    """
    times, texts = clip.timestamps - clip.timestamps[0], []
    for begin in np.arange(0.0, times[-1], chunk):
        inside = np.flatnonzero((times >= begin) & (times < begin + chunk))
        length = float(times[inside[-1]] - begin)
        if length < 0.5:
            continue
        count = int(np.clip(length * 2, 2, 16))
        frames = inside[np.linspace(0, len(inside) - 1, count).astype(int)].tolist()
        prompt = TEXTS.format(count=count, seconds=length, step=length / (count - 1))
        prompt += _actions(segments, float(begin), length)

        def check(answer: str, begin: float = float(begin), length: float = length) -> list[Text]:
            said = [_text(item, begin, length) for item in _list(json_answer(answer))]
            return [_snapped(text, segments) for text in said]

        texts += endpoint.ask(prompt, clip.frames.read(frames), check, tokens=512)
    return tuple(texts)


def _actions(segments: Sequence[Text], begin: float, length: float) -> str:
    """The segments of a chunk for the prompt, seconds since it began; "" where there are none."""
    inside = [s for s in segments if begin <= (s.start + s.end) / 2 < begin + length]
    said = "; ".join(f"{s.hand} {max(s.start - begin, 0):.1f} to {min(s.end - begin, length):.1f}" for s in inside)
    return ACTIONS.format(said=said) if said else ""


def _snapped(text: Text, segments: Sequence[Text]) -> Text:
    """With its start and end moved to those of a segment of its hand, where one is near."""
    own = [s for s in segments if text.hand in (None, "both", s.hand)]
    start = min((s.start for s in own), key=lambda t: abs(t - text.start), default=text.start)
    end = min((s.end for s in own), key=lambda t: abs(t - text.end), default=text.end)
    start = start if abs(start - text.start) <= SNAP else text.start
    end = end if abs(end - text.end) <= SNAP else text.end
    return replace(text, start=start, end=end) if start < end else text


def texts_by_template(clip: Clip) -> tuple[Text, ...]:
    """Texts that contacts tell of themselves: reaching for what is touched next, moving what is held."""
    times, texts = clip.timestamps - clip.timestamps[0], []
    for (side, name), touch in sorted((clip.contacts or {}).items()):
        before = 0.0
        for first, after in true_runs(np.asarray(touch) == 1):
            start, end = float(times[first]), float(times[after - 1])
            if start > before and touch[first - 1] == 0:  # that it begins here is known
                texts.append(Text(f"reach for the {bare_name(name)}", max(before, start - 2.0), start, side))
            if end > start:
                texts.append(Text(f"move the {bare_name(name)}", start, end, side))
            before = end
    return tuple(sorted(texts, key=lambda text: (text.start, text.end, text.text)))


def reworded(endpoint: Endpoint, relation: AnyRelation, seed: int) -> str:
    """A question in the model's words whose meaning survived (see `same_meaning`). EndpointError otherwise."""
    question = question_text(relation, seed)

    def check(text: str) -> str:
        text = text.strip().strip('"').splitlines()[0].strip()
        if problem := same_meaning(relation, text):
            raise ValueError(problem)
        return text

    return endpoint.ask(REWORD.format(question=question), [], check, tokens=64)


def same_meaning(relation: AnyRelation, text: str) -> str | None:
    """None where a question still asks for this relation; else what is wrong: a name is missing, the other hand or
    a direction or a number was added, the kind of movement is not named, or it is no single sentence."""
    lower = text.lower()
    words = set(re.findall(r"[a-z]+", lower))
    if not 3 <= len(re.findall(r"\S+", text)) <= 40:
        return "not one sentence"
    if isinstance(relation, CameraMovement):
        needed, allowed, kind = ["camera"], set(), KIND_WORDS[f"camera_{relation.aspect}"]
    else:
        needed = [relation.hand, "hand", *([bare_name(relation.object).lower()] if relation.object else [])]
        allowed = set(
            re.findall(r"[a-z]+", f"{relation.task or ''} {relation.object or ''} {relation.hand}".lower())
        )
        kind = KIND_WORDS[wording_name(relation)]
        if relation.category == "task_completion" and relation.task:
            missing = set(re.findall(r"[a-z]{4,}", relation.task.lower())) - words
            if len(missing) > 1:
                return f"the task lost {sorted(missing)}"
    for word in needed:
        if word not in lower:
            return f"{word!r} is missing"
    if added := (words & {"left", "right", "up", "down", "forward", "backward", "clockwise"}) - allowed:
        return f"{sorted(added)} was added"
    if re.search(r"\d", re.sub(re.escape(getattr(relation, "task", None) or ""), "", lower, flags=re.IGNORECASE)):
        return "a number was added"
    return None if words & kind else f"none of {sorted(kind)} is in it"


def _list(value: Any) -> list[Any]:
    if not (isinstance(value, list) and value):
        raise ValueError("expected a list")
    return value


def _text(item: Any, begin: float, length: float) -> Text:
    try:
        text, start, end = str(item["text"]).strip(), float(item["start"]), float(item["end"])
        hand = item.get("hand")
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"expected text, start, end, hand in {item!r}"[:120]) from None
    if not text or not 0 <= start < end <= length + 1.0:
        raise ValueError(f"text {text!r} from {start} to {end} of {length:.1f} seconds")
    return Text(text, begin + start, begin + min(end, length), hand if hand in ("left", "right", "both") else None)
