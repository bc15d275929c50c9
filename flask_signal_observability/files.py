"""Files that are only appended to: one record is one write, whoever else writes, renames or deletes them."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AppendFile", "Descriptor", "FollowedFile", "sync_directory"]

# Non-blocking, so that neither a FIFO without a reader nor a full one holds up a request: both are an OSError.
_SAFE = os.O_CLOEXEC | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0)
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _SAFE


class FollowedFile:
    """A file that others may rotate or delete while it is written to: noticed and opened anew in an interval.

    Nothing is on disk before somebody writes. Safe to use from several threads, and after a fork, without a lock.

    Args:
        path: The file; a relative path is taken from the working directory of now. It must not be a symbolic link,
            and its directory must exist when a record is written.
        mode: Permissions of a file that is created here, whatever the umask; those of an existing file stay.
        check_interval_seconds: How often, at most, the path is compared with the open file; 0 is before each record.
        on_lost: Told how many records, at most, went to a file that was deleted before anybody looked.
        on_truncated: Told by how many bytes, at least, somebody has shortened the open file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: int = 0o640,
        check_interval_seconds: float = 1.0,
        on_lost: Callable[[int], None] | None = None,
        on_truncated: Callable[[int], None] | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self._mode = mode
        self._check_interval_seconds = check_interval_seconds
        self._on_lost = on_lost
        self._on_truncated = on_truncated
        self._file: Descriptor | None = None
        self._next_check_seconds = 0.0
        self._unchecked_records = 0

    def close(self) -> None:
        """Let go of the file, which is closed when no thread writes to it any more; a later record opens it again."""
        self._file = None

    def _checked(self, file: Descriptor | None) -> Descriptor:
        """Return ``file`` if the path still leads to it, else what the path leads to now."""
        self._next_check_seconds = time.monotonic() + self._check_interval_seconds
        unchecked, self._unchecked_records = self._unchecked_records, 0
        if file is not None:
            if file.is_at(self.path) and not self._is_due(file):
                self._look_at(file)
                return file
            self._file = None  # should opening fail, the next record tries it again at once
            if unchecked and self._on_lost is not None and file.is_deleted():
                self._on_lost(unchecked)
            self._leave(file)
        # Threads that come here together each open the file; the last one stays, the others serve one record.
        self._file = opened = self._open()
        return opened

    def _look_at(self, file: Descriptor) -> None:
        """Notice what others have done to the file: shortened it, or died in the middle of a record."""
        missing_bytes = file.missing_bytes()
        if missing_bytes and self._on_truncated is not None:
            self._on_truncated(missing_bytes)
        file.torn = file.torn or _ends_torn(file, self.path, where_unreadable=False)

    def _is_due(self, file: Descriptor) -> bool:
        """Whether to leave the file though the path still leads to it."""
        return False

    def _leave(self, file: Descriptor) -> None:
        """Do what is to be done before a file is no longer written to."""

    def _open(self) -> Descriptor:
        """Open what the path leads to."""
        return _open(self.path, self._mode)


class AppendFile(FollowedFile):
    """Appends whole records to a file that others may rotate, delete or write to at the same time.

    A record that the disk took only in part is closed off: the next one starts on a line of its own, at the price of a
    blank line where two writers close off the same tear. POSIX ``O_APPEND`` writes do not interleave.

    That needs no lock, with the GIL or without it: the kernel keeps records apart, and the attribute that threads share
    holds a descriptor whose last reference closes it. Nobody is told of records that went to a deleted file.

    Args:
        path, mode, check_interval_seconds: As for ``FollowedFile``.
    """

    def __init__(self, path: str | os.PathLike[str], *, mode: int = 0o640, check_interval_seconds: float = 1.0) -> None:
        super().__init__(path, mode=mode, check_interval_seconds=check_interval_seconds)

    def write(self, data: bytes) -> None:
        r"""Append one record, which ends with ``\n``, in one ``os.write``.

        Raises:
            OSError: The record is not in the file, or not all of it. The next call tries again.
        """
        # The hot path: as Descriptor.append, without the call and without its count of bytes.
        file = self._file
        if file is None or time.monotonic() >= self._next_check_seconds:
            file = self._checked(file)
        try:
            if file.torn:
                file.append(data)
            elif (written := os.write(file.number, data)) != len(data):
                file.append_rest(data, written)
        except OSError:
            self._next_check_seconds = 0.0
            raise


class Descriptor:
    """A file descriptor, closed when the last reference is gone.

    A thread that is about to write holds a reference: a number that was closed under it could by then be a client's
    socket.
    """

    __slots__ = (
        "_opened",
        "_uncounted_bytes",
        "is_new",
        "is_regular",
        "number",
        "size_bytes",
        "syncing",
        "tears",
        "torn",
    )

    def __init__(self, number: int) -> None:
        self.number = -1
        try:
            self._opened = opened = os.fstat(number)
        except BaseException:
            os.close(number)
            raise
        self.number = number
        self.size_bytes = opened.st_size
        """About how long the file is, unless it was cut."""
        self._uncounted_bytes = 0
        self.is_regular = stat.S_ISREG(opened.st_mode)
        self.is_new = False
        """It was made here."""
        self.torn = False
        """The file may end in the middle of a record."""
        self.tears = 0
        """How many records have got into the file in part."""
        self.syncing: Any = None
        """What has to be known to sync it."""
        if number <= 2:  # noqa: PLR2004 - a standard stream was closed: what prints would print into the file
            self.number = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
            os.close(number)

    def __del__(self) -> None:
        if self.number >= 0 and self._is_ours():
            os.close(self.number)

    def append(self, data: bytes) -> None:
        """Write one record, on a line of its own."""
        if self.torn:
            self._close_tear(data)
            return
        written = os.write(self.number, data)
        if written != len(data):
            self.append_rest(data, written)
        self.size_bytes += written

    def _close_tear(self, data: bytes) -> None:
        data = b"\n" + data
        written = os.write(self.number, data)
        if written != len(data):
            self.append_rest(data, written)
        # Not before: a record of another thread must not come between the tear and its newline.
        self.torn = False

    def append_rest(self, data: bytes, written: int) -> None:
        """Write what ``os.write`` has left of a record."""
        rest = data[written:]
        try:
            rest = rest[os.write(self.number, rest) :]
        finally:
            self.torn = bool(rest)
            self.tears += self.torn
        if rest:
            raise OSError(errno.EIO, f"the last {len(rest)} of {len(data)} bytes of a record could not be written")

    def missing_bytes(self) -> int:
        """Return how much shorter, at least, the file has become since this was last asked: rotated by copytruncate.

        Only what the file held at first, and what this process has added, is missed. The records of other processes,
        which nobody tells us of, can hide it.
        """
        expected_bytes = self.size_bytes - self._uncounted_bytes
        self.size_bytes = size_bytes = os.fstat(self.number).st_size
        missing_bytes = max(0, expected_bytes - size_bytes) if self.is_regular else 0
        # Other processes' bytes, and those that a thread of this one has written and is just about to add to the size.
        self._uncounted_bytes = size_bytes if missing_bytes else size_bytes - expected_bytes
        return missing_bytes

    def status(self) -> os.stat_result:
        """Return what the kernel knows about it."""
        return os.fstat(self.number)

    def is_at(self, path: Path) -> bool:
        """Whether ``path`` leads to this file."""
        if not self._is_ours():
            self.number = -1
            return False
        try:
            return os.path.samestat(self._opened, path.lstat())
        except OSError:
            return False

    def _is_ours(self) -> bool:
        """False where somebody closed the number, as daemons do with all of them, and it may be a stranger's by now."""
        try:
            return os.path.samestat(self._opened, os.fstat(self.number))
        except OSError:
            return False

    def is_same_as(self, other: Descriptor) -> bool:
        """Whether both are the same file."""
        return os.path.samestat(self._opened, other._opened)

    def is_deleted(self) -> bool:
        """Whether no path leads to this file any more."""
        try:
            return os.fstat(self.number).st_nlink == 0
        except OSError:
            return False


def _open(path: Path, mode: int) -> Descriptor:
    try:
        file = Descriptor(os.open(path, _APPEND | os.O_EXCL, mode))
    except FileExistsError:
        file = Descriptor(os.open(path, _APPEND, mode))
        file.torn = _ends_torn(file, path, where_unreadable=True)
    else:
        # The umask has only narrowed the mode: a file system that knows no modes is no reason to lose the record.
        with suppress(OSError):
            os.fchmod(file.number, mode)
        file.is_new = True
    return file


def _ends_torn(file: Descriptor, path: Path, *, where_unreadable: bool) -> bool:
    """Whether an existing file's last line lacks its end: a process died, or a disk was full, in the middle of it."""
    status = os.fstat(file.number)
    if not file.is_regular or status.st_size == 0:
        return False
    try:
        reader = Descriptor(os.open(path, os.O_RDONLY | _SAFE))
        last = os.pread(reader.number, 1, status.st_size - 1)
    except OSError:
        # May be written but not read. Once, a blank line costs less than two records in one.
        return where_unreadable
    if not reader.is_same_as(file):
        return False  # renamed in between
    # A size that moves is another process in the middle of its write, which ends it itself.
    return last != b"\n" and os.fstat(file.number).st_size == status.st_size


def sync_directory(directory: Path) -> None:
    """Make the name of a new file as safe as its contents."""
    number = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
