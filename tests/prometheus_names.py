"""What Prometheus makes of OTLP's metrics: the specification's rule, for tests.

https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#otlp-metric-points-to-prometheus
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from dataclasses import field
from itertools import accumulate
from typing import Any
from typing import TYPE_CHECKING

from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator

__all__ = ["Series", "name_of", "series_of"]

UNITS = {"s": "seconds", "By": "bytes", "ms": "milliseconds", "Cel": "celsius"}


@dataclass
class Series:
    """One series as Prometheus keeps it: its samples by time, and the exemplars of its last ones."""

    samples: dict[int, float] = field(default_factory=dict)
    exemplars: list[Any] = field(default_factory=list)

    @property
    def last(self) -> float:
        return self.samples[max(self.samples)]


def name_of(metric: Any) -> str:
    """Return what Prometheus calls a metric, without ``_bucket``, ``_count`` and ``_sum``."""
    words = [word for word in re.split(r"[^a-zA-Z0-9:]+", metric.name) if word]
    kind = metric.WhichOneof("data")
    unit = re.sub(r"\{.*\}", "", metric.unit)
    suffix = "ratio" if unit == "1" and kind == "gauge" else "" if unit == "1" else UNITS.get(unit, unit)
    if suffix and suffix not in words:
        words.append(suffix)
    if kind == "sum" and metric.sum.is_monotonic:
        words = [*(word for word in words if word != "total"), "total"]
    return "_".join(words)


def series_of(pushes: Iterable[Any]) -> dict[frozenset[tuple[str, str]], Series]:
    """Return everything that was pushed, by the labels of a series with its ``__name__``, ``job`` and ``instance``."""
    found: dict[frozenset[tuple[str, str]], Series] = {}
    for push in pushes:
        for resource in push.resource_metrics:
            of_resource = labels_of(resource.resource.attributes)
            target = {"job": of_resource["service_name"], "instance": of_resource["service_instance_id"]}
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                for labels, unix_ns, value, exemplars in samples_of(metric):
                    series = found.setdefault(frozenset({**target, **labels}.items()), Series())
                    assert unix_ns not in series.samples, "two values of one time"
                    series.samples[unix_ns] = value
                    series.exemplars += exemplars
    return found


def samples_of(metric: Any) -> Iterator[tuple[dict[str, str], int, float, list[Any]]]:
    name, kind = name_of(metric), metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        labels, unix_ns = labels_of(point.attributes), point.time_unix_nano
        if kind != "histogram":
            value = getattr(point, point.WhichOneof("value"))
            yield {"__name__": name, **labels}, unix_ns, float(value), list(point.exemplars)
            continue
        bounds = [floatToGoString(bound) for bound in (*point.explicit_bounds, float("inf"))]
        for number, (bound, count) in enumerate(zip(bounds, accumulate(point.bucket_counts), strict=True)):
            exemplars = [each for each in point.exemplars if bucket_of(each, point) == number]
            yield {"__name__": f"{name}_bucket", **labels, "le": bound}, unix_ns, float(count), exemplars
        yield {"__name__": f"{name}_count", **labels}, unix_ns, float(point.count), []
        if point.HasField("sum"):
            yield {"__name__": f"{name}_sum", **labels}, unix_ns, point.sum, []


def bucket_of(exemplar: Any, point: Any) -> int:
    return sum(bound < getattr(exemplar, exemplar.WhichOneof("value")) for bound in point.explicit_bounds)


def labels_of(attributes: Any) -> dict[str, str]:
    labels = {}
    for attribute in attributes:
        value = getattr(attribute.value, attribute.value.WhichOneof("value"))
        labels[re.sub(r"[^a-zA-Z0-9_]", "_", attribute.key)] = str(value)
    return labels
