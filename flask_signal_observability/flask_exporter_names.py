"""The names of prometheus-flask-exporter beside ours, for the dashboards of before: ``metric_names="flask_exporter"``.

They are made of our duration at a scrape, so that a request pays nothing. The exporter groups by one of ``path``,
``endpoint`` and ``url_rule``; here are all three, so that a query for any of them finds it.
https://github.com/rycus86/prometheus_flask_exporter
"""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client import Metric as MetricFamily
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from . import __version__
from .errors import ConfigurationError
from .metrics_store.page import go

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from flask import Flask
    from prometheus_client import CollectorRegistry

    from .metrics_store.reading import HistogramRow
    from .sinks.metrics import MetricsSink

__all__ = ["FlaskExporterNames", "offer"]

DURATION = "flask_http_request_duration_seconds"
TOTAL = "flask_http_request_total"
EXCEPTIONS = "flask_http_request_exceptions_total"
INFO = "flask_exporter_info"

NOT_MATCHED = "None"
"""What the exporter writes for the endpoint and the rule of a URL that matches none."""

FAILED = "500"
"""What it says of a request that ended without a response."""


def offer(app: Flask, metrics: MetricsSink, registry: CollectorRegistry) -> None:
    """Add these names to what ``registry`` tells, and this app to what they tell of.

    Raises:
        ConfigurationError: the names are taken, as they are while the exporter itself is there.
    """
    with _lock:
        names = _names_of.get(registry)
        if names is None:
            names = FlaskExporterNames(metrics)
            try:
                registry.register(names)
            except ValueError as error:
                raise ConfigurationError(
                    f"metric_names='flask_exporter': {error}. Take prometheus-flask-exporter out, or leave this option "
                    "out while both are there."
                ) from error
            _names_of[registry] = names
        names.apps[metrics.app_name] = app


_names_of: weakref.WeakKeyDictionary[CollectorRegistry, FlaskExporterNames] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a request went, in the exporter's words."""

    path: str
    """The rule, too, where it has variable parts: paths as they come would be series without end."""
    endpoint: str
    url_rule: str


class FlaskExporterNames(Collector):
    """The exporter's metrics, of all apps that report to one registry."""

    of_all_workers = True
    """What each worker pushes must be its own."""

    def __init__(self, metrics: MetricsSink) -> None:
        self._duration = metrics.duration
        self._store = metrics.families.store
        self.apps: weakref.WeakValueDictionary[str, Flask] = weakref.WeakValueDictionary()

    def describe(self) -> Iterable[MetricFamily]:
        """Name the families, for the registry to find two of one name."""
        return [*_families().values(), _info()]

    def collect(self) -> Iterable[MetricFamily]:
        """Read our duration, and tell it in the exporter's words."""
        places = {name: _places(app) for name, app in self.apps.items()}
        durations: dict[tuple[str, str, Place], list[HistogramRow]] = defaultdict(list)
        totals: dict[tuple[str, str], int] = defaultdict(int)
        exceptions: dict[str, int] = defaultdict(int)
        for row in self._store.read(exemplars=False).histograms(self._duration):
            app_name, method, _, route, status, error_type = row.labels[:6]
            status = status or FAILED
            place = _place(places.get(app_name, {}), route, method)
            durations[method, status, place].append(row)
            totals[method, status] += row.cumulated[-1]
            if error_type and not error_type.isdigit() and status >= FAILED:
                exceptions[method] += row.cumulated[-1]
        return [*self._told(durations, totals, exceptions), _info()]

    def _told(
        self,
        durations: dict[tuple[str, str, Place], list[HistogramRow]],
        totals: dict[tuple[str, str], int],
        exceptions: dict[str, int],
    ) -> Iterable[MetricFamily]:
        families = _families()
        for (method, status, place), rows in durations.items():
            labels = {"method": method, "status": status, **dataclasses.asdict(place)}
            self._add_histogram(families[DURATION], labels, rows)
        for (method, status), number in totals.items():
            families[TOTAL].add_sample(TOTAL, {"method": method, "status": status}, float(number))
        for method, number in exceptions.items():
            families[EXCEPTIONS].add_sample(EXCEPTIONS, {"method": method, "status": FAILED}, float(number))
        return families.values()

    def _add_histogram(self, family: MetricFamily, labels: dict[str, str], rows: Sequence[HistogramRow]) -> None:
        bounds = (*self._duration.metric.buckets, float("inf"))
        for bound, *numbers in zip(bounds, *(row.cumulated for row in rows), strict=True):
            family.add_sample(f"{DURATION}_bucket", {**labels, "le": go(bound)}, float(sum(numbers)))
        family.add_sample(f"{DURATION}_count", labels, float(sum(row.cumulated[-1] for row in rows)))
        family.add_sample(f"{DURATION}_sum", labels, sum(row.sum for row in rows) / self._duration.unit)


def _families() -> dict[str, MetricFamily]:
    return {
        DURATION: MetricFamily(DURATION, "Flask HTTP request duration in seconds", "histogram"),
        TOTAL: MetricFamily(TOTAL.removesuffix("_total"), "Total number of HTTP requests", "counter"),
        EXCEPTIONS: MetricFamily(
            EXCEPTIONS.removesuffix("_total"), "Total number of HTTP requests which resulted in an exception", "counter"
        ),
    }


def _info() -> MetricFamily:
    info = GaugeMetricFamily(INFO, "What tells the metrics of prometheus-flask-exporter's names", labels=["version"])
    info.add_metric([__version__], 1)
    return info


def _places(app: Flask) -> dict[tuple[str, str], Place]:
    return {
        (rule.rule, method): Place(rule.rule, rule.endpoint, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }


def _place(places: dict[tuple[str, str], Place], route: str, method: str) -> Place:
    """Return where a route leads; below a mount prefix, which a route of ours has and a rule of Flask's has not."""
    if not route:
        return Place("", NOT_MATCHED, NOT_MATCHED)
    exact = places.get((route, method))
    if exact is not None:
        return dataclasses.replace(exact, path=route)
    below = [place for (rule, known), place in places.items() if known == method and route.endswith(rule)]
    if not below:
        return Place(route, NOT_MATCHED, route)
    return dataclasses.replace(max(below, key=lambda place: len(place.url_rule)), path=route)
