"""A policy that another process serves in openpi's protocol, as one of ours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from vipa.robots.contract import ActionContract
from vipa.robots.policy import Observation
from vipa.robots.serving.arrays import pack, unpack
from vipa.robots.serving.requests import Keys


class OpenpiPolicy:
    """The policy at an address (ws://host:port).

    contract: what its numbers are taken for, and what it calls them (`Keys.of`); chunks may have another length.
    ValueError where nothing answers, or with the server's own words where it refuses.
    """

    def __init__(self, address: str, contract: ActionContract, timeout: float = 60.0):
        self.address, self.contract, self.keys, self.timeout = address, contract, Keys.of(contract), timeout
        self.identity: dict[str, Any] = {"server": address}
        try:
            self._socket: ClientConnection = connect(
                address, compression=None, max_size=None, open_timeout=timeout
            )
            self.metadata = unpack(self._receive())
        except (OSError, WebSocketException, TimeoutError) as error:
            raise ValueError(f"{address}: no openpi server answers there ({error})") from None

    def __call__(self, observations: Sequence[Observation]) -> Float[np.ndarray, "batch horizon a"]:
        return np.stack([self._ask(observation) for observation in observations])

    def _ask(self, observation: Observation) -> np.ndarray:
        message: dict[str, Any] = {self.keys.views[view]: image for view, image in observation.images.items()}
        message |= {self.keys.state: observation.state, self.keys.text: observation.text}
        try:
            self._socket.send(pack(message))
            answer = self._receive()
        except (OSError, WebSocketException, TimeoutError) as error:
            raise ValueError(f"{self.address}: stopped answering ({error})") from None
        if isinstance(answer, str):  # an error, in openpi's protocol
            raise ValueError(f"{self.address}: {answer.strip().splitlines()[-1]}")
        chunk = np.asarray(unpack(answer).get("actions"), dtype=np.float64)
        width = len(self.contract.action)
        if chunk.ndim != 2 or chunk.shape[1] < width:
            raise ValueError(f"{self.address}: actions of shape {chunk.shape}; expected (steps, {width})")
        return chunk[:, :width]

    def _receive(self) -> Any:
        return self._socket.recv(self.timeout)
