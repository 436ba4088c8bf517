"""Relations in words, and back: questions in many wordings, answers in the paper's one form (section 3.2.1).

Answers: "left and down and forward, 0.44m"; with contact known and true "..., 0.08m, in contact"; of a camera
that turned "left, 12.384 degrees"; where nothing moved "still, 0.00m".
"""

import re
from dataclasses import dataclass

import numpy as np

from vipa.geometry import DIRECTION_WORDS
from vipa.hand3d.measure.relations import TURN_WORDS, AnyRelation, CameraMovement, Relation
from vipa.hand3d.words.visual_wordings import VISUAL_WORDINGS

STILL = "still"
CONTACT = "in contact"
ANSWER_HINTS = {
    "distance": (
        "Directions are those of the camera that took the first picture: left, right, up, down, forward (away from the "
        'camera), backward. Name those that clearly matter, joined by "and", or say "still" where nothing moves; then '
        "the distance in metres. Answer in this form and say nothing else: left and down, 0.44m"
    ),
    "degrees": (
        "Directions are left, right, up, down, clockwise, counterclockwise. Name those that clearly matter, joined by "
        '"and", or say "still" where nothing turns; then the angle in degrees. Answer in this form and say nothing '
        "else: left, 12.384 degrees"
    ),
}
"""For models that were never shown the form of the answers: by what is to be said."""

_WORD_PAIRS = (*DIRECTION_WORDS, TURN_WORDS[2])
_WORDS = {word for pair in _WORD_PAIRS for word in pair}
_ANSWER = re.compile(
    r"^\s*(?P<words>[a-z]+(?: and [a-z]+)*),? (?:by |about )?(?P<number>\d+(?:\.\d+)?) ?"
    r"(?P<unit>m|meters?|metres?|degrees?)(?P<contact>, in contact)?\.?\s*$"
)


@dataclass(frozen=True)
class ParsedAnswer:
    """What an answer says. directions: words in the order given; one of distance (metres) and degrees is None."""

    directions: tuple[str, ...]
    distance: float | None
    degrees: float | None
    contact: bool = False


def wording_name(relation: AnyRelation) -> str:
    """The key of `VISUAL_WORDINGS` that this relation is asked with: what the question says must be so."""
    if isinstance(relation, CameraMovement):
        return f"camera_{relation.aspect}"
    if relation.goal is not None and relation.goal != "touch":
        return f"task_{relation.goal}"
    return relation.category


def question_kind(relation: AnyRelation) -> str:
    """What is scored together: the category, and of camera movements what is asked about."""
    return f"camera_{relation.aspect}" if isinstance(relation, CameraMovement) else relation.category


def question_text(relation: AnyRelation, seed: int | np.random.Generator) -> str:
    """A question whose answer is `answer_text(relation)`; the seed picks the wording."""
    wordings = VISUAL_WORDINGS[wording_name(relation)]
    if not isinstance(relation, CameraMovement) and relation.object is None:
        wordings = tuple(wording for wording in wordings if "{object}" not in wording)
    wording = wordings[int(np.random.default_rng(seed).integers(len(wordings)))]
    if isinstance(relation, CameraMovement):
        return wording
    name = bare_name(relation.object or "")
    task = relation.task or f"reach the {name}"
    return wording.format(hand=relation.hand, object=name, task=plain_task(task))


def answer_text(relation: AnyRelation) -> str:
    """The answer in the paper's form, metres to the centimetre, degrees to the thousandth."""
    words = " and ".join(relation.directions) or STILL
    if isinstance(relation, CameraMovement) and relation.aspect == "rotation":
        return f"{words}, {relation.degrees:.3f} degrees"
    contact = isinstance(relation, Relation) and relation.contact
    return f"{words}, {relation.distance:.2f}m" + (f", {CONTACT}" if contact else "")


def parse_answer(text: str) -> ParsedAnswer:
    """Inverse of `answer_text` up to its rounding. ValueError for text that is not an answer, names an unknown
    direction or contradicts itself."""
    match = _ANSWER.match(text.lower())
    if match is None:
        raise ValueError(f'answer {text[:80]!r} is not of the form "left and down, 0.44m"')
    words = tuple(match["words"].split(" and "))
    if words == (STILL,):
        words = ()
    for word in words:
        if word not in _WORDS:
            raise ValueError(f"answer {text[:80]!r}: direction {word!r} is unknown")
    if any(pair[0] in words and pair[1] in words for pair in _WORD_PAIRS):
        raise ValueError(f"answer {text[:80]!r} contradicts itself")
    number, degrees = float(match["number"]), match["unit"].startswith("deg")
    return ParsedAnswer(
        words, None if degrees else number, number if degrees else None, match["contact"] is not None
    )


def bare_name(name: str) -> str:
    """An object's name as sentences take it, after an article of their own: "the white bottle" is a "white bottle"."""
    return re.sub(r"^(the|an?)\s+(?=\S)", "", name.strip(), flags=re.IGNORECASE)


_DESCRIPTION = re.compile(r"^the (?:left |right )?hands? ([a-z]+s) ?(.*)$", re.IGNORECASE)


def plain_task(text: str) -> str:
    """A text as the task in the middle of a sentence: no closing period, no capital unless the word is capital.

    A description of what a hand does becomes what to do: "the left hand reaches for the cup", "reach for the cup".
    """
    text = text.strip().rstrip(".")
    match = _DESCRIPTION.match(text)
    if match is not None:
        verb = match[1].lower()
        stem = verb[:-2] if re.search("(ch|sh|ss|x|z|o)es$", verb) else verb[:-1]
        text = f"{stem} {match[2]}".strip()
    if len(text) > 1 and text[0].isupper() and not text[1].isupper():
        text = text[0].lower() + text[1:]
    return text
