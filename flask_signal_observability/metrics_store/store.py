"""The store: the families of one registry, the segment that this process writes, and what a scrape reads of all."""

from __future__ import annotations

import contextlib
import logging
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
from .segment import FIRST_RECORD
from .segment import Memory
from .segment import Segment

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable

    from ..catalogue import Metric
    from .family import Cell
    from .family import Family
    from .group import Found
    from .group import Group
    from .group import Member
    from .runtime import Runtime
    from .segment import Key

__all__ = ["MetricsStore", "stores"]

NEVER_NS = 2**63

logger = logging.getLogger("flask_signal_observability")


class MetricsStore(Collector):
    """Our families in one registry, for all its apps. Safe to use from several threads, and across a fork.

    With the GIL or without it: whoever adds to a number holds ``lock`` from its reading to its writing, which are
    several bytecodes. Finding a child reads one dictionary without the lock, which CPython keeps whole in both builds;
    who finds none looks again with it.
    """

    def __init__(self) -> None:
        # Entered again where the garbage collector closes a generator, which sends signals, in the middle.
        self.lock = threading.RLock()
        # Replaced, never changed: a scrape may be in the middle of it.
        self.families: dict[str, Family] = {}
        self.described: list[Metric] | None = None
        """What the registry is told of, where that is not all families."""
        self.failed: Callable[[int], None] = lambda damaged: None
        """Counts files that could not be read."""
        self._reading = threading.RLock()
        self._texts: dict[str, FamilyText] = {}
        self._plan: tuple[object, Plan] | None = None
        self._on_new_process: list[Callable[[], None]] = []
        self.presence: list[Cell] = []
        """Gauges and counters that are 1 where this process is one of those that a scrape adds up."""
        self.left: dict[str, set[tuple[str, ...]]] = {}
        """Of each family the labels that processes which have ended brought, and this one did not: its series, too."""
        self.last_read: list[Snapshot] = []
        self.publish_from_ns = NEVER_NS
        """From this Unix time on the end of a request tells the others what they cannot see of this process."""
        self.runtime: Runtime | None = None
        self.group: Group | None = None
        self.member: Member | None = None
        self.begins_aside = False
        """What is forked next is no member of the group; what it forks itself is."""
        self._untold: tuple[OSError, str] | None = None
        self._take(Segment(Memory()))
        _stores.add(self)

    def _take(self, segment: Segment) -> None:
        self.segment = segment
        self.words, self.octets = segment.words, segment.octets

    def add(self, family: Family) -> None:
        """Take a family in; done by itself, one at a time."""
        self._texts = {**self._texts, family.name: FamilyText(family)}
        self.families = {**self.families, family.name: family}

    def append(self, key: Key, cells: int, slots: int, *, gauge: bool) -> int:
        """Make room for a series, and return its first cell; under the lock, and :meth:`tell` after it."""
        try:
            series = self.segment.append(key, cells, slots, gauge=gauge)
        except OSError as error:
            self._keep_to_itself(error)
            series = self.segment.append(key, cells, slots, gauge=gauge)
        self.words, self.octets = self.segment.words, self.segment.octets
        return series.first_cell

    def on_new_process(self, begin: Callable[[], None]) -> None:
        """Call ``begin`` where a forked process begins with numbers of its own."""
        self._on_new_process.append(begin)

    # With other processes.

    def share(self, group: Group) -> None:
        """Share what is counted with the members of a group, this process's numbers so far too."""
        with self.lock:
            self.group = group
            self._join()
        self.tell()

    def prepare(self, group: Group) -> None:
        """Have the processes that this one is about to fork share theirs; this one is none of them from now on."""
        with self.lock:
            if self.member is not None:
                self._leave()
            self.group = group
            for cell in self.presence:
                cell.set(0)

    def hand_over(self) -> None:
        """Put what this process has counted into the archive of the group that it is no member of."""
        with self.lock:
            if self.group is None or self.member is not None or not self._has_counted():
                return
            with contextlib.suppress(OSError):  # it keeps them until the next time
                if self.group.fold(self._own()):
                    self._take(self._emptied(Segment(Memory())))

    def publish(self) -> None:
        """Tell the others what they cannot see of this process."""
        if self.runtime is not None:
            self.runtime.publish()

    def begin(self) -> None:
        """Be a process of one's own, right after a fork."""
        self.lock, self._reading = threading.RLock(), threading.RLock()
        if self.group is None:
            return
        of_a_worker = self.member is not None
        if self.member is not None:
            self.member.close()
            self.member = None
        self._take(self._emptied(Segment(Memory())))
        aside, self.begins_aside = self.begins_aside, False
        if not aside:
            self._join()
        for cell in self.presence:
            cell.set(0 if of_a_worker or aside else 1)  # what a worker forks for itself counts, and is no worker
        for begin in self._on_new_process:
            begin()
        self.publish()
        self.tell()

    def _join(self) -> None:
        try:
            if self.group is not None:
                self.member = self.group.join()
                self._take(_copied(self.segment, self.member.segment))
                self.left = self._left_by(self.group)
        except OSError as error:
            self._keep_to_itself(error)

    def _left_by(self, group: Group) -> dict[str, set[tuple[str, ...]]]:
        left: dict[str, set[tuple[str, ...]]] = {}
        for name, *labels in set(group.archived()) - {series.key for series in self.segment.table.series}:
            left.setdefault(name, set()).add(tuple(labels))
        return left

    def _has_counted(self) -> bool:
        words = self.words
        return any(
            any(words[series.first_cell : series.first_cell + series.cells])
            for series in self.segment.table.series
            if not series.gauge
        )

    def _emptied(self, to: Segment) -> Segment:
        """Return ``to`` with the series of this process, each where it was, and no numbers but what an app is."""
        to.continued(self.segment)
        for series in self.segment.table.series:
            family = self.families.get(series.key[0])
            if family is not None and family.merge == "any":
                to.words[series.first_cell] = self.words[series.first_cell]
        return to

    def _leave(self) -> None:
        """Go on with these numbers in a segment that nobody else reads."""
        group, member, self.group, self.member, self.left = self.group, self.member, None, None, {}
        self._take(_copied(self.segment, Segment(Memory())))
        # The group is not closed: another thread may be reading it.
        if group is not None and member is not None:
            group.leave(member)

    def _keep_to_itself(self, error: OSError) -> None:
        if self.group is not None:
            self._untold = error, self.group.path
        self._leave()
        self.publish_from_ns = NEVER_NS

    def tell(self) -> None:
        """Warn once that this process shares no more; not under the lock, for which a log handler may wait."""
        with self.lock:
            untold, self._untold = self._untold, None
        if untold is not None:
            self.failed(1)
            logger.warning(
                "the metrics of this process cannot be shared (%s): a scrape tells of the worker that answers it. Make "
                "room in %s and see that its user may write there, or name another directory with metrics_shared=.",
                *untold,
            )

    # What a scrape reads.

    def _own(self) -> Snapshot:
        table, segment = self.segment.table, self.segment
        octets = memoryview(bytes(segment.octets[: segment.size]))
        return Snapshot(segment, table, octets, len(table.series))

    def snapshots(self) -> list[Snapshot]:
        """Return the segments that belong together, this process's first.

        Raises:
            OSError: the others' cannot be read now.
        """
        with self.lock:
            group, member, segment = self.group, self.member, self.segment
            if group is None:
                return [self._own()]
        self.publish()
        try:
            found = self._others(group, member)
        except FileNotFoundError as error:
            with self.lock:
                if self.group is group:
                    self._keep_to_itself(error)
            return self.snapshots()
        if found.damaged:
            self.failed(found.damaged)
        with self.lock:
            if self.segment is segment:
                return [self._own(), *found.snapshots]
        # What it held may have become a part of the archive after that was read.
        return self.snapshots()

    def _others(self, group: Group, member: Member | None) -> Found:
        if member is not None and not group.holds(member):
            raise FileNotFoundError(f"{group.path} was removed")
        found = group.read(member)
        if found.dead:
            with contextlib.suppress(OSError):  # they are read as they are until somebody can fold them
                group.fold()
        return found

    def read(self, *, exemplars: bool) -> Reading:
        """Read everything now. Requests go on meanwhile.

        Raises:
            OSError: the numbers of the others cannot be read now; what this process alone has is not the sum.
        """
        with self._reading:
            snapshots = self.snapshots()
            families = self.families
            state = [snapshot.state for snapshot in snapshots], len(families)
            if self._plan is None or self._plan[0] != state:
                self._plan = state, Plan(families, snapshots)
            self.last_read = snapshots
            reading = Reading(self._plan[1], snapshots, exemplars=exemplars)
        self.tell()
        if reading.damaged:
            self.failed(reading.damaged)
        return reading

    def read_own(self) -> Reading:
        """Read what this process alone has counted, with exemplars."""
        with self.lock:
            snapshots = [self._own()]
        return Reading(Plan(self.families, snapshots), snapshots, exemplars=True)

    def texts(self) -> list[FamilyText]:
        """Return what writes each family."""
        return list(self._texts.values())

    # What prometheus_client asks of a collector.

    def describe(self) -> Iterable[MetricFamily]:
        """Name the families, for the registry to find two of one name."""
        described = self.described
        metrics = [family.metric for family in self.families.values()] if described is None else described
        return list(map(_metric_family, metrics))

    def collect(self) -> Iterable[MetricFamily]:
        """Return all families, with exemplars."""
        reading = self.read(exemplars=True)
        collected = []
        for family in self.families.values():
            metric = _metric_family(family.metric)
            add = _add_histograms if family.bounds else _add_cells
            add(metric, family, reading)
            collected.append(metric)
        return collected


def _metric_family(metric: Metric) -> MetricFamily:
    name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
    return MetricFamily(name, metric.help, metric.kind)


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


def _copied(segment: Segment, to: Segment) -> Segment:
    """Return ``to`` with the series of a segment, and its numbers."""
    to.continued(segment)
    to.octets[FIRST_RECORD : segment.size] = segment.octets[FIRST_RECORD : segment.size]
    return to


_stores: weakref.WeakSet[MetricsStore] = weakref.WeakSet()


def stores() -> list[MetricsStore]:
    """Return those that are in use."""
    return list(_stores)


def _begin() -> None:
    for store in stores():
        store.begin()


os.register_at_fork(after_in_child=_begin)
