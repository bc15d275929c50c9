"""One line of a log file as a record, and which records are wanted."""

from __future__ import annotations

import dataclasses
import logging
from datetime import datetime
from datetime import timezone
from fnmatch import fnmatchcase
from typing import Any

import orjson

from ..ecs import from_ecs
from .audit_record import from_audit

__all__ = ["Wanted", "record_of", "time_of"]

Record = dict[str, Any]


def record_of(line: bytes) -> Record | None:
    """Return the record that a line holds, under our names whatever its schema; None where it is no JSON object."""
    try:
        read = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(read, dict):
        return None
    if "timestamp" in read:
        return read
    return from_ecs(read) if "@timestamp" in read else from_audit(read) or read


def time_of(record: Record) -> datetime | None:
    """Return when it was written; None where it says nothing of the kind."""
    try:
        time = datetime.fromisoformat(str(record.get("timestamp")).replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which records are wanted; None lets all through."""

    route: str | None = None
    """A pattern, with ``*`` and ``?``, for the route, and where there is none for the path."""
    status: str | None = None
    """``404``, or a class: ``5xx``."""
    level: str | None = None
    """The least one."""
    trace: str | None = None
    """A trace id, or how it begins."""
    request: str | None = None
    """A request id."""
    since: datetime | None = None
    event: str | None = None
    """A pattern."""

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Wanted()

    def lets(self, record: Record | None) -> bool:
        """Whether a record is wanted; what is no record is wanted where everything is."""
        if record is None:
            return self.is_everything
        time = time_of(record) if self.since is not None else None
        return (
            (self.trace is None or str(record.get("trace_id", "")).startswith(self.trace))
            and (self.request is None or record.get("request_id") == self.request)
            and (self.route is None or self._is_of_route(record, self.route))
            and (self.status is None or _fits(record.get("http.response.status_code"), self.status))
            and (self.level is None or _rank(record.get("level")) >= _rank(self.level))
            and (self.event is None or fnmatchcase(str(record.get("event")), self.event))
            and (self.since is None or (time is not None and time >= self.since))
        )

    @staticmethod
    def _is_of_route(record: Record, pattern: str) -> bool:
        place = record.get("http.route") or record.get("url.path")
        # A converter's brackets are no pattern's: fnmatch knows [ ] only.
        return place is not None and (place == pattern or fnmatchcase(str(place), pattern))


def _fits(status: Any, pattern: str) -> bool:
    return fnmatchcase(str(status), pattern.lower().replace("x", "?"))


def _rank(level: Any) -> int:
    rank = logging.getLevelName(str(level).upper())
    return rank if isinstance(rank, int) else 0
