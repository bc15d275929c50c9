"""What several segments hold together: their series in one order, and their columns added up."""

from __future__ import annotations

from itertools import accumulate
from itertools import repeat
from operator import itemgetter
from typing import NamedTuple
from typing import TYPE_CHECKING

from .segment import SLOT
from .segment import SLOT_WORDS
from .segment import WORD
from .segment import ZERO
from .turns import in_turns

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from .family import Family
    from .family import Row
    from .segment import Key
    from .segment import Series
    from .segment import Table

__all__ = ["Exemplar", "HistogramRow", "Plan", "Reading", "Snapshot"]


class Snapshot(NamedTuple):
    """One segment as it is read."""

    identity: object
    table: Table
    octets: memoryview
    length: int
    """How many series it had."""
    alive: bool = True
    """The process is there: its gauges count."""

    @property
    def series(self) -> list[Series]:
        """What it holds; another thread may append meanwhile."""
        return self.table.series[: self.length]

    @property
    def state(self) -> tuple[object, int, bool]:
        """While this stays the same, every series stays where it is."""
        return self.identity, self.length, self.alive


class Exemplar(NamedTuple):
    """The newest exemplar of a bucket."""

    unix_ns: int
    value: int
    ids: bytes

    @property
    def trace_id(self) -> str:
        """In hexadecimal."""
        return self.ids[:16].hex()

    @property
    def span_id(self) -> str:
        """In hexadecimal."""
        return self.ids[16:].hex()


class HistogramRow(NamedTuple):
    """One histogram, its buckets cumulated."""

    labels: tuple[str, ...]
    cumulated: tuple[int, ...]
    sum: int
    exemplars: Sequence[Exemplar | None]


class Plan:
    """Which cell of which segment goes where; made once for a set of segments, and good while none of them grows."""

    def __init__(self, families: Mapping[str, Family], snapshots: Sequence[Snapshot]) -> None:
        self.rows: dict[str, list[tuple[tuple[str, ...], int, int]]] = {name: [] for name in families}
        """Of each family: the values of the labels, the first number, and the first slot."""
        places: dict[Key, tuple[int, int]] = {}
        numbers = slots = 0
        for key, family in _keys(families, snapshots):
            places[key] = numbers, slots
            self.rows[family.name].append((key[1:], numbers, slots))
            numbers += family.cells
            slots += family.slots
        self._columns = [_columns(families, snapshot, places, numbers, slots) for snapshot in snapshots]

    def numbers(self, snapshots: Sequence[Snapshot]) -> tuple[list[int], int]:
        """Add up the segments, cell by cell; and count those that are left out, since nothing here is below 0."""
        own, *others = [_pick(snapshot, cells) for snapshot, (cells, _) in zip(snapshots, self._columns, strict=True)]
        sound = [column for column in others if min(column, default=0) >= 0]
        numbers = list(map(sum, zip(own, *sound, strict=True))) if sound else list(own)
        return numbers, len(others) - len(sound)

    def exemplars(self, snapshots: Sequence[Snapshot]) -> list[Exemplar | None]:
        """Find the newest exemplar of each slot."""
        columns = [
            zip(_pick(snapshot, slots), repeat(number))
            for number, (snapshot, (_, slots)) in enumerate(zip(snapshots, self._columns, strict=True))
        ]
        newest = map(max, zip(*columns, strict=True)) if len(columns) > 1 else columns[0]
        found: list[Exemplar | None] = []
        for slot, (unix_ns, number) in enumerate(in_turns(newest)):
            found.append(_exemplar(snapshots[number], self._columns[number][1][slot]) if unix_ns > 0 else None)
        return found


def _keys(families: Mapping[str, Family], snapshots: Sequence[Snapshot]) -> list[tuple[Key, Family]]:
    """Return what is known to this process: another may run another version for the time of a deployment."""
    keys = dict.fromkeys(series.key for snapshot in snapshots for series in snapshot.series)
    known = [(key, families[key[0]]) for key in keys if key[0] in families]
    return [(key, family) for key, family in known if len(key) == 1 + len(family.labels)]


def _columns(
    families: Mapping[str, Family], snapshot: Snapshot, places: Mapping[Key, tuple[int, int]], numbers: int, slots: int
) -> tuple[list[int], list[int]]:
    cells, times = [ZERO] * numbers, [ZERO] * slots
    for series in snapshot.series:
        family = families.get(series.key[0])
        if family is None or series.key not in places or (series.cells, series.slots) != (family.cells, family.slots):
            continue
        if series.gauge and not snapshot.alive:
            continue
        number, slot = places[series.key]
        cells[number : number + series.cells] = range(series.first_cell, series.first_cell + series.cells)
        first = series.first_slot
        times[slot : slot + series.slots] = range(first, first + series.slots * SLOT_WORDS, SLOT_WORDS)
    return cells, times


def _pick(snapshot: Snapshot, indexes: list[int]) -> tuple[int, ...]:
    # Two more, since itemgetter of one index returns no tuple, and of none is an error.
    picked: tuple[int, ...] = itemgetter(ZERO, ZERO, *indexes)(snapshot.octets.cast("q"))
    return picked[2:]


def _exemplar(snapshot: Snapshot, index: int) -> Exemplar | None:
    unix_ns, value, ids, again_ns = SLOT.unpack_from(snapshot.octets, index * WORD)
    return Exemplar(unix_ns, value, ids) if unix_ns == again_ns else None


class Reading:
    """The numbers of all segments at one moment, family by family."""

    def __init__(self, plan: Plan, snapshots: Sequence[Snapshot], *, exemplars: bool) -> None:
        self._plan = plan
        self._numbers, self.damaged = plan.numbers(snapshots)
        self._exemplars = plan.exemplars(snapshots) if exemplars else None

    def counted(self, name: str) -> list[Row]:
        """Return the rows of a counter or gauge as they were counted; none of one that was not there yet."""
        numbers = self._numbers
        return [(labels, numbers[number]) for labels, number, _ in self._plan.rows.get(name, ())]

    def rows(self, family: Family) -> list[Row]:
        """Return the rows of a counter or gauge."""
        rows = self.counted(family.name)
        if family.merge == "any":
            rows = [(labels, min(number, 1)) for labels, number in rows]
        return rows if family.derive is None else family.derive(rows, self.counted)

    def histograms(self, family: Family) -> list[HistogramRow]:
        """Return the rows of a histogram."""
        numbers, exemplars, buckets = self._numbers, self._exemplars, family.slots
        nothing = (None,) * buckets
        return [
            HistogramRow(
                labels,
                tuple(accumulate(numbers[number : number + buckets])),
                numbers[number + buckets],
                nothing if exemplars is None else exemplars[slot : slot + buckets],
            )
            for labels, number, slot in self._plan.rows.get(family.name, ())
        ]
