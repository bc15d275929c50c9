"""What an append-only file ends with."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import NamedTuple
from typing import TYPE_CHECKING

from ..files import Descriptor
from .mark import Mark
from .mark import Note
from .mark import split

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Tail", "left_of", "lines_between", "read_tail", "torn_name"]

WINDOW_BYTES = 65_536
"""More than any record: one of three fields of 2048 characters has 24 kB at most."""

MAXIMUM_BYTES = 1 << 24
"""So much is looked through for what is left of a record: more than all processes write in a second."""

TELLING_BYTES = 40
"""So long a beginning is no other record's: it has its time to the microsecond, or its id."""


class Tail(NamedTuple):
    """The end of a file."""

    began: str
    """The time of the note that the file begins with, nothing where it begins otherwise."""
    last: Mark | None
    """The mark of the last line that has one."""
    lines: list[bytes]
    """The last whole lines."""
    fragment: bytes
    """What stands after the last newline: the start of a record whose writer died, or found the disk full."""


def read_tail(path: Path, descriptor: int) -> Tail | None:
    """Return how the file ends that a descriptor writes to, None where that cannot be read.

    Args:
        path: Where it may be read.
        descriptor: Open for writing.
    """
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        reader = _reader(path, status)
        start = max(status.st_size - WINDOW_BYTES, 0)
        data = os.pread(reader.number, status.st_size - start, start)
        first = os.pread(reader.number, WINDOW_BYTES, 0) if start else data
    except OSError:
        return None
    *lines, fragment = data.split(b"\n")
    last = next((mark for line in reversed(lines) if (mark := split(line)[1])), None)
    note = Note.read(split(first.partition(b"\n")[0])[0])
    return Tail(note.time if note else "", last, lines, fragment)


def lines_between(path: Path, descriptor: int, start: int, end: int) -> list[bytes]:
    """Return the whole lines of a file from one place on to behind another one, none where that cannot be read.

    Args:
        path: Where it may be read.
        descriptor: Open for writing.
        start: In bytes; the first line may lack its beginning.
        end: In bytes; a line that begins before it is there as a whole.
    """
    try:
        reader = _reader(path, os.fstat(descriptor))
        data = os.pread(reader.number, min(max(end - start, 0), MAXIMUM_BYTES) + WINDOW_BYTES, start)
    except OSError:
        return []
    return data.split(b"\n")[:-1]


def _reader(path: Path, status: os.stat_result) -> Descriptor:
    reader = Descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    if not os.path.samestat(status, reader.status()):
        raise FileNotFoundError(path)
    return reader


def torn_name(fragment: bytes) -> str:
    """Return how a note names a torn line: its length, and a digest to tell it from any other."""
    return f"{len(fragment)}:{hashlib.blake2b(fragment, digest_size=8).hexdigest()}"


def left_of(part: bytes, lines: list[bytes]) -> set[bytes]:
    """Return what may be there of a line that was written in part, closed off or run into by another process's line."""
    left = set()
    for line in lines:
        length = next(
            (at for at, (one, other) in enumerate(zip(part, line, strict=False)) if one != other),
            min(len(part), len(line)),
        )
        if length and (length == len(line) or length >= TELLING_BYTES):
            left.add(line[:length])
    return left
