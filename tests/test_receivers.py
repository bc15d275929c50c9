from __future__ import annotations

import threading
from typing import Any
from typing import TYPE_CHECKING

import flask
import pytest
from flask import flash
from flask import Flask
from flask import render_template
from flask import render_template_string
from flask import signals
from jinja2 import DictLoader
from opentelemetry.trace import StatusCode

from flask_signal_observability import receivers
from flask_signal_observability.receivers import MAX_PENDING_RENDERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Observed

    Observe = Callable[..., Observed]

RENDERS = "flask_template_render_duration_seconds_count"
SENT = "flask_signals_total"

TEMPLATES = {
    "page.html": "a page",
    "outer.html": "[{{ widget() }}]",
    "middle.html": "({{ broken() }})",
    "inner.html": "{{ 1 // 0 }}",
}


def site() -> Flask:
    app = Flask("shop")
    app.secret_key = "k"
    app.jinja_loader = DictLoader(TEMPLATES)
    return app


def swallowing(template: str) -> Callable[[], str]:
    def render() -> str:
        try:
            return render_template(template)
        except ZeroDivisionError:
            return "?"

    return render


def rendered(observed: Observed) -> dict[str, float]:
    return {sample.labels["template"]: sample.value for sample in observed.samples(RENDERS)}


# Renders.


@pytest.mark.parametrize("in_request", [True, False], ids=["in a request", "outside"])
def test_renders_around_one_that_fails_and_is_swallowed_are_timed_each_for_itself(
    in_request: bool, observe: Observe
) -> None:
    app = site()
    app.jinja_env.globals.update(widget=lambda: render_template("middle.html"), broken=swallowing("inner.html"))
    app.add_url_rule("/", view_func=lambda: render_template("outer.html"))
    observed = observe(app)
    if in_request:
        assert observed.client().get("/").text == "[(?)]"
    else:
        with app.app_context():
            assert render_template("outer.html") == "[(?)]"
    # What failed ends with its request; outside of one nothing tells that it has ended.
    ended = {"outer.html": 1.0, "middle.html": 1.0}
    assert rendered(observed) == ended | ({"inner.html": 1.0} if in_request else {})
    spans = {span.name: span for span in observed.spans}
    assert spans["render outer.html"].start_time <= spans["render middle.html"].start_time
    assert spans["render middle.html"].end_time <= spans["render outer.html"].end_time


def test_the_same_template_inside_itself_is_two_renders(observe: Observe) -> None:
    app = site()
    deeper = iter([True, False])
    app.jinja_env.globals["widget"] = lambda: render_template("outer.html") if next(deeper) else "."
    observed = observe(app)
    with app.app_context():
        assert render_template("outer.html") == "[[.]]"
    assert rendered(observed) == {"outer.html": 2}
    inner, outer = observed.spans
    assert outer.start_time <= inner.start_time
    assert inner.end_time <= outer.end_time


def test_renders_outside_a_request_that_never_end_are_forgotten_beyond_a_depth(observe: Observe) -> None:
    app = site()
    observed = observe(app)
    with app.app_context():
        for _ in range(MAX_PENDING_RENDERS + 20):
            swallowing("inner.html")()
        assert len(receivers.renders_outside.get()) == MAX_PENDING_RENDERS
        assert render_template("page.html") == "a page"
        assert len(receivers.renders_outside.get()) == MAX_PENDING_RENDERS - 1
    assert rendered(observed) == {"page.html": 1}
    receivers.renders_outside.set(())


def test_renders_of_a_request_that_never_end_are_told_when_there_are_too_many(observe: Observe) -> None:
    app = site()
    observed = observe(app)
    told: list[float] = []
    excess = 5

    @app.route("/")
    def view() -> str:
        for _ in range(MAX_PENDING_RENDERS + excess):
            swallowing("inner.html")()
        told.append(observed.value(RENDERS))
        return ""

    observed.client().get("/")
    assert told == [excess]
    assert rendered(observed) == {"inner.html": MAX_PENDING_RENDERS + excess}


def test_renders_of_two_threads_are_told_apart(observe: Observe) -> None:
    app = site()
    observed = observe(app)
    inside = threading.Barrier(2)
    app.jinja_env.globals["widget"] = lambda: inside.wait(10)

    def render(text: str) -> None:
        with app.app_context():
            render_template_string("{{ text }}{{ widget() }}", text=text)

    threads = [threading.Thread(target=render, args=(text,)) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert rendered(observed) == {"<string>": 2}


def test_an_end_without_a_beginning_is_counted_as_a_signal_and_is_no_render(observe: Observe) -> None:
    app = site()
    observed = observe(app)
    template = app.jinja_env.get_template("page.html")
    signals.template_rendered.send(app, template=template, context={})
    assert observed.value(SENT, signal="template_rendered") == 1
    assert observed.spans == []
    assert rendered(observed) == {}


# Signals outside of requests of a server.


def test_a_request_that_no_server_made_is_counted_and_told_to_nobody(observe: Observe) -> None:
    app = site()
    app.add_url_rule("/", view_func=lambda: "hello")
    observed = observe(app)
    with app.test_request_context("/"):
        assert app.full_dispatch_request().get_data() == b"hello"
    for signal in ("request_started", "request_finished", "request_tearing_down", "appcontext_popped"):
        assert observed.value(SENT, signal=signal) == 1
    assert observed.spans == []
    assert observed.records("request_finished") == []
    assert observed.audit_lines == []


def test_an_error_of_a_request_that_no_server_made_is_told_without_a_request(observe: Observe) -> None:
    app = site()
    app.config["PROPAGATE_EXCEPTIONS"] = False
    observed = observe(app)
    with app.test_request_context("/"):
        assert app.handle_exception(ZeroDivisionError("no")).status_code == 500
    assert observed.value("flask_exceptions_total", exception_type="ZeroDivisionError", http_route="") == 1
    (record,) = observed.records("exception")
    assert "trace_id" not in record
    assert len(observed.journal_lines) == 1
    assert observed.server_spans == []


def test_a_message_flashed_outside_a_request_of_a_server_is_counted(observe: Observe) -> None:
    observed = observe(site())
    with observed.app.test_request_context("/"):
        flash("text", "info")
    assert observed.value("flask_messages_flashed_total", category="info") == 1
    assert observed.value(SENT, signal="message_flashed") == 1
    assert "text" not in observed.stream.getvalue()


def test_the_signals_of_another_app_inside_a_request_are_that_apps(observe: Observe) -> None:
    other = observe(Flask("other"))
    observed = observe(site())
    during: list[float] = []

    @observed.app.route("/")
    def view() -> str:
        with other.app.app_context():
            during.append(other.value("flask_app_contexts_active", flask_app="other"))
        return ""

    observed.client().get("/")
    assert during == [1]
    assert other.value(SENT, flask_app="other", signal="appcontext_pushed") == 1
    assert other.value("flask_app_contexts_active", flask_app="other") == 0
    assert observed.value(SENT, flask_app="shop", signal="appcontext_pushed") == 1


def test_two_threads_that_push_contexts_leave_the_gauge_at_0(observe: Observe) -> None:
    observed = observe(site())

    def push() -> None:
        for _ in range(200):
            with observed.app.app_context():
                pass

    threads = [threading.Thread(target=push) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert observed.value(SENT, signal="appcontext_pushed") == 400
    assert observed.value(SENT, signal="appcontext_popped") == 400
    assert observed.value("flask_app_contexts_active") == 0


# Errors that a handler answered.


def shop_that_answers_errors() -> Flask:
    app = site()
    app.add_url_rule("/", "home", lambda: 1 / 0)
    app.register_error_handler(ZeroDivisionError, lambda _: ("sorry", 409))
    return app


def handled(observed: Observed) -> list[Any]:
    return [record["exception.type"] for record in observed.records("exception") if record["handled"]]


def test_an_error_that_was_answered_is_told_when_asked_for_and_the_request_is_no_error(observe: Observe) -> None:
    observed = observe(shop_that_answers_errors(), record_handled_exceptions=True)
    assert observed.client().get("/").status_code == 409
    assert handled(observed) == ["ZeroDivisionError"]
    assert observed.server_span.status.status_code is StatusCode.UNSET
    assert "error.type" not in observed.record


def test_an_answered_error_of_an_excluded_request_is_not_told(observe: Observe) -> None:
    observed = observe(shop_that_answers_errors(), record_handled_exceptions=True, exclude=("endpoint:home",))
    assert observed.client().get("/").status_code == 409
    assert handled(observed) == []


def test_an_answered_error_outside_a_request_of_a_server_is_not_told(observe: Observe) -> None:
    observed = observe(shop_that_answers_errors(), record_handled_exceptions=True)
    with observed.app.test_request_context("/"):
        assert observed.app.full_dispatch_request().status_code == 409
    assert handled(observed) == []


def test_an_abort_is_an_answer_and_no_error_that_was_answered(observe: Observe) -> None:
    app = site()
    app.add_url_rule("/", view_func=lambda: flask.abort(404))
    app.register_error_handler(404, lambda _: ("nothing here", 404))
    observed = observe(app, record_handled_exceptions=True)
    assert observed.client().get("/").text == "nothing here"
    assert handled(observed) == []
