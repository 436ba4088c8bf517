"""How metres became the tokens and words of a data set or a model; both carry it, and a mismatch is refused."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from vipa.hands.motion_codec import MotionCodec

MEANING = {"codec": "volume and bins of motion tokens", "gamma": "threshold of direction words"}


@dataclass(frozen=True)
class Conventions:
    """codec: of motion tokens. gamma: threshold of direction words. None: there are none, or nobody said.

    A data set says both (its manifest); a model those that it was trained on (`VipaConfig.conventions`).
    """

    codec: MotionCodec | None = None
    gamma: float | None = None

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, data: dict[str, Any] | None, origin: str) -> "Conventions":
        """Inverse of `to_json`; of None: nothing is said. ValueError naming `origin` where it is of another form."""
        if data is None:
            return cls()
        try:
            codec, gamma = data["codec"], data["gamma"]
            if codec is not None:
                low, high = (tuple(float(x) for x in codec[name]) for name in ("low", "high"))
                if len(low) != 3 or len(high) != 3:
                    raise ValueError("a volume has three axes")
                codec = MotionCodec((low[0], low[1], low[2]), (high[0], high[1], high[2]), int(codec["bins"]))
            return cls(codec, None if gamma is None else float(gamma))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{origin}: its conventions (codec: low, high, bins; gamma) cannot be read ({error!r})"
            ) from None

    def require(self, other: "Conventions", mine: str, theirs: str) -> None:
        """ValueError naming every field of which both say something else."""
        wrong = [
            f"{name} ({MEANING[name]}) is {_words(a)} in {mine}, {_words(b)} in {theirs}"
            for name in MEANING
            if (a := getattr(self, name)) is not None and (b := getattr(other, name)) is not None and a != b
        ]
        if wrong:
            raise ValueError(
                f"{'; '.join(wrong)}: what the one learned to write means something else in the other. Annotate with "
                "the same values (hand3d.json has those of a data set), or use a model trained on such data"
            )

    def filled(self, other: "Conventions") -> "Conventions":
        """What `other` says where this says nothing."""
        return replace(self, **{n: getattr(other, n) for n in MEANING if getattr(self, n) is None})


def _words(value: MotionCodec | float) -> str:
    if isinstance(value, MotionCodec):
        ranges = ", ".join(f"{axis} {a:g}..{b:g}" for axis, a, b in zip("xyz", value.low, value.high))
        return f"{ranges} m in {value.bins} bins"
    return f"{value:g}"
