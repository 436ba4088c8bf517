"""A vision-language model over HTTP: any OpenAI-compatible server, hosted or local (`transformers serve`, vLLM)."""

import base64
import contextlib
import http.client
import io
import json
import os
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from vipa.hand3d.config import EndpointConfig
from vipa.io.files import atomic_write
from vipa.io.hashing import digest

Answer = TypeVar("Answer")
PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
"""HTTP states after which asking again can help."""
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
        self._lock, self._free_at = threading.Lock(), 0.0

    def ask(
        self, prompt: str, images: Iterable[np.ndarray], check: Callable[[str], Answer], tokens: int = 256
    ) -> Answer:
        """What `check` makes of the model's answer to a prompt and RGB images (height, width, 3).

        check raises ValueError for an answer that does not serve: then it is asked again. EndpointError where no
        answer served within the retries, the budget is spent, or the server refuses for good (401, 404 ...).
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        content += [{"type": "image_url", "image_url": {"url": self._data_url(image)}} for image in images]
        request = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": tokens,
            "temperature": 0.0,
        }
        body = json.dumps(request).encode()
        file = None
        if self.config.cache is not None:
            file = Path(self.config.cache) / f"{digest(f'{self.config.url} {body.decode()}')}.json"
            if (known := _cached(file)) is not None:
                with contextlib.suppress(ValueError):
                    answer = check(known)
                    self.hits += 1
                    return answer
        last, wait_for = "nothing was asked", 0.0
        for attempt in range(self.config.retries + 1):
            if attempt:
                time.sleep(self._pause(attempt, wait_for))
            wait_for = 0.0
            self._take_turn(last)
            try:
                text = self._post(body)
                answer = check(text)
            except urllib.error.HTTPError as error:
                last = f"HTTP {error.code}"
                if error.code not in PASSING:
                    raise EndpointError(self.url, last, _reason(error)) from None
                wait_for = _retry_after(error)
            except (OSError, http.client.HTTPException) as error:  # timeouts, cut connections, no server
                last = f"{type(error).__name__}: {error}"
            except ValueError as error:  # malformed, empty, or not what was asked for
                last = f"unusable answer: {error}"
                body = json.dumps(request | {"temperature": AGAIN}).encode()
            else:
                if file is not None:
                    atomic_write(file, json.dumps({"answer": text}))
                return answer
        raise EndpointError(self.url, f"no answer after {self.config.retries + 1} attempts; last: {last}")

    def _take_turn(self, last: str) -> None:
        with self._lock:
            if self.asked >= self.config.requests:
                raise EndpointError(
                    self.url, f"the budget of {self.config.requests} requests is spent (last: {last})"
                )
            self.asked += 1
            now = time.monotonic()
            start = max(now, self._free_at)
            self._free_at = start + (60.0 / self.config.rate if self.config.rate else 0.0)
        time.sleep(start - now)

    def _pause(self, attempt: int, wait_for: float) -> float:
        wait = self.config.wait * 2 ** (attempt - 1) * (0.5 + random.random())
        return min(max(wait, wait_for), self.config.longest_wait)

    def _post(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.config.key):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url}/chat/completions", body, headers)
        with urllib.request.urlopen(request, timeout=self.config.timeout) as response:
            raw = response.read()
        try:
            text = json.loads(raw)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise ValueError(f"not a chat completion: {raw[:80]!r}") from None
        if not isinstance(text, str) or not text.strip():
            raise ValueError("empty")
        return text

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


def _cached(file: Path) -> str | None:
    try:
        answer = json.loads(file.read_text())["answer"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return answer if isinstance(answer, str) else None


def _retry_after(error: urllib.error.HTTPError) -> float:
    try:
        return float(error.headers.get("Retry-After", 0))
    except ValueError:
        return 0.0


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(120).decode(errors="replace")
    except OSError:
        return ""
