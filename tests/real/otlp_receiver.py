"""An OTLP/HTTP receiver of spans and metrics whose answers a test can script."""

from __future__ import annotations

import contextlib
import gzip
import ssl
import threading
from collections import deque
from dataclasses import dataclass
from dataclasses import field
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from typing import Any
from typing import TYPE_CHECKING

import pytest

from .programs import eventually
from .spans import Span

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["OtlpReceiver", "Reply", "receiving"]

_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES = ("UNSET", "OK", "ERROR")


@dataclass(frozen=True)
class Reply:
    """One scripted answer; only a 200 takes in what was sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class OtlpReceiver:
    """Answers the scripted replies first, one a request, and 200 from then on. Safe to use from several threads."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.spans: list[Span] = []
        self.pushes: list[Any] = []
        """Each ``ExportMetricsServiceRequest``, as it came."""
        self.requests: list[dict[str, str]] = []
        """The headers of each request, by lower-case name."""
        self._script: deque[Reply] = deque()

    def script(self, *replies: Reply) -> None:
        """Give these answers to the next requests."""
        self._script.extend(replies)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Decide on the answer to one request, and keep its spans or metrics where that is a 200."""
        self.requests.append(headers)
        reply = self._script.popleft() if self._script else Reply()
        if reply.status == 200:
            plain = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            if path.endswith("/v1/metrics"):
                self.pushes.append(_decode_metrics(plain))
            else:
                self.spans.extend(_decode(plain))
        return reply

    def wait_for(self, predicate: Callable[[list[Span]], bool], timeout: float = 15.0) -> list[Span]:
        """Return the spans once ``predicate`` is true of them."""
        eventually(lambda: predicate(list(self.spans)), timeout=timeout, what="spans at the receiver")
        return list(self.spans)

    def wait_for_pushes(self, count: int, timeout: float = 15.0) -> list[Any]:
        """Return the pushes once there are ``count``."""
        eventually(lambda: len(self.pushes) >= count, timeout=timeout, what=f"{count} pushes at the receiver")
        return list(self.pushes)

    def wait_for_requests(self, count: int, timeout: float = 15.0) -> None:
        """Return once ``count`` requests were answered."""
        eventually(lambda: len(self.requests) >= count, timeout=timeout, what=f"{count} requests at the receiver")


class _Server(ThreadingHTTPServer):
    receiver: OtlpReceiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        reply = self.server.receiver.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/x-protobuf", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextlib.contextmanager
def receiving(certificate: Path | None = None, key: Path | None = None) -> Iterator[OtlpReceiver]:
    """Run a receiver on a free loopback port, over TLS where there is a certificate."""
    pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is not installed")
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.receiver = OtlpReceiver(server.server_address[1])
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.receiver.endpoint = server.receiver.endpoint.replace("http:", "https:")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.receiver
        finally:
            server.shutdown()
            thread.join()


def _decode(body: bytes) -> Iterator[Span]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _mapping(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield Span(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    name=span.name,
                    kind=_KINDS[span.kind],
                    status=_STATUSES[span.status.code],
                    started_unix_ns=span.start_time_unix_nano,
                    ended_unix_ns=span.end_time_unix_nano,
                    attributes=_mapping(span.attributes),
                    events=tuple(event.name for event in span.events),
                    resource=resource,
                )


def _decode_metrics(body: bytes) -> Any:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    return ExportMetricsServiceRequest.FromString(body)


def _mapping(attributes: Any) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
