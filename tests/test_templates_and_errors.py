"""Renders as spans and samples, and errors told once wherever in a request they come from."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import TYPE_CHECKING

import flask
import pytest
from flask import Flask
from flask import render_template
from flask import render_template_string
from jinja2 import DictLoader
from jinja2 import TemplateNotFound
from jinja2 import TemplateSyntaxError
from jinja2 import UndefinedError
from opentelemetry.trace import StatusCode
from werkzeug.exceptions import Forbidden
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import InternalServerError

from .conftest import Observed
from .test_boundary import serve

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

Observe = Callable[..., Observed]

RENDERS = "flask_template_render_duration_seconds"

TEMPLATES = {
    "page.html": "a page",
    "base.html": "<{% block body %}{% endblock %}>",
    "extends.html": "{% extends 'base.html' %}{% block body %}a page{% endblock %}",
    "includes.html": "{% include 'page.html' %}, {% include 'page.html' %}",
    "macros.html": "{% macro bold(text) %}*{{ text }}*{% endmacro %}",
    "imports.html": "{% from 'macros.html' import bold %}{{ bold('a page') }}",
    "nests.html": "[{{ widget() }}]",
    "nests_a_failing_one.html": "[{{ failing_widget() }}]",
    "fails.html": "{{ 1 // 0 }}",
    "wrong.html": "{% if %}",
    "streams.html": "{% for n in range(3) %}{{ n }}{% endfor %}",
    "streams_and_fails.html": "{% for n in range(5000) %}{{ n }}{% endfor %}{{ 1 // 0 }}",
}


def site(view: Callable[[], Any]) -> Flask:
    app = Flask("shop")
    app.jinja_loader = DictLoader(TEMPLATES)  # type: ignore[assignment]
    app.jinja_env.globals["widget"] = lambda: render_template("page.html")
    app.jinja_env.globals["failing_widget"] = lambda: render_template("fails.html")
    app.add_url_rule("/", "home", view)
    return app


def renders(observed: Observed) -> dict[str, ReadableSpan]:
    """Return the spans of renders by template; one for each."""
    spans = [span for span in observed.spans if "flask.template" in (span.attributes or {})]
    by_template = {str((span.attributes or {})["flask.template"]): span for span in spans}
    assert len(by_template) == len(spans)
    return by_template


def sampled(observed: Observed) -> dict[str, float]:
    """Return how often each template was timed."""
    return {sample.labels["template"]: sample.value for sample in observed.samples(f"{RENDERS}_count")}


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def assert_child(span: ReadableSpan, parent: ReadableSpan) -> None:
    assert span.parent is not None
    assert span.parent.span_id == parent.context.span_id
    assert times(parent)[0] <= times(span)[0]


def assert_within(span: ReadableSpan, outer: ReadableSpan) -> None:
    (start, end), (outer_start, outer_end) = times(span), times(outer)
    assert outer_start <= start <= end <= outer_end


def status_of(span: ReadableSpan) -> tuple[StatusCode, Any]:
    return span.status.status_code, (span.attributes or {}).get("error.type")


OK = (StatusCode.UNSET, None)
FAILED = (StatusCode.ERROR, "ZeroDivisionError")


# Renders.


@pytest.mark.parametrize(
    ("view", "template"),
    [
        (lambda: render_template("page.html"), "page.html"),
        (lambda: render_template(["missing.html", "page.html"]), "page.html"),
        (lambda: render_template_string("a page"), "<string>"),
        (lambda: flask.stream_template("page.html"), "page.html"),
        (lambda: flask.stream_template_string("a page"), "<string>"),
    ],
    ids=["render_template", "first of a list", "render_template_string", "stream_template", "stream_template_string"],
)
def test_a_render_is_a_child_span_a_sample_and_a_record(
    view: Callable[[], Any], template: str, observe: Observe
) -> None:
    observed = observe(site(view))
    assert observed.client().get("/").text == "a page"
    (span,) = renders(observed).values()
    assert span.name == f"render {template}"
    assert status_of(span) == OK
    assert_child(span, observed.server_span)
    assert_within(span, observed.server_span)
    assert sampled(observed) == {template: 1}
    (record,) = observed.records("template_rendered")
    assert record["flask.template"] == template
    assert record["trace_id"] == f"{observed.server_span.context.trace_id:032x}"
    start, end = times(span)
    seconds = pytest.approx((end - start) / 1e9, abs=2e-6)
    assert record["duration_seconds"] == seconds
    assert observed.value(f"{RENDERS}_sum") == seconds


@pytest.mark.parametrize("template", ["extends.html", "includes.html", "imports.html"])
def test_what_a_template_takes_from_others_is_part_of_its_render(template: str, observe: Observe) -> None:
    observed = observe(site(lambda: render_template(template)))
    assert "a page" in observed.client().get("/").text
    assert sampled(observed) == {template: 1}
    assert list(renders(observed)) == [template]


def test_a_render_within_a_render_is_a_render_of_its_own(observe: Observe) -> None:
    observed = observe(site(lambda: render_template("nests.html")))
    assert observed.client().get("/").text == "[a page]"
    inner, outer = (renders(observed)[name] for name in ("page.html", "nests.html"))
    assert_child(inner, observed.server_span)
    assert_child(outer, observed.server_span)
    assert_within(inner, outer)
    assert sampled(observed) == {"page.html": 1, "nests.html": 1}


def test_several_renders_of_one_request_are_timed_each_for_itself(observe: Observe) -> None:
    observed = observe(site(lambda: "".join(render_template("page.html") for _ in range(3))))
    observed.client().get("/")
    assert sampled(observed) == {"page.html": 3}
    spans = [span for span in observed.spans if span.name == "render page.html"]
    assert len(spans) == 3
    moments = [moment for span in spans for moment in times(span)]
    assert moments == sorted(moments)


def test_a_streamed_render_lasts_until_its_last_chunk(observe: Observe) -> None:
    observed = observe(site(lambda: flask.stream_template("streams.html")))
    _, _, body = serve(observed.app)
    next(iter(body))
    assert renders(observed) == {}
    assert sampled(observed) == {}
    list(body)
    body.close()
    assert_child(renders(observed)["streams.html"], observed.server_span)
    assert sampled(observed) == {"streams.html": 1}


def test_a_streamed_render_that_the_client_gave_up_ends_with_its_request(observe: Observe) -> None:
    observed = observe(site(lambda: flask.stream_template("streams_and_fails.html")))
    _, _, body = serve(observed.app)
    next(iter(body))
    body.close()
    span = renders(observed)["streams_and_fails.html"]
    assert status_of(span) == OK
    assert_child(span, observed.server_span)
    assert sampled(observed) == {"streams_and_fails.html": 1}


def test_a_render_in_the_error_page_is_told_beside_the_error(observe: Observe) -> None:
    app = site(lambda: 1 / 0)
    app.register_error_handler(500, lambda _: (render_template("page.html"), 500))
    observed = observe(app)
    assert observed.client().get("/").text == "a page"
    assert status_of(renders(observed)["page.html"]) == OK
    assert status_of(observed.server_span) == FAILED


# Renders that fail.


def test_a_template_that_raises_closes_its_span_with_the_error(observe: Observe) -> None:
    observed = observe(site(lambda: render_template("fails.html")))
    assert observed.client().get("/").status_code == 500
    span = renders(observed)["fails.html"]
    assert status_of(span) == FAILED
    assert span.status.description == "ZeroDivisionError: integer division or modulo by zero"
    assert_child(span, observed.server_span)
    assert sampled(observed) == {"fails.html": 1}
    assert [record["error.type"] for record in observed.records("template_rendered")] == ["ZeroDivisionError"]


def test_the_exception_of_a_template_is_an_event_of_the_request_alone(observe: Observe) -> None:
    observed = observe(site(lambda: render_template("fails.html")))
    observed.client().get("/")
    assert renders(observed)["fails.html"].events == ()
    (event,) = observed.server_span.events
    assert event.name == "exception"
    assert len(observed.records("exception")) == len(observed.journal_lines) == 1


def test_a_render_within_a_render_that_raises_closes_both_with_the_error(observe: Observe) -> None:
    observed = observe(site(lambda: render_template("nests_a_failing_one.html")))
    observed.client().get("/")
    assert {name: status_of(span) for name, span in renders(observed).items()} == {
        "fails.html": FAILED,
        "nests_a_failing_one.html": FAILED,
    }
    assert len(observed.server_span.events) == 1


def test_a_render_that_succeeded_before_the_error_stays_a_success(observe: Observe) -> None:
    observed = observe(site(lambda: render_template("page.html") + render_template("fails.html")))
    observed.client().get("/")
    assert {name: status_of(span) for name, span in renders(observed).items()} == {
        "page.html": OK,
        "fails.html": FAILED,
    }


def test_a_failed_render_that_the_view_swallows_ends_all_the_same(observe: Observe) -> None:
    def view() -> str:
        try:
            return render_template("fails.html")
        except ZeroDivisionError:
            return render_template("page.html")

    observed = observe(site(view))
    assert observed.client().get("/").text == "a page"
    spans = renders(observed)
    assert spans.keys() == {"fails.html", "page.html"}
    for span in spans.values():
        assert_child(span, observed.server_span)
    assert sampled(observed) == {"fails.html": 1, "page.html": 1}
    assert status_of(spans["page.html"]) == status_of(observed.server_span) == OK
    assert observed.records("exception") == []


def test_a_failed_render_that_an_error_handler_answers_ends_with_the_request(observe: Observe) -> None:
    app = site(lambda: render_template("fails.html"))
    app.register_error_handler(ZeroDivisionError, lambda _: ("sorry", 409))
    observed = observe(app)
    assert observed.client().get("/").status_code == 409
    assert_child(renders(observed)["fails.html"], observed.server_span)
    assert status_of(observed.server_span) == OK
    assert sampled(observed) == {"fails.html": 1}


def test_a_failed_render_is_not_taken_for_the_next_one_of_its_template(observe: Observe) -> None:
    divisors = iter([0, 1])

    def view() -> str:
        try:
            return render_template_string("{{ 1 // n }}", n=next(divisors))
        except ZeroDivisionError:
            return render_template_string("{{ 1 // n }}", n=next(divisors))

    observed = observe(site(view))
    assert observed.client().get("/").text == "1"
    assert sampled(observed) == {"<string>": 2}


def test_a_streamed_render_that_fails_half_way_closes_its_span_with_the_error(observe: Observe) -> None:
    observed = observe(site(lambda: flask.stream_template("streams_and_fails.html")))
    _, _, body = serve(observed.app)
    with pytest.raises(ZeroDivisionError):
        list(body)
    body.close()
    assert status_of(renders(observed)["streams_and_fails.html"]) == FAILED
    assert status_of(observed.server_span) == FAILED
    assert observed.record["http.response.status_code"] == 200


@pytest.mark.parametrize(
    ("template", "error"),
    [("missing.html", TemplateNotFound), ("wrong.html", TemplateSyntaxError)],
    ids=["missing", "syntax error"],
)
def test_a_template_that_cannot_be_loaded_is_an_error_and_no_render(
    template: str, error: type[Exception], observe: Observe
) -> None:
    observed = observe(site(lambda: render_template(template)))
    assert observed.client().get("/").status_code == 500
    assert renders(observed) == sampled(observed) == {}
    assert observed.record["error.type"] == f"{error.__module__}.{error.__qualname__}"


def test_an_undefined_name_is_told_by_jinjas_own_error(observe: Observe) -> None:
    observed = observe(site(lambda: render_template_string("{{ missing.attribute }}")))
    observed.client().get("/")
    assert observed.record["error.type"] == f"{UndefinedError.__module__}.UndefinedError"
    (record,) = observed.records("exception")
    assert record["exception.message"] == "'missing' is undefined"


# Renders outside a request.


def test_a_render_in_an_app_context_is_a_root_span_and_a_sample(observe: Observe) -> None:
    observed = observe(site(lambda: ""))
    with observed.app.app_context():
        assert render_template("nests.html") == "[a page]"
    spans = renders(observed)
    assert [spans[name].parent for name in ("page.html", "nests.html")] == [None, None]
    assert sampled(observed) == {"page.html": 1, "nests.html": 1}
    assert observed.server_spans == []
    assert [record for record in observed.records("template_rendered") if "trace_id" in record] == []


def test_a_render_in_an_app_context_is_a_child_of_the_span_around_it(observe: Observe) -> None:
    observed = observe(site(lambda: ""))
    tracer = observed.provider.get_tracer("jobs")
    with observed.app.app_context(), tracer.start_as_current_span("send mails"):
        render_template("page.html")
    render, job = observed.spans
    assert_child(render, job)


def test_a_render_in_a_request_context_without_a_server_is_a_root_span(observe: Observe) -> None:
    observed = observe(site(lambda: ""))
    with observed.app.test_request_context("/"):
        render_template("page.html")
    assert renders(observed)["page.html"].parent is None
    assert sampled(observed) == {"page.html": 1}


def test_a_render_that_fails_in_an_app_context_is_not_taken_for_a_later_one(observe: Observe) -> None:
    observed = observe(site(lambda: ""))
    with pytest.raises(ZeroDivisionError), observed.app.app_context():
        render_template("fails.html")
    with observed.app.app_context():
        render_template("page.html")
    assert status_of(renders(observed)["page.html"]) == OK
    assert sampled(observed)["page.html"] == 1


# Errors nobody handled.


def chained() -> str:
    try:
        int("x")
    except ValueError as error:
        raise LookupError("no such item") from error
    return ""


def in_a_context() -> str:
    try:
        int("x")
    except ValueError:
        raise LookupError("no such item")  # noqa: B904
    return ""


def the_exception(observed: Observed) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the one exception as the span's event and the JSON record tell it."""
    (event,) = observed.server_span.events
    assert event.name == "exception"
    (record,) = observed.records("exception")
    assert len(observed.journal_lines) == 1
    return dict(event.attributes or {}), record


@pytest.mark.parametrize("propagates", [False, True], ids=["answered with a 500", "propagated"])
def test_an_exception_is_told_once_with_type_message_and_stack(propagates: bool, observe: Observe) -> None:
    def view() -> str:
        raise LookupError("no such item")

    observed = observe(site(view))
    observed.app.config["PROPAGATE_EXCEPTIONS"] = propagates
    if propagates:
        with pytest.raises(LookupError):
            serve(observed.app)
    else:
        serve(observed.app)
    event, record = the_exception(observed)
    for told in (event, record):
        assert told["exception.type"] == "LookupError"
        assert told["exception.message"] == "no such item"
    assert event["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert event["exception.stacktrace"].endswith("LookupError: no such item\n")
    (stack,) = record["exception"]
    assert (stack["exc_type"], stack["exc_value"]) == ("LookupError", "no such item")
    assert stack["frames"][-1]["name"] == "view"
    assert record["level"] == "error"
    assert record["trace_id"] == f"{observed.server_span.context.trace_id:032x}"
    assert observed.journal_lines[0].endswith("Critical error in <Flask 'shop'>: LookupError: no such item")
    assert observed.value("flask_exceptions_total", exception_type="LookupError", http_route="/") == 1


@pytest.mark.parametrize(
    ("view", "words", "is_cause"),
    [(chained, "was the direct cause of", True), (in_a_context, "During handling of", False)],
    ids=["raise from", "raise while handling"],
)
def test_what_an_exception_came_from_is_kept_in_record_and_stacktrace(
    view: Callable[[], str], words: str, is_cause: bool, observe: Observe
) -> None:
    observed = observe(site(view))
    observed.client().get("/")
    event, record = the_exception(observed)
    origin, raised = event["exception.stacktrace"].split(words)
    assert "ValueError: invalid literal for int()" in origin
    assert raised.endswith("LookupError: no such item\n")
    assert [stack["exc_type"] for stack in record["exception"]] == ["LookupError", "ValueError"]
    assert record["exception"][1]["is_cause"] == is_cause
    assert event["exception.type"] == record["exception.type"] == observed.record["error.type"] == "LookupError"


def test_a_context_that_was_silenced_is_left_out(observe: Observe) -> None:
    def view() -> str:
        try:
            int("x")
        except ValueError:
            raise LookupError("no such item") from None
        return ""

    observed = observe(site(view))
    observed.client().get("/")
    event, record = the_exception(observed)
    assert "ValueError" not in event["exception.stacktrace"]
    assert [stack["exc_type"] for stack in record["exception"]] == ["LookupError"]


def test_an_exception_that_cannot_say_what_it_is_is_told_all_the_same(observe: Observe) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    def view() -> str:
        raise Mute

    observed = observe(site(view), strict=False)
    assert observed.client().get("/").status_code == 500
    assert observed.record["error.type"].endswith("Mute")
    assert observed.server_span.status.status_code is StatusCode.ERROR
    assert len(observed.records("exception")) == 1
    assert observed.value("flask_exceptions_total") == 1


# Errors that a handler of the app answers.


@pytest.mark.parametrize(
    ("status", "error_type"), [(409, None), (200, None), (503, "503")], ids=["a 409", "a 200", "a 503"]
)
def test_errorhandler_exception_leaves_only_its_answer(status: int, error_type: str | None, observe: Observe) -> None:
    app = site(chained)
    app.register_error_handler(Exception, lambda _: ("sorry", status))
    observed = observe(app)
    assert observed.client().get("/").status_code == status
    assert observed.server_span.events == ()
    assert observed.records("exception") == observed.journal_lines == []
    assert observed.record.get("error.type") == error_type
    assert observed.value("flask_exceptions_total") == 0


def test_errorhandler_exception_answers_http_errors_too(observe: Observe) -> None:
    app = site(lambda: flask.abort(403))
    app.register_error_handler(Exception, lambda error: (type(error).__name__, 403))
    observed = observe(app)
    assert observed.client().get("/").text == "Forbidden"
    assert observed.record["http.response.status_code"] == 403
    assert observed.records("exception") == []


@pytest.mark.parametrize("status", [500, 502, 200])
def test_errorhandler_500_gives_the_status_and_the_error_stays_an_error(status: int, observe: Observe) -> None:
    originals: list[BaseException | None] = []

    def answer(error: InternalServerError) -> tuple[str, int]:
        originals.append(error.original_exception)
        return "sorry", status

    app = site(chained)
    app.register_error_handler(500, answer)
    observed = observe(app)
    assert observed.client().get("/").status_code == status
    assert [type(error) for error in originals] == [LookupError]
    event, _ = the_exception(observed)
    assert event["exception.type"] == "LookupError"
    assert observed.record["http.response.status_code"] == status
    assert status_of(observed.server_span) == (StatusCode.ERROR, "LookupError")


def test_errorhandler_500_that_raises_is_told_after_the_error_that_it_was_called_for(observe: Observe) -> None:
    def fail(_: Exception) -> str:
        raise RuntimeError("the error page is broken")

    app = site(chained)
    app.register_error_handler(500, fail)
    observed = observe(app)
    with pytest.raises(RuntimeError):
        serve(observed.app)
    told = ["LookupError", "RuntimeError"]
    assert [(event.attributes or {})["exception.type"] for event in observed.server_span.events] == told
    assert [record["exception.type"] for record in observed.records("exception")] == told
    assert len(observed.journal_lines) == 2
    assert status_of(observed.server_span) == (StatusCode.ERROR, "LookupError")
    assert observed.record["error.type"] == observed.duration_sample.labels["error_type"] == "LookupError"
    assert "http.response.status_code" not in observed.record
    (_, second) = observed.records("exception")
    assert [stack["exc_type"] for stack in second["exception"]] == ["RuntimeError", "LookupError", "ValueError"]


def test_an_errorhandler_of_its_class_that_raises_tells_the_error_of_the_handler(observe: Observe) -> None:
    def fail(error: LookupError) -> str:
        raise RuntimeError("the handler is broken") from error

    app = site(chained)
    app.register_error_handler(LookupError, fail)
    observed = observe(app)
    assert observed.client().get("/").status_code == 500
    event, record = the_exception(observed)
    assert event["exception.type"] == observed.record["error.type"] == "RuntimeError"
    assert [stack["exc_type"] for stack in record["exception"]] == ["RuntimeError", "LookupError", "ValueError"]


# abort(), here and there.


def aborting(status: int = 403) -> Callable[..., Any]:
    def stop(*_: Any) -> Any:
        flask.abort(status)

    return stop


@pytest.mark.parametrize(("status", "error_type"), [(403, None), (404, None), (500, "500"), (503, "503")])
@pytest.mark.parametrize("where", ["view", "before_request"])
def test_abort_before_the_answer_is_an_answer_and_no_exception(
    where: str, status: int, error_type: str | None, observe: Observe
) -> None:
    app = site(aborting(status) if where == "view" else lambda: "hello")
    if where == "before_request":
        app.before_request(aborting(status))
    observed = observe(app)
    assert observed.client().get("/").status_code == status
    assert (observed.record["http.response.status_code"], observed.record.get("error.type")) == (status, error_type)
    assert observed.record["http.route"] == "/"
    assert observed.server_span.events == ()
    assert observed.records("exception") == observed.journal_lines == []
    assert observed.value("flask_exceptions_total") == 0


def test_abort_with_a_response_is_that_response(observe: Observe) -> None:
    observed = observe(site(lambda: flask.abort(flask.make_response("teapot", 418))))
    assert observed.client().get("/").text == "teapot"
    assert observed.record["http.response.status_code"] == 418
    assert observed.records("exception") == []


FORBIDDEN = f"{Forbidden.__module__}.Forbidden"


def test_abort_in_after_request_is_an_error_that_nobody_handled(observe: Observe) -> None:
    app = site(lambda: "hello")
    app.after_request(aborting())
    observed = observe(app)
    assert observed.client().get("/").status_code == 500
    event, record = the_exception(observed)
    assert event["exception.type"] == record["exception.type"] == FORBIDDEN
    assert observed.record["http.response.status_code"] == 500
    assert status_of(observed.server_span) == (StatusCode.ERROR, FORBIDDEN)


@pytest.mark.parametrize("where", ["teardown_request", "teardown_appcontext"])
def test_abort_in_a_teardown_is_an_error_that_the_server_answers(where: str, observe: Observe) -> None:
    app = site(lambda: "hello")
    getattr(app, where)(aborting())
    observed = observe(app)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - a group of them from Flask 3.2 on
        serve(observed.app)
    event, record = the_exception(observed)
    kind = FORBIDDEN if isinstance(raised.value, HTTPException) else type(raised.value).__name__
    assert event["exception.type"] == record["exception.type"] == observed.record["error.type"] == kind
    assert "http.response.status_code" not in observed.record
    assert observed.value("http_server_active_requests") == 0


def test_an_error_after_the_error_of_the_view_is_told_beside_it(observe: Observe) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("cannot return the connection")

    app = site(chained)
    app.teardown_request(fail)
    observed = observe(app)
    with pytest.raises(Exception, match=r"connection|teardown"):
        serve(observed.app)
    kinds = [(event.attributes or {})["exception.type"] for event in observed.server_span.events]
    assert len(kinds) == len(observed.records("exception")) == 2
    assert kinds[0] == observed.record["error.type"] == "LookupError"


def test_an_error_in_a_body_after_one_was_told_is_told_too(observe: Observe) -> None:
    def chunks() -> Iterator[str]:
        yield "a"
        raise RuntimeError("half-way")

    app = site(chained)
    app.register_error_handler(500, lambda _: flask.Response(chunks(), status=500))
    observed = observe(app)
    _, _, body = serve(observed.app)
    with pytest.raises(RuntimeError):
        list(body)
    body.close()
    assert [record["exception.type"] for record in observed.records("exception")] == ["LookupError", "RuntimeError"]
    assert observed.record["error.type"] == "LookupError"
    assert observed.record["http.response.status_code"] == 500
