"""What verification finds in an audit file, and how bad it is."""

from __future__ import annotations

import dataclasses
from enum import Enum
from enum import IntEnum

__all__ = ["Finding", "Kind", "Place", "Verdict"]

Place = tuple[str, int]
"""A file's name and the number of a line, from 1; 0 is the file as a whole."""


class Verdict(IntEnum):
    """The exit codes of ``flask observability audit verify``."""

    INTACT = 0
    TAMPERED = 1
    UNCHECKED = 2
    """Cannot be checked: a key or a chain is not there."""
    TORN = 3
    """A record that a crash or a full disk cut off, and nothing else."""


class Kind(str, Enum):
    """What happened to a line, as far as what is left tells it."""

    EDIT = "edit"
    INSERTION = "insertion"
    DELETION = "deletion"
    SWAP = "swap"
    REPLAY = "replay"
    """A line that is there twice."""
    SPLICE = "splice"
    """A line of another file."""
    TRUNCATION = "truncation"
    WRONG_KEY = "wrong key"
    UNSEALED = "unsealed"
    OPEN_END = "open end"
    """Nothing attests where a chain ends."""
    HEADS = "heads"
    """The heads file is not as it was written."""
    TORN = "torn"

    @property
    def verdict(self) -> Verdict:
        """What it comes to where it is the worst."""
        if self is Kind.TORN:
            return Verdict.TORN
        unchecked = (Kind.WRONG_KEY, Kind.UNSEALED, Kind.OPEN_END, Kind.HEADS)
        return Verdict.UNCHECKED if self in unchecked else Verdict.TAMPERED


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is not as it was written."""

    kind: Kind
    file: str
    line: int
    """From 1; where a line is missing the one after it, and 0 where that is not known."""
    writer: str
    """Whose chain, nothing where that is not known."""
    message: str
