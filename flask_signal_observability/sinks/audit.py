"""The audit file and the error journal: who accessed what, and what broke."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..audit_line import format_access
from ..audit_line import format_error
from ..audit_line import format_event
from ..files import AppendFile
from ..record import Sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Config
    from ..guard import Guard
    from ..record import EventRecord
    from ..record import Outputs
    from ..record import RequestRecord

__all__ = ["AuditSink"]

ANONYMOUS, UNKNOWN = "anonymous", "-"


class AuditSink(Sink):
    """Writes a line for every ``access_logged``, for every request where ``audit_requests`` is on, and for every error.

    Both files appear with their first record. What cannot be written raises ``OSError``, for the guard to count and
    tell; the next record tries again.

    Args:
        config: ``audit_path``, ``error_journal_path`` and ``audit_requests`` are read.
        guard: Told when a file was deleted under its records.
        app_repr: How the error journal names the application.
    """

    name = "audit"

    sees_excluded_errors = True
    """An unhandled error in an excluded request reaches ``event`` all the same."""

    def __init__(self, config: Config, guard: Guard, app_repr: str) -> None:
        self.count: Callable[[str], None] | None = None
        """Counts one audit line by its outcome, ``written`` or ``lost``; None while no metrics are kept.

        A line that was written and then went away with its deleted file is counted under both.
        """
        self._guard = guard
        self._app_repr = app_repr
        self._message = config.exception_message
        self._audit_requests = config.audit_requests
        if not config.audit_requests:
            self.skips = frozenset({"finish"})
        self._audit = AppendFile(config.audit_path, on_lost=self._lines_lost)
        self._journal = AppendFile(config.error_journal_path, on_lost=partial(self._tell, config.error_journal_path))

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Write ``access_logged`` to the audit file and ``exception`` to the error journal."""
        if event.name == "access_logged":
            if record is not None:
                record.audited = True
            fields = event.fields
            self._write(event.unix_ns, fields.get("user"), fields.get("ip"), fields.get("path"))
        elif event.name == "exception" and event.error is not None:
            line = format_error(unix_ns=event.unix_ns, app=self._app_repr, error=event.error, message=self._message)
            self._journal.write(f"{line}\n".encode())

    def teller(self, outputs: Outputs) -> Callable[[EventRecord, RequestRecord | None], None] | None:
        """Return what writes an event's own audit line."""
        return self._write_event if outputs.audit else None

    def _write_event(self, event: EventRecord, record: RequestRecord | None) -> None:
        text = event.audit_text
        if text is not None:
            self._append(lambda: format_event(unix_ns=event.unix_ns, text=text))

    def finish(self, record: RequestRecord) -> None:
        """Write the request, where requests are audited and this one did not send ``access_logged`` itself."""
        if self._audit_requests and not record.audited:
            self._write(record.ended_unix_ns, record.user, record.client_address, record.path)

    def close(self) -> None:
        """Close both files; a later record opens them again."""
        self._audit.close()
        self._journal.close()

    def _write(self, unix_ns: int, user: object, address: object, path: object) -> None:
        self._append(
            lambda: format_access(
                unix_ns=unix_ns,
                user=ANONYMOUS if user is None else str(user) or ANONYMOUS,
                address=UNKNOWN if address is None else str(address) or UNKNOWN,
                path=UNKNOWN if path is None else str(path) or UNKNOWN,
            )
        )

    def _append(self, make_line: Callable[[], str]) -> None:
        outcome = "lost"
        try:
            self._audit.write(f"{make_line()}\n".encode())
            outcome = "written"
        finally:
            if self.count is not None:
                self.count(outcome)

    def _lines_lost(self, lines: int) -> None:
        if self.count is not None:
            for _ in range(lines):
                self.count("lost")
        self._tell(str(self._audit.path), lines)

    def _tell(self, path: str, lines: int) -> None:
        lost = FileNotFoundError(f"{path} was deleted, and up to {lines} lines with it; rename it to rotate it")
        self._guard.failed(self.name, "write", lost)
