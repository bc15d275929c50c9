"""How a record gets into the file, what is promised when it has, and what is left where it could not."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from contextlib import contextmanager
from contextlib import suppress
from typing import Protocol
from typing import TYPE_CHECKING

from ..files import FollowedFile
from .durability import sync_directory
from .forks import renew_in_children
from .record import AuditGap
from .record import moment

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator
    from pathlib import Path

    from ..files import Descriptor
    from .durability import Durability
    from .rotation import Rotation

__all__ = ["AuditWriter", "Seal"]

SEAL_BYTES = 512
"""Left free for what a seal adds to a record, where records have a greatest length."""


class Seal(Protocol):
    """Ties the records of one writer together. Called under the writer's lock, one process at a time."""

    def seal(self, line: bytes) -> bytes:
        """Return what is written for ``line``; the state stays as it is."""
        ...

    def commit(self) -> None:
        """What ``seal`` returned is in the file."""

    def torn(self) -> None:
        """Only a part of it is, and the next record begins on a line of its own."""

    def opened(self, path: Path, descriptor: int) -> Iterable[bytes]:
        """Return the lines that come first in a file that was opened, made or followed, by a forked process too."""
        ...

    def closing(self) -> Iterable[bytes]:
        """Return the lines that come last, before a file is left."""
        ...


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
        self._is_plain = False
        """Nothing is to be done but to append: known when the file is open."""
        self._process_id = os.getpid()
        self._lock = threading.RLock()
        self._is_sealing = False
        self._gap = _Gap()
        renew_in_children(self)

    def write(self, line: bytes) -> None:
        """Append one record, given without its newline.

        Raises:
            OSError: The record is not in the file, not all of it, or not known to be on the disk. It is part of the
                gap that is told before the next record.
        """
        try:
            if self._is_plain:
                # The hot path: as AppendFile.write and Descriptor.append, in two calls less.
                file = self._file
                if file is None or time.monotonic() >= self._next_check_seconds:
                    file = self._checked(file)
                line += b"\n"
                if file.torn:
                    file.append(line)
                else:
                    written = os.write(file.number, line)
                    if written != len(line):
                        file.append_rest(line, written)
                    file.size_bytes += written
                self._unchecked_records += 1
            else:
                self._write(line)
        except OSError:
            self._next_check_seconds = 0.0
            self.missed()
            raise

    def missed(self, records: int = 1) -> None:
        """Say that so many records are not in the file: a line before the next one tells."""
        self._gap.add(records)
        self._is_plain = False

    def close(self) -> None:
        """Tell a gap, where that is possible, and let go of the file; a later record opens it again."""
        file = self._file
        if file is None and not self._gap.lost:
            return
        with suppress(OSError), self._sealing():
            if self._gap.lost:
                file = self._current()
                self._tell_gap(file)
            self._file = None
            if file is not None:
                self._leave(file)
        self._file = None

    def _write(self, line: bytes) -> None:
        with self._sealing():
            file = self._current()
            if self._gap.lost:
                self._tell_gap(file)
            self._put(file, line)
        self._unchecked_records += 1
        if self._durability is None:
            self._is_plain = self._seal is None and self._rotation is None and file.is_regular
            if self._gap.lost:  # looked at last: another thread may have lost one in between
                self._is_plain = False
        elif file.is_regular:
            self._await(file, self._durability)

    def _current(self) -> Descriptor:
        file = self._file
        if file is not None and self._process_id != os.getpid() and self._seal is not None:
            file = self._file = None  # forked: a chain of its own, which begins with an opening
        if file is None or time.monotonic() >= self._next_check_seconds or self._is_full(file):
            file = self._checked(file)
        return file

    def _is_full(self, file: Descriptor) -> bool:
        return self._rotation is not None and self._rotation.wants(file.size_bytes)

    def _put(self, file: Descriptor, line: bytes) -> None:
        """Append one record, sealed, and as long as a pipe takes in one piece."""
        seal = self._seal
        if not file.is_regular:
            most_bytes = select.PIPE_BUF - 1 - (0 if seal is None else SEAL_BYTES)
            if len(line) > most_bytes:
                line = self._shortened(line, most_bytes)
        self._append(file, line if seal is None else seal.seal(line))
        if seal is not None:
            seal.commit()

    def _append(self, file: Descriptor, line: bytes) -> None:
        tears = file.tears
        try:
            file.append(line + b"\n")
        except OSError:
            if self._seal is not None and file.tears > tears:
                self._seal.torn()
            raise

    def _await(self, file: Descriptor, durability: Durability) -> None:
        try:
            durability.written(file)
        except OSError:
            self._file = None
            raise

    def _tell_gap(self, file: Descriptor) -> None:
        gap = self._gap.take()
        if gap is not None:
            try:
                self._put(file, self._gap_line(gap.told()))
            except OSError:
                self._gap.put_back(gap)
                raise

    # What FollowedFile asks.

    def _is_due(self, file: Descriptor) -> bool:
        return self._rotation is not None and self._rotation.rotate_if_due(file)

    def _leave(self, file: Descriptor) -> None:
        with suppress(OSError):
            if self._seal is not None and self._process_id == os.getpid():
                for line in self._seal.closing():
                    self._append(file, line)
                    self._seal.commit()
            if self._durability is not None and file.is_regular:
                self._durability.left(file)

    def _open(self) -> Descriptor:
        file = super()._open()
        while self._rotation is not None and file.is_regular:
            if self._rotation.enter(file):
                break
            file = super()._open()  # it was renamed before anybody could know that it is written to
        if file.is_new and self._durability is not None:
            sync_directory(self.path.parent)
        if self._seal is not None:
            self._process_id = os.getpid()
            for line in self._seal.opened(self.path, file.number):
                self._append(file, line)
        return file

    def _look_at(self, file: Descriptor) -> None:
        was_torn = file.torn
        super()._look_at(file)
        if file.torn and not was_torn and self._seal is not None:
            # Another process' record ends in the middle: what this one closes off is to be in its chain.
            for line in self._seal.opened(self.path, file.number):
                self._append(file, line)

    # The order of seals.

    @contextmanager
    def _sealing(self) -> Iterator[None]:
        if self._seal is None:
            yield
            return
        with self._lock:
            if self._is_sealing:  # a signal handler, in the middle of a record of this thread
                raise OSError(errno.EDEADLK, f"a record for {self.path} while another one is being written")
            self._is_sealing = True
            try:
                yield
            finally:
                self._is_sealing = False

    def renew(self) -> None:
        """Be ready in a forked child, whose parent tells of its own gap."""
        self._lock = threading.RLock()
        self._is_sealing = False
        self._gap = _Gap()


class _Gap:
    """How many records were lost since the last one that was written, and when. Safe to use from several threads."""

    def __init__(self) -> None:
        self.lost = 0
        self._since_ns = 0
        self._until_ns = 0
        self._lock = threading.RLock()

    def add(self, records: int) -> None:
        """Count records that are lost now."""
        now_ns = time.time_ns()
        with self._lock:
            self._since_ns = self._since_ns if self.lost else now_ns
            self._until_ns = now_ns
            self.lost += records

    def take(self) -> _Gap | None:
        """Return what there is to tell, which is then nobody else's."""
        with self._lock:
            if not self.lost:
                return None
            taken = _Gap()
            taken.lost, taken._since_ns, taken._until_ns = self.lost, self._since_ns, self._until_ns
            self.lost = 0
            return taken

    def put_back(self, gap: _Gap) -> None:
        """Count what could not be told together with what was lost meanwhile."""
        with self._lock:
            self._until_ns = self._until_ns if self.lost else gap._until_ns
            self._since_ns = gap._since_ns
            self.lost += gap.lost

    def told(self) -> AuditGap:
        """Return the record of it."""
        return AuditGap(moment(time.time_ns()), self.lost, moment(self._since_ns), moment(self._until_ns))
