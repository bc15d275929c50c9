"""Where a group's directory is, and which directories nobody needs any more."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .directory import DIRECTORY
from .directory import has_members
from .directory import make_private
from .directory import names_in

if TYPE_CHECKING:
    from .workers import Leader

__all__ = ["directory_for", "home_of", "is_of_the_living", "take_away"]

NAME = "flask_signal_observability"
FOREIGN_SECONDS = 86_400.0
"""A group of another container is only taken for dead after a day: its leader cannot be seen from here."""


def directory_for(leader: Leader) -> str:
    """Return where the workers of a leader keep their files; what dead leaders left is swept away.

    Raises:
        OSError: there is no place for it.
    """
    uid = os.geteuid() if leader.owner is None else leader.owner[0]
    path = home_of(uid)
    own = _identity(leader.pid)
    home = make_private(str(path), leader.owner)
    try:
        for name in names_in(home):
            if name != own:
                with contextlib.suppress(OSError, ValueError):
                    _sweep(home, name)
    finally:
        os.close(home)
    return str(path / own)


def take_away(leader: Leader) -> None:
    """Remove the directory of a leader whose workers are gone, as it ends; nothing where there is none.

    Raises:
        OSError: it cannot be removed; the next server does.
    """
    uid = os.geteuid() if leader.owner is None else leader.owner[0]
    with contextlib.suppress(FileNotFoundError):
        home = os.open(home_of(uid), DIRECTORY | os.O_NOFOLLOW)
        try:
            _remove(home, _identity(leader.pid))
        finally:
            os.close(home)


def home_of(uid: int) -> Path:
    """Return the directory of a user's groups, which need not be there."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    parent = Path(runtime if runtime and os.access(runtime, os.W_OK) else tempfile.gettempdir())
    return parent / f"{NAME}-{uid}"


def _identity(pid: int) -> str:
    return f"{pid}-{_started(pid)}-{_namespace()}"


def _started(pid: int) -> str:
    """Return when a process began, in ticks since the machine did: a pid alone may be used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()[19]
    except OSError:
        return "0"


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "0"


def is_of_the_living(home: Path, name: str) -> bool:
    """Tell whether a group's directory may still be needed, as far as can be seen from here; nothing is changed."""
    try:
        pid, _, namespace = name.split("-")
        if namespace != _namespace() or (_alive(int(pid)) and _identity(int(pid)) == name):
            return True
        group = os.open(home / name, DIRECTORY | os.O_NOFOLLOW)
    except (OSError, ValueError):
        return True
    try:
        return has_members(group)
    finally:
        os.close(group)


def _sweep(home: int, name: str) -> None:
    """Remove a group that nobody needs."""
    pid, _, namespace = name.split("-")
    here = namespace == _namespace()
    if here and _alive(int(pid)) and _identity(int(pid)) == name:
        return
    changed_seconds = os.stat(name, dir_fd=home, follow_symlinks=False).st_mtime
    if here or time.time() - changed_seconds > FOREIGN_SECONDS:
        _remove(home, name)


def _remove(home: int, name: str) -> None:
    """Remove a group without members. By descriptors: a path in there is its owner's to bend, if that is another."""
    group = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=home)
    try:
        if not has_members(group):
            for file in names_in(group):
                os.unlink(file, dir_fd=group)
            os.rmdir(name, dir_fd=home)
    finally:
        os.close(group)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
