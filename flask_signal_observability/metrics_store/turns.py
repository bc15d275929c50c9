"""Long work in turns: the requests that a process serves meanwhile need the interpreter, too."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from typing import TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator

__all__ = ["in_turns"]

TURN_NS = 1_000_000
PAUSE_SECONDS = 20e-6
"""Long enough for a thread that waits to wake up."""

Item = TypeVar("Item")


def in_turns(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items, and let other threads, or greenlets, go on after each millisecond.

    Python by itself hands over only after five, and a request has to wait for its turn after every read and write: to
    write ten thousand series would hold it up several times.
    """
    turn_ends_ns = time.monotonic_ns() + TURN_NS
    for item in items:
        yield item
        if time.monotonic_ns() > turn_ends_ns:
            time.sleep(PAUSE_SECONDS)
            turn_ends_ns = time.monotonic_ns() + TURN_NS
