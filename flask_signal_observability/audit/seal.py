"""What ties the records of one writer together, so that whoever changes one shows."""

from __future__ import annotations

from typing import Any
from typing import Protocol
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SEAL_BYTES", "Seal"]

SEAL_BYTES = 512
"""Left free for what a seal adds to a record, where records have a greatest length."""


class Seal(Protocol):
    """Ties the records of one writer together. Called under the writer's lock, one process at a time."""

    state: Any
    """What the next seal goes on from: put back where nothing of the last one is in the file."""
    due_seconds: float
    """From when on, by the monotonic clock, ``written`` has something to do."""

    def seal(self, line: bytes) -> bytes:
        """Return what is written for ``line``, which from now on counts as written."""
        ...

    def torn(self, sealed: bytes, from_bytes: int) -> None:
        """Only a part of ``sealed`` is in the file, or nobody knows how much; ``state`` was put back.

        ``from_bytes`` is where in the file it begins at the earliest.
        """

    def written(self, now_seconds: float) -> bool:
        """What ``seal`` returned is in the file; need not be called before ``due_seconds``.

        Return whether ``settle`` is to be called a little later.
        """
        ...

    def settle(self) -> bool:
        """Attest the last record, should it be for a while; return whether to come again a little later."""
        ...

    def opened(self, path: Path, descriptor: int) -> None:
        """The next record is the first one in a file that was opened, made or followed, by a forked process too."""

    def closing(self) -> bytes | None:
        """Return the line, not sealed so far, that comes last before a file is left; None where none does."""
        ...
