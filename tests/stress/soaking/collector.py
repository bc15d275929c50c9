"""A collector that is not always there: it counts the spans that it took, and has four moods."""

from __future__ import annotations

import itertools
import threading
import time
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOODS", "FlappingCollector"]

MOODS = ("takes", "gone", "takes", "busy", "takes", "resets")
"""In turns: 200; nobody listens; 503 with Retry-After; the connection is closed without an answer."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    collector: FlappingCollector

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: who left was killed."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        collector = self.server.collector
        if collector.mood == "resets":
            self.close_connection = True
            return
        if collector.mood == "takes":
            collector.take(body)
        self.send_response(200 if collector.mood == "takes" else 503)
        if collector.mood != "takes":
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class FlappingCollector:
    """Takes OTLP/HTTP on one port, in the mood of the moment, each for as long as ``mood_seconds``."""

    def __init__(self, mood_seconds: float) -> None:
        self.mood = "takes"
        self.spans = 0
        self.changes = 0
        self._mood_seconds = mood_seconds
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._server: _Server | None = None
        self._listen(0)
        self._thread = threading.Thread(target=self._flap, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def take(self, body: bytes) -> None:
        told = ExportTraceServiceRequest.FromString(body)
        count = sum(len(scope.spans) for resource in told.resource_spans for scope in resource.scope_spans)
        with self._lock:
            self.spans += count

    def settle(self) -> None:
        """Take everything from now on."""
        self._ended.set()
        self._thread.join()
        self._set("takes")

    def close(self) -> None:
        self.settle()
        self._close()

    def _flap(self) -> None:
        moods: Iterator[str] = itertools.cycle(MOODS[1:] + MOODS[:1])
        while not self._ended.wait(self._mood_seconds):
            self._set(next(moods))
            self.changes += 1

    def _set(self, mood: str) -> None:
        self.mood = mood
        if mood == "gone":
            self._close()
        elif self._server is None:
            self._listen(self._port)

    def _listen(self, port: int) -> None:
        for _ in range(100):
            try:
                self._server = _Server(("127.0.0.1", port), _Handler)
                break
            except OSError:  # a client's socket may have the number for a moment
                time.sleep(0.1)
        assert self._server is not None
        self._server.collector = self
        self._port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def _close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
