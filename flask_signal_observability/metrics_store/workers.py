"""Which processes are workers of one server: every name of a server's that is relied on, in this one room.

The workers of a server have its master as their leader. A process that serves alone has none.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any
from typing import NamedTuple

__all__ = ["Leader", "a_worker_is_coming", "leader_of_coming_workers", "leader_of_this_worker", "on_uwsgi_fork"]


class Leader(NamedTuple):
    """The process that started the workers, and whom they run as, where that is not this process's user."""

    pid: int
    owner: tuple[int, int] | None = None


def leader_of_this_worker() -> Leader | None:
    """Return the leader, where this process is a worker; asked when an app is made."""
    worker = _handler_of(signal.SIGABRT, "gunicorn.workers.base", "Worker")
    if worker is not None:
        return Leader(os.getppid())
    uwsgi = _uwsgi()
    if uwsgi is not None and uwsgi.worker_id():
        return Leader(uwsgi.masterpid() or os.getppid())
    return None


def leader_of_coming_workers() -> Leader | None:
    """Return this process, where it is about to fork workers; asked before a fork."""
    arbiter = _handler_of(signal.SIGCHLD, "gunicorn.arbiter", "Arbiter")
    if arbiter is not None:
        return Leader(os.getpid(), _owner(arbiter.cfg.uid, arbiter.cfg.gid))
    uwsgi = _uwsgi()
    if uwsgi is not None and not uwsgi.worker_id():
        return Leader(uwsgi.masterpid() or os.getpid())
    return None


_ages: list[int] = [0]
"""How many workers the arbiter had made at the last fork."""


def a_worker_is_coming() -> bool:
    """Tell whether a fork of gunicorn's master makes a worker; asked once before each.

    The other forks are of what takes its place after SIGUSR2, and of its dirty arbiter.
    """
    age = getattr(_handler_of(signal.SIGCHLD, "gunicorn.arbiter", "Arbiter"), "worker_age", None)
    before, _ages[:] = _ages[0], [age or 0]
    return age is None or age != before


def on_uwsgi_fork(act: Any) -> None:
    """Call ``act`` in each worker that uWSGI forks: without ``py-call-osafterfork`` Python is not told of it."""
    uwsgi = _uwsgi()
    if uwsgi is None:
        return
    before = getattr(uwsgi, "post_fork_hook", None)

    def forked() -> None:
        act()
        if before is not None:
            before()

    uwsgi.post_fork_hook = forked


def _handler_of(number: int, module: str, name: str) -> Any:
    """Return the object whose method handles a signal, if it is of this class, which its server has imported."""
    kind = getattr(sys.modules.get(module), name, None)
    owner = getattr(signal.getsignal(number), "__self__", None)
    return owner if kind is not None and isinstance(owner, kind) else None


def _uwsgi() -> Any:
    # Made by uWSGI itself, in the processes that it runs.
    module = sys.modules.get("uwsgi")
    if module is None and "uwsgi" in sys.builtin_module_names:
        import uwsgi as module  # type: ignore[import-untyped, no-redef]  # noqa: PLC0415
    return module if hasattr(module, "worker_id") else None


def _owner(uid: int, gid: int) -> tuple[int, int] | None:
    return None if (uid, gid) == (os.geteuid(), os.getegid()) else (uid, gid)
