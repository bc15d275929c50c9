r"""The text of the audit file and of the error journal: one record is one line, whatever it holds.

    [2026-11-22T10:09:00.123456+00:00] alice@203.0.113.7 accessed /dashboard
    [2026-11-22T10:09:00.123456+00:00] Critical error in <Flask 'shop'>: ZeroDivisionError: division by zero

What could break a line, hide in it or reorder it on a screen is written as ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN`` and
a backslash as ``\\``: white space, controls, lone surrogates, and the invisible characters that Unicode calls
Default_Ignorable_Code_Point (https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt), among them the
bidirectional controls. Plain spaces stay in the journal, where they separate nothing.
"""

from __future__ import annotations

import dataclasses
import re
import traceback
from datetime import datetime
from datetime import timezone

from .audit.mark import without_mark
from .errors import ObservabilityError
from .record import error_type_of
from .redaction import mask_patterns
from .timestamps import utc_text

__all__ = ["AuditLineError", "AuditRecord", "format_access", "format_error", "parse_audit_line"]

MAX_FIELD_CHARACTERS = 2048
"""A longer field is cut to this, its last character then ``…``; counted before anything is escaped."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_UNSAFE = (
    r"\\"
    r"\x00-\x1f\x7f-\xa0"
    r"\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # white space beyond ASCII
    r"\ud800-\udfff"
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_IN_TEXT = re.compile(f"[{_UNSAFE}]")
_IN_FIELD = re.compile(f"[ {_UNSAFE}]")
_IN_ADDRESS = re.compile(f"[ @{_UNSAFE}]")  # so that the last @ is always the one that we wrote

_PLAIN = re.compile(r"[!-?A-\[\]-~]{1,2048}").fullmatch
"""Matches what is written as it is in any field: printable ASCII but for space, ``@`` and backslash."""

_LINE = re.compile(r"\[([^] ]*)\] ([^ ]*)@([^ @]*) accessed ([^ ]*)")
_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4})|U(000[0-9a-f]{5}))")


class AuditLineError(ObservabilityError, ValueError):
    """A line that is not as this package writes audit lines; the message names the part and its value."""


@dataclasses.dataclass(frozen=True)
class AuditRecord:
    """One line of the audit file, as it was before it was escaped."""

    time: datetime
    """In UTC, to the microsecond."""
    user: str
    """``anonymous`` where nobody was known."""
    address: str
    """The client's address, or ``-``."""
    path: str
    """The path with its mount prefix, or ``-``."""


def format_access(*, unix_ns: int, user: str, address: str, path: str) -> str:
    """Return the audit line, without its newline; ``parse_audit_line`` gives the same values back.

    Args:
        unix_ns: Unix time in nanoseconds, written to the microsecond.
        user: Who; cut at 2048 characters, like the others.
        address: From where.
        path: What, percent-decoded.
    """
    # The hot path: most fields are plain, and a look at them costs half of what it costs to escape nothing.
    return (
        f"[{utc_text(unix_ns)}+00:00] {user if _PLAIN(user) else _escaped(user, _IN_FIELD)}"
        f"@{address if _PLAIN(address) else _escaped(address, _IN_ADDRESS)}"
        f" accessed {path if _PLAIN(path) else _escaped(path, _IN_FIELD)}"
    )


def format_error(*, unix_ns: int, app: str, error: BaseException, message: bool = True) -> str:
    """Return the error journal's line, without its newline.

    Args:
        unix_ns: Unix time in nanoseconds, written to the microsecond.
        app: The application's repr.
        error: Told as ``traceback.format_exception_only`` tells it, its notes too, credentials masked; cut at 2048
            characters.
        message: Whether the error's message is told, and not its class alone.
    """
    if not message:
        return f"[{_time(unix_ns)}] Critical error in {_escaped(app, _IN_TEXT)}: {error_type_of(error)}"
    told = mask_patterns("".join(traceback.format_exception_only(error)).removesuffix("\n"))
    return f"[{_time(unix_ns)}] Critical error in {_escaped(app, _IN_TEXT)}: {_escaped(told, _IN_TEXT)}"


def parse_audit_line(line: str) -> AuditRecord:
    r"""Return what an audit line tells, exactly as it was before it was escaped.

    Only what ``format_access`` writes is accepted, so that no two lines mean the same record.

    Args:
        line: One line of the audit file, with or without its ``\n``, and with or without a chain's mark.

    Raises:
        AuditLineError: The line is no audit line. It is a ``ValueError`` and an ``ObservabilityError``.
    """
    match = _LINE.fullmatch(without_mark(line.removesuffix("\n")))
    if match is None:
        raise AuditLineError(f"not an audit line: {line!r}; expected '[time] user@address accessed path'")
    time, user, address, path = match.groups()
    return AuditRecord(
        time=_read_time(time),
        user=_read("user", user, _IN_FIELD),
        address=_read("address", address, _IN_ADDRESS),
        path=_read("path", path, _IN_FIELD),
    )


def _time(unix_ns: int) -> str:
    return f"{utc_text(unix_ns)}+00:00"


def _read_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise AuditLineError(f"the time of an audit line cannot be read: {text!r} ({error})") from None
    if time.tzinfo != timezone.utc or time.isoformat(timespec="microseconds") != text:
        raise AuditLineError(f"the time of an audit line is {text!r}; expected UTC as '{_time(0)}'")
    return time


def _escaped(text: str, unsafe: re.Pattern[str]) -> str:
    if len(text) > MAX_FIELD_CHARACTERS:
        text = text[: MAX_FIELD_CHARACTERS - 1] + "…"
    return unsafe.sub(_backslashed, text)


def _backslashed(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == ord("\\"):
        return r"\\"
    if code <= 0xFF:  # noqa: PLR2004
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def _read(name: str, text: str, unsafe: re.Pattern[str]) -> str:
    value = _ESCAPE.sub(_character, text)
    if _escaped(value, unsafe) != text:
        raise AuditLineError(f"the {name} of an audit line is not escaped, or not cut, as it must be: {text!r}")
    return value


def _character(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    return chr(int(digits, 16)) if digits else "\\"
