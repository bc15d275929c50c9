"""What goes wrong in opentelemetry-instrumentation-flask and prometheus-flask-exporter, and does not go wrong here.

One test for each thing that happens, and inside it what the peers' users have to do without. ``Observed`` has a
registry and an exporter of its own, so every number below is the whole of what came out.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import TYPE_CHECKING

import flask
import pytest
from flask import Flask
from flask import Response
from flask.sessions import SecureCookieSessionInterface
from opentelemetry.trace import SpanKind
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry
from prometheus_client import ProcessCollector
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from .conftest import DURATION
from .conftest import Observed
from .test_boundary import serve

if TYPE_CHECKING:
    from pathlib import Path

Observe = Callable[..., Observed]

CALLER = "b7ad6b7169203331"
TRACEPARENT = f"00-0af7651916cd43dd8448eb211c80319c-{CALLER}-01"


def shop(view: Callable[..., Any] = lambda: "hello") -> Flask:
    app = Flask("shop")
    app.add_url_rule("/", "home", view)
    return app


def broken() -> str:
    raise LookupError("gone")


def series(observed: Observed) -> int:
    return sum(len(metric.samples) for metric in observed.registry.collect())


def sample_of(observed: Observed, requests: int) -> Any:
    """Return the one sample that all these requests ended up in."""
    (sample,) = observed.samples(f"{DURATION}_count")
    assert sample.value == requests
    return sample


def assert_told_once(observed: Observed, status: str, error_type: str = "") -> None:
    """One span and one sample, which agree, and nothing in flight."""
    labels = observed.duration_sample.labels
    attributes = observed.server_span.attributes
    assert (labels["http_response_status_code"], labels["error_type"]) == (status, error_type)
    assert str(attributes.get("http.response.status_code", "")) == status
    assert attributes.get("error.type", "") == error_type
    is_error = observed.server_span.status.status_code is StatusCode.ERROR
    assert is_error == (error_type != "")
    assert observed.value("http_server_active_requests") == 0


def test_unmatched_url(observe: Observe) -> None:
    observed = observe(shop())
    observed.client().get("/nothing/0")
    one_path = series(observed)
    for number in range(1, 100):
        observed.client().get(f"/nothing/{number}")
    assert series(observed) == one_path
    assert sample_of(observed, 100).labels["http_route"] == ""
    assert {span.name for span in observed.server_spans} == {"GET"}
    assert [span for span in observed.server_spans if "http.route" in span.attributes] == []


def test_100_made_up_methods(observe: Observe) -> None:
    observed = observe(shop())
    observed.client().open("/", method="BREW0")
    one_method = series(observed)
    for number in range(1, 100):
        observed.client().open("/", method=f"BREW{number}")
    assert series(observed) == one_method
    assert sample_of(observed, 100).labels["http_request_method"] == "_OTHER"
    assert {span.name for span in observed.server_spans} == {"HTTP"}
    assert {span.attributes["http.request.method_original"] for span in observed.server_spans} == {
        f"BREW{number}" for number in range(100)
    }


def test_propagated_exception(observe: Observe) -> None:
    observed = observe(shop(broken))
    observed.app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(LookupError):
        serve(observed.app)
    assert_told_once(observed, "", "LookupError")
    assert observed.value("flask_exceptions_total", exception_type="LookupError") == 1


def test_system_exit(observe: Observe) -> None:
    def view() -> str:
        raise SystemExit(1)

    observed = observe(shop(view))
    with pytest.raises(SystemExit):
        serve(observed.app)
    assert_told_once(observed, "", "SystemExit")


@pytest.mark.parametrize("registered", ["before init_app", "after init_app"])
def test_before_request_answers_early(observe: Observe, registered: str) -> None:
    app = shop(broken)
    if registered == "before init_app":
        app.before_request(lambda: ("early", 403))
    observed = observe(app)
    if registered == "after init_app":
        app.before_request(lambda: ("early", 403))
    assert observed.client().get("/").text == "early"
    assert_told_once(observed, "403")
    assert observed.server_span.name == "GET /"
    assert observed.duration_sample.labels["http_route"] == "/"


def test_streamed_body_of_300_ms(observe: Observe) -> None:
    def chunks() -> Iterator[str]:
        for _ in range(3):
            time.sleep(0.1)
            yield "chunk"

    observed = observe(shop(lambda: Response(chunks())))
    assert observed.client().get("/").text == "chunk" * 3
    assert_told_once(observed, "200")
    span = observed.server_span
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time >= 300_000_000
    assert observed.value(f"{DURATION}_sum") >= 0.3
    assert observed.value(f"{DURATION}_bucket", le="0.25") == 0


def test_body_fails_half_way(observe: Observe) -> None:
    def chunks() -> Iterator[str]:
        yield "chunk"
        raise LookupError("gone")

    observed = observe(shop(lambda: Response(chunks())))
    _, _, body = serve(observed.app)
    with pytest.raises(LookupError):
        list(body)
    body.close()
    assert_told_once(observed, "200", "LookupError")
    assert observed.value("flask_exceptions_total", exception_type="LookupError", http_route="/") == 1
    assert [event.name for event in observed.server_span.events] == ["exception"]


def test_spans_made_in_open_session(observe: Observe) -> None:
    class Traced(SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: flask.Request) -> Any:
            with observed.provider.get_tracer("redis").start_as_current_span("GET session"):
                return super().open_session(app, request)

    app = shop()
    app.session_interface = Traced()
    observed = observe(app)
    observed.client().get("/")
    assert_told_once(observed, "200")
    child, server = observed.spans
    assert child.parent is not None
    assert child.parent.span_id == server.context.span_id
    assert server.name == "GET /"


@pytest.mark.parametrize(
    ("headers", "parent"),
    [({"traceparent": TRACEPARENT}, CALLER), ({}, None)],
    ids=["with a traceparent", "without a traceparent"],
)
def test_an_ambient_span_exists(observe: Observe, headers: dict[str, str], parent: str | None) -> None:
    observed = observe(shop())
    with observed.provider.get_tracer("elsewhere").start_as_current_span("ambient"):
        observed.client().get("/", headers=headers)
    span = observed.server_span
    assert span.kind is SpanKind.SERVER
    assert (span.parent and f"{span.parent.span_id:016x}") == parent
    assert_told_once(observed, "200")


def test_app_mounted_under_a_prefix(observe: Observe) -> None:
    observed = observe(shop())
    Client(DispatcherMiddleware(Flask("root"), {"/shop": observed.app})).get("/shop/")
    span = observed.server_span
    assert span.name == "GET /shop/"
    assert span.attributes["http.route"] == span.attributes["url.path"] == "/shop/"
    assert observed.duration_sample.labels["http_route"] == observed.record["http.route"] == "/shop/"


def test_host_with_a_port(observe: Observe) -> None:
    observed = observe(shop())
    observed.client().get("/", base_url="http://shop.example:8080")
    attributes = observed.server_span.attributes
    assert attributes["server.address"] == "shop.example"
    assert attributes["server.port"] == 8080


def test_second_app_on_one_registry(observe: Observe) -> None:
    registry = CollectorRegistry()
    first = observe(shop(), registry=registry)
    admin = Flask("admin")
    admin.add_url_rule("/", view_func=broken)
    second = observe(admin, registry=registry)
    first.client().get("/")
    second.client().get("/")
    assert {s.labels["flask_app"]: s.value for s in first.samples(f"{DURATION}_count")} == {"shop": 1, "admin": 1}
    assert first.value("flask_exceptions_total", flask_app="admin") == 1
    assert first.value("flask_exceptions_total", flask_app="shop") == 0
    assert len(first.server_spans) == len(second.server_spans) == 1


def test_users_function_raises(observe: Observe) -> None:
    observed = observe(shop(), user=broken, strict=False)
    response = observed.client().get("/")
    assert (response.status_code, response.text) == (200, "hello")
    assert_told_once(observed, "200")
    assert "user.id" not in observed.server_span.attributes
    assert observed.value("observability_errors_total", sink="identity", stage="user") >= 1
    assert observed.value("flask_exceptions_total") == 0


def test_users_function_raises_where_an_error_is_told(observe: Observe) -> None:
    observed = observe(shop(lambda: 1 / 0), user=broken, strict=False)
    assert observed.client().get("/").status_code == 500
    assert_told_once(observed, "500", "ZeroDivisionError")
    assert observed.value("flask_exceptions_total", exception_type="LookupError") == 0


def test_multiprocess(observe: Observe, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    group = tmp_path / "group"
    observed = observe(shop(), registry=registry, metrics_shared=str(group), metrics_access="open")
    observed.client().get("/")
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        observed.client().get("/")
        os.write(told, b"x")
        signal.pause()
    os.read(ready, 1)
    accept = {"Accept": "application/openmetrics-text"}
    both = observed.client().get("/metrics", headers=accept).text
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    after = observed.client().get("/metrics", headers=accept).text
    for text in (both, after):
        assert re.findall(rf"^{DURATION}_count{{.*}} (.*)$", text, re.MULTILINE) == ["2.0"]
        assert ' # {span_id="' in text
    assert set(re.findall(r'process_open_fds{worker="(\d)"}', both)) == {"0", "1"}
    assert set(re.findall(r'process_open_fds{worker="(\d)"}', after)) == {"0"}
    assert sorted(path.name.partition(".")[2] for path in group.iterdir()) == ["0", "archive"]
    os.close(ready)
    os.close(told)
