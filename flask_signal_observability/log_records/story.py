"""What one request did, from everything that was written of it."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import timezone
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

from ..audit.trail import entry_of
from ..audit.trail import lines_of
from .record_line import time_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    Record = dict[str, Any]

__all__ = ["AuditLine", "Request", "audit_lines_of", "requests_of"]

EARLY, LATE = timedelta(milliseconds=1), timedelta(milliseconds=50)
"""How far from a request its audit line may lie: another clock reading before it, and a line after its end."""

START = datetime.min.replace(tzinfo=timezone.utc)


class Request(NamedTuple):
    """One request, as its last record tells it: what an audit line without ids is recognised by."""

    trace_id: str | None
    request_id: str | None
    path: str
    address: str
    began: datetime
    ended: datetime


class AuditLine(NamedTuple):
    """A line of the audit file that belongs to a request."""

    time: datetime
    line: str
    by_id: bool
    """Whether an id says so; else time, path and address do, as they do where a line of text is all there is."""


def requests_of(records: Iterable[Record]) -> list[Request]:
    """Return the requests whose end is among the records."""
    found = []
    for record in records:
        seconds, ended = record.get("duration_seconds"), time_of(record)
        if ended is not None and isinstance(seconds, float) and "http.request.method" in record:
            found.append(
                Request(
                    record.get("trace_id"),
                    record.get("request_id"),
                    str(record.get("url.path", "")),
                    str(record.get("client.address", "-")),
                    ended - timedelta(seconds=seconds),
                    ended,
                )
            )
    return found


def audit_lines_of(files: Iterable[Path], requests: list[Request]) -> list[AuditLine]:
    """Return the lines of audit files that belong to the requests, in the order of the files.

    Raises:
        AuditFileError: A file cannot be read.
    """
    found = []
    for line in lines_of(files):
        entry = entry_of(line)
        if entry is None or "lost" in entry:
            continue
        by_id = entry.get("trace_id") is not None or entry.get("request_id") is not None
        if any(_is_of(entry, request, by_id=by_id) for request in requests):
            found.append(AuditLine(entry["time"], line.decode("utf-8", "replace"), by_id))
    return found


def _is_of(entry: Record, request: Request, *, by_id: bool) -> bool:
    if by_id:
        is_traced = entry.get("trace_id") is not None and entry["trace_id"] == request.trace_id
        return is_traced or (entry.get("request_id") is not None and entry["request_id"] == request.request_id)
    return (
        entry.get("path") == request.path
        and entry.get("address") == request.address
        and request.began - EARLY <= entry["time"] <= request.ended + LATE
    )
