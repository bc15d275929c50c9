"""The files: audit file, error journal and log file, where they are, who may read them, and whether they are whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from ..audit.finding import Verdict
from ..audit.key import AuditKey
from ..audit.place import what_is_wrong_with
from ..audit.trail import AuditFileError
from ..audit.verification import verify
from ..errors import ConfigurationError
from .finding import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config import Config
    from .finding import Finding
    from .target import Target

__all__ = ["look"]

audit = Report("audit file")
journal = Report("error journal")
records = Report("log")

MAX_VERIFIED_BYTES = 32_000_000
"""As much as is verified in a second."""

LITTLE_BYTES = 50_000_000

DURABILITY = {
    "os": "survives the process, not a power failure",
    "interval": "is on the disk after audit_interval_seconds",
    "group": "is on the disk when the request goes on",
    "each": "is on the disk when the request goes on",
}


def look(target: Target) -> Iterator[Finding]:
    """Look at each file, without opening it for writing."""
    config = target.config
    if config is None:
        return
    if config.audit:
        yield from _file(audit, config.audit_path, "audit_path", target)
        yield from _file(journal, config.error_journal_path, "error_journal_path", target)
        yield audit.ok(f"audit_durability={config.audit_durability!r}: a line {DURABILITY[config.audit_durability]}")
        yield from _chain(config)
    else:
        yield audit.ok("audit is off")
    yield from _log(config)


def _file(report: Report, path: str, setting: str, target: Target) -> Iterator[Finding]:
    file = Path(path).absolute()
    wrong = what_is_wrong_with(path)
    if wrong is not None:
        reason, _, remedy = wrong.partition(": ")
        yield report.error(f"{file}: {reason}", remedy)
        return
    static = None if target.app is None or target.app.static_folder is None else Path(target.app.static_folder)
    if static is not None and file.is_relative_to(static.absolute()):
        yield report.error(f"{file} is in the static folder: everybody can fetch it", f"set {setting} elsewhere")
    if not file.exists():
        yield report.ok(f"{file} can be made at the first record")
    else:
        yield from _mode(report, file)
    free = os.statvfs(file.parent)
    if free.f_bavail * free.f_frsize < LITTLE_BYTES:
        yield report.warning(
            f"{file.parent} has {free.f_bavail * free.f_frsize // 1_000_000} MB left",
            "make room, or audit_rotate_bytes",
        )


def _mode(report: Report, file: Path) -> Iterator[Finding]:
    found = file.stat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        yield report.ok(f"{file} is no regular file; records go through it")
    elif mode & stat.S_IWOTH:
        yield report.error(f"everybody may change {file} (mode {mode:03o})", f"chmod 640 {file}")
    elif mode & stat.S_IROTH:
        yield report.warning(f"everybody may read who did what in {file} (mode {mode:03o})", f"chmod 640 {file}")
    else:
        yield report.ok(f"{file} can be written (mode {mode:03o}, {found.st_size} bytes)")


def _chain(config: Config) -> Iterator[Finding]:
    file = Path(config.audit_path)
    if not config.audit_chain:
        yield audit.ok("audit_chain is off: a change to the file would not show")
        return
    try:
        key = AuditKey.of(config.audit_key, config.audit_key_file)
    except ConfigurationError as error:
        yield audit.error(f"the key of the chain cannot be used: {error}", "mend the key file, as the message says")
        return
    try:
        if not file.is_file() or file.stat().st_size == 0:
            yield audit.ok("audit_chain is on; there is nothing to verify yet")
            return
        if file.stat().st_size > MAX_VERIFIED_BYTES:
            yield audit.ok(
                f"the chain is not verified here: the file is too long; flask observability audit verify {file}"
            )
            return
        verified = verify([file], [key])
    except (AuditFileError, OSError) as error:
        yield audit.error(f"the chain cannot be verified: {error}", "run check as a user who may read the file")
        return
    if verified.verdict is Verdict.INTACT:
        yield audit.ok(f"the chain is intact: {verified.proved} of {verified.lines} lines proved")
        return
    first = verified.findings[0]
    what = f"line {first.line}: {first.kind.value}: {first.message} (findings: {len(verified.findings)})"
    more = f"flask observability audit verify {file}* tells all"
    if verified.verdict is Verdict.TAMPERED:
        yield audit.error(f"the chain is broken, {what}", f"{more}; keep the file, and find out who changed it")
    elif verified.verdict is Verdict.UNCHECKED:
        yield audit.error(f"the chain cannot be checked, {what}", f"{more}; was another key in force? Start a new file")
    else:
        yield audit.warning(
            f"the file ends in the middle of a record, {what}", f"{more}; a crash or a full disk does so"
        )


def _log(config: Config) -> Iterator[Finding]:
    stream = config.log_stream
    if not config.logs:
        yield records.ok("logs are off")
    elif not isinstance(stream, str):
        if getattr(stream, "closed", False):
            yield records.error("log_stream is closed", "open it, and leave it open")
        else:
            yield records.ok(f"records go to {type(stream).__name__}")
    elif stream in ("stdout", "stderr", "otlp"):
        yield records.ok(f"records go to {stream}")
    else:
        wrong = what_is_wrong_with(stream)
        if wrong is None:
            yield records.ok(f"records go to {Path(stream).absolute()}")
        else:
            reason, _, remedy = wrong.partition(": ")
            yield records.error(f"{Path(stream).absolute()}: {reason}", remedy)
