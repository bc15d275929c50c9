from __future__ import annotations

import contextvars
import gc
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask import Response
from opentelemetry import context as otel_context
from opentelemetry.trace import StatusCode
from werkzeug.test import create_environ
from werkzeug.test import run_wsgi_app

from flask_signal_observability import Sink
from flask_signal_observability.record import current_record
from flask_signal_observability.record import RequestRecord

from .conftest import DURATION
from .conftest import Observed

Observe = Callable[..., Observed]


def serve(app: Flask, path: str = "/", **environ: Any) -> tuple[list[str], list[tuple[str, str]], Any]:
    """Call the app as a server does, and return the statuses, the headers and the body as it came."""
    statuses: list[str] = []
    headers: list[tuple[str, str]] = []

    def start_response(status: str, given: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        statuses.append(status)
        headers[:] = given
        return lambda _: None

    return statuses, headers, app(create_environ(path, environ_overrides=environ), start_response)


def three_chunks(pause_seconds: float = 0.0) -> Iterator[str]:
    for chunk in "abc":
        time.sleep(pause_seconds)
        yield chunk


def test_a_buffered_body_reaches_the_server_as_the_object_that_the_app_returned(observe: Observe) -> None:
    observed = observe()
    body = [b"as it is"]
    observed.app.wsgi_app.wsgi_app = lambda environ, start_response: (start_response("200 OK", []) and None) or body
    assert serve(observed.app)[2] is body
    assert observed.record["http.response.status_code"] == 200


def test_status_headers_and_body_are_those_of_the_bare_app_but_for_the_request_id(observe: Observe) -> None:
    def make() -> Flask:
        app = Flask("shop")
        app.add_url_rule("/", view_func=lambda: ("hello", 201, {"X-Own": "1"}))
        return app

    bare = run_wsgi_app(make(), create_environ("/"))
    watched = run_wsgi_app(observe(make()).app, create_environ("/"))
    assert b"".join(bare[0]) == b"".join(watched[0])
    assert bare[1] == watched[1] == "201 CREATED"
    assert [h for h in watched[2].to_wsgi_list() if h[0] != "X-Request-ID"] == bare[2].to_wsgi_list()


def test_the_request_id_of_the_caller_is_echoed_on_an_error_page_too(observed: Observed) -> None:
    observed.app.add_url_rule("/", view_func=lambda: 1 / 0)
    response = observed.client().get("/", headers={"X-Request-ID": "abc-1"})
    assert response.status_code == 500
    assert response.headers.getlist("X-Request-ID") == ["abc-1"]
    assert observed.record["request_id"] == "abc-1"


def test_a_request_id_that_the_view_set_itself_stays_alone(observed: Observed) -> None:
    observed.app.add_url_rule("/", view_func=lambda: ("", {"x-request-id": "own"}))
    assert observed.client().get("/").headers.getlist("X-Request-ID") == ["own"]


def test_a_stream_lasts_until_its_last_chunk(observed: Observed) -> None:
    observed.app.add_url_rule("/", view_func=lambda: Response(three_chunks(0.1)))
    assert observed.client().get("/").data == b"abc"
    assert observed.record["duration_seconds"] >= 0.3
    assert observed.value(f"{DURATION}_sum") >= 0.3
    span = observed.server_span
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time >= 300_000_000
    assert observed.record["http.response.body.size"] == 3


def test_a_stream_whose_length_is_known_lasts_as_long_as_one_whose_length_is_not(observed: Observed) -> None:
    observed.app.add_url_rule("/", view_func=lambda: Response(three_chunks(0.02), headers={"Content-Length": "3"}))
    assert observed.client().get("/").data == b"abc"
    assert observed.record["duration_seconds"] >= 0.06


def test_a_stream_that_fails_half_way_is_an_error_whose_status_stays(observed: Observed) -> None:
    def chunks() -> Iterator[str]:
        yield "a"
        raise LookupError("gone")

    observed.app.add_url_rule("/", view_func=lambda: Response(chunks()))
    _, _, body = serve(observed.app)
    with pytest.raises(LookupError):
        list(body)
    body.close()
    assert observed.record["http.response.status_code"] == 200
    assert observed.record["error.type"] == "LookupError"
    assert observed.record["level"] == "error"
    assert observed.server_span.status.status_code is StatusCode.ERROR
    assert observed.duration_sample.labels["http_response_status_code"] == "200"
    assert observed.duration_sample.labels["error_type"] == "LookupError"
    assert len(observed.journal_lines) == 1


def test_a_stream_that_fails_before_its_first_chunk_has_sent_no_status(observed: Observed) -> None:
    def chunks() -> Iterator[str]:
        raise LookupError("gone")
        yield ""

    observed.app.add_url_rule("/", view_func=lambda: Response(chunks()))
    with pytest.raises(LookupError):
        list(serve(observed.app)[2])
    assert "http.response.status_code" not in observed.record
    assert observed.duration_sample.labels["http_response_status_code"] == ""


def test_a_client_that_leaves_is_told_and_is_no_error(observed: Observed) -> None:
    observed.app.add_url_rule("/", view_func=lambda: Response(three_chunks()))
    _, _, body = serve(observed.app)
    next(body)
    assert observed.value("http_server_active_requests") == 1
    body.close()
    assert observed.record["client_disconnected"] is True
    assert "error.type" not in observed.record
    assert observed.server_span.attributes["client_disconnected"] is True
    assert observed.value("http_server_active_requests") == 0


def test_a_stream_that_was_read_to_its_end_and_closed_is_told_once(observed: Observed) -> None:
    observed.app.add_url_rule("/", view_func=lambda: Response(three_chunks()))
    _, _, body = serve(observed.app)
    list(body)
    body.close()
    body.close()
    assert "client_disconnected" not in observed.record
    assert observed.duration_sample.value == 1


def test_a_stream_that_nobody_reads_or_closes_ends_when_it_is_dropped(observed: Observed) -> None:
    observed.app.add_url_rule("/", view_func=lambda: Response(three_chunks()))
    serve(observed.app)
    gc.collect()
    assert observed.client().get("/metrics").status_code == 200
    assert observed.value("http_server_active_requests") == 0
    assert observed.duration_sample.value == 1
    assert len(observed.server_spans) == len(observed.records("request_finished")) == 1


def test_a_stream_dropped_while_a_lock_of_a_sink_is_held_does_not_hang(observed: Observed) -> None:
    observed.app.add_url_rule("/", view_func=lambda: Response(three_chunks()))
    cycle = [serve(observed.app)]
    cycle.append(cycle)
    with observed.pipeline.sinks[-1].families.store.lock:
        del cycle
        gc.collect()
    observed.client().get("/metrics")
    assert observed.value("http_server_active_requests") == 0


def test_the_head_of_a_stream_is_no_client_that_left(observed: Observed) -> None:
    observed.app.add_url_rule("/", view_func=lambda: Response(three_chunks()))
    _, _, body = serve(observed.app, REQUEST_METHOD="HEAD")
    body.close()
    assert "client_disconnected" not in observed.record


def test_close_reaches_the_body_of_the_app_and_what_it_raises_is_told(observed: Observed) -> None:
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a"])

        def close(self) -> None:
            raise OSError("cannot close")

    observed.app.wsgi_app.wsgi_app = lambda environ, start_response: (start_response("200 OK", []) and None) or Body()
    _, _, body = serve(observed.app)
    with pytest.raises(OSError, match="cannot close"):
        body.close()
    assert observed.record["error.type"] == "OSError"


def test_a_middleware_that_answers_with_a_generator_is_timed_to_its_end(observed: Observed) -> None:
    def middleware(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        for chunk in three_chunks(0.02):
            yield chunk.encode()

    observed.app.wsgi_app.wsgi_app = middleware
    assert b"".join(serve(observed.app)[2]) == b"abc"
    assert observed.record["duration_seconds"] >= 0.06


def test_a_file_goes_to_the_server_in_its_own_wrapper(observed: Observed, tmp_path: Any) -> None:
    class FileWrapper:
        def __init__(self, file: Any, size: int = 8192) -> None:
            self.close = file.close

    path = tmp_path / "a.txt"
    path.write_text("hello")
    from flask import send_file

    observed.app.add_url_rule("/", view_func=lambda: send_file(path))
    _, headers, body = serve(observed.app, **{"wsgi.file_wrapper": FileWrapper})
    assert isinstance(body, FileWrapper)
    body.close()
    assert ("Content-Length", "5") in headers
    assert observed.record["http.response.body.size"] == 5


def test_the_last_status_given_to_start_response_counts(observed: Observed) -> None:
    def twice(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        try:
            raise KeyError("late")
        except KeyError as error:
            start_response("503 Service Unavailable", [], (KeyError, error, None))
        return [b""]

    observed.app.wsgi_app.wsgi_app = twice
    assert serve(observed.app)[0] == ["200 OK", "503 Service Unavailable"]
    assert observed.record["http.response.status_code"] == 503
    assert observed.record["error.type"] == "503"


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_an_exit_of_the_worker_is_told_and_passes(observed: Observed, error: BaseException) -> None:
    def view() -> str:
        raise error

    observed.app.add_url_rule("/", view_func=view)
    with pytest.raises(type(error)):
        serve(observed.app)
    assert observed.record["error.type"] == type(error).__name__
    assert "http.response.status_code" not in observed.record
    assert observed.server_span.status.status_code is StatusCode.ERROR
    assert observed.value("http_server_active_requests") == 0
    assert current_record.get() is None


def test_nothing_stays_current_after_a_request_or_between_two_chunks(observed: Observed) -> None:
    before = otel_context.get_current()
    observed.app.add_url_rule("/", view_func=lambda: Response(three_chunks()))
    _, _, body = serve(observed.app)
    for _ in body:
        assert otel_context.get_current() is before
        assert current_record.get() is None
    body.close()
    assert otel_context.get_current() is before
    assert current_record.get() is None


def test_traceresponse_and_server_timing_name_the_trace_when_asked_for(observe: Observe) -> None:
    observed = observe(trace_response=True)
    observed.app.add_url_rule("/", view_func=lambda: "")
    headers = observed.client().get("/").headers
    context = observed.server_span.get_span_context()
    assert headers["traceresponse"] == f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    assert headers["Server-Timing"] == f'traceparent;desc="{headers["traceresponse"]}"'


def test_a_status_line_that_is_none_is_served_and_left_out(observed: Observed) -> None:
    observed.app.wsgi_app.wsgi_app = lambda environ, start_response: (start_response("odd", []) and None) or [b""]
    assert serve(observed.app)[0] == ["odd"]
    assert "http.response.status_code" not in observed.record


def test_headers_and_exc_info_may_come_as_servers_take_them(observed: Observed) -> None:
    def lenient(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", iter([("Content-Length", "2"), ("X-Own", "1")]), exc_info=None)
        return [b"ok"]

    observed.app.wsgi_app.wsgi_app = lenient
    _, headers, _ = serve(observed.app, HTTP_X_REQUEST_ID="r")
    assert headers == [("Content-Length", "2"), ("X-Own", "1"), ("X-Request-ID", "r")]
    assert observed.record["http.response.body.size"] == 2


def test_a_status_that_the_server_refused_since_it_had_sent_another_is_not_told(observed: Observed) -> None:
    def late(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first"
        try:
            raise KeyError("late")
        except KeyError:
            start_response("500 X", [], sys.exc_info())

    observed.app.wsgi_app.wsgi_app = late
    sent: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        if exc_info:
            raise exc_info[1]
        sent.append(status)

    with pytest.raises(KeyError):
        list(observed.app(create_environ("/"), start_response))
    assert sent == ["200 OK"]
    assert observed.record["http.response.status_code"] == 200
    assert observed.record["error.type"] == "KeyError"


def test_what_write_has_sent_has_sent_the_status(observed: Observed) -> None:
    def writes(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])(b"hello")
        raise ValueError("after")

    observed.app.wsgi_app.wsgi_app = writes
    with pytest.raises(ValueError, match="after"):
        serve(observed.app)
    assert observed.record["http.response.status_code"] == 200
    assert observed.record["error.type"] == "ValueError"


@pytest.mark.parametrize("body", ["x" * 500, "streamed"])
def test_a_head_request_has_no_body_to_measure(observed: Observed, body: str) -> None:
    observed.app.add_url_rule("/", view_func=lambda: Response(three_chunks()) if body == "streamed" else body)
    assert observed.client().head("/").data == b""
    assert "http.response.body.size" not in observed.record
    assert observed.value("http_server_response_body_size_bytes_count") == 0


def test_a_sequence_of_a_middleware_keeps_its_length(observed: Observed) -> None:
    class Chunks(tuple):
        pass

    body = Chunks([b"a", b"b"])
    observed.app.wsgi_app.wsgi_app = lambda environ, start_response: (start_response("200 OK", []) and None) or body
    assert serve(observed.app)[2] is body


def test_the_file_wrapper_of_a_middleware_reaches_the_server(observed: Observed) -> None:
    class FileWrapper:
        pass

    body = FileWrapper()
    observed.app.wsgi_app.wsgi_app = lambda environ, start_response: (start_response("200 OK", []) and None) or body
    assert serve(observed.app, **{"wsgi.file_wrapper": FileWrapper})[2] is body


def test_an_error_while_a_finished_body_is_closed_is_in_the_journal_and_contradicts_nothing(observed: Observed) -> None:
    def view() -> Response:
        response = Response(three_chunks())
        response.call_on_close(lambda: 1 / 0)
        return response

    observed.app.add_url_rule("/", view_func=view)
    _, _, body = serve(observed.app)
    assert list(body) == [b"a", b"b", b"c"]
    with pytest.raises(ZeroDivisionError):
        body.close()
    assert len(observed.journal_lines) == 1
    assert observed.records("exception") == []
    assert observed.value("flask_exceptions_total") == 0
    assert observed.server_span.status.status_code is StatusCode.UNSET


def test_a_stream_that_renders_for_ever_holds_no_growing_list(observed: Observed) -> None:
    from flask import render_template_string
    from flask import stream_with_context

    held: list[int] = []

    def chunks() -> Iterator[str]:
        for _ in range(300):
            yield render_template_string("x")
            held.append(len(current_record.get().signals))

    observed.app.add_url_rule("/", view_func=lambda: Response(stream_with_context(chunks())))
    observed.client().get("/").get_data()
    assert max(held) <= 256
    assert observed.value("flask_signals_total", signal="template_rendered") == 300


def test_renders_of_a_body_that_was_dropped_stay_in_its_trace(observed: Observed) -> None:
    from flask import stream_template_string

    observed.app.add_url_rule("/", view_func=lambda: stream_template_string("{% for i in range(9) %}x{% endfor %}"))
    body = serve(observed.app)[2]
    next(body)
    del body
    gc.collect()
    observed.client().get("/metrics")
    (render,) = [span for span in observed.spans if span.name.startswith("render")]
    assert render.parent.span_id == observed.server_span.context.span_id
    assert observed.value("flask_app_contexts_active") == 0


def test_a_copied_context_that_outlives_its_request_has_no_parent_and_keeps_no_records(observed: Observed) -> None:
    contexts: list[contextvars.Context] = []
    observed.app.add_url_rule("/", view_func=lambda: contexts.append(contextvars.copy_context()) or "")
    observed.client().get("/")
    for _ in range(5):
        contexts[-1].run(observed.client().get, "/")
    assert len({span.context.trace_id for span in observed.server_spans}) == 6
    gc.collect()
    assert len([thing for thing in gc.get_objects() if type(thing) is RequestRecord and thing.app is observed.app]) <= 7
    assert all(context[current_record].parent is None for context in contexts)


def test_a_context_popped_after_its_request_counts_nobody_elses_out(observed: Observed) -> None:
    def view() -> str:
        context = contextvars.copy_context()
        app_context = context.run(observed.app.app_context)
        context.run(app_context.push)
        late.append((context, app_context))
        return ""

    late: list[Any] = []
    observed.app.add_url_rule("/", view_func=view)
    observed.client().get("/")
    with observed.app.app_context():
        assert observed.value("flask_app_contexts_active") == 1
        for context, app_context in late:
            context.run(app_context.pop)
        assert observed.value("flask_app_contexts_active") == 1
    assert observed.value("flask_app_contexts_active") == 0


def test_a_request_that_a_dispatcher_hands_on_has_one_id(observe: Observe) -> None:
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    main, api = Flask("main"), Flask("api")
    api.add_url_rule("/", view_func=lambda: "api")
    inner = observe(api)
    main.wsgi_app = DispatcherMiddleware(main.wsgi_app, {"/api": api})
    outer = observe(main)
    response = outer.client().get("/api/")
    assert outer.record["request_id"] == inner.record["request_id"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_body_that_the_server_never_gets_is_closed_once(observe: Observe, streamed: bool) -> None:
    def leave(*_: object) -> None:
        raise SystemExit

    class Leaving(Sink):
        finish = detach = leave

    observed = observe(sinks=[Leaving()])
    closed: list[str] = []

    @observed.app.get("/")
    def index() -> Response:
        response = Response(three_chunks() if streamed else "whole")
        response.call_on_close(lambda: closed.append("once"))
        return response

    with pytest.raises(SystemExit):
        serve(observed.app)
    assert closed == ["once"]


class ExitingBody:
    def __iter__(self) -> Iterator[bytes]:
        return iter([b"never sent"])

    def close(self) -> None:
        raise SystemExit


class UnreadableBody(ExitingBody):
    @property
    def close(self) -> Any:
        raise RuntimeError("it does not even say how to close it")


@pytest.mark.parametrize("kind", [ExitingBody, UnreadableBody])
def test_a_body_that_cannot_be_closed_leaves_no_request_in_flight_and_hides_no_error(
    observe: Observe, kind: type[ExitingBody]
) -> None:
    class Interrupted(Sink):
        def detach(self, record: RequestRecord) -> None:
            raise KeyboardInterrupt

    observed = observe(sinks=[Interrupted()], strict=False)
    observed.app.wsgi_app.wsgi_app = lambda environ, start_response: (start_response("200 OK", []) and None) or kind()
    with pytest.raises(KeyboardInterrupt):
        serve(observed.app)
    assert observed.value("http_server_active_requests") == 0
