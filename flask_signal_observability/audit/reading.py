"""Reading the audit file and the error journal, in either format."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import json_line
from . import line as text_line
from .event_text import as_it_was
from .mark import without_mark
from .record import AuditEvent
from .record import AuditLineError

if TYPE_CHECKING:
    from .record import AuditGap
    from .record import AuditRecord
    from .record import JournalRecord

__all__ = ["after_tear", "event_of", "parse_audit_line", "parse_journal_line"]

_EVENT = r"\[([^] ]*)\] (.+)"


def parse_audit_line(line: str) -> AuditRecord | AuditEvent | AuditGap:
    r"""Return what one line of the audit file tells, text or JSON, exactly as it was before it was escaped.

    Only what this package writes is accepted, so that no two lines mean the same record.

    Args:
        line: One line, with or without its ``\n``.

    Returns:
        An ``AuditRecord``, an ``AuditGap`` where the line tells of records that could not be written, or the
        ``AuditEvent`` of a watched signal in a JSON line: its text line is what the template says, and no audit line.

    Raises:
        AuditLineError: The line is no audit line. It is a ``ValueError`` and an ``ObservabilityError``.
    """
    line = without_mark(line[:-1]) + "\n" if line.endswith("\n") else without_mark(line)
    return json_line.parse_line(line) if line.startswith("{") else text_line.parse_line(line)


def parse_journal_line(line: str) -> JournalRecord | AuditGap:
    r"""Return what one line of the error journal tells, text or JSON.

    Args:
        line: One line, with or without its ``\n``.

    Raises:
        AuditLineError: It is no line of an error journal.
    """
    return json_line.parse_journal(line) if line.startswith("{") else text_line.parse_journal(line)


def event_of(line: str) -> AuditEvent | None:
    """Return what has the form of a watched signal's text line, ``[time] …``: what a reader makes of it, and no proof.

    A record that was torn has it, too, unless another one follows on the same line.
    """
    match = re.fullmatch(_EVENT, line)
    if match is None or after_tear(line) is not None:
        return None
    try:
        return AuditEvent(text_line.read_time(match[1]), as_it_was(match[2]))
    except AuditLineError:
        return None


def after_tear(line: str) -> str | None:
    """Return the whole record that follows a torn one on the same line, or None.

    A process that is killed in the middle of a write leaves the beginning of a record, and the next record of another
    process may come right behind it. No whole record holds what another one begins with: the brackets of its time are
    followed by a space, the quotes of its first key are escaped. A field may
    hold one of the other format, which is not looked for.
    """
    opening = '{"' if line.startswith("{") else "["
    at = line.find(opening, 1)
    while at > 0:
        try:
            parse_audit_line(line[at:])
        except AuditLineError:
            at = line.find(opening, at + 1)
        else:
            return line[at:]
    return None
