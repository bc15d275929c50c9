"""One writer's chain, as far as it is proved, and what does not fit into it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .finding import Place
    from .key import AuditKey
    from .mark import Mark
    from .mark import Note

__all__ = ["Gap", "Suspect", "WriterChain"]


@dataclasses.dataclass
class Suspect:
    """A line that nothing has proved so far."""

    place: Place
    raw: bytes
    mark: Mark | None
    note: Note | None
    before: bytes | None
    """The digest that its writer's chain had then."""
    explained: bool = False


@dataclasses.dataclass
class Gap:
    """Records of one writer that are not where they belong."""

    first: int
    last: int
    head: bytes | None
    """The digest before the first of them; None where the chain's beginning is what is missing."""
    after: Place
    before: Place
    unproved: Suspect | None
    """The line behind the gap, which only the missing one could prove."""


class WriterChain:
    """How far one writer's chain is proved."""

    __slots__ = (
        *("closed", "expected", "first", "gaps", "head", "key", "name", "opened", "place", "proved", "sequence"),
        "writer",
    )

    def __init__(self, writer: bytes, key: AuditKey | None, first: int) -> None:
        self.writer = writer
        self.name = writer.decode()
        self.key = key
        """None: not among those given; only the numbers are looked at."""
        self.first = first
        self.sequence = first - 1
        self.head = b""
        self.expected = b""
        self.opened = ""
        self.closed = False
        self.place: Place = ("", 0)
        self.proved = 0
        self.gaps: dict[int, Gap] = {}
        """By the first record that is missing."""

    def advance(self, sequence: int, head: bytes, place: Place) -> None:
        """Go on to a line that is proved."""
        self.sequence, self.head, self.place = sequence, head, place
        self.proved += 1
        self.expected = b"%b.%d." % (self.writer, sequence + 1)

    def miss(self, gap: Gap) -> None:
        """Take note of what is missing."""
        self.gaps[gap.first] = gap

    def proves(self, mark: Mark, head: bytes) -> bool:
        """Whether ``head`` is the digest of the line before ``mark``'s."""
        return self.key is None or self.key.mac(head + mark.signed) == mark.mac
