r"""The text of the audit file and of the error journal: one record is one line, whatever it holds.

    [2026-11-22T10:09:00.123456+00:00] alice@203.0.113.7 accessed /dashboard
    [2026-11-22T10:09:00.123456+00:00] Critical error in <Flask 'shop'>: ZeroDivisionError: division by zero
    [2026-11-22T10:09:00.123456+00:00] lost 17 records from 2026-11-22T10:08:12.654321+00:00 to 2026-11-22T10:08:59…

What ``escaping`` names is written as ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``, and a backslash as ``\\``. Plain spaces
stay in the journal, where they separate nothing.
"""

from __future__ import annotations

import re
import traceback
from datetime import datetime
from datetime import timezone

from ..record import error_type_of
from ..redaction import mask_message
from ..timestamps import utc_text
from .escaping import CONTROL
from .escaping import cut_and_escaped
from .escaping import HIDDEN
from .escaping import SURROGATE
from .escaping import unbackslashed
from .event_text import kept_apart
from .record import AuditGap
from .record import AuditLineError
from .record import AuditRecord
from .record import JournalRecord
from .record import MAX_FIELD_CHARACTERS

__all__ = [
    "error_text",
    "escape_field",
    "format_access",
    "format_event",
    "format_journal",
    "format_line",
    "is_plain_text",
    "parse_journal",
    "parse_line",
    "read_time",
    "time_text",
]

# Text, which re compiles where it is first needed: most apps write plain lines and read none.
_UNSAFE = rf"\\{CONTROL}{HIDDEN}{SURROGATE}"
_IN_TEXT = f"[{_UNSAFE}]"
_IN_APP = f"[:{_UNSAFE}]"  # so that the first colon is always the one that we wrote
_IN_FIELD = f"[ {_UNSAFE}]"
_IN_ADDRESS = f"[ @{_UNSAFE}]"  # so that the last @ is always the one that we wrote

_PLAIN = bytes(code if 0x20 <= code < 0x7F and code != ord("\\") else 0x20 for code in range(256))  # noqa: PLR2004
"""Changes every byte that is escaped in any field, but for the space: printable ASCII stays, without a backslash."""

_ACCESS = r"\[([^] ]*)\] ([^ ]*)@([^ @]*) accessed ([^ ]*)"
_GAP = r"\[([^] ]*)\] lost ([1-9][0-9]{0,17}) records from ([^ ]*) to ([^ ]*)"
_JOURNAL = r"\[([^] ]*)\] Critical error in ([^:]*): (.*)"


def format_access(unix_ns: int, user: str, address: str, path: str) -> bytes:
    """Return the audit line, without its newline; ``parse_line`` gives the same values back.

    Args:
        unix_ns: Unix time in nanoseconds, written to the microsecond.
        user: Who; cut at 2048 characters, like the others.
        address: From where.
        path: What, percent-decoded.
    """
    # The hot path: most lines are plain, and to see that in this way costs a fifth of a pattern for each field.
    at = utc_text(unix_ns)
    text = f"[{at}+00:00] {user}@{address} accessed {path}"
    if (
        " " not in path
        and " " not in user
        and " " not in address
        and "@" not in address
        and text.isascii()
        and len(text) < MAX_FIELD_CHARACTERS
    ):
        line = text.encode()
        if line.translate(_PLAIN) is line:  # what nothing was changed in is returned itself
            return line
    return f"[{at}+00:00] {_access(user, address, path, MAX_FIELD_CHARACTERS)}".encode()


def format_event(unix_ns: int, text: str) -> bytes:
    """Return the audit line of a watched signal, without its newline; the fields in ``text`` are escaped already.

    Whatever they hold, it is no other line that is written here: ``event_text`` says how.
    """
    return f"[{utc_text(unix_ns)}+00:00] {kept_apart(text)}".encode()


def is_plain_text(text: str) -> bool:
    """Tell whether ``text`` may stand in a line as it is."""
    return re.search(_IN_TEXT, text) is None


def escape_field(text: str, also: str = "") -> str:
    """Return a field of a line: cut at 2048 characters, spaces and the character ``also`` escaped, too."""
    # Of a watched signal, in its request: mostly a word or a number.
    if text.isascii() and text.isalnum() and not also.isalnum() and len(text) <= MAX_FIELD_CHARACTERS:
        return text
    return cut_and_escaped(text, f"[{re.escape(also)} {_UNSAFE}]", MAX_FIELD_CHARACTERS)


def format_line(record: AuditRecord | AuditGap, max_characters: int = MAX_FIELD_CHARACTERS) -> bytes:
    """Return the line of a record, without its newline; its fields are cut at ``max_characters``."""
    at = time_text(record.time)
    if isinstance(record, AuditGap):
        told = f"lost {record.lost} records from {time_text(record.since)} to {time_text(record.until)}"
    else:
        told = _access(record.user, record.address, record.path, max_characters)
    return f"[{at}] {told}".encode()


def format_journal(record: JournalRecord | AuditGap, max_characters: int = MAX_FIELD_CHARACTERS) -> bytes:
    """Return the error journal's line, without its newline; its fields are cut at ``max_characters``."""
    if isinstance(record, AuditGap):
        return format_line(record)
    app = cut_and_escaped(record.app, _IN_APP, max_characters)
    error = cut_and_escaped(record.error, _IN_TEXT, max_characters)
    return f"[{time_text(record.time)}] Critical error in {app}: {error}".encode()


def error_text(error: BaseException, *, message: bool = True) -> str:
    """Return what the journal tells of an error, its notes too, credentials masked.

    Args:
        error: Told as ``traceback.format_exception_only`` tells it.
        message: Whether the error's message is told, and not its class alone.
    """
    if not message:
        return error_type_of(error)
    return mask_message("".join(traceback.format_exception_only(error)).removesuffix("\n"))


def parse_line(line: str) -> AuditRecord | AuditGap:
    r"""Return what a text line of the audit file tells, exactly as it was before it was escaped.

    Only what is written here is accepted, so that no two lines mean the same record.

    Args:
        line: One line, with or without its ``\n``.

    Raises:
        AuditLineError: The line is no audit line. It is a ``ValueError`` and an ``ObservabilityError``.
    """
    line = line.removesuffix("\n")
    match = re.fullmatch(_ACCESS, line)
    if match is not None:
        time, user, address, path = match.groups()
        return AuditRecord(
            time=read_time(time),
            user=_read("user", user, _IN_FIELD),
            address=_read("address", address, _IN_ADDRESS),
            path=_read("path", path, _IN_FIELD),
        )
    match = re.fullmatch(_GAP, line)
    if match is None:
        raise AuditLineError(f"not an audit line: {line!r}; expected '[time] user@address accessed path'")
    time, lost, since, until = match.groups()
    return AuditGap(time=read_time(time), lost=int(lost), since=read_time(since), until=read_time(until))


def parse_journal(line: str) -> JournalRecord | AuditGap:
    r"""Return what a text line of the error journal tells.

    Args:
        line: One line, with or without its ``\n``.

    Raises:
        AuditLineError: It is no line of an error journal.
    """
    line = line.removesuffix("\n")
    match = re.fullmatch(_JOURNAL, line)
    if match is None:
        if re.fullmatch(_GAP, line):
            return parse_line(line)  # type: ignore[return-value]
        raise AuditLineError(f"not a journal line: {line!r}; expected '[time] Critical error in app: error'")
    time, app, error = match.groups()
    return JournalRecord(time=read_time(time), app=_read("app", app, _IN_APP), error=_read("error", error, _IN_TEXT))


def time_text(time: datetime) -> str:
    """Return a time in UTC as every line begins with."""
    return time.isoformat(timespec="microseconds")


def read_time(text: str) -> datetime:
    """Return the time that ``time_text`` has written.

    Raises:
        AuditLineError: It is none, or in another form.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise AuditLineError(f"the time of an audit line cannot be read: {text!r} ({error})") from None
    if time.tzinfo != timezone.utc or time_text(time) != text:
        raise AuditLineError(f"the time of an audit line is {text!r}; expected UTC as '{utc_text(0)}+00:00'")
    return time


def _access(user: str, address: str, path: str, max_characters: int) -> str:
    user = cut_and_escaped(user, _IN_FIELD, max_characters)
    address = cut_and_escaped(address, _IN_ADDRESS, max_characters)
    return f"{user}@{address} accessed {cut_and_escaped(path, _IN_FIELD, max_characters)}"


def _read(name: str, text: str, unsafe: str) -> str:
    value = unbackslashed(text)
    if cut_and_escaped(value, unsafe, MAX_FIELD_CHARACTERS) != text:
        raise AuditLineError(f"the {name} of an audit line is not escaped, or not cut, as it must be: {text!r}")
    return value
