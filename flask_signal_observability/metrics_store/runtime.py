"""What the interpreter and the machine say of each worker, under the names that prometheus-client gives it.

Any process can read of another one in /proc; the garbage collector's counts only itself knows, so it publishes them.
"""

from __future__ import annotations

import gc
import os
import time
from typing import TYPE_CHECKING

from prometheus_client import GCCollector
from prometheus_client import Metric as MetricFamily
from prometheus_client import ProcessCollector
from prometheus_client.registry import Collector

from .segment import process_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator

    from .reading import Snapshot
    from .store import MetricsStore

__all__ = ["Runtime", "is_of_one_process"]

INTERVAL_NS = 1_000_000_000
COLLECTED = {
    "collected": "python_gc_objects_collected_total",
    "uncollectable": "python_gc_objects_uncollectable_total",
    "collections": "python_gc_collections_total",
}
HELP = {
    "python_gc_objects_collected": "Objects collected during gc",
    "python_gc_objects_uncollectable": "Uncollectable objects found during GC",
    "python_gc_collections": "Number of times this generation was collected",
}


def is_of_one_process(collector: object) -> bool:
    """Tell whether a collector speaks of this process alone, and of what :class:`Runtime` tells of all."""
    return isinstance(collector, (ProcessCollector, GCCollector))


class Runtime(Collector):
    """The process and collector metrics of every member, by its place."""

    def __init__(self, store: MetricsStore) -> None:
        self._store = store
        with store.lock:
            self._cells = [
                (store.append((name, str(generation)), 1, 0, gauge=True), generation, kind)
                for kind, name in COLLECTED.items()
                for generation in range(len(gc.get_stats()))
            ]
        store.tell()
        self.publish()

    def publish(self) -> None:
        """Tell the others what this process's garbage collector did; at most once a second, at a request's end."""
        store, stats = self._store, gc.get_stats()
        with store.lock:
            store.publish_from_ns = time.time_ns() + INTERVAL_NS
            for cell, generation, kind in self._cells:
                store.words[cell] = stats[generation][kind]

    def collect(self) -> Iterable[MetricFamily]:
        """Tell of the members that were there when the store was read last."""
        families: dict[str, MetricFamily] = {}
        # This process's own comes first, and is one of them where it is a member.
        for snapshot in self._store.last_read[0 if self._store.member is not None else 1 :]:
            if snapshot.alive:
                pid, place = process_of(snapshot.octets)
                for told in (*_of_process(pid), *_of_collector(snapshot)):
                    family = families.setdefault(told.name, MetricFamily(told.name, told.documentation, told.type))
                    for sample in told.samples:
                        family.add_sample(sample.name, {**sample.labels, "worker": str(place)}, sample.value)
        return list(families.values())


def _of_process(pid: int) -> Iterable[MetricFamily]:
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except OSError:
        return []
    return ProcessCollector(pid=lambda: pid, registry=None).collect()


def _of_collector(snapshot: Snapshot) -> Iterator[MetricFamily]:
    words = snapshot.octets.cast("q")
    names = frozenset(COLLECTED.values())
    for series in snapshot.series:
        name, *labels = series.key
        if name in names and len(labels) == 1:
            family = MetricFamily(name.removesuffix("_total"), HELP[name.removesuffix("_total")], "counter")
            family.add_sample(name, {"generation": labels[0]}, float(words[series.first_cell]))
            yield family
