"""How a sealed file ends without anybody who closes it: at the process's end, and while no more records come."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from typing import Protocol
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Closable", "Later", "close_at_exit"]

SETTLE_SECONDS = 1.0


class Closable(Protocol):
    """Something that is to be closed when the process ends."""

    def close(self) -> None:
        """Do what is to be done before the end; raise nothing."""


_closables: weakref.WeakSet[Closable] = weakref.WeakSet()


def close_at_exit(closable: Closable) -> None:
    """Call its ``close`` at the end of this process and of forked ones, for as long as somebody has it.

    What ends by ``os._exit``, as children of multiprocessing do, or by a signal that nobody handles, closes nothing.
    """
    _closables.add(closable)


def _close_all() -> None:
    for closable in list(_closables):
        closable.close()


# Not weakref.finalize, which would have to hold what it closes.
atexit.register(_close_all)


class Later:
    """Calls a function a second later, and again for as long as that wants it, in a thread that then ends.

    Args:
        function: Returns whether to come again. Nobody must call ``begin`` meanwhile: one lock is around both.
    """

    def __init__(self, function: Callable[[], bool]) -> None:
        self._function = function
        self._process_id = 0

    def begin(self) -> None:
        """Leave it to the thread that is there, or to a new one."""
        process_id = os.getpid()  # a thread is not forked with its process
        if self._process_id != process_id:
            self._process_id = process_id
            try:
                threading.Thread(target=self._run, name="audit-heads", daemon=True).start()
            except RuntimeError:  # from Python 3.12 on, none can be started while the interpreter ends
                self._process_id = 0

    def ended(self) -> None:
        """The function will return False: the next ``begin`` needs another thread."""
        self._process_id = 0

    def _run(self) -> None:
        time.sleep(SETTLE_SECONDS)
        while self._function():
            time.sleep(SETTLE_SECONDS)
