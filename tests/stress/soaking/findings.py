"""What the files say afterwards: each request's audit line and record, and the lines that nobody expected."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
from collections import Counter
from typing import Any
from typing import TYPE_CHECKING

from flask_signal_observability.audit.reading import after_tear

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Findings", "find"]

EVENTS = ("request_finished", "exception", "worker_started")
COLLECTOR_LOGGERS = ("opentelemetry.", "flask_signal_observability")
"""What is told of the collector's moods."""

GUARDED = " failed at "
"""What the guard says is not of them."""

SERVER_LINES = re.compile(
    r"\[INFO\] (Starting gunicorn|Listening at|Using worker|Booting worker|Handling signal: term"
    r"|Worker exiting|Shutting down|Control socket listening)"
    r"|\[ERROR\] (Worker \(pid:\d+\) was sent SIGKILL|Error handling request( /broken)?$"
    r"|Socket error processing request)|^$"
)
"""What gunicorn says of its own life, of a kill, of the stream that breaks, and of clients that leave."""


@dataclasses.dataclass
class Findings:
    audited: Counter[str] = dataclasses.field(default_factory=Counter)
    """Audit lines by request's id; what a view said itself stands for its request."""
    gaps: int = 0
    logged: Counter[str] = dataclasses.field(default_factory=Counter)
    """Records ``request_finished``, by id."""
    exceptions: int = 0
    journalled: int = 0
    torn: int = 0
    """Lines cut off by a kill."""
    files: int = 0
    told_of_collector: Counter[str] = dataclasses.field(default_factory=Counter)
    unexpected: list[str] = dataclasses.field(default_factory=list)


def find(directory: Path, output: str) -> Findings:
    """Read everything in ``directory``, when nobody writes there any more."""
    findings = Findings()
    for line in _lines(directory, "audit.log", findings):
        _audited(line, findings)
    findings.journalled = sum(1 for _ in _lines(directory, "journal.log", findings))
    for line in _lines(directory, "app.json", findings):
        _logged(line, findings)
    for line in output.splitlines():
        _said(line, findings)
    return findings


def _lines(directory: Path, name: str, findings: Findings) -> Iterator[bytes]:
    for path in sorted(directory.glob(f"{name}*")):
        if path.suffix in (".lock", ".heads", ".part") or path.with_name(f"{path.name}.gz").exists():
            continue
        findings.files += 1
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            yield from filter(None, (line.rstrip(b"\n") for line in file))  # type: ignore[attr-defined]


def _audited(line: bytes, findings: Findings) -> None:
    record = _json(line)
    if record is None:
        findings.torn += 1
        record = _json((after_tear(line.decode()) or "").encode())
    if record is None:
        return
    if "request_id" in record:
        findings.audited[record["request_id"]] += 1
    else:
        findings.gaps += 1


def _logged(line: bytes, findings: Findings) -> None:
    record = _json(line)
    if record is None:
        findings.torn += 1
    elif record["event"] == "request_finished":
        findings.logged[record["request_id"]] += 1
    elif record["event"] == "exception":
        findings.exceptions += 1
    elif record["event"] not in EVENTS:
        _said_by(str(record.get("logger", "")), str(record["level"]), str(record["event"]), findings)


def _said_by(logger: str, level: str, text: str, findings: Findings) -> None:
    if logger.startswith(COLLECTOR_LOGGERS) and GUARDED not in text:
        findings.told_of_collector[f"{logger}: {re.sub(r'[0-9.]+', 'N', text)[:90]}"] += 1
    elif not SERVER_LINES.search(f"[{level.upper()}] {text}"):
        findings.unexpected.append(f"{logger}: {text}")


def _said(line: str, findings: Findings) -> None:
    if not SERVER_LINES.search(line):
        findings.unexpected.append(line)


def _json(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
