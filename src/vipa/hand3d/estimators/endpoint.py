"""A vision-language model over HTTP: any OpenAI-compatible server, hosted or local (`transformers serve`, vLLM).

The client `openai` (extra `endpoint`) speaks to the server and asks again where the connection or the server fails; the
budget, the checks of answers and their cache are ours.
"""

import base64
import contextlib
import io
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from vipa.hand3d.config import EndpointConfig
from vipa.io.files import atomic_write
from vipa.io.hashing import digest

Answer = TypeVar("Answer")
PASSING = (408, 409, 429)
"""HTTP states after which, as after 500 and above, the client asks again."""
AGAIN = 0.7
"""Temperature after an unusable answer: at 0 the same question has the same answer."""


class EndpointError(ValueError):
    """No usable answer; the message says how often was asked and what came last. reason: without the server's address
    and words, as records keep it."""

    def __init__(self, url: str, reason: str, words: str = ""):
        super().__init__(url, reason, words)
        self.reason = reason

    def __str__(self) -> str:
        url, reason, words = self.args
        return f"{url}: {reason} {words}".rstrip()


class Endpoint:
    """Asks, checks the answer, asks again where that can help, and remembers. Safe to share between threads."""

    def __init__(self, config: EndpointConfig):
        if config.url is None or not config.model:
            raise ValueError(
                "endpoint: url and model are needed, as in http://127.0.0.1:8000/v1 and a model's name"
            )
        if not config.url.startswith(("http://", "https://")):
            raise ValueError(f"endpoint: url {config.url!r} must begin with http:// or https://")
        self.config, self.url, self.asked, self.hits = config, config.url.rstrip("/"), 0, 0
        self._lock, self._free_at, self._tries = threading.Lock(), 0.0, threading.local()
        try:
            from openai import DefaultHttpxClient, OpenAI
        except ModuleNotFoundError:
            raise ModuleNotFoundError("endpoint: openai is missing; pip install 'vipa[endpoint]'") from None
        self._client = OpenAI(
            api_key=os.environ.get(config.key) or "none",  # a server without keys ignores it
            base_url=self.url,
            timeout=config.timeout,
            http_client=DefaultHttpxClient(event_hooks={"request": [self._take_turn]}),
        )

    def ask(
        self, prompt: str, images: Iterable[np.ndarray], check: Callable[[str], Answer], tokens: int = 256
    ) -> Answer:
        """What `check` makes of the model's answer to a prompt and RGB images (height, width, 3).

        check raises ValueError for an answer that does not serve: then it is asked again. EndpointError where no
        answer served within the retries, the budget is spent, or the server refuses for good (401, 404 ...).
        """
        request = self._request(prompt, images, tokens)
        file = None
        if self.config.cache is not None:
            file = Path(self.config.cache) / f"{digest(f'{self.config.url} {json.dumps(request)}')}.json"
            if (known := _cached(file)) is not None:
                with contextlib.suppress(ValueError):
                    answer = check(known)
                    self.hits += 1
                    return answer
        self._tries.count, unusable, last = 0, 0, ""
        while self._tries.count <= self.config.retries:
            reply = self._complete(request)
            try:
                answer = check(text := _content(reply))
            except ValueError as error:  # malformed, empty, or not what was asked for
                last = f"unusable answer: {error}"
                request["temperature"], unusable = AGAIN, unusable + 1
                if self._tries.count <= self.config.retries:
                    time.sleep(self._pause(unusable))
            else:
                if file is not None:
                    atomic_write(file, json.dumps({"answer": text}))
                return answer
        raise self._exhausted(last)

    def say(self, prompt: str, images: Iterable[np.ndarray], tokens: int) -> str:
        """The model's answer, whatever it is; "" where it says nothing. Nothing is checked or remembered.

        EndpointError where there is none within the retries, or no chat completion.
        """
        self._tries.count = 0
        reply = self._complete(self._request(prompt, images, tokens))
        try:
            return json.loads(reply)["choices"][0]["message"]["content"] or ""
        except (ValueError, KeyError, IndexError, TypeError):
            raise EndpointError(self.url, "no chat completion", repr(reply[:80])) from None

    def _request(self, prompt: str, images: Iterable[np.ndarray], tokens: int) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        content += [{"type": "image_url", "image_url": {"url": self._data_url(image)}} for image in images]
        messages = [{"role": "user", "content": content}]
        return {"model": self.config.model, "messages": messages, "max_tokens": tokens, "temperature": 0.0}

    def _complete(self, request: dict[str, Any]) -> bytes:
        """The body of the server's reply, asked for as often as the retries still allow."""
        from openai import APIConnectionError, APIStatusError

        client = self._client.with_options(max_retries=self.config.retries - self._tries.count)
        try:
            return client.chat.completions.with_raw_response.create(**request).content
        except APIStatusError as error:
            state = f"HTTP {error.status_code}"
            if error.status_code in PASSING or error.status_code >= 500:
                raise self._exhausted(state) from None
            raise EndpointError(self.url, state, error.response.text[:120]) from None
        except APIConnectionError as error:  # timeouts, cut connections, no server
            cause = error.__cause__ or error
            raise self._exhausted(f"{type(cause).__name__}: {cause}") from None

    def _exhausted(self, last: str) -> EndpointError:
        return EndpointError(self.url, f"no answer after {self._tries.count} attempts; last: {last}")

    def _take_turn(self, request: object) -> None:
        """Before every request, retries included: counts it, and waits as long as the rate wants."""
        with self._lock:
            if self.asked >= self.config.requests:
                raise EndpointError(self.url, f"the budget of {self.config.requests} requests is spent")
            self.asked += 1
            self._tries.count += 1
            now = time.monotonic()
            start = max(now, self._free_at)
            self._free_at = start + (60.0 / self.config.rate if self.config.rate else 0.0)
        time.sleep(start - now)

    def _pause(self, attempt: int) -> float:
        wait = self.config.wait * 2 ** (attempt - 1) * (0.5 + random.random())
        return min(wait, self.config.longest_wait)

    def _data_url(self, image: np.ndarray) -> str:
        picture = Image.fromarray(image)
        picture.thumbnail((self.config.longer_side, self.config.longer_side))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=90)
        return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def json_answer(text: str) -> Any:
    """The JSON value in an answer that may wrap it in prose or a code fence. ValueError without one."""
    match = re.search(r"[\[{].*[\]}]", text, re.DOTALL)
    if match is None:
        raise ValueError(f"no JSON in {text[:60]!r}")
    try:
        return json.loads(match[0])
    except json.JSONDecodeError:
        raise ValueError(f"broken JSON in {text[:60]!r}") from None


def _content(reply: bytes) -> str:
    """The text in a chat completion. ValueError without one."""
    try:
        text = json.loads(reply)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise ValueError(f"not a chat completion: {reply[:80]!r}") from None
    if not isinstance(text, str) or not text.strip():
        raise ValueError("empty")
    return text


def _cached(file: Path) -> str | None:
    try:
        answer = json.loads(file.read_text())["answer"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return answer if isinstance(answer, str) else None
