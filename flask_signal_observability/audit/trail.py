"""Audit files as they lie about: rotated ones, compressed ones, and the one that is still written to."""

from __future__ import annotations

import dataclasses
import gzip
import os
import re
import time
import zlib
from collections import deque
from contextlib import contextmanager
from typing import Any
from typing import TYPE_CHECKING

from ..audit_line import AuditLineError
from ..audit_line import parse_audit_line
from ..errors import ObservabilityError
from .mark import split

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

__all__ = ["AuditFileError", "entry_of", "follow", "in_order", "lines_of", "opened"]

GZIP_MAGIC = b"\x1f\x8b"
FIRST_LINE_BYTES = 65_536
POLL_SECONDS = 0.2

_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")


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
    """Return files by the time of their first line, whatever their names; ones without a time come last."""
    return sorted(dict.fromkeys(paths), key=lambda path: (_first_time(path), str(path)))


def _first_time(path: Path) -> bytes:
    with opened(path) as (stream, _):
        match = _TIME.search(stream.readline(FIRST_LINE_BYTES))
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


def follow(path: Path, *, last_lines: int, until: float | None = None) -> Iterator[bytes]:
    """Give the last lines of a file and then what is appended, also to the file that takes its place.

    A file that was renamed is read to its end first. Ends at ``until``, a reading of ``time.monotonic``.

    Raises:
        AuditFileError: The file cannot be opened at first.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise AuditFileError(f"{path}: {error}") from error
    try:
        *lines, rest = b"".join(deque(file, maxlen=last_lines + 1)).split(b"\n")
        yield from lines[-last_lines:] if last_lines else []
        while until is None or time.monotonic() < until:
            if os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)  # truncated under us
            replaced = _is_replaced(path, file)  # asked before the last read: what was written until then is in it
            *lines, rest = (rest + file.read()).split(b"\n")
            yield from lines
            if replaced:
                file.close()
                file, rest = path.open("rb"), b""
            elif not lines:
                time.sleep(POLL_SECONDS)
    finally:
        file.close()


def _is_replaced(path: Path, file: IO[bytes]) -> bool:
    try:
        return not os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False  # renamed, and the new one is not there yet


def entry_of(line: bytes) -> dict[str, Any] | None:
    """Return what a line tells, by the names of ``AuditRecord``'s fields, None where it is no record."""
    record, _ = split(line)
    try:
        return dataclasses.asdict(parse_audit_line(record.decode()))
    except (AuditLineError, UnicodeDecodeError):
        return None
