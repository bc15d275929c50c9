"""A JSON line of an audit file, as the record of a log that it comes near to."""

from __future__ import annotations

from typing import Any

__all__ = ["from_audit"]


def from_audit(read: dict[str, Any]) -> dict[str, Any] | None:
    """Return it under the names of a log record, with a level and an event; None where it is of no audit file."""
    event = _event_of(read)
    if event is None or "time" not in read:
        return None
    level = "error" if event == "exception" else "warning" if event == "audit_gap" else "info"
    left_out = ("time", "chain", "chain_note")
    fields = {name: value for name, value in read.items() if name not in left_out and value is not None}
    return {"timestamp": read["time"], "level": level, "event": event, **fields}


EVENTS = (
    (("user.id", "client.address"), "access_logged"),
    (("id", "lost", "from"), "audit_gap"),
    (("id", "app", "error"), "exception"),
    (("id", "text"), "watched"),
)
"""By the names that a line has."""


def _event_of(read: dict[str, Any]) -> str | None:
    if "chain_note" in read:
        return f"chain {read['chain_note']}"
    return next((event for names, event in EVENTS if all(name in read for name in names)), None)
