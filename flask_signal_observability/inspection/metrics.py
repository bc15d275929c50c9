"""Every metric family of a registry or a scrape: what it is, and how many series it has now."""

from __future__ import annotations

import dataclasses
from typing import Literal
from typing import TYPE_CHECKING

from ..catalogue import METRICS
from ..catalogue import RUNTIME_METRICS
from ..metrics_store.store import MetricsStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as MetricFamily

    from ..catalogue import Metric

__all__ = ["Family", "exported", "scraped"]

OF_SAMPLES = frozenset({"le", "quantile"})
"""Labels that tell the samples of one series apart."""

SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("", "_count", "_sum")}
"""What the names of samples end in, where there are none to look at."""

Origin = Literal["package", "process", "watched", "app"]


@dataclasses.dataclass(frozen=True)
class Family:
    """One metric family."""

    name: str
    """As ``/metrics`` names it, a counter with its ``_total``."""
    kind: str
    unit: str
    labels: tuple[str, ...]
    help: str
    origin: Origin
    """Whose it is: the package's, prometheus-client's of the process, a watched signal's, or the app's own."""
    names: tuple[str, ...]
    """What its time series are called in Prometheus."""
    series: int
    """How many label sets it has now."""
    samples: int
    """How many time series these are in Prometheus: a histogram has one for each bucket, and two."""


def exported(registry: CollectorRegistry, collectors: Iterable[object]) -> list[Family]:
    """Return what a registry exports from this process, and from those that it shares with."""
    known = {
        name: (family.metric, family.labels)
        for store in collectors
        if isinstance(store, MetricsStore)
        for name, family in store.families.items()
    }
    return [_family(collected, known) for collected in registry.collect()]


def scraped(families: Iterable[MetricFamily]) -> list[Family]:
    """Return what a scrape tells; a watched signal's metrics look like the app's own there."""
    known = {name: (metric, metric.labels) for name, metric in METRICS.items()}
    return [_family(family, known) for family in families]


def _family(collected: MetricFamily, known: Mapping[str, tuple[Metric, tuple[str, ...]]]) -> Family:
    name = _name_of(collected)
    metric, labels = known.get(name, (None, None))
    if labels is None:
        labels = tuple(dict.fromkeys(key for sample in collected.samples for key in sample.labels))
    kind = collected.type if metric is None else metric.kind
    series = {
        tuple(sorted((key, value) for key, value in sample.labels.items() if key not in OF_SAMPLES))
        for sample in collected.samples
    }
    names = {sample.name for sample in collected.samples} or {name + suffix for suffix in SUFFIXES.get(kind, ("",))}
    return Family(
        name,
        kind,
        collected.unit or ("" if metric is None else metric.unit),
        tuple(label for label in labels if label not in OF_SAMPLES),
        collected.documentation,
        _origin(name, is_known=metric is not None),
        tuple(sorted(names)),
        len(series),
        len(collected.samples),
    )


def _name_of(collected: MetricFamily) -> str:
    suffix = {"counter": "_total", "info": "_info"}.get(collected.type, "")
    if suffix == "_total" and collected.name + suffix not in METRICS and collected.samples:
        # Foreign exporters may have counters without it.
        return min((sample.name for sample in collected.samples if not sample.name.endswith("_created")), key=len)
    return collected.name + suffix


def _origin(name: str, *, is_known: bool) -> Origin:
    if name in METRICS:
        return "package"
    if name in RUNTIME_METRICS:
        return "process"
    return "watched" if is_known else "app"
