"""Every signal that ``examples/`` watches, as Prometheus, the collector, the log and the audit file have it."""

from __future__ import annotations

from typing import Any
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

SEED = ("/application/dashboard?user=alice", "/exception_journal/compute", "/user_action/checkout")
SKU, BOUGHT, LEFT = "oak-lamp", 5, 3
VISITED = {
    "GET /application/dashboard",
    "GET /exception_journal/compute",
    "GET /user_action/checkout",
    "POST /checkout/",
}


@pytest.fixture(scope="module")
def server(served: Serve, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A server after a visit of each of the seed's programs, and a purchase that leaves few on the shelf."""
    database = tmp_path_factory.mktemp("shop") / "shop.sqlite3"
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "SHOP_DATABASE": str(database)}
    server = served("examples_app:create_app()", env=env)
    for path in SEED:
        server.send(path)
    cart: dict[str, str] = {}
    for path in (*BOUGHT * [f"/cart/{SKU}"], "/checkout/"):
        answer = server.send(path, method="POST", headers=cart)
        assert answer.status == 303
        cart = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
    return server


@pytest.fixture(scope="module")
def scraped(server: Served, prometheus: Scrape) -> Prometheus:
    scraper = prometheus(server.port)
    scraper.wait_for("shop_stock_low_total == 1")
    return scraper


@pytest.fixture(scope="module")
def spans(server: Served, collector: Collector) -> list[Span]:
    return collector.wait_for(lambda spans: {span.name for span in spans} >= VISITED)


@pytest.fixture(scope="module")
def records(server: Served) -> dict[str, dict[str, Any]]:
    return {record["event"]: record for record in server.records}


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("accesses_total", {"flask_app": "application"}),
        ("computations_failed_total", {"flask_app": "exception_journal"}),
        ("user_actions_total", {"flask_app": "user_action", "action": "checkout"}),
        ("shop_orders_paid_total", {"flask_app": "shop", "order_currency": "EUR"}),
        ("shop_order_value_cents_count", {"flask_app": "shop", "order_currency": "EUR"}),
        ("shop_stock_low_total", {"flask_app": "shop"}),
    ],
)
def test_prometheus_has_the_metrics(scraped: Prometheus, name: str, labels: dict[str, str]) -> None:
    (sample,) = [each for each in scraped.query(name) if each.labels.items() >= labels.items()]
    assert sample.value == 1


@pytest.mark.parametrize(
    ("span", "event"),
    [
        ("GET /application/dashboard", "access"),
        ("GET /exception_journal/compute", "failed"),
        ("GET /user_action/checkout", "user.action"),
        ("POST /checkout/", "order.paid"),
        ("POST /checkout/", "stock.low"),
    ],
)
def test_the_collector_has_the_span_events(spans: list[Span], span: str, event: str) -> None:
    (events,) = [each.events for each in spans if each.name == span]
    assert event in events


@pytest.mark.parametrize(
    ("event", "level", "fields"),
    [
        ("access-event", "info", {}),
        ("got-request-exception", "warning", {}),
        ("user-action", "info", {"user_id": "usr_123", "action": "checkout"}),
        ("order-paid", "info", {"order.id": 1, "order.currency": "EUR"}),
        ("stock-low", "warning", {"product.sku": SKU, "product.stock": LEFT}),
    ],
)
def test_the_log_has_the_records_with_the_ids_of_their_traces(
    records: dict[str, dict[str, Any]], spans: list[Span], event: str, level: str, fields: dict[str, Any]
) -> None:
    assert records[event].items() >= {"level": level, **fields}.items()
    assert records[event]["trace_id"] in {span.trace_id for span in spans}


@pytest.mark.parametrize(
    "text",
    [
        "alice@127.0.0.1 accessed /application/dashboard",
        "usr_123 performed checkout from payment_gateway",
        rf"anonymous@127.0.0.1 left {LEFT} of {SKU}",
    ],
)
def test_the_audit_file_has_the_lines(server: Served, text: str) -> None:
    assert [line.partition("] ")[2] for line in server.audit_lines].count(text) == 1
