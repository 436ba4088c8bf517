"""The websocket server: who may come in, how long a request may take, /healthz, /metrics, and how it ends.

The event loop moves bytes and decodes small messages; larger ones are decoded in threads, and the policy runs in the
worker's thread.
"""

import asyncio
import hmac
import http
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from vipa.robots.policy import Policy
from vipa.robots.serving import openpi
from vipa.robots.serving.metrics import Metrics
from vipa.robots.serving.requests import Keys, Reader, Request
from vipa.robots.serving.worker import Answer, Busy, Worker
from vipa.robots.views import MissingViews

log = logging.getLogger(__name__)

ACTIVE = 1.0
"""Seconds: who asked this long ago or less may ask again soon, and a batch waits a moment for it."""

SMALL = 2**18
"""Bytes of a message that is decoded in about 0.1 ms, as much as a thread for it costs; of the worst messages,
`arrays.MOST_ENTRIES` makes a few ms."""


@dataclass(frozen=True)
class Limits:
    """message: bytes of one. clients: connected at once. batch: rows of one inference. queue: requests that wait.
    deadline: seconds within which every request is answered, if only by an error. slow: seconds a client may take to
    take an answer. drain: seconds that a stopping server gives to what it has begun."""

    message: int = 16 * 2**20
    clients: int = 64
    batch: int = 16
    queue: int = 256
    deadline: float = 30.0
    slow: float = 10.0
    drain: float = 20.0


class PolicyServer:
    """One policy for many clients in openpi's protocol. `run` it in an event loop; `stop` ends it after a drain.

    keys: where a request has what the policy needs. token: what clients must send as `Authorization: Api-Key TOKEN`
    (as openpi-client's `api_key`) or `Bearer TOKEN`. missing_views: of a request, refused or masked.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        keys: Keys | None = None,
        token: str | None = None,
        limits: Limits = Limits(),
        missing_views: MissingViews = "refuse",
    ):
        self.policy, self.limits, self.metrics = policy, limits, Metrics()
        self.reader = Reader(policy.contract, keys or Keys.of(policy.contract), missing_views)
        self._token, self._greeting = token, openpi.metadata(policy, self.reader)
        self._clients: dict[ServerConnection, float] = {}  # to the time of its last request
        self._answering = 0
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._worker = Worker(
            policy,
            max_batch=limits.batch,
            max_queue=limits.queue,
            clients=self._active,
            metrics=self.metrics,
        )

    def _active(self) -> int:
        since = time.monotonic() - ACTIVE
        return sum(last > since for last in list(self._clients.values()))

    def stop(self) -> None:
        """Begins the end: no new clients or requests; what was taken is answered. Call it in the loop's thread."""
        self._stopping.set()

    async def run(self, host: str, port: int, started: Callable[[int], None] = lambda port: None) -> None:
        """Serves until `stop`. port 0: any free one. started: called with the port when clients may come."""
        async with serve(
            self._serve_client,
            host,
            port,
            process_request=self._http,
            compression=None,  # pictures do not compress, and it costs milliseconds
            max_size=self.limits.message,
            max_queue=1,  # messages that wait in memory behind the one that is being answered
            ping_timeout=60,
            close_timeout=2,
            server_header=None,
            logger=log.getChild("websockets"),
        ) as server:
            started(server.sockets[0].getsockname()[1])
            await self._stopping.wait()
            await self._drain(server)

    async def _drain(self, server: Server) -> None:
        server.close(close_connections=False)
        try:
            async with asyncio.timeout(self.limits.drain):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d requests were not answered within %g s", self._answering, self.limits.drain)
        await asyncio.gather(*(c.close(1001, "the server is stopping") for c in list(self._clients)))
        await asyncio.to_thread(self._worker.close, self.limits.drain)

    # -- who comes in

    def _http(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        """Answers plain HTTP, and turns away who has no token."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            if self._stopping.is_set():
                return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "stopping\n")
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        if not self._knows(request.headers.get("Authorization", "")):
            return connection.respond(
                http.HTTPStatus.UNAUTHORIZED, "a token is needed: Authorization: Api-Key TOKEN\n"
            )
        if path == "/metrics":
            return connection.respond(
                http.HTTPStatus.OK, self.metrics.text(len(self._clients), self._worker.queued)
            )
        return None

    def _knows(self, header: str) -> bool:
        if self._token is None:
            return True
        kind, _, given = header.partition(" ")
        return kind in ("Api-Key", "Bearer") and hmac.compare_digest(given.encode(), self._token.encode())

    async def _serve_client(self, client: ServerConnection) -> None:
        if len(self._clients) >= self.limits.clients:
            await client.close(1013, f"the server is full: {self.limits.clients} clients")
            return
        self._clients[client] = 0.0
        self.metrics.connections += 1
        try:
            await self._send(client, self._greeting)
            count = 0
            async for message in client:
                await self._serve_request(client, message, count)
                count += 1
        except (ConnectionClosed, TimeoutError) as error:
            log.info("client %s left: %s", client.remote_address, error or "it takes no answers")
        finally:
            del self._clients[client]

    # -- one request

    async def _serve_request(self, client: ServerConnection, message: bytes | str, count: int) -> None:
        """Exactly one frame answers a message, and none comes after its deadline."""
        arrived = time.perf_counter()
        self._clients[client] = time.monotonic()
        self._answering += 1
        self._idle.clear()
        try:
            outcome, frame = await self._answer(message, count, arrived)
            self.metrics.outcomes[outcome] += 1
            self.metrics.waits.add(time.perf_counter() - arrived)
            await self._send(client, frame)
        finally:
            self._answering -= 1
            if not self._answering:
                self._idle.set()

    async def _answer(self, message: bytes | str, count: int, arrived: float) -> tuple[str, bytes | str]:
        """How a request ended, and its answer."""
        request = None
        try:
            if self._stopping.is_set():
                raise Busy("the server is stopping")
            asked = message, self.reader, (0, count)
            small = len(message) <= SMALL
            request = openpi.read(*asked) if small else await asyncio.to_thread(openpi.read, *asked)
            answer = await self._infer(request, arrived)
            return "ok", openpi.reply(request, answer, time.perf_counter() - arrived)
        except TimeoutError:
            seconds = self._deadline(request)
            return "late", openpi.refusal(request, f"deadline: no answer within {seconds * 1e3:.0f} ms")
        except Busy as error:
            return "busy", openpi.refusal(request, f"busy: {error}")
        except ValueError as error:
            return "refused", openpi.refusal(request, str(error))
        except Exception as error:  # a client's answer is never a broken connection
            log.exception("a request failed")
            return "failed", openpi.refusal(request, f"the policy failed: {type(error).__name__}: {error}")

    async def _infer(self, request: Request, arrived: float) -> Answer:
        left = self._deadline(request) - (time.perf_counter() - arrived)
        return await asyncio.wait_for(asyncio.wrap_future(self._worker.submit(request.observation)), max(left, 0))

    def _deadline(self, request: Request | None) -> float:
        own = None if request is None else request.deadline
        return self.limits.deadline if own is None else min(own, self.limits.deadline)

    async def _send(self, client: ServerConnection, frame: bytes | str) -> None:
        """TimeoutError where a client does not take it; its connection is cut then, so that nothing piles up."""
        try:
            async with asyncio.timeout(self.limits.slow):
                await client.send(frame)
        except TimeoutError:
            client.transport.abort()
            raise


def serve_until_signal(server: PolicyServer, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Runs a server until SIGTERM or SIGINT, then drains it. ready: called with the port when clients may come."""

    async def main() -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, server.stop)
        await server.run(host, port, ready)

    asyncio.run(main())
