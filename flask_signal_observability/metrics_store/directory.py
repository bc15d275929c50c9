"""The directory of a group: its files opened, locked and read, whoever has put them there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from .segment import DamagedError
from .segment import WORD

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "DIRECTORY",
    "Directory",
    "close",
    "contents_of",
    "has_members",
    "lock",
    "locked",
    "make_private",
    "names_in",
]

MAX_FILE_BYTES = 1 << 30
ARCHIVE = "archive"
PRIVATE = 0o700
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FOREIGN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""How a file is opened that may be a link or a pipe."""
OF_A_STRANGER = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO})
"""Why a file cannot be opened that no member has put there: it is not ours, a link, or a socket."""


class Directory:
    """Where the members of one registry have their files, and the archive is.

    Args:
        path: the directory; made if it is missing.
        registry: the number of the registry, the same one in every process.
        owner: the user and group that it is made for, where that is not this process's.

    Raises:
        OSError: it cannot be made, or others may write there.
    """

    def __init__(self, path: str, registry: int, owner: tuple[int, int] | None) -> None:
        self.path = path
        self.owner = owner
        self._prefix = f"{registry}."
        self.descriptor = make_private(path, owner)
        self.close = weakref.finalize(self, os.close, self.descriptor)
        """Let go of it."""

    def name_of(self, place: int) -> str:
        """Return how the file of a member is called."""
        return f"{self._prefix}{place}"

    def places(self) -> list[int]:
        """Return the places that have a file."""
        names = [name for name in names_in(self.descriptor) if name.startswith(self._prefix)]
        return sorted({int(end) for name in names if (end := name[len(self._prefix) :]).isdecimal()})

    def is_there(self, name: str, inode: int) -> bool:
        """Tell whether a file is still found under its name."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_ino == inode
        return False

    def open(self, name: str, flags: int) -> int:
        """Open a file, whatever it is, without waiting."""
        return os.open(name, flags | FOREIGN, 0o600, dir_fd=self.descriptor)

    def give(self, descriptor: int) -> None:
        """Make a file the owner's."""
        if self.owner is not None:
            os.fchown(descriptor, *self.owner)

    def unlink(self, name: str) -> None:
        """Remove a file."""
        os.unlink(name, dir_fd=self.descriptor)

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[int]:
        """Open a file to read it.

        Raises:
            FileNotFoundError: it is not there.
            DamagedError: no member has put it there.
            OSError: it cannot be opened now.
        """
        try:
            descriptor = self.open(name, os.O_RDONLY)
        except OSError as error:
            if error.errno in OF_A_STRANGER:
                raise DamagedError("not a file of a member") from error
            raise
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def archive(self) -> memoryview | None:
        """Return the contents of the archive, or None where nobody has died yet.

        Raises:
            DamagedError: it is none.
            OSError: it cannot be read now.
        """
        try:
            with self.file(self._prefix + ARCHIVE) as descriptor:
                return contents_of(descriptor)
        except FileNotFoundError:
            return None

    def write_archive(self, octets: bytes) -> None:
        """Put another archive into the place of this one, at once."""
        temporary = f"{self._prefix}{ARCHIVE}.new"
        with contextlib.suppress(FileNotFoundError):
            self.unlink(temporary)
        descriptor = self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with open(descriptor, "wb") as file:  # noqa: PTH123
            self.give(descriptor)
            file.write(octets)
        os.rename(temporary, self._prefix + ARCHIVE, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Have the directory for oneself.

        Raises:
            BlockingIOError: somebody else has it.
        """
        # A description of its own: forked processes share the one that they inherit, and with it the lock.
        own = os.open(".", DIRECTORY, dir_fd=self.descriptor)
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(own)


def make_private(path: str, owner: tuple[int, int] | None) -> int:
    """Return the descriptor of a directory that only its owner may use, made if it is missing.

    Raises:
        OSError: it cannot be had, is a link, or is not only the owner's.
    """
    made = False
    # Of another user's directory any path may become a link, at any time.
    where = os.open(Path(path).parent, DIRECTORY | (0 if owner is None else os.O_NOFOLLOW))
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(Path(path).name, PRIVATE, dir_fd=where)
            made = True
        descriptor = os.open(Path(path).name, DIRECTORY | os.O_NOFOLLOW, dir_fd=where)
    finally:
        os.close(where)
    try:
        if made and owner is not None:
            os.fchown(descriptor, *owner)
        found = os.fstat(descriptor)
        wanted = os.geteuid() if owner is None else owner[0]
        if found.st_uid != wanted or stat.S_IMODE(found.st_mode) & 0o022:
            raise PermissionError(f"{path} is not only this user's to write to (uid {wanted}, mode 700)")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def has_members(directory: int) -> bool:
    """Tell whether anybody holds a lock in a group's directory."""
    for name in names_in(directory):
        with contextlib.suppress(OSError):
            descriptor = os.open(name, os.O_RDONLY | FOREIGN, dir_fd=directory)
            try:
                if not locked(descriptor):
                    return True
            finally:
                os.close(descriptor)
    return False


def names_in(directory: int) -> list[str]:
    """Return what is in a directory."""
    # Through a description of its own: forked processes share the one that they inherit, and how far it was listed.
    own: int = os.open(".", DIRECTORY, dir_fd=directory)
    try:
        return os.listdir(own)
    finally:
        os.close(own)


def locked(descriptor: int) -> bool:
    """Tell whether a lock can be had on a file: nobody lives who holds it."""
    if not lock(descriptor):
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def lock(descriptor: int) -> bool:
    """Take the lock of a file if nobody lives who holds it; shared, so that a reader meanwhile sees that, too."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def contents_of(descriptor: int) -> memoryview:
    """Return what a file holds.

    Raises:
        DamagedError: it is no segment.
    """
    # Read rather than mapped: a file that somebody cuts off is damaged, where a mapping would be a SIGBUS.
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES or found.st_size % WORD:
        raise DamagedError("no segment is so long")
    octets = os.pread(descriptor, found.st_size, 0)
    if len(octets) < found.st_size:
        raise DamagedError("it was cut off")
    return memoryview(octets)


def close(*descriptors: int) -> None:
    """Close those that are open; one that is not is below 0."""
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)
