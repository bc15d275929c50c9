"""Where log lines go: a standard stream, a file, or whatever can be written to."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
from typing import Any
from typing import TYPE_CHECKING

from .files import AppendFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from .settings import TextStream

__all__ = ["LogStream"]

STANDARD_STREAMS = ("stdout", "stderr")


class LogStream:
    """Writes whole lines, each in one piece. Safe to use from several threads, and after a fork.

    Args:
        target: ``stdout`` or ``stderr``, looked up at every write, since :data:`sys.stdout` may be replaced (where it
            is None, lines are dropped in silence); else the path of a file, or anything with a ``write`` that takes
            text or bytes.
    """

    def __init__(self, target: str | os.PathLike[str] | TextStream) -> None:
        self._target = target
        self._file: AppendFile | None = None
        self.write: Callable[[bytes], None] = self._write
        r"""Writes one line, which ends with ``\n``.

        Raises:
            OSError: It was not written, or not all of it: a pipe that broke, a disk that is full.
            ValueError: The stream is closed.
        """
        if isinstance(target, (str, os.PathLike)) and target not in STANDARD_STREAMS:
            self._file = AppendFile(target)
            self.write = self._file.write

    def _write(self, line: bytes) -> None:
        stream = self._stream()
        if stream is not None:
            with _lock:
                _write(stream, line)

    @property
    def is_terminal(self) -> bool:
        """Whether a person is likely to read along."""
        isatty = getattr(self._stream(), "isatty", None)
        try:
            return isatty is not None and bool(isatty())
        except ValueError:  # closed
            return False

    def close(self) -> None:
        """Close the file, if it is one; a stream belongs to whoever opened it."""
        if self._file is not None:
            self._file.close()

    def _stream(self) -> Any:
        if self._target in STANDARD_STREAMS:
            return getattr(sys, str(self._target))
        return None if self._file is not None else self._target


def _write(stream: Any, line: bytes) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.flush()  # what print() has left comes first
        # Past the buffer: a line that a broken pipe refused would stay in it, fail every later write and turn the exit
        # status of the interpreter into 120.
        _write_all(getattr(stream.buffer, "raw", stream.buffer), line)
        return
    try:
        stream.write(line.decode())
    except TypeError:  # it takes bytes
        stream.write(line)
    flush = getattr(stream, "flush", None)
    if flush is not None:
        flush()


def _write_all(raw: Any, line: bytes) -> None:
    written = raw.write(line)
    while written is not None and written < len(line):
        line = line[written:]
        written = raw.write(line)
    if written is None:
        raise BlockingIOError(errno.EAGAIN, f"{raw!r} is full: {len(line)} bytes of a record could not be written")


_lock = threading.RLock()
"""One for the process, as the descriptors behind stdout and stderr are: a long line to a pipe is several writes to the
kernel. It may be entered again, by a signal handler that logs while a line is being written."""


def _renew_lock() -> None:
    """Replace the lock in a child: the thread that held it was not forked with it."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
