"""The seed's signals, watched in a line each, as Prometheus, the collector, the log and the audit file have them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .collector import Collector
    from .conftest import Scrape
    from .conftest import Serve
    from .prometheus import Prometheus
    from .served import Served
    from .spans import Span

pytestmark = pytest.mark.real

CONFIGURED = {"watch_app:order_paid": {"count": "orders_paid_total", "audit": "paid {amount}"}}
ACTIONS = ("checkout", "checkout", "refund", "made-up", "forged%20at%0A[x]")


@pytest.fixture(scope="module")
def server(served: Serve, collector: Collector) -> Served:
    """A server of two workers that share their metrics, after some visits."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OBSERVABILITY_WATCH": json.dumps(CONFIGURED)}
    server = served("watch_app:create_app()", env=env, workers=2)
    for path in ("/dashboard", *(f"/act/{action}" for action in ACTIONS), "/compute", "/pay"):
        server.send(path)
    return server


@pytest.fixture(scope="module")
def scraped(server: Served, prometheus: Scrape) -> Prometheus:
    scraper = prometheus(server.port)
    scraper.wait_for("orders_paid_total == 1")
    return scraper


@pytest.fixture(scope="module")
def spans(server: Served, collector: Collector) -> list[Span]:
    return collector.wait_for(lambda spans: any(span.name == "GET /pay" for span in spans) and len(spans) >= 9)


def test_prometheus_has_the_counters_with_their_closed_labels(scraped: Prometheus) -> None:
    counted = {sample.labels["action"]: sample.value for sample in scraped.query("user_actions_total")}
    assert counted == {"checkout": 2, "refund": 1, "_OTHER": 2}
    for name in ("accesses_total", "failed_total", "orders_paid_total"):
        (sample,) = scraped.query(name)
        assert (sample.value, sample.labels["flask_app"]) == (1, "shop")


def test_prometheus_has_the_histogram(scraped: Prometheus) -> None:
    (count,) = scraped.query('payment_duration_seconds_bucket{le="+Inf"}')
    assert count.value == 1
    (quantile,) = scraped.query("histogram_quantile(0.5, payment_duration_seconds_bucket)")
    assert 0 < quantile.value < 10


def test_the_collector_has_the_span_events(spans: list[Span]) -> None:
    events = {span.name: span.events for span in spans}
    assert events["GET /dashboard"] == ("access",)
    assert events["GET /act/<action>"] == ("user.action",)
    assert set(events["GET /compute"]) == {"failed", "exception"}


def test_the_collector_has_the_child_span_of_a_start_and_an_end(spans: list[Span]) -> None:
    (child,) = [span for span in spans if span.name == "payment-done"]
    (parent,) = [span for span in spans if span.name == "GET /pay"]
    assert (child.parent_id, child.trace_id, child.attributes) == (
        parent.span_id,
        parent.trace_id,
        {"outcome": "taken"},
    )


def test_the_log_has_the_records_with_the_ids_of_their_traces(server: Served, spans: list[Span]) -> None:
    told = {record["event"]: record for record in server.records}
    assert told["access-event"]["level"] == "info"
    assert told["user-action"]["user_id"] == "usr_123"
    assert told["user-action"]["card"] == "REDACTED"
    assert told["got-request-exception"]["level"] == "warning"
    assert told["payment-done"]["duration_seconds"] < 1
    traces = {span.trace_id for span in spans}
    assert {told[event]["trace_id"] for event in ("access-event", "user-action", "payment-done")} <= traces


def test_the_audit_file_has_the_lines_and_none_is_forged(server: Served) -> None:
    assert sorted(line.partition("] ")[2] for line in server.audit_lines) == sorted(
        [
            "alice@127.0.0.1 accessed /dashboard",
            "anonymous@127.0.0.1: usr_123 performed checkout from payment_gateway",
            "anonymous@127.0.0.1: usr_123 performed checkout from payment_gateway",
            "anonymous@127.0.0.1: usr_123 performed refund from payment_gateway",
            "anonymous@127.0.0.1: usr_123 performed made-up from payment_gateway",
            r"anonymous@127.0.0.1: usr_123 performed forged\x20at\x0a[x] from payment_gateway",
            "paid 12.5",
        ]
    )


def test_a_masked_field_is_in_no_output(server: Served, spans: list[Span]) -> None:
    everything = f"{server.records} {server.audit_lines} {server.output} {spans} {server.send('/metrics').text}"
    assert "canary-card" not in everything
