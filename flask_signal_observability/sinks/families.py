"""The catalogue's families in one registry, and those that watched signals declare there."""

from __future__ import annotations

import itertools
import threading
import weakref
from typing import TYPE_CHECKING

import prometheus_client

from ..catalogue import METRICS
from ..errors import ConfigurationError
from ..metrics_store.family import Family
from ..metrics_store.sharing import share
from ..metrics_store.store import MetricsStore
from .in_flight import ACTIVE_REQUESTS
from .in_flight import CONTEXTS
from .in_flight import InFlight
from .signal_counts import SignalCounts
from .signal_counts import SIGNALS_SENT

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from ..catalogue import Metric

__all__ = ["BODY_SIZE", "DERIVED", "DURATION", "INFO", "Families"]

DURATION = "http_server_request_duration_seconds"
BODY_SIZE = "http_server_response_body_size_bytes"
OVERFLOW = "observability_series_overflow_total"
INFO = "flask_app_info"
DERIVED = frozenset({SIGNALS_SENT, ACTIVE_REQUESTS, CONTEXTS})


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
                from ..metrics_store.names import take_names  # noqa: PLC0415 - of watched signals alone

                take_names(metric, self.store, registry)
                family = self._families[metric.name] = Family(metric, self.store, overflow=self[OVERFLOW])
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
