"""``http_server_active_requests`` and ``flask_app_contexts_active``: read at a scrape from the records that are open.

A gauge that is counted up and down can leak; what is looked at cannot. It also costs a request one entry of a dict.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..catalogue import METRICS
from ..catalogue import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry

    from ..record import RequestRecord

__all__ = ["ACTIVE_REQUESTS", "CONTEXTS", "SCHEMES", "AppInFlight", "InFlight", "scheme_of"]

ACTIVE_REQUESTS = "http_server_active_requests"
CONTEXTS = "flask_app_contexts_active"

SCHEMES = frozenset({"http", "https"})


class AppInFlight:
    """The open requests of one app. Safe to use from several threads."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[RequestRecord, tuple[str, str]]] = {}
        self._seen: set[tuple[str, str]] = set()
        self._contexts_outside = 0
        # Entered again where the garbage collector closes a generator, and with it a context, in the middle.
        self._lock = threading.RLock()

    def enter(self, record: RequestRecord) -> None:
        """Count a request in, under its method and the scheme that it has now, whatever a ProxyFix makes of it."""
        labels = (record.method, scheme_of(record.environ.get("wsgi.url_scheme")))
        self._seen.add(labels)
        self._open[id(record)] = (record, labels)

    def leave(self, record: RequestRecord) -> None:
        """Count a request out, and with it the application contexts that nobody popped."""
        self._open.pop(id(record), None)

    def add_contexts(self, change: int) -> None:
        """Count application contexts outside of observed requests."""
        with self._lock:
            # Never below 0: Flask sends an appcontext_popped for a context that was pushed inside a request, too.
            self._contexts_outside = max(0, self._contexts_outside + change)

    def active(self) -> Iterable[tuple[tuple[str, str], int]]:
        """Return the number of open requests by method and scheme, 0 for those that were seen earlier."""
        counts = Counter(labels for _, labels in list(self._open.values()))
        return [(labels, counts[labels]) for labels in sorted(self._seen)]

    def contexts(self) -> int:
        """Return the number of living application contexts."""
        return self._contexts_outside + sum(record.open_contexts for record, _ in list(self._open.values()))


class InFlight(Collector):
    """Both families in one registry, for all its apps."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._apps: dict[str, AppInFlight] = {}
        registry.register(self)

    def of(self, app_name: str) -> AppInFlight:
        """Return the open requests of the apps of this name."""
        return self._apps.setdefault(app_name, AppInFlight())

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name the families, for the registry to find two of one name."""
        return [_family(ACTIVE_REQUESTS), _family(CONTEXTS)]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Look at what is open now."""
        requests, contexts = _family(ACTIVE_REQUESTS), _family(CONTEXTS)
        for app_name, app in self._apps.copy().items():
            for labels, count in app.active():
                requests.add_metric((app_name, *labels), count)
            contexts.add_metric((app_name,), app.contexts())
        return [requests, contexts]


def _family(name: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, METRICS[name].help, labels=METRICS[name].labels)


def scheme_of(scheme: object) -> str:
    """Return the scheme as a label."""
    return scheme if isinstance(scheme, str) and scheme in SCHEMES else OTHER
