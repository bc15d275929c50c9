"""The catalogue's metrics: children cached, series bounded, a finished request counted in one step."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import weakref
from bisect import bisect_left
from typing import Any
from typing import TYPE_CHECKING

import prometheus_client

from ..catalogue import METRICS
from ..catalogue import OTHER
from ..errors import ConfigurationError
from ..metrics_store.family import Family
from ..metrics_store.family import MAX_AMOUNT
from ..metrics_store.names import check_names
from ..metrics_store.segment import MAX_CELL
from ..metrics_store.segment import SLOT_WORDS
from ..metrics_store.segment import write_slot
from ..metrics_store.sharing import share
from ..metrics_store.store import MetricsStore
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
from .signal_counts import SIGNALS_SENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Hashable

    from prometheus_client import CollectorRegistry

    from ..catalogue import Metric
    from ..config import Config
    from ..metrics_push.push import Push
    from ..metrics_store.family import Histogram
    from ..record import EventRecord
    from ..record import Outputs
    from ..record import RequestRecord

__all__ = ["Families", "MetricsSink", "Vocabulary"]

STATUSES = range(100, 600)
MAX_LABEL_CHARACTERS = 256
"""Longer values are cut: a label is sent with every sample of every scrape."""

DURATION = "http_server_request_duration_seconds"
OVERFLOW = "observability_series_overflow_total"
BODY_SIZE = "http_server_response_body_size_bytes"
DERIVED = frozenset({SIGNALS_SENT, ACTIVE_REQUESTS, CONTEXTS})
INFO = "flask_app_info"

MAX_SHAPES = 20_000
"""Kinds of finished requests that are kept; there may be 256 sequences of signals for each series."""


class Families:
    """The catalogue's families in one registry, shared by every app that reports there under its ``flask_app``."""

    def __init__(self, registry: CollectorRegistry, extra_labels: tuple[str, ...], shared: str) -> None:
        self.extra_labels = extra_labels
        self.shared = shared
        self.store = store = MetricsStore()
        self._families: dict[str, Family] = {}
        overflow: Family | None = None
        for metric in sorted(METRICS.values(), key=lambda metric: metric.name != OVERFLOW):
            if metric.name not in DERIVED:
                family = self._families[metric.name] = Family(
                    metric,
                    store,
                    extra_labels=extra_labels if metric.name == DURATION else (),
                    overflow=overflow,
                    merge="any" if metric.name == INFO else "sum",
                )
                overflow = overflow or family
        self.signals = SignalCounts(store)
        self.in_flight = InFlight(store)
        store.presence = [self["observability_workers"].child(), self["observability_worker_starts_total"].child()]
        for cell in store.presence:
            cell.set(1)
        # There from the start, so that a rate can be taken of the first one.
        for outcome in ("written", "lost"):
            self["flask_audit_records_total"].child(outcome)
        self["otel_sdk_exporter_span_exported_total"].child("")
        registry.register(store)
        share(store, shared, 0 if registry is prometheus_client.REGISTRY else next(_registries))

    def __getitem__(self, name: str) -> Family:
        return self._families[name]

    def declare(self, metric: Metric, registry: CollectorRegistry) -> Family:
        """Return the family of a metric that is not the catalogue's, made at the first call.

        Raises:
            ConfigurationError: The registry holds another metric of this name.
        """
        with _families_lock:
            family = self._families.get(metric.name)
            if family is None:
                check_names(metric, registry)
                family = self._families[metric.name] = Family(metric, self.store, overflow=self[OVERFLOW])
                # Under all names again, for name[] and for the next that looks for a name that is free.
                registry.unregister(self.store)
                registry.register(self.store)
        known = family.metric
        if (known.kind, known.labels, known.buckets) != (metric.kind, metric.labels, metric.buckets):
            raise ConfigurationError(
                f"{metric.name!r} is there already, with other labels or buckets: "
                f"a {known.kind} with the labels {known.labels} and the buckets {known.buckets}, "
                f"not a {metric.kind} with {metric.labels} and {metric.buckets}. Give one of them another name."
            )
        return family

    @classmethod
    def of(cls, registry: CollectorRegistry, extra_labels: tuple[str, ...], shared: str = "off") -> Families:
        """Return the registry's families, registered at the first call.

        Raises:
            ConfigurationError: the registry holds metrics of these names that are not ours, or ours with other labels.
        """
        with _families_lock:
            families = _families_of.get(registry)
            if families is None:
                try:
                    families = _families_of[registry] = cls(registry, extra_labels, shared)
                except ConfigurationError:
                    raise
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
        if families.shared != shared:
            raise ConfigurationError(
                f"metrics_shared={shared!r} differs from {families.shared!r}, with which another app reports to the "
                "same registry. Give both apps the same metrics_shared, or pass registry= to one of them."
            )
        return families


_families_of: weakref.WeakKeyDictionary[CollectorRegistry, Families] = weakref.WeakKeyDictionary()
_families_lock = threading.Lock()
_registries = itertools.count(1)
"""Numbers for registries of an app's own; workers of one server make them in the same order."""


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
        self.app_name = self._app_name = app_name = utf8(app_name)
        self._registry = registry
        self._max_series = config.max_series
        self._allowed = {name: frozenset(values) for name, values in sorted(config.metric_labels.items())}
        self.families = families = Families.of(registry, tuple(self._allowed), config.metrics_shared)
        self.duration = self._duration = families[DURATION]
        self._audit_records = families["flask_audit_records_total"]
        self._store = families.store
        self._in_flight = families.in_flight.of(app_name)
        self._in_flight.follows_contexts = config.context_signals
        self._body_size = families[BODY_SIZE]
        self._exceptions = families["flask_exceptions_total"]
        self._render = families["flask_template_render_duration_seconds"]
        self._flashed = families["flask_messages_flashed_total"]
        self._signals = families.signals.of(app_name)
        self._store.failed = self._unreadable
        self._routes = Vocabulary(config.max_routes)
        self._error_types = Vocabulary(config.max_label_values)
        self._templates = Vocabulary(config.max_label_values)
        self._categories = Vocabulary(config.max_label_values)
        self._audited: dict[str, Callable[[], None]] = {}
        # By what a record holds, so that nothing is turned into label text twice.
        self._shapes: dict[Hashable, Shape] = {}
        self.push: Push | None = None
        """What sends them on, where ``metrics_push`` is on."""

    def describe_app(self, **labels: str) -> None:
        """Set ``flask_app_info``."""
        info = self.families[INFO]
        info.child(self._app_name, *(labels[name] for name in METRICS[INFO].labels[1:])).set(1)

    def failed(self, sink: str, stage: str) -> None:
        """Count a failure that the guard kept from the request."""
        self.families["observability_errors_total"].child(sink, stage).inc()

    def _unreadable(self, files: int) -> None:
        self.families["observability_errors_total"].child(self.name, "share").inc(files)

    def dropped(self, sink: str, reason: str, count: int) -> None:
        """Count telemetry that could not be handed on."""
        self.families["observability_dropped_total"].child(sink, reason).inc(count)

    def exported(self, spans: int, error_type: str) -> None:
        """Count spans whose export has ended; with an ``error_type`` they are dropped."""
        self.families["otel_sdk_exporter_span_exported_total"].child(error_type).inc(spans)
        if error_type:
            self.dropped("tracing", "export", spans)

    def audited(self, outcome: str) -> None:
        """Count an audit record, ``written``, ``lost`` or ``stderr``."""
        try:
            count = self._audited[outcome]
        except KeyError:
            count = self._audited[outcome] = self._audit_records.child(outcome).inc
        count()

    def close(self) -> None:
        """Push them for the last time: the process ends."""
        if self.push is not None:
            self.push.close()

    def flush(self) -> None:
        """Push them now, in bounded time."""
        if self.push is not None:
            self.push.flush()

    # Watched signals: their families are the user's.

    def declare(self, metric: Metric) -> Family:
        """Return the family of a metric that is not the catalogue's; see :meth:`Families.declare`."""
        return self.families.declare(metric, self._registry)

    def watched(self, family: Family, *labels: str) -> Any:
        """Return the child of these values, after the app's name, of a family that was declared."""
        return family.child(self._app_name, *labels, max_series=self._max_series)

    def knows(self, family: Family, *labels: str) -> bool:
        """Tell whether these values have a child of their own."""
        return family.knows(self._app_name, *labels)

    # Requests.

    def open(self, record: RequestRecord) -> None:
        """Count the request in."""
        self._in_flight.enter(record)

    def finish(self, record: RequestRecord) -> None:
        """Count the request out, time it, and count the signals that it sent.

        The hot path, flat: a call for each of these took twice the instructions
        (``tests/benchmarks/overhead.py`` counts them).
        """
        key = (record.method, record.scheme, record.route, record.status, record.error_type, *record.signals)
        shape = self._shapes.get(key)
        if shape is None:
            self._in_flight.leave(record)  # should there be no such series
            shape = self._shape(record, key)
        active = record.state.get("metrics")
        duration_ns = record.duration_ns or 0
        duration_ns = duration_ns if duration_ns < MAX_AMOUNT else MAX_AMOUNT
        bucket = bisect_left(shape.bounds, duration_ns)
        size = record.response_size
        store = self._store
        if record.started_unix_ns >= store.publish_from_ns:
            store.publish()
        with store.lock:
            words = store.words
            if active is not None:  # first: whatever fails from here on, the request is over
                records = active.records
                records.pop(id(record), None)
                words[active.index] = len(records)
            words[shape.buckets + bucket] += 1
            seconds = words[shape.sum] + duration_ns
            words[shape.sum] = seconds if seconds < MAX_CELL else MAX_CELL
            words[shape.signals] += 1
            if size is not None:
                size = size if size < MAX_AMOUNT else MAX_AMOUNT
                words[shape.size_buckets + bisect_left(shape.size_bounds, size)] += 1
                octets = words[shape.size_sum] + size
                words[shape.size_sum] = octets if octets < MAX_CELL else MAX_CELL
            if record.sampled and record.trace_id is not None and record.span_id is not None:
                unix_ns = record.started_unix_ns + duration_ns
                ids = bytes.fromhex(record.trace_id + record.span_id)
                write_slot(store.octets, words, shape.slots + bucket * SLOT_WORDS, unix_ns, duration_ns, ids)

    def abandon(self, record: RequestRecord) -> None:
        """Count the request out."""
        self._in_flight.leave(record)

    def _shape(self, record: RequestRecord, key: Hashable) -> Shape:
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
        signals = self._signals.sequence(tuple(record.signals))
        shape = Shape.of(
            self._duration.child(*common, type_label, *extra, max_series=self._max_series),
            self._body_size.child(*common, max_series=self._max_series),
            (signals or self._signals.nothing).index,
        )
        if signals is None:
            self._signals.add(record.signals)
        known = self._duration.knows(*common, type_label, *extra) and self._body_size.knows(*common) and signals
        same = common[3] == route and type_label == error_type and record.scheme in SCHEMES and not extra
        if known and same and len(self._shapes) < MAX_SHAPES:
            # What overflowed is not kept: there may be no end of it. Nor is a scheme, which a proxy's header may give.
            self._shapes[key] = shape
        return shape

    def _annotated(self, record: RequestRecord, name: str) -> str:
        value = (record.annotations or {}).get(name)
        if value is None:
            return ""
        text = value if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else OTHER
        return text if text in self._allowed[name] else OTHER

    # Events.

    def teller(self, outputs: Outputs) -> None:
        """Have nothing to do: what watches a signal counts it."""

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Count an error or a message, time a render."""
        if event.name == "template_rendered":
            template = self._templates.admit(event.fields["template"], self._render)
            child = self._render.child(self._app_name, template, max_series=self._max_series)
            child.observe(event.duration_ns or 0, _exemplar(event, record))
        elif event.name == "message_flashed":
            category = self._categories.admit(event.fields["category"], self._flashed)
            self._flashed.child(self._app_name, category, max_series=self._max_series).inc()
        elif event.name == "exception" and event.error is not None:
            route = self._routes.admit((record.route if record is not None else None) or "", self._exceptions)
            kind = self._error_types.admit(error_type_of(event.error), self._exceptions)
            self._exceptions.child(self._app_name, route, kind, max_series=self._max_series).inc()

    def signal(self, app_name: str, signal: str) -> None:
        """Count a lifecycle signal that was sent outside an observed request."""
        self._signals.add((signal,))

    def context(self, app_name: str, change: int) -> None:
        """Follow the number of application contexts outside of requests."""
        self._in_flight.add_contexts(change)


@dataclasses.dataclass(slots=True, eq=False)
class Shape:
    """Where a finished request is counted: the cells of its duration, its body's size and its signals."""

    bounds: tuple[int, ...]
    buckets: int
    sum: int
    slots: int
    size_bounds: tuple[int, ...]
    size_buckets: int
    size_sum: int
    signals: int

    @classmethod
    def of(cls, duration: Histogram, size: Histogram, signals: int) -> Shape:
        """Return the cells of these children."""
        own = duration.bounds, duration.index, duration.sum_index, duration.slot_at(0)
        return cls(*own, size.bounds, size.index, size.sum_index, signals)


def _exemplar(event: EventRecord, record: RequestRecord | None) -> tuple[int, str, str] | None:
    if record is None or not record.sampled or record.trace_id is None or record.span_id is None:
        return None
    return event.unix_ns, record.trace_id, record.span_id
