r"""The JSON form of the audit file and of the error journal: one object a line (https://jsonlines.org).

    {"id":"019ab…","time":"2026-11-22T10:09:00.123456+00:00","user.id":"alice","client.address":"203.0.113.7",…}

Names are OpenTelemetry's where it has one. What ``escaping`` names is written as ``\uNNNN``. A lone surrogate, which
readers of JSON refuse or replace (RFC 8259, 8.2), is written as the text lines write it, all strings of that object
then so, and ``"backslashed":true`` says it.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import orjson

from .escaping import backslashed
from .escaping import HIDDEN
from .escaping import SURROGATE
from .escaping import unbackslashed
from .line import read_time
from .line import time_text
from .record import AuditEvent
from .record import AuditGap
from .record import AuditLineError
from .record import AuditRecord
from .record import JournalRecord
from .record import MAX_FIELD_CHARACTERS

__all__ = ["format_fields", "format_journal", "format_line", "parse_journal", "parse_line", "unique_id"]

KEYS = {
    "id": "id",
    "time": "time",
    "user": "user.id",
    "address": "client.address",
    "peer_address": "network.peer.address",
    "claimed_addresses": "claimed_addresses",
    "method": "http.request.method",
    "path": "url.path",
    "action": "action",
    "object": "object",
    "outcome": "outcome",
    "status": "http.response.status_code",
    "request_id": "request_id",
    "trace_id": "trace_id",
    "changes": "changes",
}
"""The key of each of a record's fields, in their order; what is None or empty is left out."""
EVENT_KEYS = {"id": "id", "time": "time", "text": "text", "request_id": "request_id", "trace_id": "trace_id"}
GAP_KEYS = {"id": "id", "time": "time", "lost": "lost", "since": "from", "until": "to"}
JOURNAL_KEYS = {
    "id": "id",
    "time": "time",
    "app": "app",
    "error": "error",
    "request_id": "request_id",
    "trace_id": "trace_id",
}
TIMES = frozenset({"time", "since", "until"})
OTHER_TYPES: dict[str, type] = {"status": int, "lost": int, "claimed_addresses": list, "changes": object}
"""What is no text. ``changes`` may be anything."""
BACKSLASHED = "backslashed"

_LONE = rf"[\\{SURROGATE}]"
_HIDDEN = f"[{HIDDEN}]"

_MS_NS = 1_000_000
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""Makes a random digit one that begins with the bits 10."""


def unique_id(unix_ns: int) -> str:
    """Return a UUID of version 7 (RFC 9562, 5.7 and 6.2, method 3): ids of one process sort to a quarter microsecond.

    The random part is the kernel's: ``random`` repeats itself where an app seeds it, and in forked workers.
    """
    # Twelve digits of milliseconds, three of their 4096th parts, one that is left out, and the random ones.
    digits = ((unix_ns * 4096 // _MS_NS << 4).to_bytes(8, "big") + os.urandom(8)).hex()
    return f"{digits[:8]}-{digits[8:12]}-7{digits[12:15]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def format_line(record: AuditRecord | AuditEvent | AuditGap, max_characters: int = MAX_FIELD_CHARACTERS) -> bytes:
    """Return the line of a record, without its newline; its fields, ``changes`` aside, are cut at ``max_characters``.

    ``parse_line`` gives the same values back. ``changes`` holds what JSON can: no NaN, and text as keys.
    """
    keys = GAP_KEYS if isinstance(record, AuditGap) else EVENT_KEYS if isinstance(record, AuditEvent) else KEYS
    return _format(record, keys, max_characters)


def format_journal(record: JournalRecord | AuditGap, max_characters: int = MAX_FIELD_CHARACTERS) -> bytes:
    """Return the line of the error journal, without its newline."""
    return _format(record, GAP_KEYS if isinstance(record, AuditGap) else JOURNAL_KEYS, max_characters)


def parse_line(line: str) -> AuditRecord | AuditEvent | AuditGap:
    r"""Return what a JSON line of the audit file tells.

    Only what is written here is accepted, key for key, so that no two lines mean the same record.

    Args:
        line: One line, with or without its ``\n``.

    Raises:
        AuditLineError: The line is no audit line. It is a ``ValueError`` and an ``ObservabilityError``.
    """
    record: AuditRecord | AuditEvent | AuditGap = _parse(line.removesuffix("\n"), AuditRecord, KEYS)
    return record


def parse_journal(line: str) -> JournalRecord | AuditGap:
    r"""Return what a JSON line of the error journal tells.

    Args:
        line: One line, with or without its ``\n``.

    Raises:
        AuditLineError: It is no line of an error journal.
    """
    record: JournalRecord | AuditGap = _parse(line.removesuffix("\n"), JournalRecord, JOURNAL_KEYS)
    return record


def format_fields(fields: dict[str, Any], max_characters: int = MAX_FIELD_CHARACTERS) -> bytes:
    """Return the line of fields by their keys, in the order of ``KEYS``; those that are None are left out."""
    kept = {key: value for key, value in fields.items() if value is not None}
    line = _dumped(kept)
    if len(line) <= max_characters:  # and so is every field
        return line
    for key, value in kept.items():
        if type(value) is str and key != "changes":
            kept[key] = _cut(value, max_characters)
    return _dumped(kept)


def _format(record: object, keys: dict[str, str], max_characters: int) -> bytes:
    fields: dict[str, Any] = {}
    for name, key in keys.items():
        value = getattr(record, name)
        if name in TIMES:
            value = time_text(value)
        elif name == "claimed_addresses":
            value = [_cut(item, max_characters) for item in value] or None
        fields[key] = value
    return format_fields(fields, max_characters)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _dumped(fields: dict[str, Any]) -> bytes:
    try:
        data = orjson.dumps(fields)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        if re.search(f"[{SURROGATE}]", text):
            fields = {BACKSLASHED: True, **_each_text(fields, lambda part: backslashed(part, _LONE))}
            text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        data = text.encode()
    if data.isascii() and b"\x7f" not in data:
        return data
    return re.sub(_HIDDEN, _escape, data.decode()).encode()


def _escape(match: re.Match[str]) -> str:
    data = match[0].encode("utf-16-be")
    return "".join(f"\\u{data[at : at + 2].hex()}" for at in range(0, len(data), 2))


def _each_text(value: Any, change: Any) -> Any:
    """Return a copy of what JSON can hold, each string in it changed, those of keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _each_text(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_each_text(item, change) for item in value]
    return value


def _parse(line: str, kind: type[Any], keys: dict[str, str]) -> Any:
    try:
        fields = json.loads(line)
        if isinstance(fields, dict):
            if fields.pop(BACKSLASHED, False):
                fields = _each_text(fields, unbackslashed)
            if "lost" in fields:
                kind, keys = AuditGap, GAP_KEYS
            elif "text" in fields:
                kind, keys = AuditEvent, EVENT_KEYS
            record = _record(fields, kind, keys)
            if _format(record, keys, MAX_FIELD_CHARACTERS) == line.encode():
                return record
    except AuditLineError:
        raise
    # KeyError and TypeError: another object; RecursionError: a bomb; UnicodeEncodeError is a ValueError.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise AuditLineError(f"not an audit line: {line[:300]!r}; expected one JSON object as this package writes it")


def _record(fields: dict[str, Any], kind: type[Any], keys: dict[str, str]) -> Any:
    values = {name: fields.pop(key) for name, key in keys.items() if key in fields}
    if fields:
        raise AuditLineError(f"the keys {sorted(fields)!r} of an audit line are none of {sorted(keys.values())}")
    for name, value in values.items():
        kind_of_value = OTHER_TYPES.get(name, str)
        if type(value) is not kind_of_value and kind_of_value is not object:
            raise AuditLineError(f"the {keys[name]} of an audit line is {value!r}; expected {kind_of_value.__name__}")
    for name in TIMES & values.keys():
        values[name] = read_time(values[name])
    if "claimed_addresses" in values:
        values["claimed_addresses"] = tuple(values["claimed_addresses"])
    return kind(**values)
