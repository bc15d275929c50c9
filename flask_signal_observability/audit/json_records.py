"""What a JSON record tells beside the text line: gathered from the request and from what ``access_logged`` was sent."""

from __future__ import annotations

import dataclasses
from typing import Any
from typing import TYPE_CHECKING

from ..forwarding import claimed_addresses
from ..redaction import mask_strings
from ..safe_copy import SafeCopy
from .json_line import format_journal
from .json_line import format_line
from .json_line import unique_id
from .record import ACCESSED
from .record import AuditGap
from .record import AuditRecord
from .record import JournalRecord
from .record import moment

if TYPE_CHECKING:
    from ..record import RequestRecord
    from ..redaction import Redaction

__all__ = ["JsonRecords"]

CLIENT_ERROR = 400
TOLD = ("action", "object", "outcome", "changes")
"""What of the payload is told, redacted as records of the log are."""


class JsonRecords:
    """Makes the lines of both files. Safe to use from several threads.

    Args:
        redaction: Masks what the payload says.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction

    def access(
        self,
        unix_ns: int,
        user: str,
        address: str,
        path: str,
        record: RequestRecord | None,
        payload: dict[str, Any] | None,
    ) -> bytes:
        """Return the line of an access; ``payload`` is None where the request itself is told."""
        told = self._told(payload) if payload else {}
        outcome = told.get("outcome")
        if payload is None and record is not None:
            outcome = _outcome(record)
        of_request: dict[str, Any] = {}
        if record is not None:
            of_request = {
                "peer_address": record.peer_address,
                "claimed_addresses": claimed_addresses(record.environ),
                "method": record.method_original or record.method,
                "status": record.status,
                "request_id": record.request_id,
                "trace_id": record.trace_id,
            }
        return format_line(
            AuditRecord(
                time=moment(unix_ns),
                user=user,
                address=address,
                path=path,
                id=unique_id(unix_ns),
                action=_text(told.get("action")) or ACCESSED,
                object=_text(told.get("object")) or path,
                outcome=_text(outcome),
                changes=told.get("changes"),
                **of_request,
            )
        )

    def error(self, unix_ns: int, app: str, error: str, record: RequestRecord | None) -> bytes:
        """Return the line of an error."""
        return format_journal(
            JournalRecord(
                time=moment(unix_ns),
                app=app,
                error=error,
                id=unique_id(unix_ns),
                request_id=None if record is None else record.request_id,
                trace_id=None if record is None else record.trace_id,
            )
        )

    def gap(self, gap: AuditGap) -> bytes:
        """Return the line of a gap."""
        return format_line(dataclasses.replace(gap, id=unique_id(round(gap.time.timestamp() * 1_000_000) * 1000)))

    def _told(self, payload: dict[str, Any]) -> dict[str, Any]:
        told = {key: payload[key] for key in TOLD if payload.get(key) is not None}
        return SafeCopy().of_record(mask_strings(self._redaction.mask_mapping(told))) if told else told


def _outcome(record: RequestRecord) -> str | None:
    if record.error_type is not None or record.errors:
        return "failure"
    if record.status is None:
        return None
    return "success" if record.status < CLIENT_ERROR else "failure"


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
