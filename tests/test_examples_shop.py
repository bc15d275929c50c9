"""The example shop: its pages through the test client, and the demo as a program."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

from .bounded import bounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from flask.testing import FlaskClient

ROOT = Path(__file__).parent.parent
SHOP = ROOT / "examples" / "shop"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """A shop that shares nothing with the process: its traces and metrics are the demo's test."""
    monkeypatch.syspath_prepend(SHOP)
    from shop import create_app

    app = create_app(
        {
            "SHOP_DATABASE": str(tmp_path / "shop.sqlite3"),
            "OBSERVABILITY_TRACING": False,
            "OBSERVABILITY_METRICS": False,
            "OBSERVABILITY_LOG_STREAM": str(tmp_path / "shop.jsonl"),
            "OBSERVABILITY_AUDIT_PATH": str(tmp_path / "access_audit.log"),
            "OBSERVABILITY_ERROR_JOURNAL_PATH": str(tmp_path / "error_journal.log"),
        }
    )
    yield app
    SQLAlchemyInstrumentor().uninstrument()
    app.extensions["shop_engine"].dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def records(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "shop.jsonl").read_text().splitlines()]


def buy(client: FlaskClient, sku: str = "oak-lamp", quantity: int = 1) -> str:
    client.post(f"/cart/{sku}", data={"quantity": quantity})
    response = client.post("/checkout/")
    assert response.status_code == 303
    return response.location


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "Good things"),
        ("/products/", "Blue backpack"),
        ("/products/?category=lamp", "Oak lamp"),
        ("/products/oak-lamp", "Add to cart"),
        ("/recommendations/oak-lamp", "Rated like Oak lamp"),
        ("/search?q=lamp", "Copper lamp"),
        ("/cart/", "Your cart"),
        ("/accounts/sign-in", "Name"),
        ("/shipping/at", "Swift Post"),
        ("/api/products", "copper-kettle"),
        ("/api/products/copper-kettle", '"cents":6000'),
        ("/healthz", "ok"),
    ],
)
def test_page_answers(client: FlaskClient, path: str, text: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert text in response.get_data(as_text=True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/wp-login.php", 404),
        ("GET", "/products/no-such-thing", 404),
        ("GET", "/api/products/no-such-thing", 404),
        ("GET", "/shipping/xx", 404),
        ("GET", "/checkout/orders/1", 404),
        ("DELETE", "/products/oak-lamp", 405),
        ("GET", "/accounts/orders", 401),
        ("GET", "/products/?page=last", 400),
        ("POST", "/cart/oak-lamp?quantity=", 303),
        ("GET", "/products", 308),
        ("GET", "/shop/oak-lamp", 301),
        ("GET", "/recommendations/gift-card", 500),
    ],
)
def test_page_refuses_or_redirects(client: FlaskClient, method: str, path: str, status: int) -> None:
    assert client.open(path, method=method).status_code == status


def test_a_wrong_method_is_told_the_right_ones(client: FlaskClient) -> None:
    assert "GET" in client.delete("/products/oak-lamp").headers["Allow"]


def test_errors_of_the_api_are_json(client: FlaskClient) -> None:
    assert client.get("/api/products/nothing").get_json()["error"] == "Not Found"


def test_adding_to_the_cart_flashes(client: FlaskClient) -> None:
    response = client.post("/cart/oak-lamp", follow_redirects=True)
    assert "Oak lamp is in your cart." in response.get_data(as_text=True)


def test_paying_places_an_order_and_empties_the_cart(client: FlaskClient) -> None:
    client.post("/accounts/sign-in", data={"name": "alice"})
    order = buy(client)
    assert "Oak lamp" in client.get(order).get_data(as_text=True)
    assert "Order 1" in client.get("/accounts/orders").get_data(as_text=True)
    assert "Oak lamp" not in client.get("/cart/").get_data(as_text=True)


def test_paying_for_nothing_leads_back_to_the_cart(client: FlaskClient) -> None:
    assert "empty" in client.post("/checkout/", follow_redirects=True).get_data(as_text=True)


def test_more_than_the_shelf_holds_cannot_be_bought(client: FlaskClient) -> None:
    client.post("/cart/oak-lamp", data={"quantity": "99"})
    response = client.post("/checkout/")
    assert response.status_code == 400
    assert "only 8 of oak-lamp are left" in response.get_data(as_text=True)


def test_orders_stream_as_csv(client: FlaskClient) -> None:
    buy(client)
    response = client.get("/reports/orders.csv")
    assert response.mimetype == "text/csv"
    assert response.is_streamed
    header, line = response.get_data(as_text=True).splitlines()
    assert header == "order,customer,total,currency,paid_at"
    assert line.startswith("1,guest,91.00,EUR,")


def test_a_paid_order_annotates_its_record(client: FlaskClient, tmp_path: Path) -> None:
    buy(client)
    paid = records(tmp_path)[-1]
    assert (paid["http.route"], paid["order.id"], paid["order.total_cents"]) == ("/checkout/", 1, 9100)


def test_a_paid_order_is_a_record_of_its_own(client: FlaskClient, tmp_path: Path) -> None:
    buy(client)
    (told,) = [record for record in records(tmp_path) if record["event"] == "order-paid"]
    assert (told["level"], told["order.id"], told["order.currency"]) == ("info", 1, "EUR")


def test_low_stock_is_a_warning_and_an_audit_line(client: FlaskClient, tmp_path: Path) -> None:
    buy(client, quantity=6)
    (told,) = [record for record in records(tmp_path) if record["event"] == "stock-low"]
    assert told["level"] == "warning"
    line = f"anonymous@127.0.0.1 left {told['product.stock']} of oak-lamp"
    assert line in (tmp_path / "access_audit.log").read_text()


def test_low_stock_annotates_the_record_of_its_order(client: FlaskClient, tmp_path: Path) -> None:
    buy(client, quantity=6)
    finished = [record for record in records(tmp_path) if record["event"] == "request_finished"]
    assert finished[-1]["stock.low"] == "oak-lamp"


def test_every_request_is_audited_once_also_the_one_that_says_so_itself(client: FlaskClient, tmp_path: Path) -> None:
    client.post("/accounts/sign-in", data={"name": "alice"})
    buy(client)
    lines = (tmp_path / "access_audit.log").read_text().splitlines()
    assert [line.split("] ")[1] for line in lines] == [
        "alice@127.0.0.1 accessed /accounts/sign-in",
        "alice@127.0.0.1 accessed /cart/oak-lamp",
        "alice@127.0.0.1 accessed /checkout/",
    ]


def test_the_health_check_is_seen_by_no_sink(client: FlaskClient, tmp_path: Path) -> None:
    client.get("/healthz")
    assert not (tmp_path / "access_audit.log").exists()
    assert not (tmp_path / "shop.jsonl").exists() or records(tmp_path) == []


def test_a_division_by_zero_is_journalled(client: FlaskClient, tmp_path: Path) -> None:
    client.get("/recommendations/gift-card")
    line = (tmp_path / "error_journal.log").read_text()
    assert line.endswith(" Critical error in <Flask 'shop'>: ZeroDivisionError: division by zero\n")


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OBSERVABILITY_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_shops_that_start_together_fill_the_shelves_once(tmp_path: Path) -> None:
    start = (
        f"import sys; sys.path.insert(0, {str(SHOP)!r}); from shop import create_app;"
        "print(len(create_app().test_client().get('/api/products').get_json()['products']))"
    )
    with ThreadPoolExecutor(2) as starters:
        started = [starters.submit(run, "-c", start, cwd=tmp_path, OBSERVABILITY_LOGS="false") for _ in range(2)]
    assert [(each.result().stdout, each.result().returncode) for each in started] == [("37\n", 0)] * 2


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = run(str(SHOP / "demo.py"), "--json", "--requests", "60", cwd=tmp_path_factory.mktemp("elsewhere"))
    assert done.stdout, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0, told
    return told


def test_demo_finds_as_many_requests_in_each_output_as_it_sent(summary: dict[str, Any]) -> None:
    assert summary["sent"] == 60
    assert summary["counts"] == {"metrics": 60, "records": 60, "audit": 60, "spans": 60}


def test_demo_finds_the_failing_request_in_each_output(summary: dict[str, Any]) -> None:
    facts = summary["facts"]
    assert summary["agrees"] is True
    assert facts["trace id"] == dict.fromkeys(("client", "record", "metrics", "audit", "span"), summary["trace_id"])
    assert facts["status"] == dict.fromkeys(("client", "record", "metrics", "span"), "500")
    assert facts["error type"] == dict.fromkeys(("record", "metrics", "audit", "span"), "ZeroDivisionError")
    assert facts["user"]["audit"] == "quinn"


def test_demo_sees_every_kind_of_answer(summary: dict[str, Any]) -> None:
    assert set(summary["statuses"]) >= {"200", "301", "303", "308", "400", "401", "404", "405", "500"}


def test_demo_measures_routes_not_paths(summary: dict[str, Any]) -> None:
    routes = {(each["method"], each["route"]): each for each in summary["routes"]}
    assert ("GET", "/products/<sku>") in routes
    assert routes["GET", "/recommendations/<sku>"]["errors"] >= 1
    assert routes["GET", "/search"]["p50_seconds"] > 0.25


def test_demo_shows_a_trace_with_render_and_database_spans(summary: dict[str, Any]) -> None:
    spans = summary["spans"]
    assert spans[0] == "POST /checkout/"
    assert "render mail/receipt.txt" in spans
    assert any(name.startswith("INSERT") for name in spans)


@pytest.fixture(scope="module")
def undelivered(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A short run on 80 columns, drawn, whose collector is down: its port is bound, but refuses."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        demo = (str(SHOP / "demo.py"), "--requests", "30", "--svg", str(elsewhere / "screen.svg"))
        return run(*demo, cwd=elsewhere, COLUMNS="80", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)


def test_demo_says_that_the_collector_did_not_answer(undelivered: subprocess.CompletedProcess[str]) -> None:
    said = " ".join(undelivered.stdout.split())
    assert "did not answer" in said, undelivered.stderr
    assert "The spans went to" not in said
    assert "They do not agree" in said
    assert undelivered.returncode == 1


def test_demo_marks_each_output_of_the_failing_request(undelivered: subprocess.CompletedProcess[str]) -> None:
    lines = undelivered.stdout.splitlines()
    for output in ("the trace", "/metrics, an exemplar", "shop.jsonl", "access_audit.log", "error_journal.log"):
        assert lines[lines.index(output) + 1] != "missing"


def test_demo_draws_its_screen(undelivered: subprocess.CompletedProcess[str]) -> None:
    assert "<svg" in Path(undelivered.args[-1]).read_text()


def test_demo_fits_eighty_columns(undelivered: subprocess.CompletedProcess[str]) -> None:
    lines = undelivered.stdout.splitlines()
    assert max(len(line) for line in lines) == 80
    assert not any("…" in line for line in lines)
    header = next(line for line in lines if line.startswith("route "))
    assert header.split() == ["route", "requests", "req/s", "5xx", "p50", "p95", "p99"]


def test_demo_counts_the_spans_that_an_exporter_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SHOP)
    from measurements import dropped_spans

    exposition = (
        "# TYPE observability_dropped_total counter\n"
        'observability_dropped_total{sink="tracing",reason="export_failed"} 5.0\n'
        'observability_dropped_total{sink="audit",reason="other"} 7.0\n'
    )
    assert dropped_spans(exposition) == 5


def test_demo_s_later_visitors_leave_no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SHOP)
    import traffic

    steps = [step for visit in traffic.unsampled([traffic.failing_visit()]) for step in visit.steps]
    assert [(step.path, bool(step.trace_id), step.sampled) for step in steps] == [
        ("/accounts/sign-in", True, False),
        ("/recommendations/gift-card", True, False),
    ]


IDS = '"request_id":"r","trace_id":"' + "a" * 32 + '"}'
WRITTEN = '{"id":"019ab000-0000-7000-8000-000000000000","time":"2026-11-22T10:09:00.123456+00:00",'
AUDITED = WRITTEN + '"user.id":"quinn","client.address":"192.0.2.99","url.path":"/x","action":"accessed",' + IDS
JOURNALLED = WRITTEN + '"app":"shop","error":"KeyError: x",' + IDS


@pytest.mark.parametrize(
    ("output", "lie", "fact"),
    [
        ("record", {"http.response.status_code": 200}, "status"),
        ("exemplar", {"trace_id": "1" * 32}, "trace id"),
        ("exemplar", {"error_type": "500"}, "error type"),
        ("audit_line", AUDITED.replace("quinn", "mallory"), "user"),
        ("journal_line", "", "error type"),
    ],
)
def test_demo_notices_an_output_that_says_something_else(
    monkeypatch: pytest.MonkeyPatch, output: str, lie: dict[str, Any] | str, fact: str
) -> None:
    monkeypatch.syspath_prepend(SHOP)
    from agreement import compare
    from agreement import Evidence

    told = {
        "trace_id": "a" * 32,
        "http.request.method": "GET",
        "http.route": "/x",
        "url.path": "/x",
        "http.response.status_code": 500,
        "error.type": "KeyError",
        "client.address": "192.0.2.99",
        "user.id": "quinn",
    }
    evidence = Evidence(
        expected=told,
        record=told,
        span=None,
        exemplar={key.replace(".", "_"): str(value) for key, value in told.items()},
        audit_line=AUDITED,
        journal_line=JOURNALLED,
    )
    assert all(each.agrees for each in compare(evidence))
    changed = lie if isinstance(lie, str) else {**getattr(evidence, output), **lie}
    disagreeing = [each.name for each in compare(dataclasses.replace(evidence, **{output: changed})) if not each.agrees]
    assert fact in disagreeing


def test_demo_leaves_nothing_where_it_was_called(tmp_path: Path) -> None:
    done = run(str(SHOP / "demo.py"), "--help", cwd=tmp_path)
    assert "--serve" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_stack_without_its_programs_says_so_and_the_rest_goes_on(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        offline = {"PIP_INDEX_URL": nowhere, "PIP_FIND_LINKS": "", "npm_config_registry": nowhere}
        demo = (str(SHOP / "demo.py"), "--stack", "--json", "--requests", "30")
        done = run(*demo, cwd=tmp_path, PATH="", XDG_CACHE_HOME=str(tmp_path), **offline)
    said = [line.split(":")[0] for line in done.stderr.splitlines() if line.startswith("no ")]
    assert said == ["no trace UI", "no Prometheus"]
    assert json.loads(done.stdout)["agrees"] is True


@pytest.mark.usefixtures("ctrl_c")
def test_a_port_that_is_taken_is_told_and_the_shop_served_until_ctrl_c(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, str(SHOP / "demo.py"), "--serve", "--requests", "30", "--port", str(port)]
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OBSERVABILITY_"))
        }
        demo = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with bounded(demo, 120):
            assert demo.stdout
            lines = list(takewhile(lambda line: not line.startswith("Ctrl-C"), demo.stdout))
            (shop,) = [line.split()[1] for line in lines if line.startswith("shop  ")]
            with urlopen(f"{shop}healthz", timeout=5) as answer:
                assert answer.status == 200
            demo.send_signal(signal.SIGINT)
            _, errors = demo.communicate()
    assert f"port {port} is taken" in errors
    assert demo.returncode == 0
    with pytest.raises(URLError):
        urlopen(f"{shop}healthz", timeout=5)


def test_demo_puts_an_event_below_its_own_span_and_before_the_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SHOP)
    from collector import Event
    from collector import Span
    from report import trace_tree
    from rich.console import Console

    request = Span("7e98", "a", "", "GET /", True, True, 0, 9, {}, [Event("exception", 5, {})])
    query = Span("7e98", "b", "a", "SELECT", False, False, 1, 2, {}, [Event("retried", 2, {})])
    page = Span("7e98", "c", "a", "render", False, False, 6, 8, {}, [])
    console = Console(width=80)
    with console.capture() as shown:
        console.print(trace_tree([request, query, page]))
    names = ("GET /", "exception", "SELECT", "retried", "render")
    lines = shown.get().splitlines()[1:]
    assert [name for line, name in zip(lines, names, strict=True) if name in line] == list(names)
    of_request, of_query = (line.index("•") for line in lines if "•" in line)
    assert of_request < of_query
