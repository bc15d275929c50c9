"""Sends what is in a registry, at an interval and when the process ends: of each process its own part.

The receiver adds processes up, as it does with those that Prometheus scrapes, so each has a ``service.instance.id`` of
its own; what a dead one has counted is the receiver's to keep.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
import uuid
import weakref
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.metrics.export import ResourceMetrics
from opentelemetry.sdk.metrics.export import ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics import MetricWrapperBase

from ..catalogue import SCHEMA_URL
from ..errors import ConfigurationError
from ..exporters import METRICS
from ..exporters import sdk_is_disabled
from ..exposition import collectors_of
from ..guard import LOG_INTERVAL_SECONDS
from ..metrics_store.store import MetricsStore
from ..metrics_store.workers import leader_of_coming_workers
from ..metrics_store.workers import leader_of_this_worker
from ..metrics_store.workers import on_uwsgi_fork
from ..shutdown import BoundedShutdown
from ..shutdown import within
from .batch import Batch

try:
    from opentelemetry.instrumentation.utils import suppress_instrumentation
except ImportError:  # then nobody traces what a push sends
    from contextlib import nullcontext as suppress_instrumentation  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from opentelemetry.sdk.metrics.export import MetricExporter
    from prometheus_client import CollectorRegistry

    from ..guard import Guard

__all__ = ["Push", "push_of"]

logger = logging.getLogger("flask_signal_observability")

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL", 60_000.0
TIMEOUT = "OTEL_METRIC_EXPORT_TIMEOUT", 30_000.0
"""Milliseconds, and the specification's defaults."""

INSTANCE_ID = "service.instance.id"


class Push:
    """Sends one registry's metrics from every process that it is in. Safe to use from several threads.

    Args:
        registry: what is sent; our own families, and those of every other collector.
        exporters: where to, by name; each is made anew in a forked process, as two that share a connection read each
            other's answers.
        resource: who sends it.
        guard: keeps the errors of collectors and exporters.
        dropped: counts what could not be delivered, by sink, reason and number; here one push.
        flush_timeout_seconds: how long a process that ends waits for its last push.
        version: this package's.

    Raises:
        ConfigurationError: a variable has a value that cannot be used.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        exporters: dict[str, MetricExporter],
        resource: Resource,
        guard: Guard,
        dropped: Callable[[str, str, int], object],
        flush_timeout_seconds: float,
        version: str,
    ) -> None:
        self._registry = registry
        self._names = tuple(exporters)
        self._resource = resource
        self._guard = guard
        self._dropped = dropped
        self._flush_timeout_seconds = flush_timeout_seconds
        self._scope = InstrumentationScope("flask_signal_observability", version, SCHEMA_URL)
        self._timeout_milliseconds = _milliseconds(*TIMEOUT)
        interval_seconds = _milliseconds(*INTERVAL) / 1000
        self._last_told_seconds = -math.inf
        self._is_closed = False
        self._here = _Process(resource, is_one_of_several=leader_of_this_worker() is not None)
        self._here.exporters = list(exporters.values())
        begin = weakref.WeakMethod(self._begin)
        os.register_at_fork(after_in_child=lambda: _call(begin))
        on_uwsgi_fork(lambda: _call(begin))
        self._thread = BoundedShutdown(self.push, flush_timeout_seconds, self.push, interval_seconds)

    def _begin(self) -> None:
        """Be a process of one's own, right after a fork."""
        if self._here.id != os.getpid():
            self._here = _Process(self._resource, is_one_of_several=True)
            self._thread.start()

    def close(self) -> None:
        """Push for the last time, within the limit, since the process ends; later calls do nothing."""
        _pushes.pop(self._registry, None)
        self._is_closed = True
        self._told_in_time(self._thread())

    def abandon(self) -> None:
        """Push nothing when the process ends: it has served nobody."""
        _pushes.pop(self._registry, None)
        self._is_closed = True

    def flush(self) -> None:
        """Push now, within the limit; never raises."""
        if self._is_closed:
            return
        self._told_in_time(within(self._flush_timeout_seconds, self.push))

    def _told_in_time(self, in_time: bool) -> None:  # noqa: FBT001
        if not in_time:
            self._failed(f"not delivered within {self._flush_timeout_seconds} s")

    def push(self) -> None:
        """Push now; never raises."""
        self._begin()
        here = self._here
        with here.lock:
            if leader_of_coming_workers() is not None:
                return  # a master serves nobody, and a scrape does not tell of it, either
            if here.exporters is None:
                made = map(METRICS.make_exporter, self._names)
                here.exporters = [exporter for exporter in made if exporter is not None]
            data = self._data(here)
            for exporter in here.exporters:
                self._guard.call("metrics", "push", self._export, exporter, data)

    def _data(self, here: _Process) -> MetricsData:
        batch = Batch(time.time_ns(), here.told_ns, here.began)
        for collector in collectors_of(self._registry, None):
            if getattr(collector, "of_all_workers", False):
                continue  # the receiver adds up what the workers send
            self._guard.call("metrics", "collect", _add, collector, batch)
        here.told_ns, here.began = batch.now_ns, batch.began
        scope = ScopeMetrics(self._scope, batch.metrics, SCHEMA_URL)
        return MetricsData([ResourceMetrics(here.resource, [scope], here.resource.schema_url)])

    def _export(self, exporter: MetricExporter, data: MetricsData) -> None:
        try:
            with suppress_instrumentation():
                result = exporter.export(data, timeout_millis=self._timeout_milliseconds)
        except OSError as error:  # what requests raises, too
            self._failed(str(error))
        else:
            if result is not MetricExportResult.SUCCESS:
                self._failed("the exporter gave up")

    def _failed(self, reason: str) -> None:
        self._dropped("metrics", "export", 1)
        now = time.monotonic()
        if now - self._last_told_seconds >= LOG_INTERVAL_SECONDS:
            self._last_told_seconds = now
            logger.warning(
                "the metrics could not be pushed (%s); the next push brings them. Is the collector there? (told once a "
                "minute, counted in observability_dropped_total)",
                reason,
            )


class _Process:
    """What one process has for itself, from its begin."""

    def __init__(self, resource: Resource, *, is_one_of_several: bool) -> None:
        self.id = os.getpid()
        self.lock = threading.Lock()
        self.exporters: list[MetricExporter] | None = None
        """None: not made yet."""
        self.told_ns = time.time_ns()
        """When the last batch was made; at first, when the process began."""
        self.began: dict[Any, int] = {}
        given = resource.attributes.get(INSTANCE_ID)
        if given and not is_one_of_several:
            self.resource = resource
        else:
            unique = f"{given}.{uuid.uuid4().hex[:8]}" if given else str(uuid.uuid4())
            self.resource = resource.merge(Resource({INSTANCE_ID: unique}))


def _add(collector: Any, batch: Batch) -> None:
    if isinstance(collector, MetricsStore):
        reading = collector.read_own()
        for family in collector.families.copy().values():
            batch.add_own(family, reading)
    else:
        for family in collector.collect():
            if family.name != "target" or family.type != "info":  # the resource, in OTLP
                batch.add(family, counted_here=isinstance(collector, MetricWrapperBase))


def _milliseconds(variable: str, default: float) -> float:
    text = os.environ.get(variable, "").strip() or default
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = math.nan
    if not 0 < milliseconds < math.inf:
        raise ConfigurationError(f"environment variable {variable}={text!r}: give milliseconds, such as {default:g}")
    return milliseconds


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    function = method()
    if function is not None:
        function()


_pushes: dict[CollectorRegistry, Push] = {}


def push_of(registry: CollectorRegistry, resource: Resource | Mapping[str, str], *arguments: Any) -> Push | None:
    """Return what sends a registry's metrics, made at the first call: apps that share it are sent once.

    None where the environment names no exporter, or none that can be had, or disables the SDK; ``otlp`` is meant where
    it names nothing, and ``prometheus`` scrapes.

    Args:
        registry: what is sent.
        resource: that of the spans, or attributes, to which those of ``OTEL_RESOURCE_ATTRIBUTES`` are added.
        arguments: the others of :class:`Push`.
    """
    push = _pushes.get(registry)
    if push is None:
        exporters = {} if sdk_is_disabled() else METRICS.make_exporters(["otlp"], apart_from=("none", "prometheus"))
        if exporters:
            sender = resource if isinstance(resource, Resource) else Resource.create(dict(resource))
            push = _pushes[registry] = Push(registry, exporters, sender, *arguments)
    return push


def _close() -> None:
    for push in list(_pushes.values()):
        push.close()


# Imported before a TracerProvider is made, so called after that has delivered its last spans, which are counted.
atexit.register(_close)
