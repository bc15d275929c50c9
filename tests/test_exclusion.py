from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flask import Flask
from flask import render_template_string
from flask.views import View
from opentelemetry import trace
from opentelemetry.context import Context

from flask_signal_observability import access_logged
from flask_signal_observability import add_request_context
from flask_signal_observability import exempt
from flask_signal_observability.sinks.server_span.starter import make_starter

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Observed


def app_with(view: Callable[..., object], path: str = "/ping") -> Flask:
    app = Flask("shop")
    app.add_url_rule(path, "admin.ping", view)
    return app


def nothing_was_seen(observed: Observed) -> None:
    assert observed.spans == []
    assert observed.records() == []
    assert observed.audit_lines == []
    assert observed.samples("http_server_request_duration_seconds_count") == []
    assert observed.value("http_server_active_requests") == 0
    assert observed.value("flask_app_contexts_active") == 0
    assert observed.value("flask_signals_total") == 0


@pytest.mark.parametrize("pattern", ["/ping", "/p*", "endpoint:admin.ping"])
def test_an_excluded_request_is_seen_by_no_sink(observe: Callable[..., Observed], pattern: str) -> None:
    observed = observe(app_with(lambda: render_template_string("pong")), exclude=(pattern,))
    response = observed.client().get("/ping")
    assert response.text == "pong"
    assert "X-Request-ID" not in response.headers
    nothing_was_seen(observed)


def test_an_exempt_view_is_seen_by_no_sink(observe: Callable[..., Observed]) -> None:
    observed = observe(app_with(exempt(lambda: render_template_string("pong"))))
    assert "X-Request-ID" not in observed.client().get("/ping").headers
    nothing_was_seen(observed)


def test_an_exempt_view_class_is_seen_by_no_sink(observe: Callable[..., Observed]) -> None:
    @exempt
    class Ping(View):
        def dispatch_request(self) -> str:
            return "pong"

    observed = observe(app_with(Ping.as_view("ping")))
    observed.client().get("/ping")
    nothing_was_seen(observed)


def test_what_is_no_view_cannot_be_exempt() -> None:
    with pytest.raises(TypeError, match="'ping'"):
        exempt("ping")  # type: ignore[type-var]


def test_other_paths_are_still_seen(observe: Callable[..., Observed]) -> None:
    observed = observe(app_with(lambda: "pong"), exclude=("/healthz",))
    observed.client().get("/ping")
    assert observed.server_span.name == "GET /ping"


@pytest.mark.parametrize("options", [{"exclude": ("/ping",)}, {"exclude": ("endpoint:admin.ping",)}])
def test_the_callers_trace_flows_through_an_excluded_request(
    observe: Callable[..., Observed], options: dict[str, tuple[str, ...]]
) -> None:
    app = app_with(lambda: trace.get_current_span().get_span_context().trace_id.to_bytes(16, "big").hex())
    observed = observe(app, **options)
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert observed.client().get("/ping", headers={"traceparent": caller}).text == "0af7651916cd43dd8448eb211c80319c"
    assert observed.spans == []


def test_a_span_that_was_needed_before_the_view_was_known_is_ended(observe: Callable[..., Observed]) -> None:
    from flask.sessions import SecureCookieSessionInterface

    class Traced(SecureCookieSessionInterface):
        def open_session(self, app, request):
            with trace.get_tracer("redis", tracer_provider=observed.provider).start_as_current_span("GET session"):
                return super().open_session(app, request)

    app = app_with(exempt(lambda: "pong"))
    app.secret_key = "k"
    app.session_interface = Traced()
    observed = observe(app)
    observed.client().get("/ping")
    child, server = observed.spans
    assert child.parent.span_id == server.get_span_context().span_id
    assert observed.samples("http_server_request_duration_seconds_count") == []


def test_a_line_before_the_view_is_known_makes_no_span(observe: Callable[..., Observed]) -> None:
    from flask.sessions import SecureCookieSessionInterface

    lines = []

    class Slow(SecureCookieSessionInterface):
        def open_session(self, app, request):
            lines.append(add_request_context(None, "", {"event": "slow"}))
            return super().open_session(app, request)

    app = app_with(exempt(lambda: "pong"))
    app.add_url_rule("/seen", view_func=lambda: "seen")
    app.session_interface = Slow()
    observed = observe(app)
    if make_starter(observed.provider.get_tracer("test")).identify(Context()) is None:
        pytest.skip("before opentelemetry-sdk 1.45 a span has to be started for its ids")
    observed.client().get("/ping")
    nothing_was_seen(observed)
    observed.client().get("/seen")
    assert lines[1]["span_id"] == observed.record["span_id"] == f"{observed.server_span.context.span_id:016x}"


def test_an_error_in_an_excluded_view_reaches_the_journal_alone(observe: Callable[..., Observed]) -> None:
    observed = observe(app_with(lambda: 1 / 0), exclude=("/ping",))
    assert observed.client().get("/ping").status_code == 500
    assert len(observed.journal_lines) == 1
    nothing_was_seen(observed)


def test_an_access_that_an_excluded_view_announces_itself_is_written(observe: Callable[..., Observed]) -> None:
    def view() -> str:
        access_logged.send("ping")
        return "pong"

    observed = observe(app_with(view), exclude=("/ping",))
    observed.client().get("/ping")
    assert observed.audit_lines[0].endswith("anonymous@127.0.0.1 accessed /ping")
    assert observed.records() == []
