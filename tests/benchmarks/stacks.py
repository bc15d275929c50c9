"""What may observe the app: nothing, this package in several settings, and what people use today.

What a stack needs is imported when it is installed, so that the others do not carry it.
"""

from __future__ import annotations

import atexit
import tempfile
from functools import partial
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

import flask
import peers

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

__all__ = ["BARE", "PEERS", "PEER_STACKS", "STACKS", "Stack"]

SIGNALS = (
    flask.request_started,
    flask.request_finished,
    flask.request_tearing_down,
    flask.got_request_exception,
    flask.appcontext_pushed,
    flask.appcontext_popped,
    flask.appcontext_tearing_down,
    flask.before_render_template,
    flask.template_rendered,
    flask.message_flashed,
)

RECORDS = "records.jsonl"
OUTPUTS = ("tracing", "metrics", "logs", "audit")

BARE = "bare"
PEERS = "peers"


class Stack(NamedTuple):
    """How it is put on an app, what it is, and which stack people use in its place."""

    install: Callable[[Flask], None]
    means: str
    peer: str | None = None


def nothing(_app: Flask) -> None:
    """Flask alone."""


def receivers(app: Flask) -> None:
    """Connect one receiver to each of Flask's signals."""
    for signal in SIGNALS:
        signal.connect(ignore, sender=app)


def ignore(_sender: object, **_payload: object) -> None:
    """Receive a signal."""


def ours(app: Flask, *, on: tuple[str, ...] = OUTPUTS, samples: str = "always", **settings: Any) -> None:
    """Install this package with these outputs on; they write to files."""
    from spans import provider

    from flask_signal_observability import Observability

    settings |= {output: output in on for output in OUTPUTS}
    settings |= {"audit_requests": "audit" in on, "log_stream": RECORDS, "log_format": "json"}
    Observability(app, tracer_provider=provider(samples), **settings)


def shared_metrics(app: Flask) -> None:
    """Install the metrics alone, in a file that other processes may read."""
    # Removed when the process ends; its mapping is then gone, too.
    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    ours(app, on=("metrics",), metrics_shared=directory.name)


def all_peers(app: Flask) -> None:
    """Install what people use today, all of it."""
    otel_flask(app)
    peers.measure_requests(app)
    peers.log_requests(app, RECORDS)
    peers.audit_requests(app)


def otel_flask(app: Flask, *, samples: str = "always") -> None:
    """Install the peer's tracing alone."""
    from spans import provider

    peers.trace_requests(app, provider(samples))


STACKS = {
    BARE: Stack(nothing, "Flask alone"),
    "receivers": Stack(receivers, "a receiver that does nothing on each of Flask's ten signals"),
    "ours": Stack(ours, "this package: all four outputs, every request sampled", PEERS),
    "ours-unsampled": Stack(
        partial(ours, samples="never"), "all four outputs, no request sampled", "otel-flask-unsampled"
    ),
    "ours-production": Stack(
        partial(ours, samples="tenth", context_signals=False),
        "all four outputs, `parentbased_traceidratio` 0.1 and `context_signals=False`",
        PEERS,
    ),
    "ours-tracing": Stack(partial(ours, on=("tracing",)), "spans alone, every request sampled", "otel-flask"),
    "ours-metrics": Stack(partial(ours, on=("metrics",)), "metrics alone", "prometheus-exporter"),
    "ours-metrics-shared": Stack(shared_metrics, "metrics alone, shared with other processes", "ours-metrics"),
    "ours-logs": Stack(partial(ours, on=("logs",)), "JSON records alone", "structlog"),
    "ours-audit": Stack(partial(ours, on=("audit",)), "audit lines alone", "seed-audit"),
    PEERS: Stack(all_peers, "the four below together, every request sampled"),
    "otel-flask": Stack(otel_flask, "opentelemetry-instrumentation-flask, every request sampled"),
    "otel-flask-unsampled": Stack(partial(otel_flask, samples="never"), "the same, no request sampled"),
    "prometheus-exporter": Stack(peers.measure_requests, "prometheus-flask-exporter, grouped by rule"),
    "structlog": Stack(partial(peers.log_requests, path=RECORDS), "a record a request by structlog with orjson"),
    "seed-audit": Stack(peers.audit_requests, "a receiver that opens, appends and closes the audit file"),
}

PEER_STACKS = frozenset(list(STACKS)[list(STACKS).index(PEERS) :])
