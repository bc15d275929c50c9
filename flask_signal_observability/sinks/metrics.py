"""The catalogue's metrics: children cached, series bounded, a finished request counted in one step."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any
from typing import TYPE_CHECKING

from ..catalogue import METRICS
from ..metrics_store.family import MAX_AMOUNT
from ..metrics_store.segment import MAX_CELL
from ..metrics_store.segment import SLOT_WORDS
from ..metrics_store.segment import write_slot
from ..record import error_type_of
from ..record import Sink
from ..text import utf8
from .families import DURATION
from .families import Families
from .families import INFO
from .shapes import Shapes
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Hashable

    from prometheus_client import CollectorRegistry

    from ..catalogue import Metric
    from ..config import Config
    from ..metrics_push.push import Push
    from ..metrics_store.family import Family
    from ..record import EventRecord
    from ..record import Outputs
    from ..record import RequestRecord
    from .shapes import Shape

__all__ = ["MetricsSink"]


class MetricsSink(Sink):
    """Counts and times what one app does. Safe to use from several threads."""

    name = "metrics"
    reads_details = False

    def __init__(self, config: Config, app_name: str, registry: CollectorRegistry) -> None:
        self.app_name = self._app_name = app_name = utf8(app_name)
        self._registry = registry
        self._max_series = config.max_series
        self.families = families = Families.of(registry, tuple(sorted(config.metric_labels)), config.metrics_shared)
        self.duration = families[DURATION]
        self._audit_records = families["flask_audit_records_total"]
        self._store = families.store
        self._in_flight = families.in_flight.of(app_name)
        self._in_flight.follows_contexts = config.context_signals
        self._exceptions = families["flask_exceptions_total"]
        self._render = families["flask_template_render_duration_seconds"]
        self._flashed = families["flask_messages_flashed_total"]
        self._signals = families.signals.of(app_name)
        self._store.failed = self._unreadable
        self._routes = Vocabulary(config.max_routes)
        self._error_types = Vocabulary(config.max_label_values)
        self._templates = Vocabulary(config.max_label_values)
        self._categories = Vocabulary(config.max_label_values)
        audit_written = self._audit_records.child("written")
        self.audit_written: Callable[[], None] = audit_written.inc
        """Counts an audit record that is in the file."""
        self._audit_written_index: int = audit_written.index
        self._shapes = Shapes(config, app_name, families, self._routes, self._error_types)
        self._known_shapes = self._shapes.known
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
        """Count an audit record that is not in the file, ``lost`` or ``stderr``."""
        self._audit_records.child(outcome).inc()

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

    def finish(self, record: RequestRecord) -> None:  # noqa: C901
        """Count the request out, time it, and count the signals that it sent.

        The hot path, flat: a call for each of these took twice the instructions
        (``tests/benchmarks/overhead.py`` counts them).
        """
        key = (record.method, record.scheme, record.route, record.status, record.error_type, *record.signals)
        try:
            shape = self._known_shapes[key]
        except KeyError:
            shape = self._new_shape(record, key)
        signals, buckets, total, slots, size_buckets, size_total, bounds, size_bounds = shape
        active = record.active
        duration_ns = record.duration_ns or 0
        if duration_ns > MAX_AMOUNT:  # noqa: PLR1730 - min() takes four times as long
            duration_ns = MAX_AMOUNT
        bucket = bisect_left(bounds, duration_ns)
        size = record.response_size
        store = self._store
        if record.started_unix_ns >= store.publish_from_ns:
            store.publish()
        lock = store.lock
        try:
            # Inside, so that an interrupt right behind it leaves no lock behind; a with statement takes twice as long.
            lock.acquire()
            words = store.words
            if active is not None:  # first: whatever fails from here on, the request is over
                records = active.records
                records.discard(record)
                words[active.index] = len(records)
            words[buckets + bucket] += 1
            try:
                words[total] += duration_ns
            except ValueError:  # more than a cell can hold
                words[total] = MAX_CELL
            words[signals] += 1
            if record.audit_written:
                words[self._audit_written_index] += 1
            if size is not None:
                words[size_buckets + bisect_left(size_bounds, size)] += 1
                try:
                    words[size_total] += size if size < MAX_AMOUNT else MAX_AMOUNT
                except ValueError:
                    words[size_total] = MAX_CELL
            if record.sampled and record.trace_id is not None and record.span_id is not None:
                unix_ns = record.started_unix_ns + duration_ns
                ids = bytes.fromhex(record.trace_id + record.span_id)
                write_slot(store.octets, words, slots + bucket * SLOT_WORDS, unix_ns, duration_ns, ids)
        finally:
            try:
                lock.release()
            except RuntimeError:  # the interrupt came before it
                pass

    def _new_shape(self, record: RequestRecord, key: Hashable) -> Shape:
        self._in_flight.leave(record)  # should there be no such series
        try:
            return self._shapes.make(record, key)
        except BaseException:
            if record.audit_written:  # its line is in the file whatever becomes of this one
                self.audit_written()
            raise

    def abandon(self, record: RequestRecord) -> None:
        """Count the request out."""
        self._in_flight.leave(record)

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


def _exemplar(event: EventRecord, record: RequestRecord | None) -> tuple[int, str, str] | None:
    if record is None or not record.sampled or record.trace_id is None or record.span_id is None:
        return None
    return event.unix_ns, record.trace_id, record.span_id
