"""The testing kit, as a team would use it: a project of its own, run by pytest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry
from prometheus_client import Counter

from flask_signal_observability import Observability
from flask_signal_observability import testing
from flask_signal_observability.testing import Observed
from flask_signal_observability.testing import RecordingSink

pytest_plugins = ["pytester"]

OPTIONS = ("-p", "no:cacheprovider", "-W", "error")

SHOP = """
import logging

import pytest
from blinker import Namespace
from flask import Flask, Response, flash, render_template_string
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, Counter

from flask_signal_observability import Observability, access_logged, annotate

order_paid = Namespace().signal("order-paid")
registry = CollectorRegistry()
own = Counter("coupons", "Used.", registry=registry)
provider = TracerProvider(shutdown_on_exit=False)


def create_app(**settings):
    app = Flask("shop")
    app.secret_key = "x"
    observability = Observability(app, registry=registry, tracer_provider=provider, **settings)
    observability.watch(
        order_paid, count="orders_paid_total", log="info", audit="{user} paid {amount}", redact=("card",)
    )

    @app.post("/pay")
    def pay():
        order_paid.send(app, amount=3, card="4111 1111 1111 1111")
        own.inc()
        flash("Thanks", "success")
        with trace.get_tracer("x", tracer_provider=provider).start_as_current_span("query"):
            logging.getLogger("kit.orders").warning("password=%s", "hunter2")
        return render_template_string("paid")

    @app.get("/fail/<int:number>")
    def fail(number):
        return {"share": 1 / number}

    @app.get("/stream")
    def stream():
        return Response(part for part in "abc")

    @app.get("/nested")
    def nested():
        return app.test_client().get("/fail/1").text

    return app


@pytest.fixture
def app(tmp_path):
    files = {"audit_path": tmp_path / "audit.log", "error_journal_path": tmp_path / "journal.log"}
    return create_app(audit_requests=True, **files)


@pytest.fixture
def client(app):
    return app.test_client()
"""


PLUGIN = ("-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "flask_signal_observability.testing.plugin")
"""Named in runs within this process, which leave out all plugins that are installed: half of the time of a run."""


@pytest.fixture(autouse=True)
def no_other_plugins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "imports_nothing" not in request.node.name and "example" not in request.node.name:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(SHOP)
    return pytester


def test_a_request_is_a_plain_object_with_all_that_it_left(project: pytest.Pytester) -> None:
    project.makepyfile("""
def test_pay(client, observed):
    assert client.post("/pay").status_code == 200
    (request,) = observed.requests
    assert (request.method, request.path, request.status, request.route) == ("POST", "/pay", 200, "/pay")
    assert request.templates == ["<string>"]
    assert [event.name for event in request.events] == ["order-paid", "message_flashed", "template_rendered"]
    assert [span.name for span in request.spans] == ["POST /pay", "query", "render <string>"]
    assert [record["event"] for record in request.records] == ["order-paid", "password=hunter2", "request_finished"]
    assert [line.partition("] ")[2] for line in request.audit_lines] == [
        "anonymous paid 3", "anonymous@127.0.0.1 accessed /pay"
    ]
    assert request.metric("orders_paid_total") == request.metric("coupons_total") == 1
    assert request.metric("http_server_request_duration_seconds_count", http_route="/pay") == 1
    assert request.error is None
    assert "4111" not in str(request.records)
""")
    project.runpytest_inprocess(*OPTIONS, *PLUGIN).assert_outcomes(passed=1)


def test_what_was_counted_is_counted_from_the_begin_of_the_test(project: pytest.Pytester) -> None:
    project.makepyfile("""
import pytest

@pytest.mark.parametrize("orders", [2, 3])
def test_orders(client, observed, orders):
    for _ in range(orders):
        client.post("/pay")
    assert observed.metric("orders_paid_total") == observed.metric("coupons_total") == orders
    assert len(observed.requests) == len(observed.audit_lines) / 2 == orders
    assert [request.metric("orders_paid_total") for request in observed.requests] == [1] * orders
    assert [len(request.spans) for request in observed.requests] == [3] * orders
    with pytest.raises(LookupError, match="orders_payed_total.*orders_paid_total"):
        observed.metric("orders_payed_total")
""")
    project.runpytest_inprocess(*OPTIONS, *PLUGIN).assert_outcomes(passed=2)


@pytest.fixture
def shop() -> Flask:
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: "")
    app.add_url_rule("/fails", endpoint="fails", view_func=lambda: str(1 / 0))
    return app


def test_a_label_that_a_metric_does_not_have_is_no_zero(shop: Flask) -> None:
    with Observed(shop) as observed:
        shop.test_client().get("/")
        for asked in (observed, observed.requests[-1]):
            with pytest.raises(LookupError, match=r"no label http_rout; it has error_type, .*http_route, url_scheme"):
                asked.metric("http_server_request_duration_seconds_count", http_rout="/")
            assert asked.metric("http_server_request_duration_seconds_count", http_route="/nowhere") == 0
            assert asked.metric("http_server_request_duration_seconds_bucket", http_route="/", le="10.0") == 1


def test_a_metric_of_ours_knows_its_labels_before_it_has_a_series(shop: Flask) -> None:
    with Observed(shop) as observed:
        assert observed.metric("flask_exceptions_total", exception_type="KeyError") == 0
        with pytest.raises(LookupError, match="it has exception_type, flask_app, http_route"):
            observed.metric("flask_exceptions_total", exception="KeyError")


def test_labels_that_nobody_has_said_yet_are_not_held_against_a_metric_of_the_app(shop: Flask) -> None:
    registry = CollectorRegistry()
    used = Counter("coupons", "Used.", ["kind"], registry=registry)
    with Observed(shop, registry=registry) as observed:
        assert observed.metric("coupons_total", kind="summer") == 0
        used.labels("summer").inc()
        assert observed.metric("coupons_total", kind="summer") == 1
        with pytest.raises(LookupError, match="has no label sort; it has kind"):
            observed.metric("coupons_total", sort="summer")


def test_a_request_of_the_sink_alone_has_no_metrics_to_ask_for(shop: Flask) -> None:
    sink = RecordingSink()
    Observability(shop, sinks=[sink], registry=CollectorRegistry(), tracing=False, logs=False, audit=False)
    shop.test_client().get("/")
    with pytest.raises(LookupError, match="no metric"):
        sink.requests[-1].metric("http_server_request_duration_seconds_count")


def test_an_assertion_that_does_not_hold_fails(project: pytest.Pytester) -> None:
    project.makepyfile("""
def test_no_secret(client, observed):
    client.post("/pay")
    assert "hunter2" not in str(observed.requests[-1].records)

def test_two_templates(client, observed):
    client.post("/pay")
    assert len(observed.requests[-1].templates) == 2
""")
    project.runpytest_inprocess(*OPTIONS, *PLUGIN).assert_outcomes(failed=2)


def test_errors_streams_and_requests_in_requests_are_told_each_by_itself(project: pytest.Pytester) -> None:
    project.makepyfile("""
def test_error(app, observed):
    app.logger.disabled = True
    app.test_client().get("/fail/0")
    (request,) = observed.requests
    assert isinstance(request.error, ZeroDivisionError)
    assert (request.status, request.error_type, request.route) == (500, "ZeroDivisionError", "/fail/<int:number>")
    assert [event.name for event in request.events] == ["exception"]

def test_stream(client, observed):
    response = client.get("/stream")
    assert observed.requests == []
    assert response.text == "abc"
    response.close()
    assert [request.status for request in observed.requests] == [200]

def test_unread_stream(client, observed):
    client.get("/stream")
    client.get("/fail/1")
    assert {request.path for request in observed.requests} == {"/stream", "/fail/1"}
    for request in observed.requests:
        assert [record["url.path"] for record in request.records] == [request.path]

def test_nested(client, observed):
    client.get("/nested")
    inner, outer = observed.requests
    assert (inner.route, outer.route) == ("/fail/<int:number>", "/nested")
    assert [span.name for span in outer.spans] == ["GET /nested"]
    assert [span.name for span in inner.spans] == ["GET /fail/<int:number>"]
    assert [record["url.path"] for record in outer.records] == ["/nested"]
""")
    project.runpytest_inprocess(*OPTIONS, *PLUGIN).assert_outcomes(passed=4)


def test_an_app_without_observability_is_given_and_observed_and_writes_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
import pytest
from flask import Flask

def make(name):
    app = Flask(name)
    app.get("/")(lambda: name)
    return app

def test_given(observed, capsys):
    with pytest.raises(LookupError, match="call observed"):
        observed.requests
    shop = make("shop")
    observed(shop, audit_requests=True)(make("blog")).requests
    shop.test_client().get("/")
    (request,) = observed(shop).requests
    assert request.status == 200
    assert [span.name for span in request.spans] == ["GET /"]
    assert [record["event"] for record in request.records] == ["request_finished"]
    assert len(request.audit_lines) == 1
    assert observed.metric("http_server_request_duration_seconds_count", flask_app="shop") == 1
    assert capsys.readouterr() == ("", "")
""")
    pytester.runpytest_inprocess(*OPTIONS, *PLUGIN).assert_outcomes(passed=1)
    assert [path.name for path in pytester.path.iterdir() if path.suffix == ".log"] == []


def test_the_example_of_the_guide_passes(pytester: pytest.Pytester) -> None:
    guide = (Path(__file__).parent.parent / "examples" / "guides" / "testing.md").read_text()
    (program,) = re.findall(r"```python\n(import pytest.*?)```", guide, re.DOTALL)
    pytester.makepyfile(program)
    pytester.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=1)


def test_a_fixture_called_app_that_fails_says_so_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
import pytest

@pytest.fixture
def app(nothing):
    return nothing

def test_it(observed):
    pass
""")
    result = pytester.runpytest_inprocess(*OPTIONS, *PLUGIN)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'nothing' not found*"])


def test_an_app_that_outlives_the_test_is_left_as_it_was(tmp_path: Path) -> None:
    app = Flask("shop")
    Observability(app, tracing=False, metrics=False, logs=False, audit_path=tmp_path / "a", audit_requests=True)
    app.get("/")(lambda: "")
    before = app.extensions["observability"].sinks
    with Observed() as observed:
        observed(app)
        app.test_client().get("/")
    assert app.extensions["observability"].sinks == before
    app.test_client().get("/")
    assert len(observed.audit_lines) == len(observed.requests) == 1
    assert len((tmp_path / "a").read_text().splitlines()) == 2


def test_an_app_is_given_at_once_with_its_settings(shop: Flask) -> None:
    with Observed(shop, audit_requests=True) as observed:
        shop.test_client().get("/")
    assert [request.route for request in observed.requests] == ["/"]
    assert len(observed.audit_lines) == 1


def test_settings_without_an_app_are_refused() -> None:
    with pytest.raises(ValueError, match="none is given: audit_requests"):
        Observed(audit_requests=True)


def test_an_error_that_flask_hands_on_has_no_status(shop: Flask) -> None:
    shop.testing = True
    with Observed(shop) as observed:
        with pytest.raises(ZeroDivisionError):
            shop.test_client().get("/fails")
        shop.config["PROPAGATE_EXCEPTIONS"] = False
        shop.logger.disabled = True
        shop.test_client().get("/fails")
    assert [request.status for request in observed.requests] == [None, 500]
    assert {request.error_type for request in observed.requests} == {"ZeroDivisionError"}


def test_settings_for_an_app_that_has_its_own_are_refused() -> None:
    app = Flask("shop")
    with Observed() as observed:
        observed(app)
    with Observed() as observed, pytest.raises(ValueError, match="give it audit_requests"):
        observed(app, audit_requests=True)


def test_the_sink_alone_keeps_requests_and_events() -> None:
    app, sink = Flask("shop"), RecordingSink()
    Observability(app, sinks=[sink], tracing=False, metrics=False, logs=False, audit=False)
    app.get("/<int:number>")(lambda number: str(1 / number))
    app.test_client().get("/1")
    app.logger.disabled = True
    app.test_client().get("/0")
    assert [(request.status, request.error_type) for request in sink.requests] == [
        (200, None),
        (500, "ZeroDivisionError"),
    ]
    assert [event.name for event in sink.events] == ["exception"]


def test_a_run_without_the_fixture_imports_nothing_of_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
import sys

def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("flask_signal_observability")
    ours = {name for name in sys.modules if name.startswith("flask_signal_observability")}
    assert ours == {"flask_signal_observability" + room for room in ("", ".testing", ".testing.plugin")}
    assert not {"flask", "opentelemetry", "prometheus_client", "structlog"} & set(sys.modules)
""")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, "-p", "no:flask", str(pytester.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "1 passed" in done.stdout, done.stdout


def test_its_names_are_fetched_when_they_are_asked_for() -> None:
    assert sorted(testing.__all__) == testing.__all__
    assert all(getattr(testing, name).__name__ == name for name in testing.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        testing.nothing  # noqa: B018
