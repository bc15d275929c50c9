"""The processes whose metrics belong together: a directory in which each has a file that it alone writes.

Who is there is told by locks, not by process ids: a member holds a lock on its own file as long as it lives, and the
kernel lets go of it however the member ends. What a dead member has counted is folded into an archive, which names the
members that are in it. A reader opens the members' files first and the archive last, and leaves out the files that the
archive names: so it needs no lock, and nothing is missed or counted twice whoever dies or folds meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from typing import NamedTuple
from typing import TYPE_CHECKING

from . import folding
from .archive import included_in
from .directory import close
from .directory import contents_of
from .directory import Directory
from .directory import locked
from .reading import Snapshot
from .segment import DamagedError
from .segment import identity_of
from .segment import is_begun
from .segment import MappedFile
from .segment import Segment
from .segment import Table

if TYPE_CHECKING:
    from .segment import Key

__all__ = ["Group", "Member"]

MAX_MEMBERS = 4096


class Member:
    """This process in a group: its place, its segment, and the lock that says that it is alive."""

    def __init__(self, place: int, lock: int, descriptor: int, segment: Segment) -> None:
        self.place = place
        self.segment = segment
        self.inode = os.fstat(lock).st_ino
        self.close = weakref.finalize(self, close, lock, descriptor)
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
        self.registry = registry
        self._tables: dict[bytes, Table] = {}
        self._directory = Directory(path, registry, owner)
        self.inode = os.fstat(self._directory.descriptor).st_ino
        self.close = self._directory.close
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
        directory = self._directory
        name = directory.name_of(place)
        try:
            lock = directory.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return None
        descriptor = -1
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A description of its own, since a mapping keeps what it was made of, and with it a lock, open.
            descriptor = directory.open(name, os.O_RDWR)
            if not os.path.sameopenfile(lock, descriptor):
                raise BlockingIOError  # noqa: TRY301 - somebody has folded it before it was locked
            directory.give(lock)
            return Member(place, lock, descriptor, Segment(MappedFile(descriptor), place))
        except (BlockingIOError, FileNotFoundError):
            close(lock, descriptor)
            return None
        except OSError:
            with contextlib.suppress(OSError):
                directory.unlink(name)
            close(lock, descriptor)
            raise

    def leave(self, member: Member) -> None:
        """Remove the member's file: what it holds is told by its process alone from now on."""
        with contextlib.suppress(OSError):
            if self.holds(member):  # its place may be another's by now
                self._directory.unlink(self._directory.name_of(member.place))
        member.close()

    def holds(self, member: Member) -> bool:
        """Tell whether the member's file is still where others look for it.

        Raises:
            OSError: the directory cannot be read.
        """
        return self._directory.is_there(self._directory.name_of(member.place), member.inode)

    def fold(self, own: Snapshot | None = None) -> bool:
        """Put the dead into the archive: see :func:`folding.fold`."""
        return folding.fold(self._directory, own)

    # Reading.

    def archived(self) -> list[Key]:
        """Return the series that the dead have left.

        Raises:
            OSError: the archive cannot be read now.
        """
        table = Table()
        with contextlib.suppress(DamagedError):
            octets = self._directory.archive()
            if octets is not None:
                table.extend(octets)
        return [series.key for series in table.series]

    def read(self, own: Member | None) -> Found:
        """Return what the others hold, living and dead, and the archive.

        Raises:
            OSError: the directory or a file cannot be read now; what could be would be a part of the sum.
        """
        found: list[tuple[bytes, Snapshot]] = []
        dead, damaged, tables = False, 0, {}
        for place in self._directory.places():
            if own is not None and place == own.place:
                continue
            try:
                with self._directory.file(self._directory.name_of(place)) as descriptor:
                    alive = not locked(descriptor)
                    dead = dead or not alive
                    octets = contents_of(descriptor)
                if is_begun(octets):
                    identity, snapshot = self._seen(octets, alive=alive)
                    found.append((identity, snapshot))
                    tables[identity] = snapshot.table
            except FileNotFoundError:  # folded a moment ago
                continue
            except DamagedError:
                damaged += 1
        archives, included = [], {}
        try:
            archived = self._directory.archive()
            if archived is not None:
                identity, archive = self._seen(archived, alive=False)
                archives, tables[identity] = [archive], archive.table
                included = included_in(archived, archive.table)
        except DamagedError:
            damaged += 1
        self._tables = tables
        kept = [snapshot for identity, snapshot in found if identity not in included]
        return Found(kept + archives, dead, damaged)

    def _seen(self, octets: memoryview, *, alive: bool) -> tuple[bytes, Snapshot]:
        identity = identity_of(octets)
        table = self._tables.get(identity) or Table()
        table.extend(octets)
        return identity, Snapshot(identity, table, octets, len(table.series), alive)
