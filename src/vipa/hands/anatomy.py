"""What the shape of 21 joints tells of a hand: which side it is of, and whether its joints are in our order.

Each figure is invariant to where the hand is and how it is turned, and is the median over the frames given. On three
real recordings of EgoDex, HOT3D's, VITRA's and dex-retargeting's samples and our thirteen fixtures the figures of a
hand as it should be stand well beyond the thresholds, and those of the harmed hand as far on the other side.
"""

from dataclasses import dataclass, replace

import numpy as np

from vipa.hands.skeleton import FINGERS

BEND = 0.05
"""Mean sine by which the fingers' joints bend to the palm's side; real hands show 0.13 to 0.5."""

THUMB = 0.01
"""Metres by which the thumb stands out of the palm's plane to the palm's side; real hands show 0.03 to 0.07."""


@dataclass(frozen=True)
class Shape:
    """bend, thumb: BEND and THUMB as a right hand has them; a left hand's are negative. nearest: the finger whose
    first joint is nearest to the wrist, the thumb's in every hand. across: whether index, middle, ring and little
    finger stand side by side in this order. longest: a finger's longest bone over the shortest way from the
    wrist to a finger, 0.4 to 0.6. spread: the longest of these four ways over the shortest, 1.1 to 1.2. taper:
    length of a finger's first bone over its last, 1.1 to 2.2 in a hand whose fingers run from palm to tip.
    backwards: whether the hand is in order once each finger is reversed."""

    bend: float
    thumb: float
    nearest: int
    across: bool
    longest: float
    spread: float
    taper: float
    backwards: bool = False

    @property
    def order_fault(self) -> str | None:
        """What is wrong with the order of the joints; None where nothing is."""
        if self.backwards:
            return "fingers are longest at their ends: joints run from tip to palm"
        if self.nearest != 0:
            return f"the {FINGERS[self.nearest]}'s place holds the thumb: the fingers are in another order"
        if not self.across:
            return "index, middle, ring and little do not stand side by side: the fingers are in another order"
        if self.longest > 0.75 or self.spread > 1.4:
            return "bones are too long for a hand of this size: joints of several fingers are taken for one"
        if self.taper < 1:
            return "fingers are longest at their ends: joints are in another order"
        return None

    @property
    def side(self) -> str | None:
        """The hand that this is, by the fingers' bend and the thumb; None where they do not agree or are too small."""
        if abs(self.bend) < BEND or abs(self.thumb) < THUMB or (self.bend > 0) != (self.thumb > 0):
            return None
        return "right" if self.bend > 0 else "left"


def shape_of(joints: np.ndarray) -> Shape | None:
    """joints: (frames, 21, 3) metres, any frame of reference; frames with an unknown joint are left out. None where
    no frame is complete, or where joints coincide."""
    joints = np.asarray(joints, dtype=np.float64)
    joints = joints[np.isfinite(joints).all((1, 2))]
    if not len(joints):
        return None
    wrist, fingers = joints[:, 0], joints[:, 1:].reshape(-1, 5, 4, 3)
    shape = _measured(wrist, fingers)
    if shape is not None and shape.order_fault:
        turned = _measured(wrist, fingers[:, :, ::-1])
        return replace(shape, backwards=turned is not None and turned.order_fault is None)
    return shape


def _measured(wrist: np.ndarray, fingers: np.ndarray) -> Shape | None:
    """wrist: (frames, 3), fingers: (frames, 5, 4, 3)."""
    bones = np.diff(fingers, axis=2)
    lengths = np.linalg.norm(bones, axis=-1)
    index, little = fingers[:, 1, 0], fingers[:, 4, 0]
    across, normal = little - index, np.cross(index - wrist, little - wrist)
    if min(lengths.min(), np.linalg.norm(across, axis=-1).min(), np.linalg.norm(normal, axis=-1).min()) < 1e-6:
        return None
    units = bones / lengths[..., None]
    turns = np.cross(units[:, 1:, :-1], units[:, 1:, 1:])  # about the axis that the finger bends around
    bend = -np.einsum("nfjk,nk->nfj", turns, across / np.linalg.norm(across, axis=-1, keepdims=True)).mean((1, 2))
    thumb = np.einsum(
        "nk,nk->n", fingers[:, 0, 2] - index, normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    )
    places = np.median(np.einsum("nfk,nk->nf", fingers[:, 1:, 0] - index[:, None], across), axis=0)
    ways = np.linalg.norm(fingers[:, :, 0] - wrist[:, None], axis=-1)
    reach = np.median(ways, axis=0)
    return Shape(
        bend=float(np.median(bend)),
        thumb=float(np.median(thumb)),
        nearest=int(reach.argmin()),
        across=bool((np.diff(places) > 0).all()),
        longest=float(np.median(lengths[:, 1:].max((1, 2)))) / float(reach[1:].min()),
        spread=float(reach[1:].max() / reach[1:].min()),
        taper=float(np.median(lengths[:, 1:, 0] / lengths[:, 1:, 2])),
    )
