"""What the dead members of a group have counted: a segment, and after it the identities of those that are in it."""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING

from .segment import ARCHIVE_PLACE
from .segment import DamagedError
from .segment import MAX_CELL
from .segment import Memory
from .segment import Segment
from .segment import SLOT
from .segment import SLOT_WORDS
from .segment import Table
from .segment import WORD

if TYPE_CHECKING:
    from .reading import Snapshot
    from .segment import Key
    from .segment import Series

__all__ = ["Archive", "included_in"]

IDENTITY_BYTES = 2 * WORD
MAX_INCLUDED = 1000
"""The newest of them: a file is removed right after it was folded, and a reader is done within the second."""


def included_in(octets: memoryview, table: Table) -> dict[bytes, None]:
    """Return the identities that follow the segment of an archive.

    Raises:
        DamagedError: one of them is cut off.
    """
    identities = bytes(octets[table.committed_words * WORD :])
    if len(identities) % IDENTITY_BYTES:
        raise DamagedError("an identity is cut off")
    return dict.fromkeys(
        identities[start : start + IDENTITY_BYTES] for start in range(0, len(identities), IDENTITY_BYTES)
    )


class Archive:
    """The sums of segments that nobody writes any more, about to get more of them.

    Args:
        octets: the archive so far; None if there is none.

    Raises:
        DamagedError: it is none.
    """

    def __init__(self, octets: memoryview | None = None) -> None:
        self.included: dict[bytes, None] = {}
        self._segment = Segment(Memory(), ARCHIVE_PLACE)
        if octets is not None:
            table = Table()
            table.extend(octets)
            self.included = included_in(octets, table)
            self._segment.restore(octets, table)
        self._series: dict[Key, Series] = {series.key: series for series in self._segment.table.series}

    def add(self, identity: bytes, snapshot: Snapshot) -> None:
        """Add a segment's counters and histograms, and keep the newer exemplars."""
        words = snapshot.octets.cast("q")
        for series in snapshot.series:
            if series.gauge:
                continue
            own = self._series.get(series.key)
            if own is None:
                own = self._segment.append(series.key, series.cells, series.slots, gauge=False)
                self._series[series.key] = own
            if (own.cells, own.slots) == (series.cells, series.slots):
                self._add(own, series, words, snapshot.octets)
        self.included[identity] = None

    def _add(self, own: Series, series: Series, words: memoryview, octets: memoryview) -> None:
        mine = self._segment.words
        cells = words[series.first_cell : series.first_slot].tolist()
        if min(cells, default=0) >= 0:
            before = mine[own.first_cell : own.first_slot].tolist()
            for index, number in enumerate(map(add, before, cells), own.first_cell):
                mine[index] = min(number, MAX_CELL)
        for slot in range(series.slots):
            at, from_ = own.first_slot + slot * SLOT_WORDS, series.first_slot + slot * SLOT_WORDS
            if words[from_] > mine[at] and words[from_] == words[from_ + SLOT_WORDS - 1]:
                start = from_ * WORD
                self._segment.octets[at * WORD : at * WORD + SLOT.size] = octets[start : start + SLOT.size]

    def octets(self) -> bytes:
        """Return the contents of its file."""
        return bytes(self._segment.octets[: self._segment.size]) + b"".join(list(self.included)[-MAX_INCLUDED:])
