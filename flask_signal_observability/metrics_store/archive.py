"""What the dead members of a group have counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .reading import Snapshot
from .segment import ARCHIVE_PLACE
from .segment import DamagedError
from .segment import identity_of
from .segment import Memory
from .segment import Segment
from .segment import SLOT
from .segment import SLOT_WORDS
from .segment import Table
from .segment import WORD

if TYPE_CHECKING:
    from .segment import Key
    from .segment import Series

__all__ = ["Archive"]

INCLUDED = ""
"""The family, which is none, under which the identities of the members are kept."""

MAX_INCLUDED = 1000
"""The newest of them: a file is removed right after it was folded, and a reader is done within the second."""


class Archive:
    """The sums of segments that nobody writes any more, in the form of one."""

    def __init__(self) -> None:
        self.included: dict[bytes, None] = {}
        self._segment = Segment(Memory(), ARCHIVE_PLACE)
        self._series: dict[Key, Series] = {}

    @classmethod
    def read(cls, octets: memoryview) -> Archive:
        """Read a whole archive.

        Raises:
            DamagedError: it is none.
        """
        table = Table()
        table.extend(octets)
        archive = cls()
        archive._take(Snapshot(identity_of(octets), table, octets, len(table.series)))
        archive._identity = identity_of(octets)
        for series in table.series:
            if series.key[0] == INCLUDED:
                try:
                    archive.included[bytes.fromhex(series.key[-1])] = None
                except ValueError as error:
                    raise DamagedError("no identity") from error
        return archive

    def add(self, identity: bytes, snapshot: Snapshot) -> None:
        """Add a segment's counters and histograms, and keep the newer exemplars."""
        self._take(snapshot)
        self.included[identity] = None

    def _take(self, snapshot: Snapshot) -> None:
        words = snapshot.octets.cast("q")
        for series in snapshot.series:
            if series.gauge or series.key[0] == INCLUDED:
                continue
            own = self._series.get(series.key)
            if own is None:
                own = self._segment.append(series.key, series.cells, series.slots, gauge=False)
                self._series[series.key] = own
            if (own.cells, own.slots) == (series.cells, series.slots):
                self._add(own, series, words, snapshot.octets)

    def _add(self, own: Series, series: Series, words: memoryview, octets: memoryview) -> None:
        mine = self._segment.words
        for cell in range(series.cells):
            mine[own.first_cell + cell] += max(0, words[series.first_cell + cell])
        for slot in range(series.slots):
            at, from_ = (first + slot * SLOT_WORDS for first in (own.first_slot, series.first_slot))
            if words[from_] > mine[at] and words[from_] == words[from_ + SLOT_WORDS - 1]:
                self._segment.octets[at * WORD : at * WORD + SLOT.size] = octets[
                    from_ * WORD : from_ * WORD + SLOT.size
                ]

    def snapshot(self) -> Snapshot:
        """Return it as a reader takes it."""
        table = self._segment.table
        return Snapshot(self._identity, table, self._segment.octets, len(table.series), alive=False)

    def octets(self) -> bytes:
        """Return the contents of its file."""
        for identity in list(self.included)[-MAX_INCLUDED:]:
            self._segment.append((INCLUDED, identity.hex()), 0, 0, gauge=False)
        return bytes(self._segment.octets[: self._segment.size])

    _identity: object = None
