"""What a JSON record tells beside the text line: gathered from the request and from what ``access_logged`` was sent."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted
from typing import Any
from typing import TYPE_CHECKING

from ..forwarding import claimed_addresses
from ..redaction import mask_strings
from ..safe_copy import SafeCopy
from ..timestamps import utc_text
from .json_line import format_fields
from .json_line import format_journal
from .json_line import format_line
from .json_line import unique_id
from .payload import TOLD
from .record import ACCESSED
from .record import AuditEvent
from .record import AuditGap
from .record import JournalRecord
from .record import MAX_FIELD_CHARACTERS
from .record import moment

if TYPE_CHECKING:
    from ..record import RequestRecord
    from ..redaction import Redaction

__all__ = ["JsonRecords"]

CLIENT_ERROR = 400


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
        outcome = _outcome(record) if payload is None and record is not None else told.get("outcome")
        if record is not None and not told:
            line = _of_plain(unix_ns, user, address, path, record, outcome)
            if line is not None:
                return line
        # A dict that is written down costs a third of an AuditRecord that is taken apart again.
        fields: dict[str, Any] = {
            "id": unique_id(unix_ns),
            "time": f"{utc_text(unix_ns)}+00:00",
            "user.id": user,
            "client.address": address,
        }
        if record is not None:
            fields["network.peer.address"] = record.peer_address
            fields["claimed_addresses"] = claimed_addresses(record.environ) or None
            fields["http.request.method"] = record.method_original or record.method
        fields["url.path"] = path
        fields["action"] = _text(told.get("action")) or ACCESSED
        fields["object"] = _text(told.get("object")) or path
        fields["outcome"] = _text(outcome)
        if record is not None:
            fields["http.response.status_code"] = record.status
            fields["request_id"] = record.request_id
            fields["trace_id"] = record.trace_id
        fields["changes"] = told.get("changes")
        return format_fields(fields)

    def event(self, unix_ns: int, text: str, record: RequestRecord | None) -> bytes:
        """Return the line of a watched signal."""
        request_id, trace_id = (None, None) if record is None else (record.request_id, record.trace_id)
        return format_line(AuditEvent(moment(unix_ns), text, unique_id(unix_ns), request_id, trace_id))

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
        return format_line(gap._replace(id=unique_id(round(gap.time.timestamp() * 1_000_000) * 1000)))

    def _told(self, payload: dict[str, Any]) -> dict[str, Any]:
        told = {key: payload[key] for key in TOLD if payload.get(key) is not None}
        return SafeCopy().of_record(mask_strings(self._redaction.mask_mapping(told))) if told else told


def _of_plain(
    unix_ns: int, user: str, address: str, path: str, record: RequestRecord, outcome: str | None
) -> bytes | None:
    """Return the line of a request that all is known of and that is told in ASCII, or None: as a dict would be it."""
    # The hot path: tests/benchmarks/audit.py. To fill a dict, to empty it of what is None and to have orjson write it
    # takes four times as long.
    peer, status, request_id, trace_id = record.peer_address, record.status, record.request_id, record.trace_id
    if peer is None or status is None or request_id is None or record.method_original is not None:
        return None
    claimed = claimed_addresses(record.environ)
    told = "".join((user, address, peer, path, request_id, *claimed))
    if not told.isascii() or len(told) > MAX_FIELD_CHARACTERS:
        return None
    place = quoted(path)
    claims = f'"claimed_addresses":[{",".join(map(quoted, claimed))}],' if claimed else ""
    result = f'"outcome":"{outcome}",' if outcome else ""
    trace = f',"trace_id":"{trace_id}"' if trace_id else ""
    return (
        f'{{"id":"{unique_id(unix_ns)}","time":"{utc_text(unix_ns)}+00:00","user.id":{quoted(user)},'
        f'"client.address":{quoted(address)},"network.peer.address":{quoted(peer)},{claims}'
        f'"http.request.method":"{record.method}","url.path":{place},"action":"{ACCESSED}","object":{place},{result}'
        f'"http.response.status_code":{status},"request_id":{quoted(request_id)}{trace}}}'
    ).encode()


def _outcome(record: RequestRecord) -> str | None:
    if record.error_type is not None or record.errors:
        return "failure"
    if record.status is None:
        return None
    return "success" if record.status < CLIENT_ERROR else "failure"


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
