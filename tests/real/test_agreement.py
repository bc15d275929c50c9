"""One request, four outputs: real gunicorn, a real collector and a real Prometheus tell the same story."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from typing import TYPE_CHECKING

import pytest

from .prometheus import check_metrics

if TYPE_CHECKING:
    from .client import Answer
    from .collector import Collector
    from .conftest import Scrape
    from .conftest import Serve
    from .prometheus import Sample
    from .spans import Span

pytestmark = pytest.mark.real

DURATION = "http_server_request_duration_seconds"
AUDIT_LINE = re.compile(r"\[\S+\] (?P<user>\S+)@(?P<address>\S+) accessed (?P<path>\S+)")
ONE_MILLISECOND = 0.001


@dataclass(frozen=True)
class Case:
    """A request and what every output must say about it; no two cases have the same metric labels or path."""

    name: str
    url: str
    status: int
    route: str | None
    method: str = "GET"
    error_type: str | None = None
    user: str | None = None

    @property
    def path(self) -> str:
        return self.url.partition("?")[0]

    @property
    def trace_id(self) -> str:
        return f"{0xC0FFEE:016x}{CASES.index(self) + 1:016x}"

    @property
    def parent_id(self) -> str:
        return f"{0xCA11E7:08x}{CASES.index(self) + 1:08x}"

    @property
    def request_id(self) -> str:
        return f"request-{self.name}"

    @property
    def headers(self) -> dict[str, str]:
        return {"traceparent": f"00-{self.trace_id}-{self.parent_id}-01", "X-Request-ID": self.request_id}


CASES = (
    Case("json", "/json", 200, "/json"),
    Case("not-found", "/no/such/page", 404, None),
    Case("method-not-allowed", "/read-only", 405, None, method="POST"),
    Case("error", "/error", 500, "/error", error_type="LookupError"),
    Case("slash-redirect", "/orders", 308, None),
    Case("redirect", "/moved", 302, "/moved"),
    Case("template", "/page/7", 200, "/page/<int:number>"),
    Case("flashed", "/flashed", 200, "/flashed"),
    Case("streamed", "/streamed", 200, "/streamed"),
    Case("seed-dashboard", "/dashboard?user=alice", 200, "/dashboard", user="alice"),
    Case("seed-compute", "/compute", 500, "/compute", error_type="ZeroDivisionError"),
)
ERRORS = [case for case in CASES if case.error_type]

EVERY_REQUEST = (
    "appcontext_pushed",
    "request_started",
    "request_finished",
    "request_tearing_down",
    "appcontext_tearing_down",
    "appcontext_popped",
)

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@dataclass(frozen=True)
class Run:
    """What one run of every case left in the outputs, after the server ended."""

    answers: dict[str, Answer]
    """By the name of the case."""
    spans: list[Span]
    metrics: list[Sample]
    exemplars: list[dict[str, Any]]
    exposition: bytes
    records: list[dict[str, Any]]
    audit_lines: list[str]
    journal_lines: list[str]

    def server_spans(self, case: Case) -> list[Span]:
        return [span for span in self.spans if span.trace_id == case.trace_id and span.kind == "SERVER"]

    def finished(self, case: Case) -> list[dict[str, Any]]:
        return [r for r in self.records if r["event"] == "request_finished" and r["trace_id"] == case.trace_id]

    def samples(self, case: Case, name: str) -> list[Sample]:
        wanted = {"http_request_method": case.method, "http_route": case.route or ""}
        wanted["http_response_status_code"] = str(case.status)
        return [s for s in self.metric(name) if wanted.items() <= ({"http_route": ""} | s.labels).items()]

    def audited(self, case: Case) -> list[re.Match[str]]:
        lines = [AUDIT_LINE.fullmatch(line) for line in self.audit_lines]
        return [line for line in lines if line and line["path"] == case.path]

    def metric(self, name: str) -> list[Sample]:
        return [sample for sample in self.metrics if sample.labels["__name__"] == name]

    def by_label(self, name: str, label: str) -> dict[str, float]:
        return {sample.labels.get(label, ""): sample.value for sample in self.metric(name)}


@pytest.fixture(scope="module")
def run(served: Serve, prometheus: Scrape, collector: Collector) -> Run:
    server = served(env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint})
    scraper = prometheus(server.port)
    answers = {case.name: server.send(case.url, method=case.method, headers=case.headers) for case in CASES}
    scraper.wait_for(f"sum({DURATION}_count)", lambda total: bool(total) and total[0].value >= len(CASES))
    metrics = scraper.query('{job="app"}')
    exemplars = scraper.exemplars(f"{DURATION}_bucket")
    exposition = server.send("/metrics", headers={"Accept": "text/plain"}).body
    server.stop()
    collector.wait_for(lambda spans: {case.trace_id for case in CASES} <= {span.trace_id for span in spans})
    collector.stop()
    return Run(
        answers,
        collector.spans,
        metrics,
        exemplars,
        exposition,
        server.records,
        server.audit_lines,
        server.journal_lines,
    )


@each_case
def test_the_client_gets_the_answer_that_flask_gives(run: Run, case: Case) -> None:
    assert run.answers[case.name].status == case.status


@each_case
def test_each_output_tells_the_request_exactly_once(run: Run, case: Case) -> None:
    assert len(run.server_spans(case)) == 1
    assert [sample.value for sample in run.samples(case, f"{DURATION}_count")] == [1.0]
    assert len(run.finished(case)) == 1
    assert len(run.audited(case)) == 1


@each_case
def test_the_outputs_agree_on_route_status_and_error_type(run: Run, case: Case) -> None:
    (span,), (record,), (sample,) = run.server_spans(case), run.finished(case), run.samples(case, f"{DURATION}_count")
    expected = {"http.route": case.route, "http.response.status_code": case.status, "error.type": case.error_type}
    assert {key: span.attributes.get(key) for key in expected} == expected
    assert {key: record.get(key) for key in expected} == expected
    assert sample.labels.get("http_route", "") == (case.route or "")
    assert sample.labels["http_response_status_code"] == str(case.status)
    assert sample.labels.get("error_type", "") == (case.error_type or "")
    assert span.status == ("ERROR" if case.error_type else "UNSET")


@each_case
def test_record_and_span_carry_the_ids_that_were_sent(run: Run, case: Case) -> None:
    (span,), (record,) = run.server_spans(case), run.finished(case)
    assert span.parent_id == case.parent_id
    assert (record["trace_id"], record["span_id"]) == (case.trace_id, span.span_id)
    assert record["request_id"] == case.request_id
    assert run.answers[case.name].headers["x-request-id"] == case.request_id


@each_case
def test_the_outputs_agree_on_the_duration_to_the_millisecond(run: Run, case: Case) -> None:
    (span,), (record,), (total,) = run.server_spans(case), run.finished(case), run.samples(case, f"{DURATION}_sum")
    assert record["duration_seconds"] == pytest.approx(span.duration_seconds, abs=ONE_MILLISECOND)
    assert total.value == pytest.approx(span.duration_seconds, abs=ONE_MILLISECOND)


@each_case
def test_audit_line_and_record_agree_on_user_client_and_path(run: Run, case: Case) -> None:
    (record,), (line,) = run.finished(case), run.audited(case)
    assert record.get("user.id") == case.user
    assert line["user"] == (case.user or "anonymous")
    assert line["address"] == record["client.address"] == "127.0.0.1"
    assert line["path"] == record["url.path"] == case.path


@each_case
def test_the_span_is_named_by_method_and_route(run: Run, case: Case) -> None:
    (span,) = run.server_spans(case)
    assert span.name == (f"{case.method} {case.route}" if case.route else case.method)


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.name)
def test_an_error_is_one_span_event_one_record_and_one_journal_line(run: Run, case: Case) -> None:
    (span,) = run.server_spans(case)
    assert span.events.count("exception") == 1
    (record,) = [r for r in run.records if r["event"] == "exception" and r["trace_id"] == case.trace_id]
    assert record["exception.type"] == case.error_type
    assert record["span_id"] == span.span_id
    lines = [line for line in run.journal_lines if f"Critical error in <Flask 'shop'>: {case.error_type}: " in line]
    assert len(lines) == 1
    assert run.by_label("flask_exceptions_total", "exception_type")[case.error_type or ""] == 1.0


def test_nothing_is_told_beyond_these_requests(run: Run) -> None:
    renders = [span for span in run.spans if span.kind != "SERVER"]
    assert len(run.spans) - len(renders) == len(CASES)
    assert len(renders) == 1
    assert len([record for record in run.records if record["event"] == "request_finished"]) == len(CASES)
    assert len(run.audit_lines) == len(CASES)
    assert len(run.journal_lines) == len(ERRORS)
    assert sum(sample.value for sample in run.metric(f"{DURATION}_count")) == len(CASES)


def test_the_render_span_is_a_child_of_the_server_span(run: Run) -> None:
    (render,) = [span for span in run.spans if span.name.startswith("render ")]
    case = next(case for case in CASES if case.name == "template")
    (server,) = run.server_spans(case)
    assert render.name == "render page.html"
    assert (render.trace_id, render.parent_id) == (server.trace_id, server.span_id)
    assert server.started_unix_ns <= render.started_unix_ns <= render.ended_unix_ns <= server.ended_unix_ns
    assert run.by_label("flask_template_render_duration_seconds_count", "template") == {"page.html": 1.0}


def test_a_flash_is_an_event_of_the_server_span_and_counted(run: Run) -> None:
    case = next(case for case in CASES if case.name == "flashed")
    (server,) = run.server_spans(case)
    assert server.events == ("message_flashed",)
    assert run.by_label("flask_messages_flashed_total", "category") == {"success": 1.0}


def test_a_streamed_request_lasts_as_long_as_its_body(run: Run) -> None:
    case = next(case for case in CASES if case.name == "streamed")
    (server,) = run.server_spans(case)
    assert server.duration_seconds >= 0.09
    assert run.answers[case.name].text == "chunk 0\nchunk 1\nchunk 2\n"


def test_all_ten_signals_are_counted(run: Run) -> None:
    assert run.by_label("flask_signals_total", "signal") == {
        **dict.fromkeys(EVERY_REQUEST, float(len(CASES))),
        "got_request_exception": float(len(ERRORS)),
        "before_render_template": 1.0,
        "template_rendered": 1.0,
        "message_flashed": 1.0,
    }


def test_the_gauges_are_back_at_zero(run: Run) -> None:
    assert sum(sample.value for sample in run.metric("http_server_active_requests")) == 0
    assert sum(sample.value for sample in run.metric("flask_app_contexts_active")) == 0


def test_nothing_failed_and_nothing_was_dropped(run: Run) -> None:
    failures = ("observability_errors_total", "observability_dropped_total", "observability_series_overflow_total")
    assert [sample for name in failures for sample in run.metric(name) if sample.value] == []
    assert run.by_label("flask_audit_records_total", "outcome") == {"written": len(CASES), "lost": 0}


def test_exemplars_name_traces_that_were_sent(run: Run) -> None:
    exemplars = {exemplar["labels"]["trace_id"]: exemplar["labels"]["span_id"] for exemplar in run.exemplars}
    assert exemplars
    spans = {case.trace_id: span.span_id for case in CASES for span in run.server_spans(case)}
    assert exemplars.items() <= spans.items()


def test_promtool_finds_nothing_wrong_with_the_exposition(run: Run) -> None:
    assert b"\nhttp_server_request_duration_seconds_count{" in run.exposition
    assert check_metrics(run.exposition) == ""
