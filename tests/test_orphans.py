"""Wherever code of the app makes a span, it is in the request's trace, below the span that is current there."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import TYPE_CHECKING

import flask
import pytest
from flask import Flask
from flask import Response
from flask.sessions import SecureCookieSessionInterface
from flask.views import MethodView
from werkzeug.routing import BaseConverter

from .lifecycle.outputs import assert_quiet
from .lifecycle.signals import LETTERS
from .test_boundary import serve

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from .conftest import Observed

Span = Callable[..., Any]
"""Makes the span ``here``, whatever it is called with, and returns None."""
Build = Callable[[Flask, Span], None]


def fetch(observed: Observed, path: str = "/") -> bytes:
    """Make a request as a server does: the body is read to its end and closed."""
    body = serve(observed.app, path)[2]
    try:
        return b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()


def assert_below_the_server_span(observed: Observed, name: str = "here", count: int = 1) -> None:
    server = observed.server_span.get_span_context()
    made = [made for made in observed.spans if made.name == name]
    assert len(made) == count
    for one in made:
        assert one.context.trace_id == server.trace_id
        assert one.parent is not None
        assert one.parent.span_id == server.span_id


# Places in an app.


def view_of(view: Callable[..., Any]) -> Build:
    return lambda app, span: app.add_url_rule("/", endpoint="view", view_func=lambda: view(span))


def registered(register: str, code: int | type[Exception] | None = None, view: Callable[[], Any] = lambda: "ok") -> Any:
    """Register the span with one of Flask's decorators, on an app with this view."""

    def build(app: Flask, span: Span) -> None:
        app.add_url_rule("/", endpoint="view", view_func=view)
        if register == "after_request":
            app.after_request(lambda response: span() or response)
        elif register == "context_processor":
            app.context_processor(lambda: span() or {})
        elif code is not None:
            app.register_error_handler(code, lambda error: span() or ("sorry", 500))
        else:
            getattr(app, register)(span)

    return build


def opening_the_session(app: Flask, span: Span) -> None:
    class Sessions(SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: flask.Request) -> Any:
            span()
            return super().open_session(app, request)

    app.session_interface = Sessions()
    app.add_url_rule("/", view_func=lambda: "ok", endpoint="view")


def saving_the_session(app: Flask, span: Span) -> None:
    class Sessions(SecureCookieSessionInterface):
        def save_session(self, app: Flask, session: Any, response: Response) -> None:
            span()

    app.secret_key = "k"
    app.session_interface = Sessions()
    app.add_url_rule("/", view_func=lambda: "ok", endpoint="view")


def converting(method: str) -> Build:
    def build(app: Flask, span: Span) -> None:
        def convert(self: BaseConverter, value: str) -> str:
            span()
            return value

        app.url_map.converters["watched"] = type("Watched", (BaseConverter,), {"regex": "[^/]*", method: convert})
        app.add_url_rule("/<watched:what>", endpoint="other", view_func=lambda what: "ok")
        app.add_url_rule("/build", endpoint="build", view_func=lambda: flask.url_for("other", what="x"))

    return build


def url_defaults(app: Flask, span: Span) -> None:
    app.url_defaults(span)
    app.add_url_rule("/", view_func=lambda: flask.url_for("view"), endpoint="view")


def after_this_request(span: Span) -> str:
    flask.after_this_request(lambda response: span() or response)
    return "ok"


def template_helpers(app: Flask, span: Span) -> None:
    app.add_template_filter(lambda text: span() or text, "watched")
    app.add_url_rule("/", view_func=lambda: flask.render_template_string("{{ 'ok'|watched }}"), endpoint="view")


def blueprint(app: Flask, span: Span) -> None:
    part = flask.Blueprint("part", __name__)
    part.before_request(span)
    part.add_url_rule("/", view_func=lambda: "ok", endpoint="view")
    app.register_blueprint(part)


def method_view(app: Flask, span: Span) -> None:
    class View(MethodView):
        init_every_request = False
        decorators = (lambda view: lambda: span() or view(),)

        def get(self) -> str:
            return "ok"

    app.add_url_rule("/", view_func=View.as_view("view"))


def middleware(app: Flask, span: Span) -> None:
    app.add_url_rule("/", view_func=lambda: "ok", endpoint="view")
    boundary: Any = app.wsgi_app
    inner = boundary.wsgi_app
    boundary.wsgi_app = lambda *arguments: span() or inner(*arguments)


def async_view(app: Flask, span: Span) -> None:
    async def view() -> str:
        span()
        return "ok"

    app.add_url_rule("/", view_func=view, endpoint="view")


def async_hooks(app: Flask, span: Span) -> None:
    async def hook() -> None:
        span()

    app.before_request(hook)
    app.add_url_rule("/", view_func=lambda: "ok", endpoint="view")


def chunks(span: Span) -> Iterator[str]:
    yield "a"
    span()
    yield "b"


def closing(body: Callable[[], Any]) -> Callable[[Span], Response]:
    def view(span: Span) -> Response:
        response = Response(body())
        response.call_on_close(span)
        return response

    return view


PLACES: dict[str, Build] = {
    "open_session": opening_the_session,
    "save_session": saving_the_session,
    "to_python": converting("to_python"),
    "url_value_preprocessor": registered("url_value_preprocessor"),
    "url_defaults": url_defaults,
    "before_request": registered("before_request"),
    "before_request of a blueprint": blueprint,
    "after_request": registered("after_request"),
    "after_this_request": view_of(after_this_request),
    "teardown_request": registered("teardown_request"),
    "teardown_request after an error": registered("teardown_request", view=lambda: 1 // 0),
    "teardown_appcontext": registered("teardown_appcontext"),
    "error handler": registered("error", ZeroDivisionError, lambda: 1 // 0),
    "error handler of a 500": registered("error", 500, lambda: 1 // 0),
    "error handler of an abort": registered("error", 403, lambda: flask.abort(403)),
    "error handler of a 404": lambda app, span: app.register_error_handler(404, lambda error: span() or "none"),
    "context processor": registered("context_processor", view=lambda: flask.render_template_string("ok")),
    "template function": view_of(lambda span: flask.render_template_string("{{ span() or '' }}", span=span)),
    "template filter": template_helpers,
    "streamed template": view_of(lambda span: flask.stream_template_string("{{ span() or '' }}", span=span)),
    "method view": method_view,
    "middleware": middleware,
    "async view": async_view,
    "async before_request": async_hooks,
    "streamed body": view_of(lambda span: Response(chunks(span))),
    "streamed body in its context": view_of(lambda span: Response(flask.stream_with_context(chunks(span)))),
    "call_on_close of a stream": view_of(closing(lambda: iter("ab"))),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_span_made_there_is_a_child_of_the_server_span(
    observed: Observed, span: Span, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    if "async" in place:
        pytest.importorskip("asgiref", reason="flask[async] is not installed")
    PLACES[place](observed.app, span)
    fetch(observed)
    assert_below_the_server_span(observed)
    assert_quiet(caplog)


@pytest.mark.parametrize("letter", LETTERS)
def test_a_span_made_in_a_receiver_of_the_apps_own_is_a_child_of_the_server_span(
    observed: Observed, span: Span, letter: str
) -> None:
    def view() -> str:
        flask.flash("told")
        return flask.render_template_string("ok") if letter != "E" else str(1 // 0)

    observed.app.secret_key = "k"
    observed.app.add_url_rule("/", view_func=view)
    with LETTERS[letter].connected_to(span, sender=observed.app):
        fetch(observed)
    assert_below_the_server_span(observed)


def test_a_span_made_while_a_url_is_built_is_a_child_of_the_server_span(observed: Observed, span: Span) -> None:
    converting("to_url")(observed.app, span)
    fetch(observed, "/build")
    assert_below_the_server_span(observed)


@pytest.mark.xfail(reason="a buffered body is closed after its request is over, with nothing current", strict=True)
def test_a_span_made_when_a_buffered_response_is_closed_is_a_child_of_the_server_span(
    observed: Observed, span: Span
) -> None:
    view_of(closing(lambda: "ok"))(observed.app, span)
    fetch(observed)
    assert_below_the_server_span(observed)


def test_a_span_made_inside_another_one_is_that_ones_child(observed: Observed, tracer: Tracer, span: Span) -> None:
    def view() -> str:
        with tracer.start_as_current_span("outer"):
            span()
        return "ok"

    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    assert_below_the_server_span(observed, "outer")
    here, outer = (one for one in observed.spans if one.name in ("here", "outer"))
    assert here.parent.span_id == outer.context.span_id
