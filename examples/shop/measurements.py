"""What /metrics says, route by route: requests, rate, errors and quantiles."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from dataclasses import field

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

__all__ = [
    "DURATION",
    "RouteStatistics",
    "dropped_spans",
    "exemplar_line",
    "exemplar_trace_ids",
    "observed_requests",
    "statistics_by_route",
]

DURATION = "http_server_request_duration_seconds"


@dataclass
class RouteStatistics:
    """The duration histogram of one method and route, all statuses together."""

    requests: int = 0
    errors: int = 0
    """Answered with a 5xx."""
    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    """Requests by upper bound in seconds, cumulative as Prometheus keeps them."""

    def quantile_seconds(self, share: float) -> float:
        """Interpolate within a bucket, as histogram_quantile does; NaN without a request."""
        wanted = share * self.requests
        lower_bound, below = 0.0, 0.0
        for bound, cumulative in sorted(self.buckets.items()):
            if cumulative >= wanted and cumulative > below:
                inside = (wanted - below) / (cumulative - below)
                return lower_bound if math.isinf(bound) else lower_bound + (bound - lower_bound) * inside
            lower_bound, below = bound, cumulative
        return math.nan


def statistics_by_route(exposition: str) -> dict[tuple[str, str], RouteStatistics]:
    """Return the statistics of each ``(method, route)``; an unmatched URL has the route ``""``."""
    routes: dict[tuple[str, str], RouteStatistics] = defaultdict(RouteStatistics)
    for family in read_text(exposition):
        for sample in family.samples if family.name == DURATION else ():
            route = routes[sample.labels["http_request_method"], sample.labels["http_route"]]
            if sample.name == f"{DURATION}_bucket":
                route.buckets[float(sample.labels["le"])] += sample.value
            elif sample.name == f"{DURATION}_count":
                route.requests += int(sample.value)
                if sample.labels["http_response_status_code"].startswith("5"):
                    route.errors += int(sample.value)
    return dict(routes)


def observed_requests(exposition: str) -> int:
    """Return how many requests the duration histogram has seen."""
    return sum(route.requests for route in statistics_by_route(exposition).values())


def dropped_spans(exposition: str) -> int:
    """Return how many spans the exporter gave up."""
    return sum(
        int(sample.value)
        for family in read_text(exposition)
        for sample in family.samples
        if sample.name == "observability_dropped_total" and sample.labels["sink"] == "tracing"
    )


def exemplar_trace_ids(openmetrics: str) -> dict[str, dict[str, str]]:
    """Return the labels of each duration bucket that has an exemplar, by the trace id that it carries."""
    return {
        sample.exemplar.labels["trace_id"]: {**sample.labels, **sample.exemplar.labels}
        for family in read_openmetrics(openmetrics)  # type: ignore[no-untyped-call]
        if family.name == DURATION
        for sample in family.samples
        if sample.exemplar
    }


def exemplar_line(openmetrics: str, trace_id: str) -> str:
    """Return the line of /metrics whose exemplar carries ``trace_id``; empty where there is none."""
    return next((line for line in openmetrics.splitlines() if " # {" in line and trace_id in line), "")
