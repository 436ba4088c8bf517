"""openpi's websocket protocol, as openpi-client speaks it: msgpack with arrays, one answer a request, in order.

On connect the server sends its metadata. A request is a map of observations; the answer is a map with "actions"
(horizon, a) in the robot's own units, or a text, which is an error. Of our own, and optional: a request may carry
`request_id` (given back), `deadline_ms` and `noise_key`; a client that knows none of them works unchanged.
"""

from dataclasses import asdict
from typing import Any

from vipa.robots.policy import Policy
from vipa.robots.serving.arrays import pack, unpack
from vipa.robots.serving.requests import Reader, Request
from vipa.robots.serving.worker import Answer

OPTIONAL = {
    "request_id": "a whole number or a text; the answer carries it",
    "deadline_ms": "answered until then, or with an error at that moment; never later",
    "noise_key": "[episode, step]: two whole numbers that the chunk's noise is drawn from",
}


def metadata(policy: Policy, reader: Reader) -> bytes:
    """What a client is told on connect: the contract, the map of observations, the policy's identity."""
    contract = asdict(reader.contract)
    statistics = ("normalisation", "action_statistics", "state_statistics")  # the policy's own affair
    return pack(
        {
            "server": "vipa",
            "protocol": "openpi",
            "action_contract": {name: value for name, value in contract.items() if name not in statistics},
            "observation": reader.describe(),
            "optional": OPTIONAL,
            "actions": {"shape": [reader.contract.horizon, len(reader.contract.action)], "dtype": "float64"},
            "identity": policy.identity,
        }
    )


def read(message: bytes | str, reader: Reader, noise: tuple[int, int]) -> Request:
    """The request in a frame. ValueError, one line, where it is none."""
    if isinstance(message, str):
        raise ValueError("message: a text; expected a binary msgpack message")
    return reader.read(unpack(message), noise)


def reply(request: Request, answer: Answer, seconds: float) -> bytes:
    """The frame that answers a request. seconds: from its arrival to its chunk; `infer_ms` is the policy's part."""
    timing = {"infer_ms": answer.seconds * 1e3, "total_ms": seconds * 1e3, "batch_rows": answer.rows}
    message: dict[str, Any] = {"actions": answer.chunk, "server_timing": timing}
    if request.id is not None:
        message["request_id"] = request.id
    return pack(message)


def refusal(request: Request | None, reason: str) -> str:
    """An error as a client shows it: one line, with the request's id where it gave one."""
    line = " ".join(reason.split())[:500]
    return line if request is None or request.id is None else f"request {request.id}: {line}"
