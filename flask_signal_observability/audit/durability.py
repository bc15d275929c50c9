"""When a record is safe from a power failure, and not only from the process: fdatasync(2), and who waits for it."""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import Protocol
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..files import Descriptor

__all__ = ["Durability", "EachSynced", "GroupSynced", "IntervalSynced", "make_durability"]

sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has only the second


class Durability(Protocol):
    """What is done for a record that the kernel has taken. Safe to use from several threads, and after a fork."""

    def written(self, file: Descriptor) -> None:
        """Return when the last record of this thread is as safe as was promised, or raise ``OSError``."""

    def left(self, file: Descriptor) -> None:
        """No more records come: the file is no longer written to."""


class EachSynced:
    """``each``: a record has an fdatasync of its own."""

    def written(self, file: Descriptor) -> None:
        """Sync it now."""
        sync_data(file.number)

    def left(self, file: Descriptor) -> None:
        """Nothing is left to do."""


class GroupSynced:
    """``group``: a record waits for an fdatasync that began after it was written, which it shares with others.

    While one thread syncs, the others queue; the first of them then syncs for all that have written meanwhile.
    """

    def written(self, file: Descriptor) -> None:
        """Sync it, or wait for the thread that does."""
        group: _Group | None = file.syncing
        if group is None or group.process_id != os.getpid():
            # Two threads that come here together may make one each, and each then syncs for itself.
            group = file.syncing = _Group()
        group.wait(file.number)

    def left(self, file: Descriptor) -> None:
        """Nothing is left to do: whoever has written has waited."""


class _Group:
    def __init__(self) -> None:
        self.process_id = os.getpid()
        self._lock = threading.Lock()
        self._tickets = itertools.count(1)
        self._done = 0
        self._failure: OSError | None = None

    def wait(self, number: int) -> None:
        ticket = next(self._tickets)
        with self._lock:
            if self._failure is None and self._done < ticket:
                covered = next(self._tickets)  # whoever has a smaller one has written already
                try:
                    sync_data(number)
                except OSError as error:
                    self._failure = error
                self._done = covered
            if self._failure is not None:
                # For good, until the file is opened anew: the kernel tells of a failed write-back once, and a second
                # fdatasync would say that all is well.
                raise OSError(self._failure.errno, self._failure.strerror)


class IntervalSynced:
    """``interval``: what was written is synced at most so many seconds later, by a thread that then ends.

    Args:
        seconds: from 0.001.
        tell: told what went wrong; no request waits for it.
    """

    def __init__(self, seconds: float, tell: Callable[[OSError], None]) -> None:
        self._seconds = seconds
        self._tell = tell

    def written(self, file: Descriptor) -> None:
        """Leave it to a thread: the one that is there, or a new one."""
        process_id = os.getpid()
        if file.syncing != process_id:
            file.syncing = process_id
            try:
                threading.Thread(target=self._sync_later, args=(file,), name="audit-sync", daemon=True).start()
            except RuntimeError:  # from Python 3.12 on, none can be started while the interpreter ends
                file.syncing = None
                sync_data(file.number)

    def left(self, file: Descriptor) -> None:
        """Sync it now."""
        sync_data(file.number)

    def _sync_later(self, file: Descriptor) -> None:
        time.sleep(self._seconds)
        file.syncing = None  # before the sync: what is written from here on needs another one
        try:
            sync_data(file.number)
        except OSError as error:
            self._tell(error)


def make_durability(name: str, interval_seconds: float, tell: Callable[[OSError], None]) -> Durability | None:
    """Return what ``audit_durability`` names; None for ``os``, which takes nothing."""
    if name == "interval":
        return IntervalSynced(interval_seconds, tell)
    if name == "group":
        return GroupSynced()
    return EachSynced() if name == "each" else None
