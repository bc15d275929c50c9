"""What a line of the audit file or of the error journal tells, whichever format it is in."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import timezone
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

from ..errors import ObservabilityError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ACCESSED",
    "MAX_FIELD_CHARACTERS",
    "AuditEvent",
    "AuditGap",
    "AuditLineError",
    "AuditRecord",
    "JournalRecord",
    "moment",
]

MAX_FIELD_CHARACTERS = 2048
"""A longer field is cut to this, its last character then ``…``; counted before anything is escaped."""

ACCESSED = "accessed"
"""The action of a record that names none."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class AuditLineError(ObservabilityError, ValueError):
    """A line that is not as this package writes audit lines; the message names the part and its value."""


class AuditRecord(NamedTuple):
    """One line of the audit file, as it was before it was escaped. Only the first four are in a text line."""

    time: datetime
    """In UTC, to the microsecond."""
    user: str
    """``anonymous`` where nobody was known."""
    address: str
    """The client's address, or ``-``."""
    path: str
    """The path with its mount prefix, or ``-``."""
    id: str | None = None
    """A UUID of version 7 (RFC 9562): ids sort as their times do."""
    peer_address: str | None = None
    """The other end of the connection: the client or the last proxy."""
    claimed_addresses: tuple[str, ...] = ()
    """What Forwarded or X-Forwarded-For said, in its order and believed or not; the newest hops of very many."""
    method: str | None = None
    action: str = ACCESSED
    """What was done, in the words of whoever sent ``access_logged``."""
    object: str | None = None
    """To what; the path, where the sender named nothing else. None in a text line."""
    outcome: str | None = None
    """``success``, ``failure`` or a word of the sender's; None where it was not known yet."""
    status: int | None = None
    request_id: str | None = None
    trace_id: str | None = None
    changes: Mapping[str, Any] | list[Any] | str | float | None = None
    """What the sender said of the change, redacted."""


class AuditGap(NamedTuple):
    """The line that follows a time in which records could not be written: one for each process that lost some."""

    time: datetime
    """When it was written, in UTC."""
    lost: int
    """How many records are not in the file."""
    since: datetime
    """When the first of them was lost."""
    until: datetime
    """When the last of them was lost."""
    id: str | None = None
    """As a record's; None in a text line."""


class AuditEvent(NamedTuple):
    """The JSON line of a watched signal; in a text line only whoever made the template can tell its fields apart."""

    time: datetime
    """In UTC, to the microsecond."""
    text: str
    """What the template made of it, fields escaped."""
    id: str | None = None
    request_id: str | None = None
    trace_id: str | None = None


class JournalRecord(NamedTuple):
    """One line of the error journal. Only the first three are in a text line."""

    time: datetime
    """In UTC, to the microsecond."""
    app: str
    """The application's repr."""
    error: str
    """The class and message of the error, as Python tells them."""
    id: str | None = None
    request_id: str | None = None
    trace_id: str | None = None


def moment(unix_ns: int) -> datetime:
    """Return Unix nanoseconds as a time in UTC, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=unix_ns // 1000)
