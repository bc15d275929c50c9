"""The line of JSON of a watched signal, put together from parts that were rendered before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rendering import to_json_line
from .timestamps import utc_text

if TYPE_CHECKING:
    from .record import EventRecord
    from .record import RequestRecord

__all__ = ["EventLines"]

MAX_FIELDS_BYTES = 4096
MAX_HEAD = 2048
"""Of what goes by here nothing is ever to be cut: the line stays below a field's 8 KiB."""


class EventLines:
    """Makes the lines of one watch, of which only the time, the ids and the fields change. Safe to use from threads.

    Equal to what the renderer makes of the sink's dict, key for key, as a test holds.

    Args:
        own_keys: What no field may say.
    """

    def __init__(self, level: str, name: str, service: str | None, own_keys: frozenset[str]) -> None:
        self._own_keys = own_keys
        head = to_json_line({"level": level, "event": name, "service": service}).decode()[1:-2]
        self._head = head if len(head) <= MAX_HEAD else None

    def of(self, event: EventRecord, record: RequestRecord | None) -> bytes | None:
        """Return the line, or None for an event that the renderer has to look at."""
        # The hot path of a watched signal: tests/benchmarks/watched.py.
        fields = event.fields
        if self._head is None or not fields or event.duration_ns is not None or not self._own_keys.isdisjoint(fields):
            return None
        ids = ""
        if record is not None:
            if record.annotations or record.request_id is None:
                return None
            ids = f',"request_id":"{record.request_id}"'
            if record.trace_id is not None:
                ids = f'{ids},"trace_id":"{record.trace_id}","span_id":"{record.span_id}"'
        told = to_json_line(fields)
        if len(told) > MAX_FIELDS_BYTES:
            return None
        return f'{{"timestamp":"{utc_text(event.unix_ns)}Z",{self._head}{ids},{told.decode()[1:]}'.encode()
