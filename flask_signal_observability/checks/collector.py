"""The collector: whether it can be reached, and takes an export. An empty one is sent, so that nothing is stored."""

from __future__ import annotations

import socket
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from ..providers import BoundedTracerProvider
from ..providers import LocalTracerProvider
from .destination import destination_of
from .destination import destinations_of_provider
from .finding import Report
from .transport import fetch
from .transport import NETWORK_ERRORS
from .transport import reason_and_remedy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .destination import Destination
    from .finding import Finding
    from .target import Target
    from .transport import Answer

__all__ = ["look"]

report = Report("collector")
clock = Report("clock")

MAX_SKEW_SECONDS = 30.0
"""Spans of two machines that are further apart do not fit into one another."""

YEAR_2020 = 1_577_836_800

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
"""With an empty SETTINGS frame (RFC 9113, 3.4 and 6.5)."""
SETTINGS = 4


def look(target: Target) -> Iterator[Finding]:
    """Send an empty export to every place that telemetry goes to."""
    if time.time() < YEAR_2020:
        yield clock.error(f"it is {time.strftime('%Y-%m-%d')} here", "set the clock: chronyc makestep, or timedatectl")
    found = list(_destinations(target))
    for destination in found:
        yield from _grpc(destination, target) if destination.is_grpc else _http(destination, target)
    if not found:
        yield report.ok("nothing is sent over OTLP: no endpoint is named")


def _destinations(target: Target) -> Iterator[Destination]:
    provider = target.provider
    own = provider is not None and not isinstance(provider, (BoundedTracerProvider, LocalTracerProvider))
    if own:
        yield from destinations_of_provider(provider)
    for signal, _ in target.signals():
        if not (own and signal.what == "spans"):
            yield destination_of(signal, target.environ)


def _http(destination: Destination, target: Target) -> Iterator[Finding]:
    place = f"{destination.what} to {destination.shown} ({destination.origin})"
    try:
        answer = fetch(
            destination.url,
            timeout_seconds=target.timeout_seconds,
            body=b"",  # an ExportTraceServiceRequest, or another kind's, with nothing in it
            headers={"Content-Type": "application/x-protobuf", **dict(destination.headers)},
            context=destination.context(),
        )
    except NETWORK_ERRORS as error:
        reason, remedy = reason_and_remedy(error, destination.url, target.timeout_seconds)
        yield report.error(f"{place}: {reason}", remedy)
        return
    remedy = _refused(answer, destination)
    if remedy:
        yield report.error(f"{place}: {answer.status}{_words_of(answer)}", remedy)
    elif answer.headers.get_content_type() == "text/html":
        yield report.error(f"{place}: a web page answers, which is no collector", "mend host, port and path")
    else:
        yield report.ok(f"{place}: an export is taken ({answer.status})")
    yield from _skew(answer)


def _refused(answer: Answer, destination: Destination) -> str:
    """Return the remedy; empty where the export is taken."""
    status = answer.status
    variable = "OTEL_EXPORTER_OTLP_HEADERS"
    if 200 <= status < 300:  # noqa: PLR2004
        return ""
    if status in (301, 302, 303, 307, 308):
        return f"the exporter loses a POST that is redirected: name {answer.headers.get('Location')} itself"
    return {
        400: "it takes another protocol, or TLS: compare scheme and port with its configuration",
        401: f"it wants credentials: {variable}='authorization=Bearer …' (a blank is %20)",
        403: f"it refuses the credentials: compare {variable} with what it expects",
        404: f"there is nothing at this path: its own ends with {destination.path}. OTEL_EXPORTER_OTLP_ENDPOINT is "
        "the base, to which that is added; OTEL_EXPORTER_OTLP_TRACES_ENDPOINT and its like are whole",
        405: "no exports are taken at this path: mend the path and the port",
        407: "the proxy of HTTP_PROXY wants credentials: add the host to NO_PROXY",
        413: "its limit is too small",
        415: "it takes no protobuf over HTTP here: is that the gRPC port (4317)? Send to 4318",
        429: "it takes less than it is sent: raise its limit, or sample",
    }.get(status, "see its log; is it the collector that answers, or a proxy before it?")


def _words_of(answer: Answer) -> str:
    text = answer.body[:200].decode("utf-8", "replace").strip()
    return f" ({text[:100]})" if text.isprintable() and text and not text.startswith("<") else ""


def _skew(answer: Answer) -> Iterator[Finding]:
    try:
        there = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return
    ahead_seconds = time.time() - there
    if abs(ahead_seconds) > MAX_SKEW_SECONDS:
        direction = "ahead of" if ahead_seconds > 0 else "behind"
        yield clock.warning(
            f"this machine is {abs(ahead_seconds):.0f} s {direction} the collector's",
            "let both follow NTP: timedatectl set-ntp true",
        )
    else:
        yield clock.ok("this machine and the collector's agree on the time")


def _grpc(destination: Destination, target: Target) -> Iterator[Finding]:
    place = f"{destination.what} to {destination.shown} ({destination.origin}) over gRPC"
    try:
        first = _greeted(destination, target.timeout_seconds)
    except NETWORK_ERRORS as error:
        yield report.error(f"{place}: {reason_and_remedy(error, destination.url, target.timeout_seconds)[0]}", REACH)
        return
    if len(first) > 3 and first[3] == SETTINGS:  # noqa: PLR2004
        yield report.ok(f"{place}: HTTP/2 is spoken there; an export over gRPC is not tried")
    elif first.startswith(b"HTTP/1"):
        yield report.error(
            f"{place}: that is a port for HTTP", "send to 4317, or OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
        )
    else:
        yield report.error(
            f"{place}: it does not speak HTTP/2", "compare port and http:// or https:// with its settings"
        )


REACH = "start it, or mend host and port (gRPC is 4317)"


def _greeted(destination: Destination, timeout_seconds: float) -> bytes:
    address = destination.host, destination.port
    with socket.create_connection(address, timeout_seconds) as connection:
        context = destination.context()
        if context is None:
            connection.sendall(HTTP2_PREFACE)
            return connection.recv(9)
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(connection, server_hostname=destination.host) as secured:
            secured.sendall(HTTP2_PREFACE)
            return secured.recv(9)
