"""A span that waits: two threads at its end, and who must not miss its start."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace import TracerProvider

from flask_signal_observability.sinks.request_span import stand_in
from flask_signal_observability.sinks.server_span.starter import make_starter


def test_a_request_that_ends_while_another_thread_starts_its_span_leaves_none_that_is_recording():
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    identity = make_starter(tracer).identify(Context())

    def begin(*_):
        span.ended(None)  # what the thread of the request does meanwhile
        return tracer.start_span("late")

    span = stand_in(begin, object(), Context(), identity)
    span.start()
    assert not span.is_recording()


def test_a_span_that_another_thread_started_a_moment_before_the_end_is_not_left_recording():
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    identity = make_starter(tracer).identify(Context())
    span = stand_in(lambda *_: tracer.start_span("late"), object(), Context(), identity)
    span.start()
    span.ended(None)
    assert not span.is_recording()


def test_a_processor_whose_on_start_was_set_on_the_object_sees_spans_that_start():
    provider = TracerProvider(shutdown_on_exit=False)
    processor = SpanProcessor()
    processor.on_start = lambda span, parent_context=None: None
    provider.add_span_processor(processor)
    assert make_starter(provider.get_tracer("test")).identify(Context()) is None
