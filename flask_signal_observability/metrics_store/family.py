"""Metric families and their children: what a sink counts with."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any
from typing import Literal
from typing import TYPE_CHECKING

from ..catalogue import OTHER
from ..text import utf8
from .segment import MAX_CELL
from .segment import SLOT_WORDS
from .segment import write_slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..catalogue import Metric
    from .store import MetricsStore

    Row = tuple[tuple[str, ...], int]
    """The values of the labels, and the number."""

__all__ = ["MAX_AMOUNT", "Cell", "Family", "Histogram", "scale_of"]

NANO = 1_000_000_000
UNITS = {"seconds": NANO, "bytes": 1}
"""How many of what a cell counts are one of what the metric's name says."""

MILLION = 1_000_000

MAX_AMOUNT = 2**50
"""A larger observation counts as this one: a few thousand of them are the most that a sum can hold."""


def scale_of(unit: str) -> int:
    """Return how many parts of a unit a cell counts: whatever is no time or size is counted in millionths."""
    return UNITS.get(unit, MILLION)


class Cell:
    """One number: a counter or a gauge. Safe to use from several threads."""

    __slots__ = ("_store", "index")

    def __init__(self, store: MetricsStore, index: int) -> None:
        self._store = store
        self.index = index

    def inc(self, amount: int = 1) -> None:
        """Add to it."""
        store = self._store
        lock = store.lock
        try:
            # Inside, so that an interrupt right behind it leaves no lock behind; a with statement takes twice as long.
            lock.acquire()
            store.words[self.index] += amount
        finally:
            try:
                lock.release()
            except RuntimeError:  # the interrupt came before it
                pass

    def set(self, value: int) -> None:
        """Replace it."""
        with self._store.lock:
            self._store.words[self.index] = value


class Histogram:
    """One cell for each bucket, not cumulated, and one for the sum. Safe to use from several threads."""

    __slots__ = ("_store", "bounds", "index", "sum_index")

    def __init__(self, store: MetricsStore, index: int, bounds: tuple[int, ...]) -> None:
        self._store = store
        self.index = index
        self.bounds = bounds
        self.sum_index = index + len(bounds) + 1

    def observe(self, amount: int, exemplar: tuple[int, str, str] | None = None) -> None:
        """Count an amount, in nanoseconds or bytes.

        Args:
            amount: from 0.
            exemplar: Unix nanoseconds, trace id and span id, both in hexadecimal.
        """
        amount = min(amount, MAX_AMOUNT)
        bucket = bisect_left(self.bounds, amount)
        with self._store.lock:
            words = self._store.words
            words[self.index + bucket] += 1
            words[self.sum_index] = min(words[self.sum_index] + amount, MAX_CELL)
            if exemplar is not None:
                unix_ns, trace_id, span_id = exemplar
                ids = bytes.fromhex(trace_id + span_id)
                write_slot(self._store.octets, words, self.slot_at(bucket), unix_ns, amount, ids)

    def slot_at(self, bucket: int) -> int:
        """Return where the exemplar of a bucket is, in words."""
        return self.sum_index + 1 + bucket * SLOT_WORDS


class Family:
    """One metric family. A child is made once, and never more of them than ``max_series``.

    Those count that ended processes have left, as they are a part of every scrape: however many processes come and go,
    each with label values of its own, a family ends at ``max_series`` for each of those that live at once.

    Args:
        metric: name, help, kind and buckets.
        store: where the cells are.
        extra_labels: labels after the metric's own.
        merge: what becomes of the numbers of several processes: ``sum``, or ``any`` where 1 says that it is so.
        derive: makes the rows of a counter or gauge from those that were counted.
    """

    def __init__(
        self,
        metric: Metric,
        store: MetricsStore,
        *,
        extra_labels: tuple[str, ...] = (),
        overflow: Family | None = None,
        merge: Literal["sum", "any"] = "sum",
        derive: Callable[[list[Row], Callable[[str], list[Row]]], list[Row]] | None = None,
    ) -> None:
        self.metric = metric
        self.name = metric.name
        self.kind = metric.kind
        self.labels = metric.labels + extra_labels
        self.unit = scale_of(metric.unit) if metric.buckets else 1
        self.bounds = tuple(round(bound * self.unit) for bound in metric.buckets)
        self.cells = len(self.bounds) + 2 if self.bounds else 1
        self.slots = len(self.bounds) + 1 if self.bounds else 0
        self.merge = merge
        self.derive = derive
        self._store = store
        self._overflow = overflow
        self._children: dict[tuple[str, ...], Any] = {}
        store.add(self)

    def child(self, *labels: str, max_series: int | None = None) -> Any:
        """Return the child of these label values; at ``max_series`` it is the one of which all are ``_OTHER``."""
        child = self._children.get(labels)
        if child is None:
            if max_series is not None and not self.has_room(labels, max_series):
                keep = 1 if self.labels[:1] == ("flask_app",) else 0
                others = labels[:keep] + (OTHER,) * (len(labels) - keep)
                if others != labels:
                    self.overflowed()
                    return self.child(*others)
            child = self._make(labels)
        return child

    def _make(self, labels: tuple[str, ...]) -> Cell | Histogram:
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not these values: {labels}")
        store = self._store
        with store.lock:
            child = self._children.get(labels)
            if child is None:
                index = store.append(
                    (self.name, *map(utf8, labels)), self.cells, self.slots, gauge=self.kind == "gauge"
                )
                child = Histogram(store, index, self.bounds) if self.bounds else Cell(store, index)
                self._children[labels] = child
                store.left.get(self.name, set()).discard(labels)
        store.tell()
        return child

    def has_room(self, labels: tuple[str, ...], max_series: int) -> bool:
        """Tell whether a child of these label values would be one of the first ``max_series``; for the ended, too."""
        left = self._store.left.get(self.name, ())
        return labels in left or len(self._children) + len(left) < max_series

    def knows(self, *labels: str) -> bool:
        """Tell whether these label values have a child of their own."""
        return labels in self._children

    def overflowed(self) -> None:
        """Count one observation that lost its own label values."""
        if self._overflow is not None:
            self._overflow.child(self.name).inc()
