"""The numbers of one process: a growable buffer that only this process writes, and that others may read.

All numbers are 64-bit integers, durations in nanoseconds: sums are exact in whatever order they are added up, so that
a total never goes down by the last digit of a float, which Prometheus would take for a restart.

The buffer is a header and then records, each appended once and never moved::

    header   magic  version  identity (2)  pid  place  started_unix_ns  committed_bytes  zero  (7 unused)
    record   words  key_bytes  cells  slots  gauge  key, padded  cell …  slot …
    slot     unix_ns  value  trace id (2)  span id  unix_ns

A slot holds the last exemplar of a bucket. It is written from its last word to its first and read from the first to the
last, so that one whose two times are the same is whole; another one was read while it was written, and is none.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from typing import NamedTuple
from typing import Protocol

import orjson

__all__ = [
    "ARCHIVE_PLACE",
    "FIRST_RECORD",
    "MAX_CELL",
    "SLOT",
    "SLOT_WORDS",
    "ZERO",
    "DamagedError",
    "Key",
    "MappedFile",
    "Memory",
    "Segment",
    "Series",
    "Table",
    "identity_of",
    "is_begun",
    "process_of",
    "write_slot",
]

Key = tuple[str, ...]
"""The name of a family, and the values of its labels."""

WORD = 8
MAGIC = int.from_bytes(b"FSOcells", "big")
VERSION = 1
HEADER_WORDS = 16
RECORD_WORDS = 5
FIRST_RECORD = HEADER_WORDS * WORD
CHUNK_BYTES = 64 * 1024
ARCHIVE_PLACE = -1

# The words of the header.
_MAGIC, _VERSION, _IDENTITY, _PID, _PLACE, _STARTED, _COMMITTED = 0, 1, 2, 4, 5, 6, 7
ZERO = 8
"""A cell that is always 0: where a segment has no cell for a series of another one."""

SLOT = struct.Struct("=qq24sq")
SLOT_WORDS = SLOT.size // WORD
_BETWEEN = struct.Struct("=q24s")

MAX_CELL = 2**63 - 1
"""What a cell stays at that would become more."""


class DamagedError(ValueError):
    """What was read is no segment of this version, or not all of one."""


class Backing(Protocol):
    """Where a segment's bytes are kept."""

    def grow(self, size: int) -> memoryview:
        """Return a writable view of at least ``size`` bytes: the old ones, and zeros after them.

        Raises:
            OSError: there is no room.
        """
        ...


class Memory:
    """The memory of this process alone."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def grow(self, size: int) -> memoryview:
        """See :class:`Backing`."""
        self._bytes = bytearray(self._bytes) + bytes(size - len(self._bytes))
        return memoryview(self._bytes)


class MappedFile:
    """A file, mapped: what is written is seen by whoever reads it, also after this process was killed."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def grow(self, size: int) -> memoryview:
        """See :class:`Backing`. Room is taken before it is mapped: writing to a full disk would be a SIGBUS."""
        _take_room(self.descriptor, size)
        return memoryview(mmap.mmap(self.descriptor, size))


def _take_room(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    end = os.fstat(descriptor).st_size  # macOS has none, and a hole in a file takes no room
    while end < size:
        end += os.pwrite(descriptor, bytes(size - end), end)


class Series(NamedTuple):
    """Where one series is in a segment, in words."""

    key: Key
    first_cell: int
    cells: int
    slots: int
    gauge: bool
    """What it says ends with the process."""

    @property
    def first_slot(self) -> int:
        """The word after the cells."""
        return self.first_cell + self.cells


class Table:
    """The series of a segment, read as far as it was committed; a later reading goes on from there."""

    def __init__(self) -> None:
        self.series: list[Series] = []
        self.committed_words = HEADER_WORDS

    def extend(self, octets: memoryview) -> None:
        """Read what was appended since.

        Raises:
            DamagedError: this is no segment, or it says of itself what cannot be.
        """
        words = octets.cast("q")
        if len(words) < HEADER_WORDS or words[_MAGIC] != MAGIC or words[_VERSION] != VERSION or words[ZERO] != 0:
            raise DamagedError("no segment of this version")
        committed, odd = divmod(words[_COMMITTED], WORD)
        if odd or not self.committed_words <= committed <= len(words):
            raise DamagedError("not as long as it says")
        appended, place = [], self.committed_words
        while place < committed:
            series, place = _read_record(octets, words, place, committed)
            appended.append(series)
        self.series += appended
        self.committed_words = committed


def _read_record(octets: memoryview, words: memoryview, place: int, committed: int) -> tuple[Series, int]:
    if committed - place < RECORD_WORDS:
        raise DamagedError("a record is cut off")
    length, key_bytes, cells, slots, gauge = words[place : place + RECORD_WORDS]
    key_words = -(-key_bytes // WORD)
    if min(key_bytes, cells, slots) < 0 or length != RECORD_WORDS + key_words + cells + slots * SLOT_WORDS:
        raise DamagedError("the parts of a record do not add up to it")
    if length > committed - place:
        raise DamagedError("a record is cut off")
    start = (place + RECORD_WORDS) * WORD
    try:
        key = orjson.loads(octets[start : start + key_bytes])
    except orjson.JSONDecodeError as error:
        raise DamagedError("a key is not JSON") from error
    if not isinstance(key, list) or not key or not all(isinstance(part, str) for part in key):
        raise DamagedError("a key is no list of strings")
    return Series(tuple(key), place + RECORD_WORDS + key_words, cells, slots, bool(gauge)), place + length


def is_begun(octets: memoryview) -> bool:
    """Tell whether the head of a segment is written; its first word comes last."""
    return any(octets[:WORD])


def identity_of(octets: memoryview) -> bytes:
    """Return what no other segment has."""
    return bytes(octets[_IDENTITY * WORD : (_IDENTITY + 2) * WORD])


def process_of(octets: memoryview) -> tuple[int, int]:
    """Return the id of the process that writes a segment, and its place."""
    words = octets.cast("q")
    return words[_PID], words[_PLACE]


def write_slot(octets: memoryview, words: memoryview, slot: int, unix_ns: int, value: int, ids: bytes) -> None:
    """Write an exemplar, under the store's lock.

    Args:
        octets: the segment, by bytes.
        words: the same, by words.
        slot: its first word.
        unix_ns: when it was observed.
        value: what was.
        ids: of the trace and the span, 24 bytes.
    """
    words[slot + SLOT_WORDS - 1] = unix_ns
    _BETWEEN.pack_into(octets, (slot + 1) * WORD, value, ids)
    words[slot] = unix_ns


class Segment:
    """The segment that this process writes. Its callers hold the store's lock."""

    def __init__(self, backing: Backing, place: int = 0, identity: bytes | None = None) -> None:
        self._backing = backing
        self.table = Table()
        self.octets = memoryview(bytearray(0))
        self.words = self.octets.cast("q")
        """The cells, by index; only valid until the next :meth:`append`."""
        self._reserve(HEADER_WORDS)
        header = self.words
        header[_VERSION] = VERSION
        self.octets[_IDENTITY * WORD : (_IDENTITY + 2) * WORD] = identity or os.urandom(2 * WORD)
        header[_PID] = os.getpid()
        header[_PLACE] = place
        header[_STARTED] = time.time_ns()
        header[_COMMITTED] = HEADER_WORDS * WORD
        header[_MAGIC] = MAGIC

    @property
    def size(self) -> int:
        """How many bytes are used."""
        return self.table.committed_words * WORD

    def append(self, key: Key, cells: int, slots: int, *, gauge: bool) -> Series:
        """Make room for a series, all zeros, and return where it is.

        Raises:
            OSError: there is no room.
        """
        octets = orjson.dumps(key)
        key_words = -(-len(octets) // WORD)
        place = self.table.committed_words
        length = RECORD_WORDS + key_words + cells + slots * SLOT_WORDS
        self._reserve(place + length)
        start = (place + RECORD_WORDS) * WORD
        for offset, number in enumerate((length, len(octets), cells, slots, gauge)):
            self.words[place + offset] = number
        self.octets[start : start + len(octets)] = octets
        series = Series(key, place + RECORD_WORDS + key_words, cells, slots, gauge)
        self.table.series.append(series)
        self.table.committed_words = place + length
        # Last: what is not committed is not there.
        self.words[_COMMITTED] = self.size
        return series

    def continued(self, other: Segment) -> None:
        """Append the series of another segment in their order, so that each is where it was; with no numbers."""
        for series in other.table.series:
            self.append(series.key, series.cells, series.slots, gauge=series.gauge)

    def restore(self, octets: memoryview, table: Table) -> None:
        """Take over the series and numbers of a segment that nobody writes any more; this one is empty."""
        end = table.committed_words * WORD
        self._reserve(table.committed_words)
        self.octets[FIRST_RECORD:end] = octets[FIRST_RECORD:end]
        self.table = table
        self.words[_COMMITTED] = end

    def _reserve(self, words: int) -> None:
        if words > len(self.words):
            size = max(words * WORD, 2 * len(self.octets))
            octets = self._backing.grow(-(-size // CHUNK_BYTES) * CHUNK_BYTES)
            self.octets, self.words = octets, octets.cast("B").cast("q")
