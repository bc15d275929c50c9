"""How a record gets into the file, and what is promised when it has."""

from __future__ import annotations

import errno
import os
import select
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from ..files import FollowedFile
from ..files import sync_directory
from .ends import close_at_exit
from .ends import Later
from .forks import renew_in_children
from .losses import Losses
from .seal import SEAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..files import Descriptor
    from .durability import Durability
    from .record import AuditGap
    from .rotation import Rotation
    from .seal import Seal

__all__ = ["AuditWriter"]

RENAMES = 2
"""So often a file is left that was renamed while it was opened."""


class AuditWriter(FollowedFile):
    """Appends records, each a line and one ``os.write``; what could not be written is told when it can be again.

    Safe to use from several threads, and after a fork. Without a seal no lock is taken.

    Args:
        path: As for ``FollowedFile``, like the two callables at the end.
        gap_line: Makes the line that tells of a gap.
        shortened: Makes a line that is at most so many bytes long from one that is longer.
        seal: Ties records together.
        durability: Waits for the disk; None: a record is safe from the process, not from a power failure.
        rotation: Renames the file when it is due.
        check_interval_seconds: How often, at most, the path is compared with the open file.
        on_lost: Told how many records, at most, went to a file that was deleted before anybody looked.
        on_truncated: Told by how many bytes, at least, somebody has shortened the open file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        gap_line: Callable[[AuditGap], bytes],
        shortened: Callable[[bytes, int], bytes],
        seal: Seal | None = None,
        durability: Durability | None = None,
        rotation: Rotation | None = None,
        check_interval_seconds: float = 1.0,
        on_lost: Callable[[int], None] | None = None,
        on_truncated: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(
            path, check_interval_seconds=check_interval_seconds, on_lost=on_lost, on_truncated=on_truncated
        )
        self._gap_line = gap_line
        self._shortened = shortened
        self._seal = seal
        self._durability = durability
        self._rotation = rotation
        self._may_be_plain = seal is None and durability is None and rotation is None
        self._plain: Descriptor | None = None
        """The file where nothing is to be done but to append. Not a flag: another thread may open another file."""
        self._process_id = os.getpid()
        self._renewals: dict[int, threading.RLock] = {}
        self._lock = threading.RLock()
        self._is_sealing = False
        self._losses = Losses()
        renew_in_children(self)
        if seal is not None:
            self._settling = Later(self._settled)
            close_at_exit(self)

    def write(self, line: bytes) -> None:
        """Append one record, given without its newline.

        Whatever is raised, a timeout that strikes amid a write too, the record is part of the gap that is told before
        the next one: it is not in the file, not all of it, or not known to be there.

        Raises:
            OSError: It could not be written, or not be synced.
        """
        try:
            file = self._plain
            if file is not None and file is self._file and monotonic() < self._next_check_seconds:
                # The hot path: as AppendFile.write and Descriptor.append, in two calls less.
                line += b"\n"
                if file.torn:
                    file.append(line)
                else:
                    written = os.write(file.number, line)
                    if written != len(line):
                        file.append_rest(line, written)
                    file.size_bytes += written
            elif self._seal is None:
                self._record(line)
            else:
                self._alone(self._record, line)
            self._unchecked_records += 1
        except BaseException:
            self._next_check_seconds = 0.0
            self.missed()
            raise

    def missed(self, records: int = 1) -> None:
        """Say that so many records are not in the file: a line before the next one tells."""
        self._renew_if_forked()
        self._losses.add(records)
        self._plain = None

    def close(self) -> None:
        """Tell a gap, where that is possible, and let go of the file; a later record opens it again."""
        self._renew_if_forked()
        if self._file is None and not self._losses.records:
            return
        with suppress(OSError):
            if self._seal is None:
                self._end(b"")
            else:
                self._alone(self._end, b"")
        self._file = None

    def _end(self, _: bytes) -> None:
        file = self._file
        if self._losses.records:
            file = self._current()
            self._tell_gap(file)
        self._file = None
        if file is not None:
            self._leave(file)

    def _record(self, line: bytes) -> None:
        file, seal, now_seconds = self._file, self._seal, monotonic()
        if file is None or now_seconds >= self._next_check_seconds or self._rotation is not None:
            file = self._current()
        if self._losses.records:
            self._tell_gap(file)
        if seal is not None and file.is_regular:
            self._put_sealed(file, seal, line, now_seconds)
        else:
            self._put(file, line)
        if self._may_be_plain:
            self._plain = file if file.is_regular else None
            if self._losses.records:  # looked at last: another thread may have lost one in between
                self._plain = None
        elif self._durability is not None and file.is_regular:
            self._await(file, self._durability)

    def _current(self) -> Descriptor:
        file = self._file
        rotation = self._rotation
        is_full = file is not None and rotation is not None and rotation.wants(file.size_bytes)
        if file is None or is_full or monotonic() >= self._next_check_seconds:
            file = self._checked(file)
        return file

    def _put(self, file: Descriptor, line: bytes) -> None:
        """Append one record, sealed, and as long as a pipe takes in one piece."""
        seal = self._seal
        if not file.is_regular:
            most_bytes = select.PIPE_BUF - 1 - (0 if seal is None else SEAL_BYTES)
            if len(line) > most_bytes:
                line = self._shortened(line, most_bytes)
        if seal is None:
            file.append(line + b"\n")
        else:
            self._put_sealed(file, seal, line, monotonic())

    def _put_sealed(self, file: Descriptor, seal: Seal, line: bytes, now_seconds: float) -> None:
        before, tears, sealed = seal.state, file.tears, b""
        try:
            sealed = seal.seal(line)
            data = sealed + b"\n"
            if file.torn:
                file.append(data)
            else:  # as Descriptor.append, in a call less
                written = os.write(file.number, data)
                if written != len(data):
                    file.append_rest(data, written)
                file.size_bytes += written
        except BaseException as error:
            seal.state = before
            # What is no OSError may have struck before the write, amid it or behind it.
            if file.tears != tears or not isinstance(error, OSError):
                seal.torn(sealed, file.size_bytes - len(sealed) - 2)  # which may have been added, with two newlines
            raise
        if now_seconds >= seal.due_seconds and seal.written(now_seconds):
            self._settling.begin()

    def _await(self, file: Descriptor, durability: Durability) -> None:
        try:
            durability.written(file)
        except OSError:
            self._file = None
            raise

    def _tell_gap(self, file: Descriptor) -> None:
        self._renew_if_forked()
        losses = self._losses.take()
        if losses is not None:
            try:
                self._put(file, self._gap_line(losses.told()))
            except BaseException:
                self._losses.put_back(losses)
                raise

    # What FollowedFile asks.

    def _checked(self, file: Descriptor | None) -> Descriptor:
        self._renew_if_forked()
        return super()._checked(file)

    def _is_due(self, file: Descriptor) -> bool:
        return self._rotation is not None and self._rotation.rotate_if_due(file)

    def _leave(self, file: Descriptor) -> None:
        with suppress(OSError):
            if self._seal is not None:
                last = self._seal.closing()
                if last is not None:
                    self._put_sealed(file, self._seal, last, monotonic())
            if self._durability is not None and file.is_regular:
                self._durability.left(file)

    def _open(self) -> Descriptor:
        file = self._entered()
        if self._seal is not None:
            self._seal.opened(self.path, file.number)
            for _ in range(RENAMES):
                if not file.is_regular or file.is_at(self.path):
                    break
                file = self._entered()  # the other one would seem younger than the one in its place
                self._seal.opened(self.path, file.number)
        if file.is_new and self._durability is not None:
            sync_directory(self.path.parent)
        return file

    def _entered(self) -> Descriptor:
        file = super()._open()
        while self._rotation is not None and file.is_regular:
            if self._rotation.enter(file):
                break
            file = super()._open()  # it was renamed before anybody could know that it is written to
        return file

    def _look_at(self, file: Descriptor) -> None:
        was_torn = file.torn
        super()._look_at(file)
        if file.torn and not was_torn and self._seal is not None:
            # Another process' record ends in the middle: what this one closes off is to be in its chain.
            self._seal.opened(self.path, file.number)

    # The order of seals.

    def _settled(self) -> bool:
        """Have the seal attest the last record; return whether it still has to come again."""
        return self._alone(self._settle, b"") is True

    def _settle(self, _: bytes) -> bool:
        again = self._seal is not None and self._seal.settle()
        if not again:
            self._settling.ended()
        return again

    def _alone(self, step: Callable[[bytes], bool | None], line: bytes) -> bool | None:
        """Run ``step`` while nobody else seals: no other thread, and nobody further up this one's stack."""
        if self._process_id != os.getpid():
            self._renew_if_forked()
        lock = self._lock
        try:
            # Inside, so that an interrupt right behind it leaves no lock behind; a with statement takes 0.2 µs more.
            lock.acquire()
            if self._is_sealing:  # a signal handler, in the middle of a record of this thread
                raise OSError(errno.EDEADLK, f"a record for {self.path} while another one is being written")
            self._is_sealing = True
            try:
                return step(line)
            finally:
                self._is_sealing = False
        finally:
            try:
                lock.release()
            except RuntimeError:  # the interrupt came before it
                pass

    def renew(self) -> None:
        """Be ready in a forked child, whose parent tells of its own gap; a chain begins anew, and opens the file."""
        self._lock = threading.RLock()
        self._is_sealing = False
        self._losses = Losses()
        self._unchecked_records = 0
        if self._seal is not None:
            self._file = None
        self._process_id = os.getpid()  # last: whoever sees it may go on

    def _renew_if_forked(self) -> None:
        """Do it where Python was not told of the fork, as by uWSGI: once, whichever thread comes first."""
        process_id = os.getpid()
        if self._process_id != process_id:
            with self._renewals.setdefault(process_id, threading.RLock()):
                if self._process_id != process_id:
                    self.renew()
