from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import flash
from flask import Flask
from flask import render_template_string
from flask import request
from flask import Response
from flask.sessions import SecureCookieSessionInterface
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanKind
from opentelemetry.trace import StatusCode
from werkzeug.test import create_environ

from .conftest import Observed
from .test_boundary import serve

Observe = Callable[..., Observed]

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


def app_with(view: Callable[..., Any], rule: str = "/item/<int:number>") -> Flask:
    app = Flask("shop")
    app.secret_key = "k"
    app.add_url_rule(rule, "item", view, methods=["GET", "POST"])
    return app


def item(number: int) -> str:
    return str(number)


def test_a_span_is_named_by_method_and_route_and_has_the_conventions_attributes(observe: Observe) -> None:
    observed = observe(app_with(item))
    observed.client().get("/item/7?q=1", headers={"User-Agent": "curl/8"}, base_url="https://shop.example:8443")
    span = observed.server_span
    assert span.name == "GET /item/<int:number>"
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is None
    attributes = dict(span.attributes)
    assert attributes.pop("flask.request_id") == observed.record["request_id"]
    assert attributes == {
        "http.request.method": "GET",
        "url.scheme": "https",
        "url.path": "/item/7",
        "http.route": "/item/<int:number>",
        "server.address": "shop.example",
        "server.port": 8443,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8",
        "flask.endpoint": "item",
        "http.response.status_code": 200,
        "http.response.body.size": 1,
    }


def test_a_valid_traceparent_is_the_parent_with_its_tracestate_and_baggage(observe: Observe) -> None:
    seen = {}

    def view(number: int) -> str:
        seen.update(baggage.get_all())
        return ""

    observed = observe(app_with(view))
    headers = {"traceparent": TRACEPARENT, "tracestate": "vendor=1", "baggage": "tenant=acme"}
    observed.client().get("/item/1", headers=headers)
    span = observed.server_span
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == PARENT_ID
    assert span.parent.is_remote
    assert span.context.trace_state["vendor"] == "1"
    assert seen == {"tenant": "acme"}


@pytest.mark.parametrize("header", ["", "x", TRACEPARENT[:-1], TRACEPARENT.replace(TRACE_ID, "0" * 32), "é" * 99])
def test_a_malformed_traceparent_starts_a_new_trace(observe: Observe, header: str) -> None:
    observed = observe(app_with(item))
    list(serve(observed.app, "/item/1", HTTP_TRACEPARENT=header)[2])
    assert observed.server_span.parent is None


def test_a_span_that_happens_to_be_current_is_no_parent(observe: Observe) -> None:
    observed = observe(app_with(item))
    tracer = observed.provider.get_tracer("elsewhere")
    with tracer.start_as_current_span("ambient"):
        observed.client().get("/item/1")
        observed.client().get("/item/1", headers={"traceparent": TRACEPARENT})
    alone, called = observed.server_spans
    assert alone.parent is None
    assert alone.kind is SpanKind.SERVER
    assert f"{called.parent.span_id:016x}" == PARENT_ID


def test_a_request_inside_a_request_is_its_child(observe: Observe) -> None:
    def view(number: int) -> str:
        if number:
            with observed.provider.get_tracer("x").start_as_current_span("between"):
                return observed.client().get(f"/item/{number - 1}").text
        return "end"

    observed = observe(app_with(view))
    assert observed.client().get("/item/2").text == "end"
    by_path = {span.attributes["url.path"]: span for span in observed.server_spans}
    assert by_path["/item/2"].parent is None
    assert by_path["/item/1"].parent.span_id == by_path["/item/2"].context.span_id
    assert by_path["/item/0"].parent.span_id == by_path["/item/1"].context.span_id
    assert observed.value("http_server_active_requests") == 0


def test_samplers_see_the_route_and_the_final_name(observe: Observe) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    class Recorder(Sampler):
        def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, **_):
            asked.append((name, dict(attributes or {})))
            return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, links)

        def get_description(self) -> str:
            return "recorder"

    observed = observe(app_with(item), provider_options={"sampler": Recorder()})
    observed.client().get("/item/1")
    ((name, attributes),) = asked
    assert name == "GET /item/<int:number>"
    assert attributes["http.route"] == "/item/<int:number>"
    assert attributes["url.path"] == "/item/1"


def test_what_needs_a_span_before_the_route_is_known_gets_it(observe: Observe) -> None:
    class Traced(SecureCookieSessionInterface):
        def open_session(self, app, request):
            with observed.provider.get_tracer("redis").start_as_current_span("GET session"):
                return super().open_session(app, request)

    app = app_with(item)
    app.session_interface = Traced()
    observed = observe(app)
    observed.client().get("/item/1")
    child, server = observed.spans
    assert child.parent.span_id == server.context.span_id
    assert server.name == "GET /item/<int:number>"
    assert server.attributes["http.route"] == "/item/<int:number>"
    assert server.start_time <= child.start_time


def test_a_request_that_fails_before_its_route_is_known_has_a_span(observe: Observe) -> None:
    class Broken(SecureCookieSessionInterface):
        def open_session(self, app, request):
            raise ConnectionError("redis")

    app = app_with(item)
    app.session_interface = Broken()
    observed = observe(app)
    assert observed.client().get("/item/1").status_code == 500
    assert observed.server_span.name == "GET"
    assert observed.server_span.attributes["url.path"] == "/item/1"
    assert observed.server_span.attributes["error.type"] == "ConnectionError"


def test_an_unhandled_error_is_one_event_and_the_status(observe: Observe) -> None:
    observed = observe(app_with(lambda number: 1 / 0))
    observed.client().get("/item/1")
    span = observed.server_span
    (event,) = span.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "ZeroDivisionError"
    assert event.attributes["exception.message"] == "division by zero"
    assert "1 / 0" in event.attributes["exception.stacktrace"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "ZeroDivisionError"


def test_a_secret_in_a_message_is_masked_and_the_line_of_source_stays(observe: Observe) -> None:
    def view(number: int) -> str:
        raise ValueError(f"token=a{number}")

    observed = observe(app_with(view))
    observed.client().get("/item/1")
    (event,) = observed.server_span.events
    stacktrace = event.attributes["exception.stacktrace"]
    assert event.attributes["exception.message"] == "token=REDACTED"
    assert stacktrace.endswith("ValueError: token=REDACTED\n")
    assert 'raise ValueError(f"token=a{number}")' in stacktrace
    assert observed.server_span.status.description == "ValueError: token=REDACTED"


def test_messages_of_errors_can_be_kept_out(observe: Observe) -> None:
    def view(number: int) -> str:
        raise ValueError("secret-4711")

    observed = observe(app_with(view), exception_message=False)
    observed.client().get("/item/1")
    assert "secret-4711" not in observed.server_span.to_json().replace('raise ValueError(\\"secret-4711\\")', "")
    assert "exception.message" not in observed.server_span.events[0].attributes


@pytest.mark.parametrize(("status", "error"), [(404, False), (400, False), (500, True), (503, True)])
def test_a_status_is_an_error_of_the_server_from_500_on(observe: Observe, status: int, error: bool) -> None:
    observed = observe(app_with(lambda number: ("", status)))
    observed.client().get("/item/1")
    span = observed.server_span
    assert (span.status.status_code is StatusCode.ERROR) == error
    assert span.attributes.get("error.type") == (str(status) if error else None)


def test_a_render_is_a_child_and_a_flash_an_event(observe: Observe) -> None:
    observed = observe(app_with(lambda number: flash("hello", "info") or render_template_string("x")))
    observed.client().get("/item/1")
    render, server = observed.spans
    assert render.name == "render <string>"
    assert render.parent.span_id == server.context.span_id
    assert render.attributes == {"flask.template": "<string>"}
    assert server.start_time <= render.start_time <= render.end_time <= server.end_time
    assert [(e.name, dict(e.attributes)) for e in server.events] == [("message_flashed", {"category": "info"})]


def test_a_render_that_fails_ends_with_the_error(observe: Observe) -> None:
    observed = observe(app_with(lambda number: render_template_string("{{ 1 / 0 }}")))
    observed.client().get("/item/1")
    render, server = observed.spans
    assert render.status.status_code is StatusCode.ERROR
    assert render.attributes["error.type"] == "ZeroDivisionError"
    assert [event.name for event in server.events] == ["exception"]


def test_spans_made_while_a_body_streams_belong_to_the_request(observe: Observe) -> None:
    def view(number: int) -> Response:
        def chunks():
            tracer = observed.provider.get_tracer("db")
            with tracer.start_as_current_span("cursor"):
                for _ in range(2):
                    with tracer.start_as_current_span("fetch"):
                        yield "row"

        return Response(chunks())

    observed = observe(app_with(view))
    assert observed.client().get("/item/1").data == b"rowrow"
    fetches, (cursor,), (server,) = (
        [s for s in observed.spans if s.name.startswith(name)] for name in ("fetch", "cursor", "GET")
    )
    assert [span.parent.span_id for span in fetches] == [cursor.context.span_id] * 2
    assert cursor.parent.span_id == server.context.span_id


def test_unsampled_requests_still_have_ids(observe: Observe) -> None:
    observed = observe(app_with(item), provider_options={"sampler": ALWAYS_OFF})
    observed.client().get("/item/1", headers={"traceparent": TRACEPARENT})
    assert observed.spans == []
    assert observed.record["trace_id"] == TRACE_ID


def test_a_method_that_no_rfc_knows_is_other(observe: Observe) -> None:
    observed = observe(app_with(item))
    observed.client().open("/item/1", method="BREW")
    span = observed.server_span
    assert span.name == "HTTP"
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "BREW"


def test_the_conventions_variable_replaces_the_known_methods(observe: Observe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "GET, BREW")
    observed = observe(app_with(item))
    observed.client().open("/item/1", method="BREW")
    observed.client().post("/item/1")
    assert [span.name for span in observed.server_spans] == ["BREW", "HTTP /item/<int:number>"]


def test_a_prefix_is_part_of_route_and_path(observe: Observe) -> None:
    observed = observe(app_with(item))
    observed.client().get("/item/1", base_url="http://localhost/shop")
    assert observed.server_span.name == "GET /shop/item/<int:number>"
    assert observed.server_span.attributes["url.path"] == "/shop/item/1"


def test_headers_and_queries_are_captured_on_request_and_redacted(observe: Observe) -> None:
    observed = observe(
        app_with(lambda number: ("", {"X-Cache": "hit", "Set-Cookie": "a=b"})),
        capture_request_headers=("x-tenant", "authorization"),
        capture_response_headers=("x-cache", "set-cookie"),
        capture_query=True,
    )
    observed.client().get("/item/1?a=1&token=xyz", headers={"X-Tenant": "acme", "Authorization": "Bearer s"})
    attributes = observed.server_span.attributes
    assert attributes["http.request.header.x-tenant"] == ("acme",)
    assert attributes["http.request.header.authorization"] == ("REDACTED",)
    assert attributes["http.response.header.x-cache"] == ("hit",)
    assert attributes["http.response.header.set-cookie"] == ("REDACTED",)
    assert attributes["url.query"] == "a=1&token=REDACTED"


def test_the_current_span_behaves_like_the_sdks(observe: Observe) -> None:
    def view(number: int) -> str:
        span = trace.get_current_span()
        span.set_attribute("a", 1)
        span.set_attributes({"b": 2})
        span.add_event("e", {"c": 3})
        span.add_link(trace.SpanContext(1, 2, is_remote=False))
        span.record_exception(KeyError("k"))
        span.set_status(StatusCode.ERROR, "mine")
        span.update_name("renamed")
        assert span.is_recording()
        assert span.name == "renamed"
        assert span.attributes["a"] == 1
        return ""

    observed = observe(app_with(view))
    assert observed.client().get("/item/1").status_code == 200
    span = observed.server_span
    assert (span.name, span.attributes["b"], span.status.description) == ("renamed", 2, "mine")
    assert [event.name for event in span.events] == ["e", "exception"]
    assert len(span.links) == 1


def test_a_view_that_ends_the_span_itself_harms_nothing(observe: Observe, caplog: pytest.LogCaptureFixture) -> None:
    observed = observe(app_with(lambda number: trace.get_current_span().end() or "ended"))
    assert observed.client().get("/item/1").text == "ended"
    assert len(observed.server_spans) == 1
    assert caplog.records == []


def test_a_processor_that_asks_for_the_current_span_while_it_starts_gets_the_callers(observe: Observe) -> None:
    seen: list[trace.SpanContext] = []

    class Curious(SpanProcessor):
        def on_start(self, span, parent_context=None):
            seen.append(trace.get_current_span().get_span_context())

    observed = observe(app_with(item))
    observed.provider.add_span_processor(Curious())
    observed.client().get("/item/1", headers={"traceparent": TRACEPARENT})
    assert [f"{context.span_id:016x}" for context in seen] == [PARENT_ID]


def test_two_threads_that_touch_the_span_first_start_it_once(observe: Observe) -> None:
    def touch(context: Any, barrier: threading.Barrier, ids: list[int]) -> None:
        token = otel_context.attach(context)
        barrier.wait()
        ids.append(trace.get_current_span().get_span_context().span_id)
        otel_context.detach(token)

    class Threads(SecureCookieSessionInterface):
        def open_session(self, app, request):
            barrier = threading.Barrier(8)
            threads = [
                threading.Thread(target=touch, args=(otel_context.get_current(), barrier, ids)) for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return super().open_session(app, request)

    ids: list[int] = []
    app = app_with(item)
    app.session_interface = Threads()
    observed = observe(app)
    observed.client().get("/item/1")
    assert ids == [observed.server_span.context.span_id] * 8


@pytest.mark.parametrize("broken", ["sampler", "processor"])
def test_a_sampler_or_processor_that_fails_costs_the_span_and_not_the_request(observe: Observe, broken: str) -> None:
    class Broken(Sampler, SpanProcessor):
        def should_sample(self, *args, **kwargs):
            raise RuntimeError("sampler")

        def get_description(self) -> str:
            return "broken"

        def on_start(self, span, parent_context=None):
            raise RuntimeError("processor")

    options = {"sampler": Broken()} if broken == "sampler" else {}
    observed = observe(app_with(lambda number: request.path), provider_options=options, strict=False)
    if broken == "processor":
        observed.provider.add_span_processor(Broken())
    assert observed.client().get("/item/1").text == "/item/1"
    assert observed.record["http.response.status_code"] == 200
    assert observed.value("observability_errors_total", sink="tracing", stage="begin") >= 1


def test_handled_errors_are_told_on_request_and_the_span_is_no_error(observe: Observe) -> None:
    app = app_with(lambda number: int("x"))
    app.register_error_handler(ValueError, lambda error: ("handled", 400))
    observed = observe(app, record_handled_exceptions=True)
    assert observed.client().get("/item/1").text == "handled"
    span = observed.server_span
    assert [event.attributes["exception.type"] for event in span.events] == ["ValueError"]
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in span.attributes
    assert observed.journal_lines == []
    assert observed.value("flask_exceptions_total") == 0
    (record,) = observed.records("exception")
    assert (record["level"], record["handled"], record["exception.type"]) == ("warning", True, "ValueError")


def test_handled_errors_are_not_told_unless_asked_for(observe: Observe) -> None:
    app = app_with(lambda number: int("x"))
    app.register_error_handler(ValueError, lambda error: ("handled", 400))
    observed = observe(app)
    observed.client().get("/item/1")
    assert observed.server_span.events == ()
    assert observed.records("exception") == []


@pytest.mark.parametrize("on_the_class", [True, False])
@pytest.mark.parametrize("method", ["generate_trace_id", "generate_span_id"])
def test_a_test_that_replaces_a_method_of_the_id_generator_gets_its_ids(
    observe: Observe, monkeypatch: pytest.MonkeyPatch, method: str, on_the_class: bool
) -> None:
    observed = observe()
    observed.client().get("/")
    observed.exporter.clear()
    generator = observed.provider.id_generator
    monkeypatch.setattr(type(generator) if on_the_class else generator, method, lambda *_: 0xABC)
    observed.client().get("/")
    context = observed.server_span.context
    assert {"generate_trace_id": context.trace_id, "generate_span_id": context.span_id}[method] == 0xABC


def test_an_environ_that_cannot_be_read_costs_what_it_says_and_not_the_span(observe: Callable[..., Observed]) -> None:
    observed = observe(strict=False)
    observed.app.add_url_rule("/", view_func=lambda: "")
    environ = {**create_environ("/"), "SERVER_PROTOCOL": []}
    observed.app.wsgi_app(environ, lambda status, headers: lambda data: None)
    attributes = observed.server_span.attributes or {}
    assert attributes["http.route"] == "/"
    assert "network.protocol.version" not in attributes
    assert observed.value("observability_errors_total", sink="identity", stage="details") >= 1
