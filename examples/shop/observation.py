"""What the four outputs hold after the traffic, read from where an operator would read it."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from functools import cached_property
from typing import Any
from typing import TYPE_CHECKING

from agreement import compare
from agreement import Evidence
from agreement import Fact
from agreement import records_of
from measurements import dropped_spans
from measurements import exemplar_trace_ids
from measurements import observed_requests
from measurements import RouteStatistics
from measurements import statistics_by_route
from processes import await_until
from processes import get
from processes import listens
from traffic import Answer
from traffic import FAILING_PATH
from traffic import Visit

if TYPE_CHECKING:
    from pathlib import Path

    from collector import Collector
    from collector import Span

__all__ = ["AUDIT_FILE", "JOURNAL_FILE", "LOG_FILE", "Observation"]

AUDIT_FILE = "access_audit.log"
JOURNAL_FILE = "error_journal.log"
LOG_FILE = "shop.jsonl"

SETTLE_SECONDS = 10
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass
class Observation:
    """One run: what was sent, and where to look for it. Read after ``settle``, it does not change any more."""

    shop: str
    directory: Path
    collector: Collector | None
    endpoint: str | None
    """The caller's own collector, where that gets the spans."""
    answers: list[Answer]
    failing: Visit
    seconds: float
    """How long the traffic took."""
    sent: int = field(init=False)

    def __post_init__(self) -> None:
        self.sent = len(self.answers)

    def settle(self) -> None:
        """Wait until every output has every request, or ten seconds: spans come in batches."""
        await_until(lambda: set(self.counts().values()) == {self.sent}, seconds=SETTLE_SECONDS)

    def counts(self) -> dict[str, int]:
        """Return how many requests each output has seen by now."""
        counts = {
            "metrics": observed_requests(get(f"{self.shop}/metrics")),
            "records": len(self.finished()),
            "audit": sum('"action":"accessed"' in line for line in self.lines(AUDIT_FILE)),
        }
        if self.collector is not None:
            counts["spans"] = sum(span.is_server for span in self.collector.spans())
        return counts

    def finished(self) -> list[dict[str, Any]]:
        return [record for record in self.records() if record["event"] == "request_finished"]

    def records(self) -> list[dict[str, Any]]:
        return records_of(self.directory / LOG_FILE)

    def lines(self, file: str) -> list[str]:
        path = self.directory / file
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def line_of(self, file: str) -> str:
        """Return what ``file`` says of the failing request, as it stands there."""
        return "".join(line for line in self.lines(file) if self.trace_id in line)

    @cached_property
    def openmetrics(self) -> str:
        return get(f"{self.shop}/metrics", accept=OPENMETRICS)

    @cached_property
    def totals(self) -> dict[str, int]:
        return self.counts()

    @cached_property
    def routes(self) -> dict[tuple[str, str], RouteStatistics]:
        return statistics_by_route(get(f"{self.shop}/metrics"))

    @property
    def trace_id(self) -> str:
        """The failing request's, as its client was told."""
        return self.answers[-1].trace_id

    @cached_property
    def failing_record(self) -> dict[str, Any]:
        return next((record for record in self.finished() if record.get("trace_id") == self.trace_id), {})

    @cached_property
    def facts(self) -> list[Fact]:
        """What each output says of the failing request."""
        expected = {
            "trace_id": self.trace_id,
            "http.request.method": "GET",
            "url.path": FAILING_PATH,
            "http.response.status_code": self.answers[-1].status,
            "client.address": self.failing.address,
            "user.id": "quinn",
        }
        exemplars = exemplar_trace_ids(self.openmetrics)
        evidence = Evidence(
            expected=expected,
            record=self.failing_record,
            span=next((span for span in self.trace(self.trace_id) if span.is_server), None),
            exemplar=exemplars.get(self.trace_id, {}),
            audit_line=self.line_of(AUDIT_FILE),
            journal_line=self.line_of(JOURNAL_FILE),
        )
        return compare(evidence)

    @property
    def agrees(self) -> bool:
        """As many requests in each output as were sent, and the same facts about the failing one."""
        counted = set(self.totals.values()) == {self.sent}
        return counted and all(fact.agrees for fact in self.facts) and self._has_spans()

    def _has_spans(self) -> bool:
        if self.collector is None:
            return not self.undelivered
        return any(span.is_server for span in self.trace(self.trace_id))

    @cached_property
    def undelivered(self) -> str:
        """What speaks against the caller's collector having the spans; empty where nothing does."""
        if self.endpoint is None:
            return ""
        if not listens(self.endpoint):
            return f"The collector at {self.endpoint} did not answer, so it has no spans."
        dropped = dropped_spans(get(f"{self.shop}/metrics"))
        return f"The collector at {self.endpoint} did not take {dropped} spans." if dropped else ""

    def trace(self, trace_id: str) -> list[Span]:
        return self.collector.trace(trace_id) if self.collector else []

    def fullest_trace(self) -> list[Span]:
        """Return the trace with the most spans among those of a paid order, or among all where none was paid."""
        traces: dict[str, list[Span]] = {}
        for span in self.collector.spans() if self.collector else ():
            traces.setdefault(span.trace_id, []).append(span)
        paid = [spans for spans in traces.values() if any("order.id" in span.attributes for span in spans)]
        fullest = max(paid or traces.values(), key=len, default=[])
        return self.trace(fullest[0].trace_id) if fullest else []

    def summary(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {
            "sent": self.sent,
            "seconds": round(self.seconds, 3),
            "counts": self.totals,
            "statuses": {str(status): self._answered(status) for status in sorted({a.status for a in self.answers})},
            "routes": [
                {
                    "method": method,
                    "route": route,
                    "requests": statistics.requests,
                    "errors": statistics.errors,
                    "p50_seconds": round(statistics.quantile_seconds(0.5), 6),
                    "p95_seconds": round(statistics.quantile_seconds(0.95), 6),
                    "p99_seconds": round(statistics.quantile_seconds(0.99), 6),
                }
                for (method, route), statistics in sorted(self.routes.items())
            ],
            "trace_id": self.trace_id,
            "spans": [span.name for span in self.fullest_trace()],
            "facts": {fact.name: fact.values for fact in self.facts},
            "undelivered": self.undelivered,
            "agrees": self.agrees,
        }

    def _answered(self, status: int) -> int:
        return sum(answer.status == status for answer in self.answers)
