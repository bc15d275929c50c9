"""Audit files as they lie about: rotated ones, compressed ones, and the one that is still written to."""

from __future__ import annotations

import gzip
import os
import re
import time
import zlib
from collections import deque
from contextlib import contextmanager
from itertools import chain
from typing import Any
from typing import TYPE_CHECKING

from ..errors import ObservabilityError
from .mark import Note
from .mark import split
from .reading import event_of
from .reading import parse_audit_line
from .record import AuditLineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Sequence
    from pathlib import Path
    from typing import IO

__all__ = ["AuditFileError", "audit_files", "entry_of", "follow", "in_order", "lines_of", "opened"]

COMPANIONS = (".heads", ".heads.1", ".lock")
"""What lies beside an audit file, and comes with a pattern such as ``access_audit.log*``."""

GZIP_MAGIC = b"\x1f\x8b"
FIRST_BYTES = 65_536
"""Where the time of a file is looked for: its first line may be torn."""
POLL_SECONDS = 0.2

_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(?:\+00:00|Z)")
"""An audit line's, or that of a log record."""


class AuditFileError(ObservabilityError):
    """A file that cannot be read; the message names it and the reason."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open a file, compressed with gzip or not; give its contents and, to tell the progress by, the file as it is.

    Raises:
        AuditFileError: It cannot be opened, or what is read of it cannot be decompressed.
    """
    try:
        with path.open("rb") as raw:
            is_compressed = raw.peek(2)[:2] == GZIP_MAGIC
            yield (gzip.GzipFile(fileobj=raw) if is_compressed else raw), raw  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        raise AuditFileError(f"{path}: {error}") from error


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Return files by the first time in them, whatever their names; ones without a time come last."""
    return sorted(dict.fromkeys(paths), key=lambda path: (_first_time(path), str(path)))


def audit_files(paths: Iterable[Path]) -> list[Path]:
    """Return them in order, without what only lies beside them.

    Raises:
        AuditFileError: None is left.
    """
    files = in_order(path for path in paths if not path.name.endswith(COMPANIONS))
    if not files:
        raise AuditFileError("there is no audit file among these")
    return files


def _first_time(path: Path) -> bytes:
    with opened(path) as (stream, _):
        match = _TIME.search(stream.read(FIRST_BYTES))
    return match[0] if match else b"~"


def lines_of(paths: Iterable[Path]) -> Iterator[bytes]:
    """Give the lines of files, one after the other, without their newlines.

    Raises:
        AuditFileError: A file cannot be read.
    """
    for path in paths:
        with opened(path) as (stream, _):
            for line in stream:
                yield line.removesuffix(b"\n")


def follow(
    path: Path,
    *,
    last_lines: int,
    is_wanted: Callable[[bytes], bool],
    older: Sequence[Path] = (),
    follows: bool = True,
) -> Iterator[bytes]:
    """Give the last lines of a file that are wanted and then those that are appended, also to the file in its place.

    A file that was renamed is read to its end first. Without ``follows`` it ends at the end of the file. Where it has
    less lines than are asked for, ``older`` files, in order, are before it.

    Raises:
        AuditFileError: The file cannot be opened at first.
    """
    if not follows:
        yield from deque(filter(is_wanted, lines_of([*older, path])), maxlen=last_lines)
        return
    with _Followed(path) as followed:
        yield from deque(filter(is_wanted, chain(lines_of(older), followed.new_lines())), maxlen=last_lines)
        while True:
            is_replaced = followed.is_replaced()  # asked before the last read: what was written until then is in it
            lines = followed.new_lines()
            yield from (line for line in lines if is_wanted(line))
            if is_replaced:
                followed.reopen()
            elif not lines:
                time.sleep(POLL_SECONDS)


class _Followed:
    """A file that is read while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise AuditFileError(f"{path}: {error}") from error

    def __enter__(self) -> _Followed:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def new_lines(self) -> list[bytes]:
        """Return the whole lines that were not read yet."""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)  # it was truncated
            self._rest = b""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return lines

    def is_replaced(self) -> bool:
        """Whether another file is at the path."""
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except OSError:
            return False  # renamed, and the new one is not there yet

    def reopen(self) -> None:
        """Go on with the file at the path."""
        try:
            file = self._path.open("rb")
        except OSError:
            return
        self._file.close()
        self._file, self._rest = file, b""


def entry_of(line: bytes) -> dict[str, Any] | None:
    """Return what a line tells, by the names of ``AuditRecord``'s or ``AuditEvent``'s fields; None for no record."""
    record, _ = split(line)
    try:
        text = record.decode()
        try:
            return parse_audit_line(text)._asdict()
        except AuditLineError:
            event = None if Note.read(record) else event_of(text)
            return None if event is None else event._asdict()
    except UnicodeDecodeError:
        return None
