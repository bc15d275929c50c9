"""Whether the four outputs say the same about a request."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from typing import TYPE_CHECKING

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
AUDIT_LINE = re.compile(r"\[(?P<time>[^]]+)\] (?P<user>[^@]*)@(?P<client>\S+) accessed (?P<path>.*)")
JOURNAL_LINE = re.compile(r"\[(?P<time>[^]]+)\] Critical error in (?P<app>.*): (?P<error>\w+): (?P<message>.*)")


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
    access, error = AUDIT_LINE.fullmatch(audit_line), JOURNAL_LINE.fullmatch(journal_line)
    return {
        "user.id": access["user"] if access else "missing",
        "client.address": access["client"] if access else "missing",
        "url.path": access["path"] if access else "missing",
        "error.type": error["error"] if error else "missing",
    }
