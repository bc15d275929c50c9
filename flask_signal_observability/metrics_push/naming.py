"""What our families are called in OTLP, such that Prometheus calls them what ``/metrics`` does.

Those of OpenTelemetry's conventions have the convention's names, units and attributes; the others keep theirs, which
end in their unit and ``_total`` already, and so stay as they are.
https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#otlp-metric-points-to-prometheus
"""

from __future__ import annotations

from typing import NamedTuple
from typing import TYPE_CHECKING

from ..catalogue import ATTRIBUTES

if TYPE_CHECKING:
    from ..catalogue import Metric

__all__ = ["CONVENTIONS", "UNITS", "Named", "named"]

CONVENTIONS = {
    "http_server_request_duration_seconds": ("http.server.request.duration", "s"),
    "http_server_active_requests": ("http.server.active_requests", "{request}"),
    "http_server_response_body_size_bytes": ("http.server.response.body.size", "By"),
    "otel_sdk_exporter_span_exported_total": ("otel.sdk.exporter.span.exported", "{span}"),
}

UNITS = {"seconds": "s", "bytes": "By"}
"""UCUM, https://ucum.org/ucum, for a unit that a name ends in. Any other is not told: a name would get it twice."""

NUMBERS = frozenset({"http.response.status_code"})
"""Attributes that are integers."""

_DOTTED = {name.replace(".", "_"): name for name in (*ATTRIBUTES, "exception.type")}


class Named(NamedTuple):
    """A family's name, unit, and the attributes that its labels are."""

    name: str
    unit: str
    attributes: tuple[str, ...]

    def of(self, values: tuple[str, ...]) -> dict[str, str | int]:
        """Return the attributes of a series: an empty label is none, in Prometheus as well."""
        return {
            name: int(value) if name in NUMBERS and value.isdecimal() else value
            for name, value in zip(self.attributes, values, strict=True)
            if value
        }


def named(metric: Metric, labels: tuple[str, ...]) -> Named:
    """Return what a family of the catalogue is called; ``labels`` may be more than it has there."""
    name, unit = CONVENTIONS.get(metric.name) or (metric.name, UNITS.get(metric.unit, ""))
    return Named(name, unit, tuple(_DOTTED.get(label, label) if label in metric.labels else label for label in labels))
