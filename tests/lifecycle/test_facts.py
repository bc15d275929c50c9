"""What else Flask really does, and what comes of it for the outputs."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Flask
from flask import Response
from flask import signals
from opentelemetry import trace
from opentelemetry.trace import format_trace_id
from prometheus_client import CollectorRegistry

from flask_signal_observability import Observability
from flask_signal_observability import parse_audit_line

from ..conftest import DURATION
from ..conftest import Observed
from . import apps
from . import serving
from .outputs import assert_one_of_each
from .outputs import attributes_of
from .outputs import Facts
from .rows import FLASK
from .signals import Recorder

Observe = Callable[..., Observed]


def serve(observed: Observed, path: str = "/") -> None:
    serving.as_a_server(observed.app, Recorder(observed.app), path, "GET")


# Of the signals and their order.


@pytest.mark.skipif(FLASK >= (3, 2), reason="3.2 binds the request before the context is pushed")
def test_appcontext_pushed_comes_before_the_request_is_bound_and_is_counted_all_the_same(observed: Observed) -> None:
    bound: list[bool] = []

    def pushed(app: Flask) -> None:
        bound.append(flask.has_request_context())

    signals.appcontext_pushed.connect(pushed, sender=observed.app)
    apps.answers(observed.app)
    serve(observed)
    assert bound == [False]
    assert observed.value("flask_signals_total", signal="appcontext_pushed") == 1
    assert_one_of_each(observed, Facts("/", 200, None))


def test_the_route_is_known_from_request_started_on(observed: Observed) -> None:
    routes: list[Any] = []
    apps.answers(observed.app)

    def started(app: Flask) -> None:
        routes.append(flask.request.url_rule and flask.request.url_rule.rule)

    signals.request_started.connect(started, sender=observed.app)
    observed.app.before_request(lambda: routes.append(observed.records("request_started")[0]["http.route"]))
    serve(observed)
    assert routes == ["/", "/"]


@pytest.mark.parametrize("fails", [False, True])
def test_the_user_is_known_though_teardown_functions_run_before_request_tearing_down(
    observed: Observed, fails: bool
) -> None:
    def log_in() -> None:
        flask.g.current_user = "alice"

    def log_out(_: object) -> None:
        flask.g.pop("current_user")

    torn_down: list[Any] = []

    def tearing_down(app: Flask, **_: Any) -> None:
        torn_down.append(flask.g.get("current_user"))

    signals.request_tearing_down.connect(tearing_down, sender=observed.app)
    (apps.divides if fails else apps.answers)(observed.app)
    observed.app.before_request(log_in)
    observed.app.teardown_request(log_out)
    serve(observed)
    assert torn_down == [None]
    assert observed.record["user.id"] == "alice"
    assert attributes_of(observed)["user.id"] == "alice"
    assert parse_audit_line(observed.audit_lines[0]).user == "alice"


def test_the_user_of_a_request_that_only_tears_down_is_read_there(observed: Observed) -> None:
    def view() -> str:
        flask.g.current_user = "alice"
        raise SystemExit

    apps.view_of(view)(observed.app)
    with pytest.raises(SystemExit):
        serve(observed)
    assert observed.record["user.id"] == "alice"


def test_the_receivers_stay_connected_though_nobody_keeps_the_extension(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    registry = CollectorRegistry()
    app = Flask("shop")
    Observability(app, registry=registry, tracing=False, logs=False, audit=False)
    gc.collect()
    app.test_client().get("/")
    counted = registry.get_sample_value("flask_signals_total", {"flask_app": "shop", "signal": "request_finished"})
    assert counted == 1


# Of the answer and its body.


def test_the_status_is_the_one_that_the_client_gets_whatever_request_finished_said(observe: Observe) -> None:
    app = Flask("shop")
    apps.answers(app)
    inner = app.wsgi_app

    def unavailable(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return inner(environ, lambda _, headers, *rest: start_response("503 Service Unavailable", headers, *rest))

    app.wsgi_app = unavailable  # type: ignore[method-assign]
    observed = observe(app)
    recorder = Recorder(app)
    serving.as_a_server(app, recorder, "/", "GET")
    assert "F[200]" in recorder.notes
    assert_one_of_each(observed, Facts("/", 503, "503"))


def test_no_vary_cookie_is_added_though_a_session_is_there_and_a_user_is_told(observed: Observed) -> None:
    def log_in() -> None:
        flask.g.current_user = "alice"

    observed.app.secret_key = "x"
    observed.app.add_url_rule("/login", view_func=lambda: flask.session.update(seen=1) or "ok")
    observed.app.before_request(log_in)
    apps.renders(observed.app)
    client = observed.client()
    assert client.get("/login").headers["Vary"] == "Cookie"
    assert "Vary" not in client.get("/").headers
    assert observed.records("request_finished")[-1]["user.id"] == "alice"


def test_a_file_ends_though_call_on_close_never_runs_for_it(observed: Observed) -> None:
    closed: list[bool] = []

    def view() -> Response:
        response = flask.send_file(__file__)
        response.call_on_close(lambda: closed.append(True))
        assert response.direct_passthrough
        return response

    apps.view_of(view)(observed.app)
    serve(observed)
    assert closed == []
    assert_one_of_each(observed, Facts("/", 200, None))


def test_call_on_close_of_a_stream_runs_while_its_request_is_still_in_flight(observed: Observed) -> None:
    in_flight: list[float] = []

    def view() -> Response:
        response = Response(apps.chunks())
        response.call_on_close(lambda: in_flight.append(observed.value("http_server_active_requests")))
        return response

    apps.view_of(view)(observed.app)
    serving.for_a_client_that_leaves(observed.app, Recorder(observed.app), "/", "GET")
    assert in_flight == [1]
    assert_one_of_each(observed, Facts("/", 200, None))


@pytest.mark.parametrize("status", [404, 410, 500])
def test_an_error_page_that_nobody_reads_or_closes_has_ended_at_once(observed: Observed, status: int) -> None:
    pages: list[Response] = []
    apps.view_of(lambda: flask.abort(status))(observed.app)

    @observed.app.after_request
    def look(response: Response) -> Response:
        pages.append(response)
        assert response.is_streamed
        assert response.content_length
        return response

    body = serving.call(observed.app, "/", "GET")
    assert len(pages) == 1
    assert_one_of_each(observed, Facts("/", status, "500" if status == 500 else None))
    serving.close(body)


HOSTILE_PATH = "/a\nb\x1b[2Jc\u2028d\x85e\r\x00f"
HOSTILE_URL = "/a%0Ab%1B%5B2Jc%E2%80%A8d%C2%85e%0D%00f"


def test_a_path_with_newlines_and_escapes_is_told_as_it_is_on_one_audit_line(observed: Observed) -> None:
    serve(observed, HOSTILE_URL)
    assert attributes_of(observed)["url.path"] == HOSTILE_PATH
    (line,) = observed.audit_lines
    assert parse_audit_line(line).path == HOSTILE_PATH


def test_a_path_with_newlines_and_escapes_is_told_as_it_is_in_one_line_of_json(observed: Observed) -> None:
    serve(observed, HOSTILE_URL)
    lines = observed.stream.getvalue().splitlines()
    assert [json.loads(line)["url.path"] for line in lines] == [HOSTILE_PATH] * 2


def test_each_of_two_streams_that_are_read_in_turns_has_its_own_trace(observed: Observed) -> None:
    def chunks() -> Iterator[str]:
        for _ in range(3):
            yield format_trace_id(trace.get_current_span().get_span_context().trace_id)

    apps.view_of(chunks)(observed.app)
    first, second = serving.call(observed.app, "/", "GET"), serving.call(observed.app, "/", "GET")
    traces = [next(body).decode() for _ in range(3) for body in (first, second)]
    assert traces == traces[:2] * 3
    assert len(set(traces)) == 2
    assert [*first, *second] == []
    assert [record["trace_id"] for record in observed.records("request_finished")] == traces[:2]
    assert observed.value(f"{DURATION}_count") == 2
