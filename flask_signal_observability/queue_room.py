"""How much room is left in a queue that somebody else holds, so that what it cannot take is counted."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["QueueRoom"]


class QueueRoom:
    """Places in the queue of one of the SDK's batch processors, which tells nobody what falls out of it.

    Safe to use from several threads: the number is read, compared and written under a lock, since no bytecode does all
    three, with the GIL or without. A forked process begins with an empty queue, as the SDK's does.

    Args:
        size: How many wait at most.
        dropped: Told of each one that there was no place for, on the thread that brought it.
    """

    def __init__(self, size: int, dropped: Callable[[], object]) -> None:
        self._size = size
        self._dropped = dropped
        self._begin()

    def _begin(self) -> None:
        self._waiting = 0
        self._lock = threading.Lock()
        # Last: who finds it set finds a lock that no thread of the parent's holds.
        self._process_id = os.getpid()

    def take(self) -> bool:
        """Take a place; False, and counted, where there is none."""
        if self._process_id != os.getpid():
            self._begin()
        with self._lock:
            has_room = self._waiting < self._size
            self._waiting += has_room
        if not has_room:
            self._dropped()
        return has_room

    def leave(self, count: int) -> None:
        """Give so many places back: they are being exported."""
        if self._process_id != os.getpid():
            self._begin()
        with self._lock:
            self._waiting = max(0, self._waiting - count)
