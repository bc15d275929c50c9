"""What becomes of the dead: their counts are added to the archive, and their files removed."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from .archive import Archive
from .directory import contents_of
from .directory import lock
from .reading import Snapshot
from .segment import DamagedError
from .segment import identity_of
from .segment import is_begun
from .segment import Table

if TYPE_CHECKING:
    from .directory import Directory

__all__ = ["fold"]

HANDED_OVER = bytes(16)
"""The identity of what has no file."""


def fold(directory: Directory, own: Snapshot | None = None) -> bool:
    """Add what the dead have counted to the archive, and remove their files; and what ``own`` has counted.

    Returns:
        Whether that is done; somebody else may be about it.

    Raises:
        OSError: it cannot be done now; nothing is lost.
    """
    try:
        with directory.locked():
            _fold(directory, own)
    except BlockingIOError:
        return False
    return True


def _fold(directory: Directory, own: Snapshot | None) -> None:
    try:
        archive = Archive(directory.archive())
    except DamagedError:
        archive = Archive()
    changed = own is not None
    if own is not None:
        archive.add(HANDED_OVER, own)
    with contextlib.ExitStack() as locks:
        dead = dead_in(directory, locks)
        for descriptor in dead.values():
            # Whatever is wrong with one file, it must not keep the others from being folded.
            with contextlib.suppress(DamagedError, ValueError, ArithmeticError):
                changed = _add(archive, contents_of(descriptor)) or changed
        if changed:
            directory.write_archive(archive.octets())
        for name in dead:
            with contextlib.suppress(OSError):
                directory.unlink(name)


def _add(archive: Archive, octets: memoryview) -> bool:
    identity = identity_of(octets)
    if not is_begun(octets) or identity in archive.included:
        return False
    table = Table()
    table.extend(octets)
    archive.add(identity, Snapshot(identity, table, octets, len(table.series), alive=False))
    return True


def dead_in(directory: Directory, locks: contextlib.ExitStack) -> dict[str, int]:
    """Open the files of the dead, locked until they are gone: nobody joins with one of them."""
    dead: dict[str, int] = {}
    for name in map(directory.name_of, directory.places()):
        with contextlib.suppress(FileNotFoundError, DamagedError), directory.file(name) as descriptor:
            if lock(descriptor) and directory.is_there(name, os.fstat(descriptor).st_ino):
                dead[name] = os.dup(descriptor)
                locks.callback(os.close, dead[name])
    return dead
