"""The audit file and the error journal: who accessed what, and what broke."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any
from typing import TYPE_CHECKING

from ..audit import line as text_line
from ..audit.line import format_access
from ..audit.line import format_event
from ..audit.place import what_is_wrong_with
from ..audit.record import JournalRecord
from ..audit.record import moment
from ..audit.shortening import shortened
from ..audit.writer import AuditWriter
from ..errors import ConfigurationError
from ..record import Sink
from ..streams import LogStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..audit.seal import Seal
    from ..config import Config
    from ..guard import Guard
    from ..record import EventRecord
    from ..record import Outputs
    from ..record import RequestRecord

__all__ = ["AuditSink"]

logger = logging.getLogger("flask_signal_observability")

ANONYMOUS, UNKNOWN = "anonymous", "-"

REFUSALS = {
    ("audit", "answer"): "the request was refused with 503",
    ("audit", "event"): "a request whose access_logged it was is refused with 503, any other went on without it",
}
"""What failures come to where audit_on_error is closed."""


class AuditSink(Sink):
    """Writes a line for every ``access_logged``, for every request where ``audit_requests`` is on, and for every error.

    Both files appear with their first record. What cannot be written raises ``OSError``, for the guard to count and
    tell; the next record tries again, and tells of the gap.

    Args:
        config: ``audit_*``, ``error_journal_path``, ``exception_message`` and ``redact`` are read.
        guard: Told when a file was deleted under its records, or shortened, or could not be rotated or synced.
        app_repr: How the error journal names the application.

    Raises:
        ConfigurationError: The audit file cannot be written where it is to be, and ``audit_on_error`` is ``closed``;
            otherwise that is a warning.
    """

    name = "audit"
    reads_details = False

    sees_excluded_errors = True
    """An unhandled error in an excluded request reaches ``event`` all the same."""

    def __init__(self, config: Config, guard: Guard, app_repr: str) -> None:
        self.count: Callable[[str], None] | None = None
        """Counts one audit line that is not in the file by its outcome, ``lost`` or ``stderr``; None: nobody counts."""
        self.count_written: Callable[[], None] | None = None
        """Counts one that is, but for the ends of requests: see ``RequestRecord.audit_written``. It is counted as lost
        as well when it goes away with its deleted file."""
        self._guard = guard
        self._app_repr = app_repr
        self._message = config.exception_message
        self._audit_requests = config.audit_requests
        self._is_closed = config.audit_on_error == "closed"
        if self._is_closed:
            guard.consequences.update(REFUSALS)
        self._instead = LogStream("stderr") if config.audit_on_error == "stderr" else None
        if not config.audit_requests:
            self.skips = frozenset({"finish"})
        form: Any = text_line
        self._json = None
        if config.audit_format == "json":  # what is off is not imported
            from ..audit import json_line as form  # noqa: PLC0415
            from ..audit.json_records import JsonRecords  # noqa: PLC0415
            from ..redaction import Redaction  # noqa: PLC0415

            self._json = JsonRecords(Redaction(config.redact))
        self._check_places(config)
        self._audit = self._writer(
            config, config.audit_path, form.parse_line, form.format_line, self._lines_lost, self._chain(config)
        )
        self._put = self._audit.write
        tell = partial(self._tell_deleted, config.error_journal_path)
        self._journal = self._writer(config, config.error_journal_path, form.parse_journal, form.format_journal, tell)

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Write ``access_logged`` to the audit file and ``exception`` to the error journal."""
        if event.name == "access_logged":
            if record is not None:
                record.audited = True
            try:
                self._accessed(event, record)
            except BaseException:
                event.refused = self._is_closed
                raise
        elif event.name == "exception" and event.error is not None:
            self._journal.write(self._error_line(event.unix_ns, event.error, record))

    def teller(self, outputs: Outputs) -> Callable[[EventRecord, RequestRecord | None], None] | None:
        """Return what writes an event's own audit line."""
        return self._write_event if outputs.audit else None

    def _write_event(self, event: EventRecord, record: RequestRecord | None) -> None:
        text = event.audit_text
        if text is not None and self._json is None:
            self._append(format_event(event.unix_ns, text))
        elif text is not None and self._json is not None:
            self._append(self._json.event(event.unix_ns, text, record))

    def _accessed(self, event: EventRecord, record: RequestRecord | None) -> None:
        fields = event.fields
        try:
            user, address, path = _text(fields.get("user")), _text(fields.get("ip")), _text(fields.get("path"))
        except BaseException:
            self._not_written(None)
            raise
        self._write(event.unix_ns, user, address, path, record, fields)

    def finish(self, record: RequestRecord) -> None:
        """Write the request, where requests are audited and this one was not written before."""
        # The hot path, flat: tests/benchmarks/audit.py tells what it costs.
        if record.audited or not self._audit_requests:
            return
        line = None
        try:
            user, address, path = record.user or ANONYMOUS, record.client_address or UNKNOWN, record.path or UNKNOWN
            if self._json is None:
                line = format_access(record.ended_unix_ns, user, address, path)
            else:
                line = self._json.access(record.ended_unix_ns, user, address, path, record, None)
            self._put(line)
        except BaseException:
            self._not_written(line)
            raise
        record.audit_written = True

    def answer(self, record: RequestRecord, unix_ns: int) -> None:
        """Write the request before its response goes out, for ``audit_on_error="closed"``; ``finish`` then does not.

        Raises:
            OSError: It could not be written: the response must not go out.
        """
        if self._audit_requests and not record.audited:
            record.audited = True
            self._write(unix_ns, record.user, record.client_address, record.path, record, None)

    def copy_lines(self, told: Callable[[bytes], None]) -> Callable[[], None]:
        """Tell of every audit line before it is written, without its end and its seal; return what ends that."""
        put = self._put

        def tell_and_put(line: bytes) -> None:
            told(line)
            put(line)

        self._put = tell_and_put
        return partial(setattr, self, "_put", put)

    def close(self) -> None:
        """Close both files; a later record opens them again."""
        self._audit.close()
        self._journal.close()

    reopen = close
    """Somebody has renamed the files, and says so."""

    def _write(
        self,
        unix_ns: int,
        user: str | None,
        address: str | None,
        path: str | None,
        record: RequestRecord | None,
        payload: dict[str, Any] | None,
    ) -> None:
        try:
            user, address, path = user or ANONYMOUS, address or UNKNOWN, path or UNKNOWN
            if self._json is None:
                line = format_access(unix_ns, user, address, path)
            else:
                line = self._json.access(unix_ns, user, address, path, record, payload)
        except BaseException:
            self._not_written(None)
            raise
        self._append(line)

    def _append(self, line: bytes) -> None:
        try:
            self._put(line)
        except BaseException:
            self._not_written(line)
            raise
        if self.count_written is not None:
            self.count_written()

    def _not_written(self, line: bytes | None) -> None:
        """Count a line that is not in the file, and write it to standard error where that is wanted."""
        outcome = "lost"
        try:
            if line is None:
                self._audit.missed()
            elif self._instead is not None:
                self._instead.write(line + b"\n")
                outcome = "stderr"
        finally:
            if self.count is not None:
                self.count(outcome)

    def _error_line(self, unix_ns: int, error: BaseException, record: RequestRecord | None) -> bytes:
        told = text_line.error_text(error, message=self._message)
        if self._json is not None:
            return self._json.error(unix_ns, self._app_repr, told, record)
        return text_line.format_journal(JournalRecord(moment(unix_ns), self._app_repr, told))

    # The files.

    def _check_places(self, config: Config) -> None:
        for key, path in (("error_journal_path", config.error_journal_path), ("audit_path", config.audit_path)):
            wrong = what_is_wrong_with(path)
            if wrong is None:
                continue
            if self._is_closed and key == "audit_path":
                raise ConfigurationError(f"{key}={path!r} cannot be written: {wrong}")
            logger.warning("%s=%r cannot be written: %s; until then records are lost", key, path, wrong)

    def _chain(self, config: Config) -> Seal | None:
        if not config.audit_chain:
            return None
        from ..audit.chain import Chain  # noqa: PLC0415
        from ..audit.key import AuditKey  # noqa: PLC0415

        key = AuditKey.of(config.audit_key, config.audit_key_file)
        return Chain(key, on_failed=partial(self._guard.failed, self.name, "heads"))

    def _writer(
        self,
        config: Config,
        path: str,
        parse: Callable[[str], Any],
        form: Callable[..., bytes],
        on_lost: Callable[[int], None],
        seal: Seal | None = None,
    ) -> AuditWriter:
        failed = partial(self._guard.failed, self.name)
        rotation = None
        if config.audit_rotate_bytes is not None or config.audit_rotate_seconds is not None:
            from ..audit.rotation import Rotation  # noqa: PLC0415

            rotation = Rotation(
                path,
                max_bytes=config.audit_rotate_bytes,
                seconds=config.audit_rotate_seconds,
                keep=config.audit_keep,
                tell=partial(failed, "rotate"),
            )
        durability = None
        if config.audit_durability != "os":
            from ..audit.durability import make_durability  # noqa: PLC0415

            durability = make_durability(
                config.audit_durability, config.audit_interval_seconds, partial(failed, "sync")
            )
        return AuditWriter(
            path,
            gap_line=form if self._json is None else self._json.gap,
            shortened=partial(shortened, parse=parse, form=form),
            seal=seal,
            durability=durability,
            rotation=rotation,
            on_lost=on_lost,
            on_truncated=partial(self._tell_truncated, path),
        )

    def _lines_lost(self, lines: int) -> None:
        self._audit.missed(lines)
        if self.count is not None:
            for _ in range(lines):
                self.count("lost")
        self._tell_deleted(str(self._audit.path), lines)

    def _tell_deleted(self, path: str, lines: int) -> None:
        lost = FileNotFoundError(f"{path} was deleted, and up to {lines} lines with it; rename it to rotate it")
        self._guard.failed(self.name, "write", lost)

    def _tell_truncated(self, path: str, missing_bytes: int) -> None:
        shorter = OSError(
            f"{path} is at least {missing_bytes} bytes shorter than it was: copytruncate loses what is written between "
            "its copy and its cut; let logrotate rename the file (create), or set audit_rotate_bytes"
        )
        self._guard.failed(self.name, "truncated", shorter)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
