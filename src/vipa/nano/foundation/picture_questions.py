"""What a 2D vision-language model knows of a picture, as questions and answers; nothing here reads true depth.

Naming, counting, image coordinates, image-plane relations, instructions, and answers that sound metric but are
guessed: every point is put at one nominal depth seen through one nominal camera, and "forward" and "backward" come
from how large a thing looks for its kind. These guesses stand for what InternVL answers before spatial pretraining.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vipa.geometry import direction_words
from vipa.hand3d.measure.relations import CameraMovement, Relation
from vipa.hand3d.words.questions import answer_text, question_text
from vipa.worlds.objects import SIZES

NOMINAL_DEPTH = 0.60  # metres
NOMINAL_TAN = 0.625  # tangent of half the field of view
NOMINAL_HAND = 0.12  # metres, how large a hand's joints look
LOOKS = {kind: float(np.mean([np.sort(s)[-2:].mean() for s in sizes])) for kind, sizes in SIZES.items()}
"""Metres: about how large a thing of this kind looks."""


@dataclass(frozen=True)
class Seen:
    """One thing in one picture, in image fractions: (0, 0) top left, (1, 1) bottom right."""

    name: str  # "red cup", or "left hand" (its centre is then the wrist)
    centre: tuple[float, float]
    size: float  # square root of its box's area (a hand's: of its joints)
    visible: bool  # enough of it to be asked about

    @property
    def kind(self) -> str:
        return self.name.split(" ")[1]

    @property
    def guess(self) -> np.ndarray:
        """Guessed position (3,), metres, in the camera frame."""
        plane = (np.array(self.centre) - 0.5) * 2 * NOMINAL_TAN * NOMINAL_DEPTH
        true_size = NOMINAL_HAND if self.kind == "hand" else LOOKS[self.kind]
        ratio = true_size / (2 * NOMINAL_TAN * max(self.size, 1e-3)) / NOMINAL_DEPTH
        return np.array([*plane, NOMINAL_DEPTH * np.clip(ratio, 0.75, 1.25)])


@dataclass(frozen=True)
class Picture:
    """One frame: objects in the scene's order, hands that are in view."""

    objects: tuple[Seen, ...]
    hands: tuple[Seen, ...]


@dataclass(frozen=True)
class Turn:
    """A question and its answer. points: image fractions of what it is about, the asked thing first, at most two."""

    prompt: str
    answer: str
    points: tuple[tuple[float, float], ...] = ()


def sample_turns(first: Picture, last: Picture, number: int, rng: np.random.Generator) -> list[Turn]:
    """At most `number` turns about the last picture, and about what changed since the first where they differ."""
    moved = first is not last
    kinds: list[tuple[Callable[..., Turn | None], float]] = [
        (_locate, 3.0),
        (_list, 2.0),
        (_name_at, 1.0),
        (_between, 2.5),
        (_inventory, 0.7),
        (_instruction, 1.0),
        (_metric, 3.0),
    ]
    weights = np.array([weight for _, weight in kinds])
    turns: list[Turn] = []
    for _ in range(number):
        if moved and rng.random() < 0.25:
            turn = _movement(first, last, rng)
        else:
            make = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))][0]
            turn = make(last, rng)
        if turn is not None:
            turns.append(turn)
    return turns


def _pick(things: list[Seen], rng: np.random.Generator) -> Seen:
    return things[int(rng.integers(len(things)))]


def _choice(texts: tuple[str, ...], rng: np.random.Generator) -> str:
    return texts[int(rng.integers(len(texts)))]


def _coordinates(thing: Seen) -> str:
    x, y = (int(np.clip(np.floor(100 * c), 0, 99)) for c in thing.centre)
    return f"{x:02d} {y:02d}"


def _visible(picture: Picture) -> list[Seen]:
    return [thing for thing in (*picture.objects, *picture.hands) if thing.visible]


def _locate(picture: Picture, rng: np.random.Generator) -> Turn | None:
    things = _visible(picture)
    if not things:
        return None
    thing = _pick(things, rng)
    wordings = ("Where in the image is the {}?", "Point at the {}.", "Image position of the {}?")
    return Turn(_choice(wordings, rng).format(thing.name), _coordinates(thing), (thing.centre,))


def _list(picture: Picture, rng: np.random.Generator) -> Turn | None:
    """Everything in view, from left to right."""
    things = sorted(_visible(picture), key=lambda thing: thing.centre)
    text = ", ".join(thing.name for thing in things)
    return Turn(_choice(("List what is in view.", "Name everything in the image."), rng), text or "nothing")


def _name_at(picture: Picture, rng: np.random.Generator) -> Turn | None:
    things = _visible(picture)
    if not things:
        return None
    thing = _pick(things, rng)
    return Turn(f"What is at {_coordinates(thing)}?", thing.name, (thing.centre,))


def _between(picture: Picture, rng: np.random.Generator) -> Turn | None:
    """Where one thing is from another in the image: words, sometimes with the distance in percent."""
    things = _visible(picture)
    if len(things) < 2:
        return None
    anchor, target = (things[i] for i in rng.choice(len(things), 2, replace=False))
    offset, points = np.array(target.centre) - np.array(anchor.centre), (target.centre, anchor.centre)
    words = " and ".join(direction_words(np.array([*offset, 0.0])))
    question = f"In the image, where is the {target.name} from the {anchor.name}"
    if rng.random() < 0.5:
        return Turn(question + "?", words, points)
    return Turn(question + " and how far?", f"{words}, {round(100 * float(np.hypot(*offset))):d}", points)


def _inventory(picture: Picture, rng: np.random.Generator) -> Turn | None:
    objects = [thing for thing in picture.objects if thing.visible]
    if not objects:
        return None
    thing = _pick(objects, rng)
    colour, kind = thing.name.split(" ")
    same_kind = sum(other.kind == kind for other in objects)
    which = int(rng.integers(5))
    if which == 0:
        return Turn("How many objects are there?", str(len(objects)))
    if which == 1:
        return Turn(f"How many {colour} objects are there?", str(sum(o.name.startswith(colour) for o in objects)))
    if which == 2:
        if same_kind == 1:
            return Turn(f"What colour is the {kind}?", colour, (thing.centre,))
        return Turn(f"How many objects are a {kind}?", str(same_kind))
    if which == 3:
        other = f"{_pick(objects, rng).name.split(' ')[0]} {kind}"
        return Turn(f"Is there a {other}?", "yes" if any(o.name == other for o in objects) else "no")
    hands = " and ".join(sorted(hand.name.split(" ")[0] for hand in picture.hands if hand.visible))
    return Turn("Which hands are in view?", hands or "none")


def _instruction(picture: Picture, rng: np.random.Generator) -> Turn | None:
    """Which thing an instruction is about, and where in the image it is."""
    objects = [thing for thing in picture.objects if thing.visible]
    if len(objects) < 2:
        return None
    thing, place = (objects[i] for i in rng.choice(len(objects), 2, replace=False))
    task = _choice(
        (
            f"put the {thing.name} on the {place.name}",
            f"pick up the {thing.name}",
            f"touch the {thing.name}",
            f"push the {thing.name} to the {_choice(('left', 'right'), rng)}",
            f"pour from the {thing.name} into the {place.name}",
        ),
        rng,
    )
    which = int(rng.integers(4))
    if which == 0:
        return Turn(f"Task: {task}. Which object moves?", thing.name, (thing.centre,))
    if which == 1 and place.name in task:
        return Turn(f"Task: {task}. Where in the image does it go?", _coordinates(place), (place.centre,))
    return Turn(f"Task: {task}. Where in the image must the hand go?", _coordinates(thing), (thing.centre,))


def _metric(picture: Picture, rng: np.random.Generator) -> Turn | None:
    """A spatial-relation or task-completion question of Hand3D, with a guessed answer."""
    objects = [thing for thing in picture.objects if thing.visible]
    hands = [hand for hand in picture.hands if hand.visible]
    if not objects or not hands:
        return None
    thing, hand = _pick(objects, rng), _pick(hands, rng)
    side = "left" if hand.name == "left hand" else "right"
    displacement = thing.guess - hand.guess
    if rng.random() < 0.5:
        relation = Relation("spatial_relation", displacement, side, thing.name)
    else:
        verb = _choice(("reach", "pick up", "push", "touch"), rng)
        relation = Relation(
            "task_completion", displacement, side, thing.name, f"{verb} the {thing.name}", goal="touch"
        )
    return Turn(question_text(relation, rng), answer_text(relation), (thing.centre, hand.centre))


def _movement(first: Picture, last: Picture, rng: np.random.Generator) -> Turn | None:
    """A hand- or camera-movement question of Hand3D, with a guessed answer."""
    before = {hand.name: hand for hand in first.hands if hand.visible}
    hands = [hand for hand in last.hands if hand.visible and hand.name in before]
    if hands and rng.random() < 0.6:
        hand = _pick(hands, rng)
        side = "left" if hand.name == "left hand" else "right"
        relation = Relation("hand_movement", hand.guess - before[hand.name].guess, side)
        points = (hand.centre, before[hand.name].centre)
        return Turn(question_text(relation, rng), answer_text(relation), points)
    shifts = [
        np.array(b.centre) - np.array(a.centre)
        for a, b in zip(first.objects, last.objects)
        if a.visible and b.visible
    ]
    if not shifts:
        return None
    u, v = np.median(shifts, axis=0) * 2 * NOMINAL_TAN
    aspect = "rotation" if rng.random() < 0.5 else "translation"
    movement = CameraMovement(
        rotation=np.array([np.arctan(v), -np.arctan(u), 0.0]),
        translation=np.array([-u, -v, 0.0]) * NOMINAL_DEPTH,
        aspect=aspect,
    )
    return Turn(question_text(movement, rng), answer_text(movement))
