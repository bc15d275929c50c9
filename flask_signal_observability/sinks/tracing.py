"""Requests as OpenTelemetry SERVER spans, renders as their children."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN

from ..catalogue import SCHEMA_URL
from ..providers import deliver
from ..providers import flush
from ..record import Sink
from .current_context import attach
from .current_context import get_current
from .current_context import reset
from .parents import Parents
from .request_span import NAME
from .request_span import stand_in
from .server_span.identity import context_of
from .server_span.span import UNSET
from .server_span.starter import make_starter
from .span_attributes import request_attributes
from .span_attributes import span_name
from .span_attributes import SpanAttributes
from .span_errors import SpanErrors
from .span_events import SpanEvents

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.util.types import AttributeValue

    from ..config import Config
    from ..guard import Guard
    from ..record import EventRecord
    from ..record import Outputs
    from ..record import RequestRecord
    from ..redaction import Redaction
    from .request_span import RequestSpan
    from .server_span.identity import Identity

    Attributes = dict[str, AttributeValue]

__all__ = ["TracingSink"]

(SPAN_KEY,) = trace.set_span_in_context(INVALID_SPAN, Context())
"""Under which a context holds the span that is current."""


class TracingSink(Sink):
    """Starts the server span at request_started, backdated to the boundary's clock, or as soon as it is needed."""

    name = NAME
    reads_details = False

    def __init__(
        self, config: Config, provider: trace.TracerProvider, guard: Guard, redaction: Redaction, version: str
    ) -> None:
        self._begin = partial(guard.call, NAME, "begin", self.begin)
        self._flush_timeout_seconds = config.flush_timeout_seconds
        self._captures_response_headers = bool(config.capture_response_headers)
        self.provider = provider
        """Where the spans come from."""
        self._tracer = provider.get_tracer("flask_signal_observability", version, schema_url=SCHEMA_URL)
        self._starter = make_starter(self._tracer)
        self._parents = Parents(guard)
        self._attributes = SpanAttributes(guard, redaction, config.capture_response_headers)
        self._errors = SpanErrors(guard, with_message=config.exception_message)
        self._events = SpanEvents(self._tracer, self._attributes, self._errors)

    # A request.

    def open(self, record: RequestRecord) -> None:
        """Take the caller's context; the span itself waits until something needs it."""
        parent = self._parents.of(record)
        identity = self._starter.identify(parent)
        if identity is not None:
            decision, trace_id, span_id = identity
            record.trace_id = trace_id.to_bytes(16, "big").hex()
            record.span_id = span_id.to_bytes(8, "big").hex()
            record.sampled = decision.is_sampled
        span = record.span = stand_in(self._begin, record, parent, identity)
        record.context = Context({**parent, SPAN_KEY: span}) if parent else Context({SPAN_KEY: span})

    def attach(self, record: RequestRecord) -> None:
        """Make the request's context current; for an excluded request that is its caller's."""
        span: RequestSpan | None = record.span
        if span is None and record.excluded:
            parent = self._parents.of(record)
            span = record.span = stand_in(self._begin, record, parent, None)
            span.abandon()
            record.context = parent
        if span is not None:
            span.token = attach(record.context)

    def detach(self, record: RequestRecord) -> None:
        """Give back the context of before; what the request had current goes on with its next chunk."""
        span: RequestSpan | None = record.span
        token = None if span is None else span.token
        if span is None or token is None:
            return
        span.token = None
        if record.duration_ns is None:
            record.context = get_current()
        try:
            reset(token)
        except ValueError:
            otel_context.detach(token)  # which logs it

    def start(self, record: RequestRecord) -> None:
        """Start the span with its final name and route, or bring one up to date that was needed earlier."""
        span: RequestSpan | None = record.span
        if span is None:
            return
        early = span.started_span
        if early is None:
            if span.identity is None:
                span.start()
            elif span.identity[0].is_recording:
                record.told_details()  # here: a ProxyFix has acted, and no view has changed what it says
        elif early.is_recording():
            early.update_name(span_name(record))
            early.set_attributes(request_attributes(record))

    def begin(self, record: RequestRecord, parent: Context, identity: Identity | None) -> trace.Span:
        """Start the real span; where a sampler or processor fails, that costs the span, not the request."""
        if identity is not None and not identity[0].is_recording:
            return trace.NonRecordingSpan(context_of(identity))
        if not record.path:
            record.describe()
        attributes = request_attributes(record)
        span = self._starter.start(span_name(record), parent, attributes, record.started_unix_ns, identity)
        if identity is None:
            context = span.get_span_context()
            if context.is_valid:
                record.trace_id, record.span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
                record.sampled = context.trace_flags.sampled
        return span

    def finish(self, record: RequestRecord) -> None:
        """End the span; one that nobody needed before is made here, in one piece."""
        waiting: RequestSpan | None = record.span
        if waiting is None:
            return
        span = waiting.started_span
        if span is None:
            identity = waiting.identity
            if identity is not None:
                if not identity[0].is_recording:
                    waiting.ended(None)
                    return
                if self._end_unstarted(waiting, identity, record):
                    return
            span = waiting.start()
        if not span.is_recording():
            return
        try:
            attributes: Attributes = {}
            self._attributes.add_response(attributes, record)
            add = getattr(span, "add_own", span.set_attributes)
            add(attributes)
            if record.error_type is not None:
                span.set_status(self._errors.status(record))
        finally:
            span.end(record.ended_unix_ns)

    def _end_unstarted(self, span: RequestSpan, identity: Identity, record: RequestRecord) -> bool:
        if record.told_details().request_headers or record.annotations or self._captures_response_headers:
            return False  # these may hold anything
        attributes = request_attributes(record)
        self._attributes.add_response(attributes, record)
        status = UNSET if record.error_type is None else self._errors.status(record)
        ended = self._starter.end_unstarted(
            identity, span_name(record), attributes, status, record.started_unix_ns, record.ended_unix_ns
        )
        if ended is None:
            return False
        span.ended(ended)
        return True

    def abandon(self, record: RequestRecord) -> None:
        """Forget the span of an excluded request; its children belong to the caller instead.

        A span that was needed before the request turned out to be excluded has children already: it is ended, so that
        they are not orphaned.
        """
        span: RequestSpan | None = record.span
        if span is not None:
            span.abandon()
            record.trace_id = record.span_id = None
            record.sampled = False

    def event(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Turn a render into a child span, anything else that is told here into a span event."""
        self._events.tell(event, record)

    def teller(self, outputs: Outputs) -> Callable[[EventRecord, RequestRecord | None], None] | None:
        """Return what adds an event to the span that is current, or makes a child of it that has ended."""
        return self._events.teller(outputs)

    def close(self) -> None:
        """Deliver the spans that are queued, in bounded time: the process ends."""
        deliver(self.provider, self._flush_timeout_seconds)

    def flush(self) -> None:
        """Deliver the spans that are queued, in bounded time; more will follow."""
        flush(self.provider, self._flush_timeout_seconds)
