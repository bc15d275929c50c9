"""One request, four outputs: there is one of each, and they say the same."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any
from typing import TYPE_CHECKING

import pytest
from opentelemetry import context as otel_context
from opentelemetry.trace import format_trace_id

from flask_signal_observability import parse_audit_line
from flask_signal_observability.record import current_record

from ..conftest import DURATION
from .signals import METRIC_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..conftest import Observed

TOLERANCE_SECONDS = 2e-6
"""All outputs read one clock; a timestamp tells microseconds."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What every output must tell of a request; None for what it must leave out."""

    route: str | None
    status: int | None
    error_type: str | None


def assert_one_of_each(observed: Observed, facts: Facts) -> None:
    """One server span, one sample, one final record, one audit line, which agree; nothing is in flight."""
    assert facts_of_span(observed) == facts
    assert facts_of_sample(observed) == facts
    assert facts_of_record(observed) == facts
    assert len(observed.audit_lines) == 1
    assert_same_trace(observed)
    assert_same_clock(observed)
    assert observed.value("http_server_active_requests") == 0
    assert observed.value("flask_app_contexts_active") == 0


def attributes_of(observed: Observed) -> dict[str, Any]:
    """Return what the one server span carries."""
    return dict(observed.server_span.attributes or {})


def facts_of_span(observed: Observed) -> Facts:
    attributes = attributes_of(observed)
    method, route = attributes["http.request.method"], attributes.get("http.route")
    assert observed.server_span.name == (f"{method} {route}" if route else method)
    return Facts(route, attributes.get("http.response.status_code"), attributes.get("error.type"))


def facts_of_sample(observed: Observed) -> Facts:
    labels = observed.duration_sample.labels
    status = labels["http_response_status_code"]
    return Facts(labels["http_route"] or None, int(status) if status else None, labels["error_type"] or None)


def facts_of_record(observed: Observed) -> Facts:
    record = observed.record
    return Facts(record.get("http.route"), record.get("http.response.status_code"), record.get("error.type"))


def assert_same_trace(observed: Observed) -> None:
    context = observed.server_span.get_span_context()
    assert context is not None
    trace_id = format_trace_id(context.trace_id)
    exemplars = [sample.exemplar for sample in observed.samples(f"{DURATION}_bucket") if sample.exemplar]
    assert [exemplar.labels["trace_id"] for exemplar in exemplars] == [trace_id]
    assert {record["trace_id"] for record in observed.records() if "trace_id" in record} == {trace_id}


def assert_same_clock(observed: Observed) -> None:
    span = observed.server_span
    assert span.start_time is not None
    assert span.end_time is not None
    seconds = pytest.approx((span.end_time - span.start_time) / 1e9, abs=TOLERANCE_SECONDS)
    assert observed.record["duration_seconds"] == seconds
    assert observed.value(f"{DURATION}_sum") == seconds
    ended = pytest.approx(span.end_time / 1e9, abs=TOLERANCE_SECONDS)
    assert parse_audit_line(observed.audit_lines[0]).time.timestamp() == ended
    assert datetime.fromisoformat(observed.record["timestamp"].replace("Z", "+00:00")).timestamp() == ended


def assert_signals_counted(observed: Observed, counts: dict[str, int]) -> None:
    counted = {
        letter: int(observed.value("flask_signals_total", signal=label)) for letter, label in METRIC_LABELS.items()
    }
    assert counted == counts


def assert_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Neither OpenTelemetry nor the extension had anything to complain about."""
    names = [record.name for record in caplog.records]
    assert [name for name in names if name.startswith(("opentelemetry", "flask_signal_observability"))] == []


def assert_nothing_told(observed: Observed) -> None:
    """No request was seen: no span, no sample, no record, no audit line."""
    assert observed.spans == []
    assert observed.samples(f"{DURATION}_count") == []
    assert observed.records() == []
    assert observed.audit_lines == []
    assert observed.value("http_server_active_requests") == 0
    assert observed.value("flask_app_contexts_active") == 0


def leaving_nothing_current(act: Callable[[], object]) -> None:
    """Run ``act``, and see that the context is the one of before, whatever it raises."""
    before = otel_context.get_current()
    try:
        act()
    finally:
        assert current_record.get() is None
        assert otel_context.get_current() is before
