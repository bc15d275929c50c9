"""Whether the four outputs say the same about a request."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from typing import TYPE_CHECKING

from flask_signal_observability import AuditLineError
from flask_signal_observability import AuditRecord
from flask_signal_observability import JournalRecord
from flask_signal_observability import parse_audit_line
from flask_signal_observability import parse_journal_line

if TYPE_CHECKING:
    from pathlib import Path

    from collector import Span

__all__ = ["Evidence", "Fact", "compare", "records_of"]

FACTS = {
    "trace id": "trace_id",
    "request": "http.request.method",
    "route": "http.route",
    "path": "url.path",
    "status": "http.response.status_code",
    "error type": "error.type",
    "client": "client.address",
    "user": "user.id",
}
"""What is compared, by the name that span attribute and log key share."""
LABELS = ("trace_id", "http.request.method", "http.route", "http.response.status_code", "error.type")
"""Those that an exemplar tells, with its own trace id and the labels of its series."""


@dataclass(frozen=True)
class Evidence:
    """What each output holds of one request; ``span`` is None where another collector received it."""

    expected: dict[str, Any]
    record: dict[str, Any]
    span: Span | None
    exemplar: dict[str, str]
    audit_line: str
    journal_line: str


@dataclass(frozen=True)
class Fact:
    """One fact, and how it reads in each output that tells it."""

    name: str
    values: dict[str, str]

    @property
    def agrees(self) -> bool:
        return len(set(self.values.values())) == 1


def records_of(path: Path) -> list[dict[str, Any]]:
    """Return the JSON records of a log; a line that another logger wrote as text is passed over."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def compare(evidence: Evidence) -> list[Fact]:
    """Return what the client, the JSON record, the span, the exemplar and the two files say, fact by fact."""
    facts = [
        Fact(name, {output: str(known[key]) for output, known in _by_output(evidence).items() if key in known})
        for name, key in FACTS.items()
    ]
    return [fact for fact in facts if fact.values]


def _by_output(evidence: Evidence) -> dict[str, dict[str, Any]]:
    outputs = {
        "client": evidence.expected,
        "record": {key: evidence.record.get(key, "missing") for key in FACTS.values()},
        "metrics": {key: evidence.exemplar.get(key.replace(".", "_"), "missing") for key in LABELS},
        "audit": _of_files(evidence.audit_line, evidence.journal_line),
    }
    if evidence.span is not None:
        told = {**evidence.span.attributes, "trace_id": evidence.span.trace_id}
        outputs["span"] = {key: told.get(key, "missing") for key in FACTS.values()}
    return outputs


def _of_files(audit_line: str, journal_line: str) -> dict[str, Any]:
    known: dict[str, Any] = dict.fromkeys(
        ("trace_id", "user.id", "client.address", "url.path", "error.type"), "missing"
    )
    with suppress(AuditLineError):
        access = parse_audit_line(audit_line)
        if isinstance(access, AuditRecord):
            known |= {"user.id": access.user, "client.address": access.address, "url.path": access.path}
        error = parse_journal_line(journal_line)
        if isinstance(access, AuditRecord) and isinstance(error, JournalRecord):
            known["error.type"] = error.error.partition(":")[0]
            known["trace_id"] = " and ".join({str(access.trace_id), str(error.trace_id)})
    return known
