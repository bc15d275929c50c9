"""The catalogue's metrics through prometheus-client: children cached, series bounded."""

from __future__ import annotations

import threading
import weakref
from typing import Any
from typing import TYPE_CHECKING

import prometheus_client

from ..catalogue import METRICS
from ..catalogue import OTHER
from ..errors import ConfigurationError
from ..record import error_type_of
from ..record import Sink
from ..text import cut
from ..text import utf8
from .in_flight import ACTIVE_REQUESTS
from .in_flight import CONTEXTS
from .in_flight import InFlight
from .in_flight import scheme_of
from .in_flight import SCHEMES
from .signal_counts import SignalCounts

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Hashable

    from prometheus_client import CollectorRegistry

    from ..catalogue import Metric
    from ..config import Config
    from ..record import EventRecord
    from ..record import RequestRecord

__all__ = ["Families", "Family", "MetricsSink", "Vocabulary"]

KINDS: dict[str, Callable[..., Any]] = {
    "counter": prometheus_client.Counter,
    "gauge": prometheus_client.Gauge,
    "histogram": prometheus_client.Histogram,
}

STATUSES = range(100, 600)
MAX_LABEL_CHARACTERS = 256
"""Longer values are cut: a label is sent with every sample of every scrape."""

DURATION = "http_server_request_duration_seconds"
OVERFLOW = "observability_series_overflow_total"
SIGNALS_SENT = "flask_signals_total"
READ_AT_SCRAPE = frozenset({SIGNALS_SENT, ACTIVE_REQUESTS, CONTEXTS})


class Families:
    """The catalogue's families in one registry, shared by every app that reports there under its ``flask_app``."""

    def __init__(self, registry: CollectorRegistry, extra_labels: tuple[str, ...]) -> None:
        self.extra_labels = extra_labels
        self._families: dict[str, Family] = {}
        overflow: Family | None = None
        for metric in sorted(METRICS.values(), key=lambda metric: metric.name != OVERFLOW):
            if metric.name in READ_AT_SCRAPE:
                continue
            labels = metric.labels + (extra_labels if metric.name == DURATION else ())
            family = Family(metric, labels, registry, overflow)
            overflow = overflow or family
            self._families[metric.name] = family
        self.signals = SignalCounts(METRICS[SIGNALS_SENT], registry)
        self.in_flight = InFlight(registry)

    def __getitem__(self, name: str) -> Family:
        return self._families[name]

    @classmethod
    def of(cls, registry: CollectorRegistry, extra_labels: tuple[str, ...]) -> Families:
        """Return the registry's families, registered at the first call.

        Raises:
            ConfigurationError: the registry holds metrics of these names that are not ours, or ours with other labels.
        """
        with _families_lock:
            families = _families_of.get(registry)
            if families is None:
                try:
                    families = _families_of[registry] = cls(registry, extra_labels)
                except ValueError as error:
                    raise ConfigurationError(
                        f"registry={registry!r} already holds metrics of these names: {error}. "
                        "Remove what registers them, or pass a CollectorRegistry of its own as registry=."
                    ) from error
        if families.extra_labels != extra_labels:
            raise ConfigurationError(
                f"metric_labels={extra_labels!r} differ from {families.extra_labels!r}, with which another app reports "
                "to the same registry. Give both apps the same metric_labels, or pass registry= to one of them."
            )
        return families


_families_of: weakref.WeakKeyDictionary[CollectorRegistry, Families] = weakref.WeakKeyDictionary()
_families_lock = threading.Lock()


class Family:
    """One metric family. A child is made once, and never more of them than ``max_series``."""

    def __init__(
        self, metric: Metric, labels: tuple[str, ...], registry: CollectorRegistry, overflow: Family | None
    ) -> None:
        buckets = {"buckets": metric.buckets} if metric.buckets else {}
        self.name = metric.name
        self._parent = KINDS[metric.kind](metric.name, metric.help, labels, registry=registry, **buckets)
        self._flask_app_first = labels[:1] == ("flask_app",)
        self._overflow = overflow
        self._children: dict[tuple[str, ...], Any] = {}

    def child(self, *labels: str, max_series: int | None = None) -> Any:
        """Return the child of these label values; at ``max_series`` it is the one of which all are ``_OTHER``."""
        child = self._children.get(labels)
        if child is None:
            if max_series is not None and len(self._children) >= max_series:
                keep = 1 if self._flask_app_first else 0
                others = labels[:keep] + (OTHER,) * (len(labels) - keep)
                if others != labels:
                    self.overflowed()
                    return self.child(*others)
            child = self._children[labels] = self._parent.labels(*labels)
        return child

    def knows(self, *labels: str) -> bool:
        """Tell whether these label values have a child of their own."""
        return labels in self._children

    def overflowed(self) -> None:
        """Count one observation that lost its own label values."""
        if self._overflow is not None:
            self._overflow.child(self.name).inc()


class Vocabulary:
    """The values that one label may take in one app: the first ``limit`` that come, and ``_OTHER`` from then on."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: set[str] = {""}

    def admit(self, value: str, family: Family) -> str:
        """Return the value, or ``_OTHER`` where there is no more room; the empty value always has room."""
        value = cut(utf8(value), MAX_LABEL_CHARACTERS)
        if value in self._values:
            return value
        if len(self._values) <= self._limit:
            self._values.add(value)
            return value
        family.overflowed()
        return OTHER


class MetricsSink(Sink):
    """Counts and times what one app does. Safe to use from several threads."""

    name = "metrics"

    def __init__(self, config: Config, app_name: str, registry: CollectorRegistry) -> None:
        self._app_name = app_name
        self._max_series = config.max_series
        self._allowed = {name: frozenset(values) for name, values in sorted(config.metric_labels.items())}
        self.families = families = Families.of(registry, tuple(self._allowed))
        self._duration = families[DURATION]
        self._in_flight = families.in_flight.of(app_name)
        self._body_size = families["http_server_response_body_size_bytes"]
        self._exceptions = families["flask_exceptions_total"]
        self._render = families["flask_template_render_duration_seconds"]
        self._flashed = families["flask_messages_flashed_total"]
        self._signals = families.signals.of(app_name)
        self._routes = Vocabulary(config.max_routes)
        self._error_types = Vocabulary(config.max_label_values)
        self._templates = Vocabulary(config.max_label_values)
        self._categories = Vocabulary(config.max_label_values)
        # Children by what a record holds, so that nothing is turned into label text twice.
        self._cached: dict[Hashable, Any] = {}

    def describe_app(self, **labels: str) -> None:
        """Set ``flask_app_info``."""
        info = self.families["flask_app_info"]
        info.child(self._app_name, *(labels[name] for name in METRICS["flask_app_info"].labels[1:])).set(1)

    def failed(self, sink: str, stage: str) -> None:
        """Count a failure that the guard kept from the request."""
        self.families["observability_errors_total"].child(sink, stage).inc()

    def dropped(self, sink: str, reason: str, count: int) -> None:
        """Count telemetry that could not be handed on."""
        self.families["observability_dropped_total"].child(sink, reason).inc(count)

    def exported(self, spans: int, error_type: str) -> None:
        """Count spans whose export has ended; with an ``error_type`` they are dropped."""
        self.families["otel_sdk_exporter_span_exported_total"].child(error_type).inc(spans)
        if error_type:
            self.dropped("tracing", "export", spans)

    def audited(self, outcome: str) -> None:
        """Count an audit record, ``written`` or ``lost``."""
        self.families["flask_audit_records_total"].child(outcome).inc()

    # Requests.

    def open(self, record: RequestRecord) -> None:
        """Count the request in."""
        self._in_flight.enter(record)

    def finish(self, record: RequestRecord) -> None:
        """Count the request out, time it, and count the signals that it sent."""
        self._in_flight.leave(record)
        self._signals.add(record.signals)
        key = (record.method, record.scheme, record.route, record.status, record.error_type)
        children = self._cached.get(key) if not self._allowed else None
        if children is None:
            children = self._request_children(record)
        duration, body_size = children
        duration.observe(record.duration_seconds, self._exemplar(record))
        if record.response_size is not None:
            body_size.observe(record.response_size)

    def abandon(self, record: RequestRecord) -> None:
        """Count the request out."""
        self._in_flight.leave(record)

    def _request_children(self, record: RequestRecord) -> tuple[Any, Any]:
        route, error_type = record.route or "", record.error_type or ""
        status = "" if record.status is None else str(record.status) if record.status in STATUSES else OTHER
        common = (
            self._app_name,
            record.method,
            scheme_of(record.scheme),
            self._routes.admit(route, self._duration),
            status,
        )
        type_label = self._error_types.admit(error_type, self._duration)
        extra = tuple(self._annotated(record, name) for name in self._allowed)
        children = (
            self._duration.child(*common, type_label, *extra, max_series=self._max_series),
            self._body_size.child(*common, max_series=self._max_series),
        )
        known = self._duration.knows(*common, type_label, *extra) and self._body_size.knows(*common)
        if known and common[3] == route and type_label == error_type and record.scheme in SCHEMES and not extra:
            # What overflowed is not kept: there may be no end of it. Nor is a scheme, which a proxy's header may give.
            key = (record.method, record.scheme, record.route, record.status, record.error_type)
            self._cached[key] = children
        return children

    def _annotated(self, record: RequestRecord, name: str) -> str:
        value = (record.annotations or {}).get(name)
        if value is None:
            return ""
        text = value if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else OTHER
        return text if text in self._allowed[name] else OTHER

    # Events.

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Count an error or a message, time a render."""
        if event.name == "template_rendered":
            template = self._templates.admit(event.fields["template"], self._render)
            child = self._render.child(self._app_name, template, max_series=self._max_series)
            child.observe((event.duration_ns or 0) / 1e9, self._exemplar(record))
        elif event.name == "message_flashed":
            category = self._categories.admit(event.fields["category"], self._flashed)
            self._flashed.child(self._app_name, category, max_series=self._max_series).inc()
        elif event.name == "exception" and event.error is not None:
            route = self._routes.admit((record.route if record is not None else None) or "", self._exceptions)
            kind = self._error_types.admit(error_type_of(event.error), self._exceptions)
            self._exceptions.child(self._app_name, route, kind, max_series=self._max_series).inc()

    @staticmethod
    def _exemplar(record: RequestRecord | None) -> dict[str, str] | None:
        if record is None or not record.sampled or record.trace_id is None or record.span_id is None:
            return None
        return {"trace_id": record.trace_id, "span_id": record.span_id}

    def signal(self, app_name: str, signal: str) -> None:
        """Count a lifecycle signal that was sent outside an observed request."""
        self._signals.add((signal,))

    def context(self, app_name: str, change: int) -> None:
        """Follow the number of application contexts outside of requests."""
        self._in_flight.add_contexts(change)
