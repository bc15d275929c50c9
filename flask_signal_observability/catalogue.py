"""Every metric, span attribute and log event by name; sinks, dashboards, rules and documentation are held to it.

HTTP names follow OpenTelemetry's semantic conventions 1.44, https://opentelemetry.io/docs/specs/semconv/http/: the span
attribute ``http.route`` is the log key ``http.route`` and the metric label ``http_route``.
"""

from __future__ import annotations

from typing import Literal
from typing import NamedTuple

__all__ = [
    "ATTRIBUTES",
    "DEFAULT_KNOWN_METHODS",
    "DURATION_BUCKETS_SECONDS",
    "LOG_EVENTS",
    "METRICS",
    "OTHER",
    "RUNTIME_METRICS",
    "SCHEMA_URL",
    "SIGNALS",
    "SIZE_BUCKETS_BYTES",
    "Attribute",
    "Metric",
]

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

OTHER = "_OTHER"
"""What a value outside its closed set becomes: the convention's word for an unknown method, ours for every label."""

DEFAULT_KNOWN_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""RFC 9110 with PATCH (RFC 5789) and QUERY, as the convention for ``http.request.method`` lists them."""

DURATION_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The convention's advisory boundaries of ``http.server.request.duration``."""

SIZE_BUCKETS_BYTES = (100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0, 10_000_000.0)

SIGNALS = (
    "template_rendered",
    "before_render_template",
    "request_started",
    "request_finished",
    "request_tearing_down",
    "got_request_exception",
    "appcontext_tearing_down",
    "appcontext_pushed",
    "appcontext_popped",
    "message_flashed",
)
"""Flask's ten signals by the names that ``flask.signals`` gives them."""

LOG_EVENTS = (
    "request_started",
    "request_finished",
    "exception",
    "template_rendered",
    "message_flashed",
    "worker_started",
)
"""The ``event`` of a JSON record; a watched signal adds its own name."""


class Metric(NamedTuple):
    """One metric family as Prometheus sees it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()
    source: str = ""
    """Where the name comes from; empty: ours."""


class Attribute(NamedTuple):
    """One attribute of a SERVER span."""

    name: str
    level: Literal["required", "conditional", "recommended", "opt-in", "ours"]
    at_creation: bool
    """Given to ``start_span``, so that samplers see it."""


SEMCONV_SDK_METRICS = "OpenTelemetry semantic conventions, SDK metrics"
SEMCONV_METRICS = "OpenTelemetry semantic conventions, HTTP metrics"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "http_server_request_duration_seconds",
            "histogram",
            "Duration of HTTP server requests, to the end of the body.",
            ("flask_app", "http_request_method", "url_scheme", "http_route", "http_response_status_code", "error_type"),
            "seconds",
            DURATION_BUCKETS_SECONDS,
            SEMCONV_METRICS,
        ),
        Metric(
            "http_server_active_requests",
            "gauge",
            "HTTP server requests in flight.",
            ("flask_app", "http_request_method", "url_scheme"),
            source=SEMCONV_METRICS,
        ),
        Metric(
            "http_server_response_body_size_bytes",
            "histogram",
            "Size of HTTP server response bodies, as sent.",
            ("flask_app", "http_request_method", "url_scheme", "http_route", "http_response_status_code"),
            "bytes",
            SIZE_BUCKETS_BYTES,
            SEMCONV_METRICS,
        ),
        Metric("flask_signals_total", "counter", "Flask lifecycle signals sent.", ("flask_app", "signal")),
        Metric(
            "flask_exceptions_total",
            "counter",
            "Errors that no error handler of the app answered.",
            ("flask_app", "http_route", "exception_type"),
        ),
        Metric(
            "flask_template_render_duration_seconds",
            "histogram",
            "Duration of template renders.",
            ("flask_app", "template"),
            "seconds",
            DURATION_BUCKETS_SECONDS,
        ),
        Metric("flask_messages_flashed_total", "counter", "Messages flashed.", ("flask_app", "category")),
        Metric("flask_app_contexts_active", "gauge", "Application contexts pushed and not popped.", ("flask_app",)),
        Metric(
            "flask_audit_records_total", "counter", "Audit records, by outcome: written, lost, or stderr.", ("outcome",)
        ),
        Metric(
            "flask_app_info",
            "gauge",
            "The app and what it runs on; always 1.",
            ("flask_app", "service_name", "service_version", "flask_version", "python_version"),
        ),
        Metric(
            "observability_errors_total",
            "counter",
            "Failures inside the observability package itself; no request noticed them.",
            ("sink", "stage"),
        ),
        Metric(
            "observability_dropped_total",
            "counter",
            "Telemetry that could not be handed on, such as spans that the exporter gave up.",
            ("sink", "reason"),
        ),
        Metric(
            "observability_series_overflow_total",
            "counter",
            "Observations counted under _OTHER because a series limit was reached.",
            ("metric",),
        ),
        Metric("observability_workers", "gauge", "Processes whose metrics this scrape adds up."),
        Metric("observability_worker_starts_total", "counter", "Processes that began to keep metrics here."),
        Metric(
            "otel_sdk_exporter_span_exported_total",
            "counter",
            "Spans whose export has ended, by the error that it ended with; empty for those that were delivered.",
            ("error_type",),
            source=SEMCONV_SDK_METRICS,
        ),
    )
}

RUNTIME_METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", ("worker",)),
        Metric("process_open_fds", "gauge", "Number of open file descriptors.", ("worker",)),
        Metric("process_max_fds", "gauge", "Maximum number of open file descriptors.", ("worker",)),
        Metric("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", ("worker",)),
        Metric("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", ("worker",)),
        Metric(
            "process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", ("worker",)
        ),
        Metric(
            "python_gc_objects_collected_total", "counter", "Objects collected during gc.", ("generation", "worker")
        ),
        Metric(
            "python_gc_objects_uncollectable_total",
            "counter",
            "Uncollectable objects found during GC.",
            ("generation", "worker"),
        ),
        Metric(
            "python_gc_collections_total",
            "counter",
            "Number of times this generation was collected.",
            ("generation", "worker"),
        ),
        Metric("python_info", "gauge", "Python platform information.", ("version", "implementation")),
    )
}
"""What prometheus-client tells of the process that it runs in, by its names. ``worker`` is there only where several
processes keep their metrics together: the number, from 0, of the place that a process has taken."""

ATTRIBUTES: dict[str, Attribute] = {
    attribute.name: attribute
    for attribute in (
        Attribute("http.request.method", "required", at_creation=True),
        Attribute("url.path", "required", at_creation=True),
        Attribute("url.scheme", "required", at_creation=True),
        Attribute("http.request.method_original", "conditional", at_creation=True),
        Attribute("http.response.status_code", "conditional", at_creation=False),
        Attribute("http.route", "conditional", at_creation=True),
        Attribute("error.type", "conditional", at_creation=False),
        Attribute("server.port", "conditional", at_creation=True),
        Attribute("url.query", "conditional", at_creation=True),
        Attribute("client.address", "recommended", at_creation=True),
        Attribute("network.peer.address", "recommended", at_creation=True),
        Attribute("network.peer.port", "recommended", at_creation=True),
        Attribute("network.protocol.version", "recommended", at_creation=True),
        Attribute("server.address", "recommended", at_creation=True),
        Attribute("user_agent.original", "recommended", at_creation=True),
        Attribute("http.request.body.size", "opt-in", at_creation=True),
        Attribute("http.response.body.size", "opt-in", at_creation=False),
        Attribute("user.id", "opt-in", at_creation=False),
        Attribute("flask.endpoint", "ours", at_creation=True),
        Attribute("flask.request_id", "ours", at_creation=True),
        Attribute("client_disconnected", "ours", at_creation=False),
    )
}
