"""The process that answers at the metrics port, as the master keeps it and as a worker talks to it.

Needs the standard library alone, and of that little: it is imported by a master that has yet to fork gevent's workers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import Any
from typing import NamedTuple

__all__ = ["end", "is_kept", "keep", "tell"]


class Process(NamedTuple):
    """A running process, and the end of the socket on which it is told."""

    pid: int
    told: int

    @property
    def runs(self) -> bool:
        """Whether it is still there; the arbiter may have reaped it."""
        try:
            return os.waitpid(self.pid, os.WNOHANG) == (0, 0)
        except ChildProcessError:
            return False


_kept: Process | None = None


def is_kept() -> bool:
    """Tell whether the metrics port is the business of a process that this one, or its master, has started."""
    return _kept is not None


def keep(owner: tuple[int, int]) -> None:
    """Start the process where none runs; in the master, before it forks a worker, which is then known to it.

    Args:
        owner: the user and group that it runs as, the workers'.

    Raises:
        OSError: it cannot be started.
    """
    global _kept  # noqa: PLW0603 - a master has one
    if _kept is not None:
        if _kept.runs:
            return
        os.close(_kept.told)
        _kept = None
    # Datagrams, so that what two workers tell at once is not mixed up.
    its_end, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with its_end, told:
        os.set_blocking(told.fileno(), False)
        pid = _start(its_end, owner)
        _kept = Process(pid, told.detach())


def _start(its_end: socket.socket, owner: tuple[int, int]) -> int:
    import subprocess  # noqa: PLC0415 - see above

    drops = os.geteuid() == 0 and owner != (os.geteuid(), os.getegid())
    privileges: dict[str, Any] = {"user": owner[0], "group": owner[1], "extra_groups": []} if drops else {}
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", __package__ or "", str(os.getpid())],
        stdin=its_end.fileno(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([path or "." for path in sys.path])},
        start_new_session=True,  # what a terminal sends to gunicorn is not meant for it
        **privileges,
    )
    # The arbiter reaps all children: this object is not to wait for it, nor to complain in each worker.
    process.returncode = 0
    pid: int = process.pid
    return pid


def tell(message: bytes) -> None:
    """Tell the process something, or nothing if it is not there.

    Raises:
        OSError: it is there, and cannot be told so much.
    """
    if _kept is not None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            os.write(_kept.told, message)


def end() -> None:
    """End the process; its port is free when this returns."""
    global _kept  # noqa: PLW0603
    if _kept is not None:
        with contextlib.suppress(OSError):
            if _kept.runs:
                os.kill(_kept.pid, signal.SIGKILL)  # it keeps nothing that could be lost
                os.waitpid(_kept.pid, 0)
        os.close(_kept.told)
        _kept = None
