"""The families of one moment as OTLP's data: our own, and those of prometheus_client's collectors.

https://opentelemetry.io/docs/specs/otel/metrics/data-model/ and, for the families of others,
https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#prometheus-metric-points-to-otlp
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.export import Gauge
from opentelemetry.sdk.metrics.export import Histogram
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.sdk.metrics.export import Metric
from opentelemetry.sdk.metrics.export import NumberDataPoint
from opentelemetry.sdk.metrics.export import Sum

from .naming import named
from .naming import UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from prometheus_client import Metric as PrometheusFamily
    from prometheus_client.samples import Exemplar as PrometheusExemplar

    from ..metrics_store.family import Family
    from ..metrics_store.reading import HistogramRow
    from ..metrics_store.reading import Reading

    Attributes = Mapping[str, str | int]
    Key = tuple[Any, ...]
    """A metric's name and the attributes of one of its series."""

__all__ = ["Batch"]

CUMULATIVE = AggregationTemporality.CUMULATIVE
TRACE_ID_DIGITS = 32
SPAN_ID_DIGITS = 16


class Batch:
    """What one push tells, cumulative since each series began.

    What is counted in this process and was not there at the batch before was 0 then, and that is told, too: Prometheus
    sees no increase in the first value of a series, which may be the only one of a process that lives for a second.

    Args:
        now_ns: the Unix time of it all.
        since_ns: that of the batch before, or of the process's begin.
        before: when the series that were told before began.
    """

    def __init__(self, now_ns: int, since_ns: int, before: Mapping[Key, int]) -> None:
        self.now_ns = now_ns
        self.metrics: list[Metric] = []
        self.began: dict[Key, int] = {}
        """When each series began."""
        self._since_ns = since_ns
        self._before = before
        self._counted_here = True

    def add_own(self, family: Family, reading: Reading) -> None:
        """Add a family of ours."""
        self._counted_here = True
        name, unit, _ = known = named(family.metric, family.labels)
        described = name, family.metric.help, unit
        if family.bounds:
            self._add_histogram(
                *described,
                [
                    _Counts(known.of(row.labels), _apart(row.cumulated), row.sum / family.unit, self._own(row, family))
                    for row in reading.histograms(family)
                ],
                family.metric.buckets,
            )
        else:
            rows = [(known.of(labels), number) for labels, number in reading.rows(family)]
            self._add_numbers(*described, rows, family.kind if family.merge == "sum" else "info")

    def add(self, family: PrometheusFamily, *, counted_here: bool) -> None:
        """Add a family of somebody else's, under its own name; a summary without its quantiles, which none adds up.

        Args:
            family: as a collector gives it.
            counted_here: it began with 0 in this process; else nobody knows when it did.
        """
        self._counted_here = counted_here
        described = family.documentation, UNITS.get(family.unit, "")
        if family.type in ("histogram", "summary"):
            for bounds, series in _grouped(family, self._foreign).items():
                self._add_histogram(family.name, *described, series, bounds)
        elif family.type != "gaugehistogram":
            rows: dict[str, list[tuple[Attributes, float]]] = {}
            for sample in family.samples:
                if sample.name != f"{family.name}_created":
                    rows.setdefault(sample.name, []).append((_attributes(sample.labels), sample.value))
            for name, numbers in rows.items():
                self._add_numbers(name, *described, numbers, "counter" if family.type == "counter" else "info")

    def _add_numbers(
        self, name: str, help_: str, unit: str, rows: Sequence[tuple[Attributes, float]], kind: str
    ) -> None:
        points = []
        for attributes, number in rows:
            began_ns, is_new = self._begin(name, attributes) if kind != "info" else (0, False)
            if is_new and kind == "counter":
                points.append(NumberDataPoint(attributes, began_ns, began_ns, 0))
            points.append(NumberDataPoint(attributes, began_ns, self.now_ns, number))
        # What adds up over processes is an UpDownCounter, as http.server.active_requests is.
        data = Gauge(points) if kind == "info" else Sum(points, CUMULATIVE, is_monotonic=kind == "counter")
        self._add(name, help_, unit, data)

    def _add_histogram(
        self, name: str, help_: str, unit: str, series: Sequence[_Counts], bounds: Sequence[float]
    ) -> None:
        points = []
        for each in series:
            began_ns, is_new = self._begin(name, each.attributes)
            if is_new:
                nothing = _Counts(each.attributes, [0] * len(each.buckets), 0.0, ())
                points.append(nothing.point(began_ns, began_ns, bounds))
            points.append(each.point(began_ns, self.now_ns, bounds))
        self._add(name, help_, unit, Histogram(points, CUMULATIVE))

    def _add(self, name: str, help_: str, unit: str, data: Any) -> None:
        if data.data_points:
            self.metrics.append(Metric(name, help_, unit, data))

    def _begin(self, name: str, attributes: Attributes) -> tuple[int, bool]:
        """Return when a series began, 0 where nobody knows, and whether it is told for the first time."""
        if not self._counted_here:
            return 0, False
        key = name, *attributes.items()
        before_ns = self._before.get(key)
        began_ns = self.began[key] = self._since_ns if before_ns is None else before_ns
        return began_ns, before_ns is None

    # Exemplars: those since the batch before.

    def _own(self, row: HistogramRow, family: Family) -> list[Exemplar]:
        return [
            Exemplar(
                {},
                exemplar.value / family.unit,
                exemplar.unix_ns,
                int.from_bytes(exemplar.ids[16:], "big"),
                int.from_bytes(exemplar.ids[:16], "big"),
            )
            for exemplar in row.exemplars
            if exemplar is not None and exemplar.unix_ns >= self._since_ns
        ]

    def _foreign(self, exemplar: PrometheusExemplar | None) -> list[Exemplar]:
        if exemplar is None:
            return []
        unix_ns = self.now_ns if exemplar.timestamp is None else int(float(exemplar.timestamp) * 1e9)
        if unix_ns < self._since_ns:
            return []
        labels = dict(exemplar.labels)
        trace_id = _hexadecimal(labels, "trace_id", TRACE_ID_DIGITS)
        span_id = _hexadecimal(labels, "span_id", SPAN_ID_DIGITS)
        return [Exemplar(labels, exemplar.value, unix_ns, span_id, trace_id)]


@dataclasses.dataclass
class _Counts:
    """One series of a histogram, its buckets not cumulated."""

    attributes: Attributes
    buckets: Sequence[int]
    sum: float | None
    exemplars: Sequence[Exemplar]

    def point(self, began_ns: int, now_ns: int, bounds: Sequence[float]) -> HistogramDataPoint:
        return HistogramDataPoint(
            attributes=self.attributes,
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            count=sum(self.buckets),
            sum=self.sum,  # type: ignore[arg-type]  # optional in OTLP, as are the least and the largest
            bucket_counts=self.buckets,
            explicit_bounds=bounds,
            min=None,  # type: ignore[arg-type]
            max=None,  # type: ignore[arg-type]
            exemplars=self.exemplars,
        )


def _grouped(family: PrometheusFamily, exemplars_of: Any) -> dict[tuple[float, ...], list[_Counts]]:
    """Return the series of a histogram or summary, by the bounds of their buckets."""
    series: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        own = series.setdefault(tuple(sorted(labels.items())), {"labels": labels, "buckets": {}, "exemplars": []})
        kind = sample.name.removeprefix(family.name)
        if kind == "_bucket":
            own["buckets"][float(sample.labels["le"])] = int(sample.value)
            own["exemplars"] += exemplars_of(sample.exemplar)
        elif kind in ("_sum", "_count"):
            own[kind] = sample.value
    grouped: dict[tuple[float, ...], list[_Counts]] = {}
    for own in series.values():
        buckets = sorted(own["buckets"].items()) or [(math.inf, int(own.get("_count", -1)))]
        if buckets[-1][1] >= 0:  # else it is a quantile
            bounds = tuple(bound for bound, _ in buckets if bound != math.inf)
            counts = _apart([number for _, number in buckets])
            attributes = _attributes(own["labels"])
            grouped.setdefault(bounds, []).append(_Counts(attributes, counts, own.get("_sum"), own["exemplars"]))
    return grouped


def _apart(cumulated: Sequence[int]) -> list[int]:
    """Return the buckets of a histogram, each for itself."""
    return [number - before for number, before in zip(cumulated, (0, *cumulated), strict=False)]


def _attributes(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if value}


def _hexadecimal(labels: dict[str, str], name: str, digits: int) -> int | None:
    """Take an id out of an exemplar's labels."""
    try:
        number = int(labels[name], 16)
    except (KeyError, ValueError):
        return None
    return number if len(labels.pop(name)) == digits else None
