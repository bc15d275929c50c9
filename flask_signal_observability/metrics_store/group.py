"""The processes whose metrics belong together: a directory in which each has a file that it alone writes.

Who is there is told by locks, not by process ids: a member holds a lock on its own file as long as it lives, and the
kernel lets go of it however the member ends. What a dead member has counted is folded into an archive, which names the
members that are in it. A reader opens the members' files first and the archive last, and leaves out the files that the
archive names: so it needs no lock, and nothing is missed or counted twice whoever dies or folds meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import weakref
from pathlib import Path
from typing import NamedTuple
from typing import TYPE_CHECKING

from .archive import Archive
from .archive import included_in
from .reading import Snapshot
from .segment import DamagedError
from .segment import identity_of
from .segment import MappedFile
from .segment import Segment
from .segment import Table
from .segment import WORD

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Group", "Member"]

MAX_MEMBERS = 4096
MAX_FILE_BYTES = 1 << 30
ARCHIVE = "archive"
PRIVATE = 0o700
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FOREIGN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""How a file is opened that may be a link or a pipe."""
OF_A_STRANGER = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO})
"""Why a file cannot be opened that no member has put there: it is not ours, a link, or a socket."""


class Member:
    """This process in a group: its place, its segment, and the lock that says that it is alive."""

    def __init__(self, place: int, lock: int, descriptor: int, segment: Segment) -> None:
        self.place = place
        self.segment = segment
        self.inode = os.fstat(lock).st_ino
        self.close = weakref.finalize(self, _close, lock, descriptor)
        """Let go of the lock; in a forked child, of the parent's, which keeps it."""


class Found(NamedTuple):
    """What a reader has found in a group, beside its own."""

    snapshots: list[Snapshot]
    dead: bool
    damaged: int


class Group:
    """A group's directory, for one registry of each process.

    Args:
        path: the directory; made if it is missing.
        registry: the number of the registry, the same one in every process.
        owner: the user and group that it is made for, where that is not this process's.

    Raises:
        OSError: it cannot be made, or others may write there.
    """

    def __init__(self, path: str, registry: int = 0, owner: tuple[int, int] | None = None) -> None:
        self.path = path
        self._owner = owner
        self._prefix = f"{registry}."
        self._tables: dict[bytes, Table] = {}
        self._directory = make_private(path, owner)
        self.close = weakref.finalize(self, os.close, self._directory)
        """Let go of the directory."""

    # Joining.

    def join(self) -> Member:
        """Take the lowest free place.

        Raises:
            OSError: there is no room for a file.
        """
        with contextlib.suppress(OSError):  # whoever reads the next time folds them
            self.fold()
        for place in range(MAX_MEMBERS):
            member = self._take(place)
            if member is not None:
                return member
        raise OSError(f"{self.path} has no free place")

    def _take(self, place: int) -> Member | None:
        name = f"{self._prefix}{place}"
        try:
            lock = self._open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return None
        descriptor = -1
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A description of its own, since a mapping keeps what it was made of, and with it a lock, open.
            descriptor = self._open(name, os.O_RDWR)
            if not os.path.sameopenfile(lock, descriptor):
                raise BlockingIOError  # noqa: TRY301 - somebody has folded it before it was locked
            if self._owner is not None:
                os.fchown(lock, *self._owner)
            return Member(place, lock, descriptor, Segment(MappedFile(descriptor), place))
        except (BlockingIOError, FileNotFoundError):
            _close(lock, descriptor)
            return None
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._directory)
            _close(lock, descriptor)
            raise

    def leave(self, member: Member) -> None:
        """Remove the member's file: what it holds is told by its process alone from now on."""
        with contextlib.suppress(OSError):
            if self.holds(member):  # its place may be another's by now
                os.unlink(f"{self._prefix}{member.place}", dir_fd=self._directory)
        member.close()

    def holds(self, member: Member) -> bool:
        """Tell whether the member's file is still where others look for it.

        Raises:
            OSError: the directory cannot be read.
        """
        return self._is(f"{self._prefix}{member.place}", member.inode)

    def _is(self, name: str, inode: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.stat(name, dir_fd=self._directory, follow_symlinks=False).st_ino == inode
        return False

    # Reading.

    def read(self, own: Member | None) -> Found:
        """Return what the others hold, living and dead, and the archive.

        Raises:
            OSError: the directory or a file cannot be read now; what could be would be a part of the sum.
        """
        found: list[tuple[bytes, Snapshot]] = []
        dead, damaged, tables = False, 0, {}
        for place in self._places():
            if own is not None and place == own.place:
                continue
            try:
                with self._file(f"{self._prefix}{place}") as descriptor:
                    alive = not _locked(descriptor)
                    dead = dead or not alive
                    identity, snapshot = self._snapshot(descriptor, alive=alive)
            except FileNotFoundError:  # folded a moment ago
                continue
            except DamagedError:
                damaged += 1
                continue
            if snapshot is not None:
                found.append((identity, snapshot))
                tables[identity] = snapshot.table
        archives, included = [], {}
        try:
            octets = self._archive()
            if octets is not None:
                identity, archive = self._seen(octets, alive=False)
                archives, tables[identity] = [archive], archive.table
                included = included_in(octets, archive.table)
        except DamagedError:
            damaged += 1
        self._tables = tables
        kept = [snapshot for identity, snapshot in found if identity not in included]
        return Found(kept + archives, dead, damaged)

    def _places(self) -> list[int]:
        names = [name for name in _names(self._directory) if name.startswith(self._prefix)]
        return sorted({int(end) for name in names if (end := name[len(self._prefix) :]).isdecimal()})

    @contextlib.contextmanager
    def _file(self, name: str) -> Iterator[int]:
        """Open a file to read it.

        Raises:
            FileNotFoundError: it is not there.
            DamagedError: no member has put it there.
            OSError: it cannot be opened now.
        """
        try:
            descriptor = self._open(name, os.O_RDONLY)
        except OSError as error:
            if error.errno in OF_A_STRANGER:
                raise DamagedError("not a file of a member") from error
            raise
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _snapshot(self, descriptor: int, *, alive: bool) -> tuple[bytes, Snapshot | None]:
        octets = _contents(descriptor)
        if not any(octets[:WORD]):
            return b"", None  # its process is about to write the head of it, of which this is the last
        return self._seen(octets, alive=alive)

    def _seen(self, octets: memoryview, *, alive: bool) -> tuple[bytes, Snapshot]:
        identity = identity_of(octets)
        table = self._tables.get(identity) or Table()
        table.extend(octets)
        return identity, Snapshot(identity, table, octets, len(table.series), alive)

    def _archive(self) -> memoryview | None:
        try:
            with self._file(self._prefix + ARCHIVE) as descriptor:
                return _contents(descriptor)
        except FileNotFoundError:
            return None

    # Folding.

    def fold(self, own: Snapshot | None = None) -> bool:
        """Add what the dead have counted to the archive, and remove their files; and what ``own`` has counted.

        Returns:
            Whether that is done; somebody else may be about it.

        Raises:
            OSError: it cannot be done now; nothing is lost.
        """
        # A description of its own: forked processes share the one that they inherit, and with it the lock.
        lock = os.open(".", DIRECTORY, dir_fd=self._directory)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._fold(own)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    def _fold(self, own: Snapshot | None) -> None:
        try:
            archive = Archive(self._archive())
        except DamagedError:
            archive = Archive()
        changed = own is not None
        if own is not None:
            archive.add(bytes(16), own)
        with contextlib.ExitStack() as locks:
            dead = self._dead(locks)
            for descriptor in dead.values():
                # Whatever is wrong with one file, it must not keep the others from being folded.
                with contextlib.suppress(DamagedError, ValueError, ArithmeticError):
                    identity, snapshot = self._snapshot(descriptor, alive=False)
                    if snapshot is not None and identity not in archive.included:
                        archive.add(identity, snapshot)
                        changed = True
            if changed:
                self._write(archive)
            for name in dead:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self._directory)

    def _dead(self, locks: contextlib.ExitStack) -> dict[str, int]:
        """Open the files of the dead, locked until they are gone: nobody joins with one of them."""
        dead: dict[str, int] = {}
        for name in [f"{self._prefix}{place}" for place in self._places()]:
            with contextlib.suppress(FileNotFoundError, DamagedError), self._file(name) as descriptor:
                if _lock(descriptor) and self._is(name, os.fstat(descriptor).st_ino):
                    dead[name] = os.dup(descriptor)
                    locks.callback(os.close, dead[name])
        return dead

    def _write(self, archive: Archive) -> None:
        temporary = f"{self._prefix}{ARCHIVE}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=self._directory)
        descriptor = self._open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with open(descriptor, "wb") as file:  # noqa: PTH123
            if self._owner is not None:
                os.fchown(descriptor, *self._owner)
            file.write(archive.octets())
        os.rename(temporary, self._prefix + ARCHIVE, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | FOREIGN, 0o600, dir_fd=self._directory)


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


def has_members(path: str) -> bool:
    """Tell whether anybody holds a lock in a group's directory."""
    directory = os.open(path, DIRECTORY | os.O_NOFOLLOW)
    try:
        for name in _names(directory):
            with contextlib.suppress(OSError):
                descriptor = os.open(name, os.O_RDONLY | FOREIGN, dir_fd=directory)
                try:
                    if not _locked(descriptor):
                        return True
                finally:
                    os.close(descriptor)
        return False
    finally:
        os.close(directory)


def _names(directory: int) -> list[str]:
    # Through a description of its own: forked processes share the one that they inherit, and how far it was listed.
    own: int = os.open(".", DIRECTORY, dir_fd=directory)
    try:
        return os.listdir(own)
    finally:
        os.close(own)


def _locked(descriptor: int) -> bool:
    """Tell whether a lock can be had on a file: nobody lives who holds it."""
    if not _lock(descriptor):
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def _lock(descriptor: int) -> bool:
    """Take the lock of a file if nobody lives who holds it; shared, so that a reader meanwhile sees that, too."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _contents(descriptor: int) -> memoryview:
    # Read rather than mapped: a file that somebody cuts off is damaged, where a mapping would be a SIGBUS.
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES or found.st_size % WORD:
        raise DamagedError("no segment is so long")
    octets = os.pread(descriptor, found.st_size, 0)
    if len(octets) < found.st_size:
        raise DamagedError("it was cut off")
    return memoryview(octets)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)
