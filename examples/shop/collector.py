"""A receiver for OTLP over HTTP, just large enough to show what arrives in a real collector."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from typing import Any
from typing import TYPE_CHECKING
from urllib.request import Request
from urllib.request import urlopen

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

__all__ = ["Collector", "Event", "Span", "receiving"]

PROTOBUF = "application/x-protobuf"
SERVER = 2
"""SPAN_KIND_SERVER of opentelemetry/proto/trace/v1/trace.proto."""
ERROR = 2
"""STATUS_CODE_ERROR there."""


@dataclass(frozen=True)
class Event:
    """What happened during a span."""

    name: str
    time_ns: int
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Span:
    """A span as it came over the wire."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    is_server: bool
    is_error: bool
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    events: list[Event]

    @property
    def milliseconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e6

    @classmethod
    def read(cls, span: ProtoSpan) -> Span:
        return cls(
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            name=span.name,
            is_server=span.kind == SERVER,
            is_error=span.status.code == ERROR,
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            attributes=mapping(span.attributes),
            events=[Event(event.name, event.time_unix_nano, mapping(event.attributes)) for event in span.events],
        )


def mapping(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {each.key: plain(each.value) for each in attributes}


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


class Collector:
    """The spans that have arrived so far; safe to ask from any thread."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.onward: str | None = None
        """Another collector's endpoint, which gets whatever arrives, too."""
        self.keeps = True
        """Off: spans are passed on and forgotten."""
        self._spans: list[Span] = []
        self._lock = threading.Lock()

    def take(self, body: bytes) -> None:
        """Take one request, as it is without compression."""
        if self.keeps:
            self.add(ExportTraceServiceRequest.FromString(body))
        if self.onward:
            request = Request(f"{self.onward}/v1/traces", body, {"Content-Type": PROTOBUF})
            with suppress(OSError), urlopen(request, timeout=5):
                pass

    def add(self, export: ExportTraceServiceRequest) -> None:
        spans = [
            Span.read(span)
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += spans

    def spans(self) -> list[Span]:
        with self._lock:
            return list(self._spans)

    def trace(self, trace_id: str) -> list[Span]:
        return sorted((span for span in self.spans() if span.trace_id == trace_id), key=lambda span: span.start_ns)


@contextmanager
def receiving() -> Iterator[Collector]:
    """Receive spans on a free loopback port until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if known := self.path == "/v1/traces":
                collector.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", PROTOBUF)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's names
            """Say nothing: the terminal belongs to the demo."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
