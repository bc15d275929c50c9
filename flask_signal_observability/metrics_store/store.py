"""The store: the families of one registry, the segment that this process writes, and what a scrape reads of all."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

from prometheus_client import Metric as MetricFamily
from prometheus_client.core import Exemplar as ExemplarSample
from prometheus_client.registry import Collector

from .page import FamilyText
from .page import go
from .reading import Plan
from .reading import Reading
from .reading import Snapshot
from .segment import Memory
from .segment import Segment

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Sequence

    from .family import Family
    from .segment import Key

__all__ = ["MetricsStore"]


class MetricsStore(Collector):
    """Our families in one registry, for all its apps. Safe to use from several threads, and across a fork."""

    def __init__(self) -> None:
        # Entered again where the garbage collector closes a generator, which sends signals, in the middle.
        self.lock = threading.RLock()
        self.families: dict[str, Family] = {}
        self._texts: dict[str, FamilyText] = {}
        self._plan: tuple[object, Plan] | None = None
        self._forgetting: list[Callable[[], None]] = []
        self._take(Segment(Memory()))
        _stores.add(self)

    def _take(self, segment: Segment) -> None:
        self.segment = segment
        self.words, self.octets = segment.words, segment.octets

    def add(self, family: Family) -> None:
        """Take a family in; done by itself."""
        self.families[family.name] = family
        self._texts[family.name] = FamilyText(family)

    def append(self, key: Key, cells: int, slots: int) -> int:
        """Make room for a series, and return its first cell; under the lock."""
        series = self.segment.append(key, cells, slots)
        self.words, self.octets = self.segment.words, self.segment.octets
        return series.first_cell

    def on_new_process(self, forget: Callable[[], None]) -> None:
        """Call ``forget`` where a forked process begins with numbers of its own."""
        self._forgetting.append(forget)

    # What a scrape reads.

    def snapshots(self) -> Sequence[Snapshot]:
        """Return the segments that belong together, this process's first."""
        return [Snapshot(self.segment, self.segment.table, self.octets)]

    def read(self, *, exemplars: bool) -> Reading:
        """Read everything now."""
        with self.lock:
            snapshots = self.snapshots()
            state = [snapshot.state for snapshot in snapshots], len(self.families)
            if self._plan is None or self._plan[0] != state:
                self._plan = state, Plan(self.families, snapshots)
            return Reading(self._plan[1], snapshots, exemplars=exemplars)

    def texts(self) -> list[FamilyText]:
        """Return what writes each family."""
        return list(self._texts.values())

    # What prometheus_client asks of a collector.

    def describe(self) -> Iterable[MetricFamily]:
        """Name the families, for the registry to find two of one name."""
        return [_metric_family(family) for family in self.families.values()]

    def collect(self) -> Iterable[MetricFamily]:
        """Return all families, with exemplars."""
        reading = self.read(exemplars=True)
        collected = []
        for family in self.families.copy().values():
            metric = _metric_family(family)
            add = _add_histograms if family.bounds else _add_cells
            add(metric, family, reading)
            collected.append(metric)
        return collected


def _metric_family(family: Family) -> MetricFamily:
    name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
    return MetricFamily(name, family.metric.help, family.kind)


def _add_cells(metric: MetricFamily, family: Family, reading: Reading) -> None:
    for labels, number in reading.rows(family):
        metric.add_sample(family.name, dict(zip(family.labels, labels, strict=True)), float(number))


def _add_histograms(metric: MetricFamily, family: Family, reading: Reading) -> None:
    bounds = [go(bound) for bound in (*family.metric.buckets, float("inf"))]
    for row in reading.histograms(family):
        labels = dict(zip(family.labels, row.labels, strict=True))
        for bound, number, exemplar in zip(bounds, row.cumulated, row.exemplars, strict=True):
            sample = exemplar and ExemplarSample(
                {"trace_id": exemplar.trace_id, "span_id": exemplar.span_id},
                exemplar.value / family.unit,
                exemplar.unix_ns / 1e9,
            )
            metric.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, float(number), exemplar=sample)
        metric.add_sample(f"{family.name}_count", labels, float(row.cumulated[-1]))
        metric.add_sample(f"{family.name}_sum", labels, row.sum / family.unit)


_stores: weakref.WeakSet[MetricsStore] = weakref.WeakSet()


def _renew_locks() -> None:
    """Another thread of the parent may have held one at the fork."""
    for store in _stores:
        store.lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_locks)
