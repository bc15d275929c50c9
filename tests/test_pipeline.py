from __future__ import annotations

import gc
from collections import deque
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from flask import Response
from werkzeug.test import create_environ
from werkzeug.test import run_wsgi_app

from flask_signal_observability import Sink
from flask_signal_observability.record import current_record

from .conftest import DURATION

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from flask_signal_observability import EventRecord
    from flask_signal_observability import RequestRecord

    from .conftest import Observed

    Observe = Callable[..., Observed]


class Recording(Sink):
    """Keeps what it is told, stage by stage."""

    name = "recording"

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.parents: list[RequestRecord | None] = []
        self.finished: list[RequestRecord] = []
        self.events: list[tuple[EventRecord, RequestRecord | None]] = []

    def open(self, record: RequestRecord) -> None:
        self.stages.append("open")
        self.parents.append(record.parent)

    def start(self, record: RequestRecord) -> None:
        self.stages.append("start")

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        self.stages.append(event.name)
        self.events.append((event, record))

    def finish(self, record: RequestRecord) -> None:
        self.stages.append("finish")
        self.finished.append(record)

    def abandon(self, record: RequestRecord) -> None:
        self.stages.append("abandon")


def streaming(app: Flask) -> None:
    def chunks() -> Iterator[str]:
        yield from "abc"

    app.add_url_rule("/stream", "stream", lambda: Response(chunks()))
    app.add_url_rule("/", "home", lambda: "home")


def throw_a_body_away(app: Flask) -> None:
    """Serve a stream as a server that neither reads nor closes it."""
    body = app(create_environ("/stream"), lambda *_: lambda _: None)
    del body
    gc.collect()


# The stages.


def test_a_request_goes_through_its_stages_in_order(observe: Observe) -> None:
    sink = Recording()
    observed = observe(sinks=[sink])
    observed.app.add_url_rule("/", view_func=lambda: 1 / 0)
    observed.client().get("/")
    assert sink.stages == ["open", "start", "exception", "finish"]


def test_a_request_that_turns_out_to_be_excluded_is_abandoned_and_never_finished(observe: Observe) -> None:
    sink = Recording()
    observed = observe(sinks=[sink], exclude=("endpoint:ping", "/healthz"))
    observed.app.add_url_rule("/ping", "ping", lambda: "")
    observed.app.add_url_rule("/healthz", "healthz", lambda: "")
    observed.client().get("/ping")
    assert sink.stages == ["open", "abandon"]
    observed.client().get("/healthz")
    assert sink.stages == ["open", "abandon"]


@pytest.mark.parametrize("stage", ["open", "start", "event", "finish"])
def test_a_sink_that_fails_leaves_the_others_theirs(stage: str, observe: Observe) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError(stage)

    broken = type("Broken", (Sink,), {"name": "broken", stage: fail})()
    after = Recording()
    observed = observe(sinks=[broken, after], strict=False)
    observed.app.add_url_rule("/", view_func=lambda: 1 / 0)
    assert observed.client().get("/").status_code == 500
    assert after.stages == ["open", "start", "exception", "finish"]
    assert observed.value("observability_errors_total", sink="broken", stage=stage) == 1
    assert observed.record["http.response.status_code"] == 500


def test_a_request_is_finished_once(observe: Observe) -> None:
    sink = Recording()
    observed = observe(sinks=[sink])
    observed.app.add_url_rule("/", view_func=lambda: "")
    observed.client().get("/")
    (record,) = sink.finished
    observed.pipeline.finish(record)
    assert sink.finished == [record]
    assert observed.duration_sample.value == 1


def test_an_error_that_is_told_twice_is_one_and_the_first_gives_the_type(observe: Observe) -> None:
    sink = Recording()
    observed = observe(sinks=[sink])
    first, second = KeyError("first"), ValueError("second")

    @observed.app.route("/")
    def view() -> str:
        record = current_record.get()
        for error in (first, first, second, first):
            observed.pipeline.fail(record, error)
        return ""

    observed.client().get("/")
    assert [event.error for event, _ in sink.events] == [first, second]
    assert observed.record["error.type"] == "KeyError"
    assert observed.value("flask_exceptions_total") == 2


# Requests in requests.


def test_a_request_made_inside_another_one_knows_it(observe: Observe) -> None:
    sink = Recording()
    observed = observe(sinks=[sink])
    observed.app.add_url_rule("/inner", "inner", lambda: "inner")
    observed.app.add_url_rule("/", view_func=lambda: observed.client().get("/inner").text)
    assert observed.client().get("/").text == "inner"
    inner, outer = sink.finished
    assert sink.parents == [None, outer]
    assert inner.request_id != outer.request_id


def test_a_request_that_is_handed_on_to_another_app_keeps_its_id(observe: Observe) -> None:
    front, back = Recording(), Recording()
    inner = observe(Flask("back"), sinks=[back])
    inner.app.add_url_rule("/", view_func=lambda: "back")
    outer = observe(Flask("front"), sinks=[front])
    outer.app.wsgi_app.wsgi_app = inner.app.wsgi_app  # type: ignore[attr-defined]
    body, _, headers = run_wsgi_app(outer.app, create_environ("/"))
    assert b"".join(body) == b"back"
    assert headers.getlist("X-Request-ID") == [back.finished[0].request_id] == [front.finished[0].request_id]
    assert back.parents == front.finished


def test_a_request_after_one_in_the_same_thread_has_no_parent(observe: Observe) -> None:
    sink = Recording()
    observed = observe(sinks=[sink])
    observed.app.add_url_rule("/", view_func=lambda: "")
    for _ in range(2):
        observed.client().get("/")
    assert sink.parents == [None, None]


# Bodies that were thrown away.


@pytest.mark.parametrize("path", ["/", "/metrics"])
def test_a_request_whose_body_was_thrown_away_is_finished_by_the_next_request_or_scrape(
    path: str, observe: Observe
) -> None:
    sink = Recording()
    observed = observe(sinks=[sink])
    streaming(observed.app)
    throw_a_body_away(observed.app)
    assert sink.finished == []
    observed.client().get(path)
    dropped = sink.finished[0]
    assert (dropped.route, dropped.status, dropped.response_size) == ("/stream", 200, 0)
    assert observed.value(f"{DURATION}_count", http_route="/stream") == 1
    assert observed.value("http_server_active_requests") == 0
    assert observed.value("flask_app_contexts_active") == 0


def test_a_thread_that_comes_second_to_a_body_that_was_thrown_away_serves_its_request_all_the_same(
    observe: Observe,
) -> None:
    class Contested(deque[Any]):
        """Seen by this thread, and taken by another one before it could."""

        def popleft(self) -> Any:
            self.clear()
            return super().popleft()

    observed = observe()
    streaming(observed.app)
    throw_a_body_away(observed.app)
    observed.pipeline._dropped = Contested(observed.pipeline._dropped)
    assert observed.client().get("/").status_code == 200
    assert observed.client().get("/metrics").status_code == 200


def test_several_that_were_thrown_away_are_finished_each_once_in_their_order(observe: Observe) -> None:
    sink = Recording()
    observed = observe(sinks=[sink])
    streaming(observed.app)
    for _ in range(3):
        throw_a_body_away(observed.app)
    observed.client().get("/")
    observed.client().get("/")
    assert [record.route for record in sink.finished] == ["/stream"] * 3 + ["/"] * 2
    starts = [record.started_ns for record in sink.finished[:3]]
    assert starts == sorted(starts)
    assert len(observed.server_spans) == 5


def test_what_is_finished_late_lasts_as_long_as_it_was_there_and_is_no_part_of_the_next(observe: Observe) -> None:
    observed = observe()
    streaming(observed.app)
    throw_a_body_away(observed.app)
    observed.client().get("/")
    stream, home = observed.server_spans
    assert stream.context.trace_id != home.context.trace_id
    assert home.parent is None
    assert stream.end_time <= home.start_time
    late, _ = observed.records("request_finished")
    assert late["trace_id"] == f"{stream.context.trace_id:032x}"
    assert current_record.get() is None


# Outside of requests.


def test_an_error_outside_of_a_request_is_told_without_one(observe: Observe) -> None:
    sink = Recording()
    observed = observe(sinks=[sink])
    error = ZeroDivisionError("division by zero")
    observed.pipeline.fail(None, error)
    ((event, record),) = sink.events
    assert (event.name, event.error, record) == ("exception", error, None)
    assert observed.value("flask_exceptions_total", exception_type="ZeroDivisionError", http_route="") == 1
    assert len(observed.journal_lines) == 1


def test_a_user_function_that_fails_is_nobody_and_is_counted(observe: Observe) -> None:
    def user() -> str:
        raise LookupError

    observed = observe(user=user, strict=False)
    assert observed.pipeline.user() is None
    assert observed.value("observability_errors_total", sink="identity", stage="user") == 1


def test_a_server_that_names_no_method_is_told_as_other(observe: Observe) -> None:
    sink = Recording()
    observed = observe(sinks=[sink])
    environ = create_environ("/")
    del environ["REQUEST_METHOD"]
    record = observed.pipeline.open(environ)
    observed.pipeline.finish(record)
    assert sink.finished == [record]
    assert record.method == "_OTHER"
    assert observed.duration_sample.labels["http_request_method"] == "_OTHER"
