"""Wherever code of the app makes a span, it is in the request's trace, below the span that is current there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import pytest
from flask import Flask
from flask import Response
from flask.sessions import SecureCookieSessionInterface
from flask.views import MethodView
from jinja2 import DictLoader
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Tracer
from werkzeug.routing import BaseConverter

from flask_signal_observability import add_request_context
from flask_signal_observability import annotate
from flask_signal_observability import carry_context
from flask_signal_observability.record import current_record

from .conftest import Observed
from .lifecycle.outputs import assert_quiet
from .lifecycle.signals import LETTERS
from .test_boundary import serve

Span = Callable[..., Any]
"""Makes the span ``here``, whatever it is called with, and returns None."""
Build = Callable[[Flask, Span], None]

WAIT_SECONDS = 10.0


@pytest.fixture
def tracer(observed: Observed) -> Tracer:
    return observed.provider.get_tracer("app")


@pytest.fixture
def span(tracer: Tracer) -> Span:
    def make(*_: Any, **__: Any) -> None:
        with tracer.start_as_current_span("here"):
            pass

    return make


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


# Threads.


def in_a_thread(work: Callable[[], Any]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(WAIT_SECONDS)


def in_a_pool(work: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(WAIT_SECONDS)


def with_the_request(work: Callable[[], Any]) -> Callable[[], Any]:
    return carry_context(flask.copy_current_request_context(work))


starts = pytest.mark.parametrize("start", [in_a_thread, in_a_pool], ids=lambda start: start.__name__)
carries = pytest.mark.parametrize("carry", [carry_context, with_the_request], ids=lambda carry: carry.__name__)

Start = Callable[[Callable[[], Any]], None]
Carry = Callable[[Callable[[], Any]], Callable[[], Any]]


@starts
@carries
def test_a_carried_thread_makes_children_of_the_span_that_was_current(
    observed: Observed, tracer: Tracer, span: Span, start: Start, carry: Carry, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> str:
        start(carry(span))
        with tracer.start_as_current_span("outer"):
            start(carry(lambda: tracer.start_span("inner").end()))
        return "ok"

    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    assert_below_the_server_span(observed)
    inner, outer = (one for one in observed.spans if one.name in ("inner", "outer"))
    assert inner.parent.span_id == outer.context.span_id
    assert observed.value("flask_app_contexts_active") == 0
    assert_quiet(caplog)


@starts
@carries
def test_a_carried_thread_annotates_and_logs_as_its_request(
    observed: Observed, tracer: Tracer, start: Start, carry: Carry
) -> None:
    logged: list[Any] = []

    def work() -> None:
        annotate(tenant="acme")
        logged.append(add_request_context(None, "info", {}))
        with tracer.start_as_current_span("here"):
            logged.append(add_request_context(None, "info", {}))

    def view() -> str:
        start(carry(work))
        return "ok"

    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    ids = {key: observed.record[key] for key in ("request_id", "trace_id", "span_id")}
    (here,) = (one for one in observed.spans if one.name == "here")
    assert logged == [ids, {**ids, "span_id": trace.format_span_id(here.context.span_id)}]
    assert observed.record["tenant"] == observed.server_span.attributes["tenant"] == "acme"


def test_a_carried_thread_is_the_first_to_need_the_server_span(observed: Observed, span: Span) -> None:
    observed.app.url_value_preprocessor(lambda *_: in_a_thread(carry_context(span)))
    observed.app.add_url_rule("/", view_func=lambda: "ok", endpoint="view")
    fetch(observed)
    assert_below_the_server_span(observed)
    assert observed.server_span.name == "GET /"


def test_a_function_carried_out_of_a_stream_belongs_to_its_request(observed: Observed, span: Span) -> None:
    view_of(lambda span: Response(chunks(lambda: in_a_thread(carry_context(span)))))(observed.app, span)
    fetch(observed)
    assert_below_the_server_span(observed)


def test_one_carried_function_runs_in_many_threads_at_once(observed: Observed, span: Span) -> None:
    together = threading.Barrier(4)

    def work(_: int) -> None:
        together.wait(WAIT_SECONDS)
        span()
        together.wait(WAIT_SECONDS)

    def view() -> str:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(carry_context(work), range(8)))
        return "ok"

    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    assert_below_the_server_span(observed, count=8)


@pytest.mark.xfail(reason="the renders of a record are one stack for all its threads", strict=True)
def test_renders_that_overlap_in_two_threads_of_a_request_are_both_told(observed: Observed) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        go_on.wait(WAIT_SECONDS)
        return ""

    def view() -> str:
        work = flask.copy_current_request_context(lambda: flask.render_template("slow.html", slow=slow))
        thread = threading.Thread(target=carry_context(work))
        thread.start()
        begun.wait(WAIT_SECONDS)
        return flask.render_template("quick.html", end=lambda: go_on.set() or thread.join(WAIT_SECONDS) or "ok")

    observed.app.jinja_loader = DictLoader({"slow.html": "{{ slow() }}", "quick.html": "{{ end() }}"})
    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    renders = observed.samples("flask_template_render_duration_seconds_count")
    assert {sample.labels["template"]: sample.value for sample in renders} == {"slow.html": 1, "quick.html": 1}


# What is carried beyond the end of a request, and outside of any.


class Late:
    """A thread of a request that goes on when the request is over."""

    def __init__(self, carry: Carry, work: Callable[[], Any]) -> None:
        self.carry = carry
        self.work = work
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.errors: list[BaseException] = []

    def view(self) -> str:
        self.thread = threading.Thread(target=self._run, args=(self.carry(self._work),))
        self.thread.start()
        return "ok"

    def _run(self, carried: Callable[[], Any]) -> None:
        try:
            carried()
        except BaseException as error:
            self.errors.append(error)

    def _work(self) -> None:
        self.begun.set()
        self.go_on.wait(WAIT_SECONDS)
        self.work()

    def end(self) -> None:
        self.go_on.set()
        self.thread.join(WAIT_SECONDS)
        assert self.errors == []


def assert_told_once_in_each(observed: Observed) -> None:
    assert len(observed.server_spans) == len(observed.records("request_finished")) == len(observed.audit_lines) == 1
    assert observed.duration_sample.value == 1
    assert observed.value("http_server_active_requests") == 0


def late_work(observed: Observed, span: Span) -> Callable[[], None]:
    def work() -> None:
        span()
        annotate(tenant="acme")
        trace.get_current_span().set_status(trace.StatusCode.OK)
        assert add_request_context(None, "info", {})["request_id"] == observed.record["request_id"]
        with observed.app.app_context():
            flask.render_template_string("ok")

    return work


@carries
def test_what_a_carried_thread_does_after_the_request_has_ended_harms_nothing(
    observed: Observed, span: Span, carry: Carry, caplog: pytest.LogCaptureFixture
) -> None:
    late = Late(carry, late_work(observed, span))
    observed.app.add_url_rule("/", view_func=late.view)
    fetch(observed)
    record = observed.record
    late.end()
    assert observed.record == record
    assert "tenant" not in observed.server_span.attributes
    assert_told_once_in_each(observed)
    assert_below_the_server_span(observed)
    assert_quiet(caplog)


@pytest.mark.xfail(reason="what is popped after the request is counted as if pushed outside of it", strict=True)
def test_an_app_context_that_outlives_its_request_in_a_carried_thread_leaves_the_gauge_at_zero(
    observed: Observed,
) -> None:
    late = Late(with_the_request, lambda: None)

    def view() -> str:
        late.view()
        late.begun.wait(WAIT_SECONDS)
        return "ok"

    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    late.end()
    assert observed.value("flask_app_contexts_active") == 0


def test_a_carried_function_called_when_the_request_is_over_makes_no_second_one(
    observed: Observed, span: Span, caplog: pytest.LogCaptureFixture
) -> None:
    carried: list[Callable[[], None]] = []
    view_of(lambda span: carried.append(carry_context(late_work(observed, span))) or "ok")(observed.app, span)
    fetch(observed)
    in_a_thread(carried[0])
    carried[0]()
    assert_told_once_in_each(observed)
    assert_below_the_server_span(observed, count=2)
    assert observed.value("flask_app_contexts_active") == 0
    assert_quiet(caplog)


def test_a_request_made_in_a_carried_thread_is_a_child_of_the_one_it_was_carried_from(observed: Observed) -> None:
    carried: list[Callable[[], Any]] = []

    def outer() -> str:
        carried.append(carry_context(lambda: fetch(observed, "/inner")))
        in_a_thread(carried[0])
        return "ok"

    observed.app.add_url_rule("/", view_func=outer)
    observed.app.add_url_rule("/inner", view_func=lambda: "ok", endpoint="inner")
    fetch(observed)
    in_a_thread(carried[0])
    during, outside, after = observed.server_spans
    assert during.parent.span_id == after.parent.span_id == outside.context.span_id
    assert outside.parent is None


def test_a_function_carried_outside_a_request_takes_only_opentelemetrys_context(
    observed: Observed, tracer: Tracer, span: Span
) -> None:
    records: list[Any] = []

    def work() -> None:
        span()
        annotate(tenant="acme")
        records.append(current_record.get())

    with tracer.start_as_current_span("job"):
        in_a_thread(carry_context(work))
    in_a_thread(carry_context(work))
    inside, job, alone = observed.spans
    assert inside.parent.span_id == job.context.span_id
    assert alone.parent is None
    assert records == [None, None]
    assert observed.server_spans == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_carried_function_gives_its_thread_back_as_it_was(observed: Observed, fails: bool) -> None:
    carried: list[Callable[[], str]] = []

    def work() -> str:
        otel_context.attach(otel_context.set_value("leaked", 1))
        if fails:
            raise LookupError("failed")
        return "done"

    def view() -> str:
        carried.append(carry_context(work))
        return "ok"

    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    mine = otel_context.set_value("mine", 1)
    token = otel_context.attach(mine)
    try:
        if fails:
            with pytest.raises(LookupError, match="failed"):
                carried[0]()
        else:
            assert carried[0]() == "done"
        assert otel_context.get_current() is mine
        assert current_record.get() is None
    finally:
        otel_context.detach(token)


def test_a_carried_function_keeps_its_arguments_and_its_name() -> None:
    def resize(image: str, *, width: int) -> tuple[str, int]:
        """Make it smaller."""
        return image, width

    carried = carry_context(resize)
    assert carried("a", width=1) == ("a", 1)
    assert (carried.__name__, carried.__doc__) == ("resize", "Make it smaller.")
