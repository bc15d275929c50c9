"""A streamed body is a part of its request, for as long as it lasts, and costs no more the longer that is."""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from itertools import islice
from typing import Any

import flask
import pytest
from flask import Response
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from opentelemetry.trace import Tracer
from werkzeug.test import create_environ

from flask_signal_observability import add_request_context
from flask_signal_observability import annotate
from flask_signal_observability.record import current_record

from .conftest import Observed
from .lifecycle.outputs import assert_quiet
from .test_boundary import serve

Observe = Callable[..., Observed]
Events = Callable[[], Iterator[str]]

WARM_UP_CHUNKS = 1_000
CHUNKS = 50_000
KEPT_BYTES = 32 * 1024
"""Less than a byte a chunk: what the interpreter keeps for itself, whatever the number of chunks."""


def plain_events() -> Iterator[str]:
    while True:
        yield "data: tick\n\n"


def annotating_events() -> Iterator[str]:
    while True:
        annotate(last="tick")
        yield "data: tick\n\n"


def leaking_events() -> Iterator[str]:
    while True:
        otel_context.attach(otel_context.set_value("leaked", object()))
        yield "data: tick\n\n"


def events_in_app_contexts() -> Iterator[str]:
    while True:
        with flask.current_app.app_context():
            yield "data: tick\n\n"


def bytes_kept(body: Iterator[bytes], chunks: int) -> int:
    assert len(list(islice(body, WARM_UP_CHUNKS))) == WARM_UP_CHUNKS
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in islice(body, chunks):
            pass
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before


@pytest.mark.parametrize(
    ("events", "chunks"),
    [(plain_events, CHUNKS), (annotating_events, CHUNKS), (leaking_events, CHUNKS), (events_in_app_contexts, 10_000)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_hour_of_server_sent_events_costs_no_growing_memory(observe: Observe, events: Events, chunks: int) -> None:
    observed = observe(log_level="INFO")

    def view() -> Response:
        return Response(flask.stream_with_context(events()), mimetype="text/event-stream")

    observed.app.add_url_rule("/", view_func=view)
    body = serve(observed.app)[2]
    assert bytes_kept(body, chunks) < KEPT_BYTES
    body.close()
    assert observed.record["client_disconnected"] is True
    assert observed.record["http.response.body.size"] == (WARM_UP_CHUNKS + chunks) * len("data: tick\n\n")


def test_renders_that_a_stream_swallows_do_not_pile_up(observed: Observed) -> None:
    held: list[int] = []

    def chunks() -> Iterator[str]:
        for _ in range(500):
            with contextlib.suppress(ZeroDivisionError):
                flask.render_template_string("{{ 1 // 0 }}")
            held.append(len(current_record.get().renders))
            yield "data: tick\n\n"

    observed.app.add_url_rule("/", view_func=lambda: Response(flask.stream_with_context(chunks())))
    list(serve(observed.app)[2])
    assert max(held) <= 256


def streaming(observed: Observed, chunks: Callable[[], Iterable[Any]], **response: Any) -> Any:
    """Add a view that answers with these chunks, and return its unread body."""
    observed.app.add_url_rule("/", view_func=lambda: Response(chunks(), **response))
    return serve(observed.app)[2]


def test_what_a_generator_logs_belongs_to_the_request(observed: Observed) -> None:
    logged: list[Any] = []

    def chunks() -> Iterator[str]:
        for chunk in "abc":
            logged.append(add_request_context(None, "info", {}))
            yield chunk
        logged.append(add_request_context(None, "info", {}))

    list(streaming(observed, chunks))
    ids = ("request_id", "trace_id", "span_id", "service")
    assert logged == [{key: observed.record[key] for key in ids}] * 4


def test_a_span_held_open_across_chunks_has_what_is_made_in_between_below_it(
    observed: Observed, tracer: Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    def chunks() -> Iterator[str]:
        with tracer.start_as_current_span("held"):
            for chunk in "abc":
                with tracer.start_as_current_span("part"):
                    yield chunk
        tracer.start_span("after").end()

    before = otel_context.get_current()
    for _ in streaming(observed, chunks):
        assert otel_context.get_current() is before
    spans = {span.name: span for span in observed.spans}
    server = observed.server_span.context.span_id
    assert [span.name for span in observed.spans] == ["part", "part", "part", "held", "after", "GET /"]
    assert spans["part"].parent.span_id == spans["held"].context.span_id
    assert spans["held"].parent.span_id == spans["after"].parent.span_id == server
    assert_quiet(caplog)


@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_span_held_open_by_a_client_that_leaves_is_ended_below_the_request(
    observed: Observed, tracer: Tracer, read: int, caplog: pytest.LogCaptureFixture
) -> None:
    def chunks() -> Iterator[str]:
        with tracer.start_as_current_span("held"):
            yield from "abc"

    body = streaming(observed, chunks)
    assert len(list(islice(body, read))) == read
    body.close()
    held = [span for span in observed.spans if span.name == "held"]
    assert [span.parent.span_id for span in held] == [observed.server_span.context.span_id] * min(read, 1)
    assert observed.record["client_disconnected"] is True
    assert observed.record["http.response.body.size"] == read
    assert observed.value("http_server_active_requests") == 0
    assert otel_context.get_current() == {}
    assert_quiet(caplog)


def test_a_context_that_a_generator_attaches_and_leaks_stays_in_its_stream(
    observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    def chunks() -> Iterator[str]:
        for chunk in "abc":
            seen.append(baggage.get_baggage("chunk"))
            otel_context.attach(baggage.set_baggage("chunk", chunk))
            yield chunk

    for _ in streaming(observed, chunks):
        assert baggage.get_baggage("chunk") is None
    assert seen == [None, "a", "b"]
    assert otel_context.get_current() == {}
    assert_quiet(caplog)


def test_two_streams_that_are_read_in_turn_keep_their_requests_apart(
    observed: Observed, tracer: Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    def view(number: int) -> Response:
        def chunks() -> Iterator[str]:
            with tracer.start_as_current_span(f"held {number}"):
                for chunk in "abc":
                    tracer.start_span(f"part {number}").end()
                    yield chunk

        return Response(chunks())

    observed.app.add_url_rule("/<int:number>", view_func=view)
    bodies = [serve(observed.app, f"/{number}")[2] for number in (1, 2)]
    for _ in range(4):
        for body in bodies:
            next(body, None)
    spans = {span.name: span for span in observed.spans}
    servers = {span.attributes["url.path"]: span for span in observed.server_spans}
    for number in (1, 2):
        held = spans[f"held {number}"]
        assert held.parent.span_id == servers[f"/{number}"].context.span_id
        parts = [span for span in observed.spans if span.name == f"part {number}"]
        assert [part.parent.span_id for part in parts] == [held.context.span_id] * 3
    assert_quiet(caplog)


def test_a_stream_that_fails_half_way_tells_its_error_and_what_it_had_sent(observed: Observed, tracer: Tracer) -> None:
    def chunks() -> Iterator[str]:
        with tracer.start_as_current_span("held"):
            yield "ab"
            raise LookupError("gone")

    body = streaming(observed, chunks)
    with pytest.raises(LookupError):
        list(body)
    body.close()
    held, server = observed.spans
    assert held.parent.span_id == server.context.span_id
    assert server.status.status_code is StatusCode.ERROR
    assert server.attributes["http.response.status_code"] == 200
    assert observed.record["error.type"] == "LookupError"
    assert observed.record["http.response.body.size"] == 2
    assert "client_disconnected" not in observed.record
    assert observed.duration_sample.labels["error_type"] == "LookupError"
    assert otel_context.get_current() == {}


def test_a_stream_that_fails_while_it_is_closed_by_a_client_that_left_is_an_error(observed: Observed) -> None:
    def chunks() -> Iterator[str]:
        try:
            yield "a"
        finally:
            raise LookupError("cannot tidy up")

    body = streaming(observed, chunks)
    next(body)
    with pytest.raises(LookupError):
        body.close()
    assert observed.record["error.type"] == "LookupError"
    assert len(observed.journal_lines) == len(observed.server_spans) == 1


def test_a_generator_that_catches_the_end_of_its_client_has_its_last_words_in_the_request(observed: Observed) -> None:
    def chunks() -> Iterator[str]:
        try:
            yield "a"
        except GeneratorExit:
            annotate(farewell=True)
            assert current_record.get() is not None

    body = streaming(observed, chunks)
    next(body)
    body.close()
    assert observed.record["farewell"] is True


def test_the_head_of_a_stream_makes_none_of_it(observed: Observed) -> None:
    made: list[str] = []

    def chunks() -> Iterator[str]:
        made.append("a")
        yield "a"

    observed.app.add_url_rule("/", view_func=lambda: Response(chunks()))
    body = serve(observed.app, REQUEST_METHOD="HEAD")[2]
    assert list(body) == []
    body.close()
    assert made == []
    assert "client_disconnected" not in observed.record
    assert observed.duration_sample.value == 1


def test_an_iterator_without_close_is_closed_as_a_client_that_left(observed: Observed) -> None:
    class Chunks:
        def __init__(self) -> None:
            self.left = [b"a", b"b"]

        def __iter__(self) -> Chunks:
            return self

        def __next__(self) -> bytes:
            if not self.left:
                raise StopIteration
            return self.left.pop(0)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Chunks:
        start_response("200 OK", [])
        return Chunks()

    observed.app.wsgi_app.wsgi_app = answer  # type: ignore[attr-defined]
    assert list(serve(observed.app)[2]) == [b"a", b"b"]
    body = serve(observed.app)[2]
    next(body)
    body.close()
    complete, left = observed.records("request_finished")
    assert "client_disconnected" not in complete
    assert left["client_disconnected"] is True


def test_an_iterable_that_starts_anew_is_read_once(observed: Observed) -> None:
    started: list[int] = []

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            started.append(1)
            return iter([b"a", b"b"])

    body = streaming(observed, Chunks)
    assert [next(iter(body)), next(iter(body))] == [b"a", b"b"]
    assert started == [1]


@pytest.mark.parametrize("given", ["1", "3", "300"])
def test_a_stream_is_measured_whatever_its_content_length_says(observed: Observed, given: str) -> None:
    observed.app.add_url_rule("/", view_func=lambda: Response(iter("abc"), headers={"Content-Length": given}))
    _, headers, body = serve(observed.app)
    assert list(body) == [b"a", b"b", b"c"]
    body.close()
    assert ("Content-Length", given) in headers
    assert observed.record["http.response.body.size"] == 3


def test_what_is_sent_by_write_reaches_the_server_before_the_iterable(observed: Observed) -> None:
    sent: list[bytes] = []

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "9")])
        write(b"abc")
        write(b"def")
        return [b"ghi"]

    observed.app.wsgi_app.wsgi_app = answer  # type: ignore[attr-defined]
    body = observed.app(create_environ("/"), lambda status, headers, exc_info=None: sent.append)
    assert b"".join([*sent, *body]) == b"abcdefghi"
    assert observed.record["http.response.body.size"] == 9


def test_what_a_stream_sends_by_write_is_measured_too(observed: Observed) -> None:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])(b"abc")
        yield b"def"

    observed.app.wsgi_app.wsgi_app = answer  # type: ignore[attr-defined]
    list(serve(observed.app)[2])
    assert observed.record["http.response.body.size"] == 6


def test_a_body_passed_through_without_a_length_is_told_once_and_whole(observed: Observed) -> None:
    body = streaming(observed, lambda: iter([b"a", b"b"]), direct_passthrough=True)
    assert list(body) == [b"a", b"b"]
    assert observed.duration_sample.value == len(observed.server_spans) == len(observed.audit_lines) == 1
    assert "client_disconnected" not in observed.record


def test_a_generator_passed_through_belongs_to_its_request(observed: Observed, tracer: Tracer) -> None:
    def chunks() -> Iterator[bytes]:
        tracer.start_span("here").end()
        yield b"a"

    list(streaming(observed, chunks, direct_passthrough=True))
    here, server = observed.spans
    assert here.parent.span_id == server.context.span_id


def test_the_current_span_of_a_stream_is_the_requests_to_its_end(observed: Observed) -> None:
    seen: list[str] = []

    def chunks() -> Iterator[str]:
        for chunk in "ab":
            seen.append(trace.format_span_id(trace.get_current_span().get_span_context().span_id))
            yield chunk

    list(streaming(observed, chunks))
    assert seen == [observed.record["span_id"]] * 2
