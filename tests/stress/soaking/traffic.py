"""Who visits: a few threads at a steady rate, which remember each answer by its request's id."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import threading
import time
from collections import Counter
from typing import NamedTuple

__all__ = ["CLIENTS", "ROUTES", "Answer", "Clients", "get"]

CLIENTS = 6
"""Threads for each server, and so requests in flight at most."""

ROUTES = {
    "/": 30,
    "/item/7": 20,
    "/page/3": 10,
    "/missing": 8,
    "/error": 6,
    "/refused": 4,
    "/posted": 8,
    "/streamed": 6,
    "/endless": 4,
    "/broken": 2,
    "/seen": 4,
}
"""Paths, and how often each is visited among a hundred; nobody stays to the end of ``/endless``."""


class Answer(NamedTuple):
    status: int
    worker: int
    body: bytes


def get(port: int, path: str, request_id: str = "") -> Answer | None:
    """Return the answer; None where there was none, or, from ``/metrics``, not a whole one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Connection": "close", **({"X-Request-ID": request_id} if request_id else {})}
    try:
        posted = path == "/posted"
        connection.request("POST" if posted else "GET", path, b"x" * 5000 if posted else None, headers)
        answer = connection.getresponse()
        status, worker = answer.status, int(answer.headers.get("Worker", 0))
        if path == "/endless":
            answer.read(2000)
            return Answer(status, worker, b"")
        body = b""
        with contextlib.suppress(http.client.HTTPException, ConnectionError) if path != "/metrics" else _nothing():
            body = answer.read()
        return Answer(status, worker, body)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


_nothing = contextlib.nullcontext


class Clients:
    """Visits one server until it is told to end."""

    def __init__(self, port: int, rate: float) -> None:
        self._port = port
        self._pause_seconds = CLIENTS / rate
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._ended = threading.Event()
        self.answered: dict[str, tuple[str, int]] = {}
        """Path and status by request id."""
        self.by_worker: Counter[int] = Counter()
        self.lost: set[str] = set()
        """Ids of the requests that had no answer."""
        self._threads = [threading.Thread(target=self._visit, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _visit(self) -> None:
        paths, weights = list(ROUTES), list(ROUTES.values())
        due_seconds = time.monotonic() + random.random() * self._pause_seconds
        while not self._ended.wait(max(0.0, due_seconds - time.monotonic())):
            due_seconds = max(due_seconds, time.monotonic() - 5) + self._pause_seconds
            (path,) = random.choices(paths, weights)
            request_id = f"soak-{next(self._numbers)}"
            answer = get(self._port, path, request_id)
            with self._lock:
                if answer is None:
                    self.lost.add(request_id)
                else:
                    self.answered[request_id] = path, answer.status
                    self.by_worker[answer.worker] += 1
