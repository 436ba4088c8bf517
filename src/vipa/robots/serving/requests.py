"""What clients send, as an Observation: every key, shape, type and number is looked at before the policy sees it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vipa.models.processing import IMAGE_TOKEN
from vipa.robots.contract import ActionContract
from vipa.robots.policy import Observation
from vipa.robots.views import MissingViews

SIDES = (8, 4096)  # pixels
LONGEST_TEXT = 2000  # characters
COUNT = 2**31


@dataclass(frozen=True)
class Keys:
    """Where a request has what the policy needs. views: key of each of the contract's views."""

    views: Mapping[str, str]
    state: str = "observation/state"
    text: str = "prompt"

    @classmethod
    def of(cls, contract: ActionContract, views: Mapping[str, str] | None = None) -> "Keys":
        """As the robot's file says (`ActionContract.keys`), else openpi's form: observation/<view>, observation/state,
        prompt. views: other keys, by view.

        ValueError for a view that the contract does not have.
        """
        if unknown := set(views or {}) - set(contract.views):
            raise ValueError(
                f"views {', '.join(sorted(unknown))}: not the model's; it sees {', '.join(contract.views)}"
            )
        usual = {view: f"observation/{view}" for view in contract.views} | {
            "state": "observation/state",
            "prompt": "prompt",
        }
        said = usual | contract.keys | dict(views or {})
        return cls({view: said[view] for view in contract.views}, said["state"], said["prompt"])


@dataclass(frozen=True)
class Request:
    """One question of a client. id: its own number or text, given back. deadline: seconds from its arrival, or None."""

    observation: Observation
    id: int | str | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class Reader:
    """Requests by a contract and its keys. missing_views: absent views are refused, or left out while one is there."""

    contract: ActionContract
    keys: Keys
    missing_views: MissingViews = "refuse"

    def read(self, message: Any, noise: tuple[int, int]) -> Request:
        """The request in a decoded message. noise: the pair that its noise is drawn from, where it names none.

        ValueError, one line that names the key, for whatever does not fit.
        """
        if not isinstance(message, dict):
            raise ValueError(f"message: a {type(message).__name__}; expected a map with {self.named}")
        images = {
            view: _image(key, message[key])
            for view, key in self.keys.views.items()
            if message.get(key) is not None
        }
        absent = [self.keys.views[view] for view in self.contract.views if view not in images]
        absent = [] if images and self.missing_views == "mask" else absent
        if absent := absent + [k for k in (self.keys.state, self.keys.text) if message.get(k) is None]:
            sent = ", ".join(repr(str(key)[:40]) for key in list(message)[:12]) or "nothing"
            raise ValueError(f"{', '.join(absent)}: missing; this message has {sent}")
        observation = Observation(
            images=images,
            state=self._state(message[self.keys.state]),
            text=_text(self.keys.text, message[self.keys.text]),
            key=_pair(message.get("noise_key"), noise),
        )
        return Request(observation, _id(message.get("request_id")), _deadline(message.get("deadline_ms")))

    @property
    def named(self) -> str:
        return ", ".join([*self.keys.views.values(), self.keys.state, self.keys.text])

    def _state(self, value: Any) -> np.ndarray:
        key, expected = self.keys.state, len(self.contract.state)
        state = _numbers(key, value)
        if state.shape != (expected,):
            raise ValueError(f"{key}: shape {state.shape}; expected ({expected},)")
        if not np.isfinite(state).all():
            bad = [d.name for d, x in zip(self.contract.state, state) if not math.isfinite(x)]
            raise ValueError(f"{key}: {', '.join(bad)} not finite")
        return state

    def describe(self) -> dict[str, Any]:
        """What a request needs: key -> shape and dtype (-1: any length)."""
        images = {key: {"shape": [-1, -1, 3], "dtype": "uint8"} for key in self.keys.views.values()}
        state = {"shape": [len(self.contract.state)], "dtype": "float32"}
        return images | {self.keys.state: state, self.keys.text: {"shape": [], "dtype": "str"}}


def _image(key: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{key}: a {type(value).__name__}; expected a uint8 array (height, width, 3)")
    if value.ndim != 3 or value.shape[2] != 3:
        hint = "; channels come last" if value.ndim == 3 and value.shape[0] == 3 else ""
        raise ValueError(f"{key}: shape {value.shape}; expected (height, width, 3){hint}")
    if value.dtype != np.uint8:
        raise ValueError(f"{key}: dtype {value.dtype}; expected uint8, RGB in 0..255")
    low, high = SIDES
    if not low <= min(value.shape[:2]) <= max(value.shape[:2]) <= high:
        raise ValueError(f"{key}: {value.shape[1]} x {value.shape[0]} pixels; expected {low} to {high} a side")
    return value


def _numbers(key: str, value: Any) -> np.ndarray:
    if isinstance(value, list) and all(type(x) in (int, float) for x in value):
        value = np.array(value, dtype=np.float64)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        what = f"dtype {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise ValueError(f"{key}: {what}; expected an array of numbers")
    return value.astype(np.float64)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key}: expected words, got {'nothing' if value == '' else type(value).__name__}")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"{key}: {len(value)} characters; at most {LONGEST_TEXT}")
    if IMAGE_TOKEN in value:
        raise ValueError(f"{key}: it holds {IMAGE_TOKEN}, which stands for a picture; use other words")
    return value


def _pair(value: Any, otherwise: tuple[int, int]) -> tuple[int, int]:
    if value is None:
        return otherwise
    pair = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(pair, list) or len(pair) != 2 or any(type(n) is not int or not 0 <= n < COUNT for n in pair):
        raise ValueError("noise_key: expected two whole numbers, [episode, step]")
    return pair[0], pair[1]


def _id(value: Any) -> int | str | None:
    if value is None or type(value) is int or (isinstance(value, str) and len(value) <= 100):
        return value
    raise ValueError("request_id: expected a whole number or a text of at most 100 characters")


def _deadline(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not (0 < value < math.inf):
        raise ValueError("deadline_ms: expected a positive number of milliseconds")
    return value / 1000


def parse_views(pairs: Iterable[str]) -> dict[str, str]:
    """{view: key} of texts VIEW=KEY; empty ones are skipped. ValueError for a text that is none."""
    views = {}
    for pair in filter(None, pairs):
        view, equals, key = pair.partition("=")
        if not (view and equals and key):
            raise ValueError(f"views: {pair!r} is not VIEW=KEY")
        views[view] = key
    return views
