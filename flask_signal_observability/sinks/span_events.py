"""What happens in a request, as events of its span or as children of it."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN
from opentelemetry.trace import Status
from opentelemetry.trace import StatusCode

from ..record import error_type_of
from ..text import utf8
from .request_span import RequestSpan
from .server_span.span import ServerSpan

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..record import EventRecord
    from ..record import Outputs
    from ..record import RequestRecord
    from .span_attributes import SpanAttributes
    from .span_errors import SpanErrors

__all__ = ["SpanEvents"]


class SpanEvents:
    """Tells spans of events.

    Args:
        tracer: Starts the children.
        attributes: Makes attributes of an event's fields.
        errors: Puts errors into words.
    """

    def __init__(self, tracer: trace.Tracer, attributes: SpanAttributes, errors: SpanErrors) -> None:
        self._tracer = tracer
        self._attributes = attributes
        self._errors = errors

    def tell(self, event: EventRecord, record: RequestRecord | None) -> None:
        """Turn a render into a child span, anything else that is told here into a span event."""
        if event.name == "template_rendered":
            self._render(event)
            return
        span: RequestSpan | None = record.span if record is not None else None
        if span is None or not span.is_recording():
            return
        if event.error is not None:
            span.add_event("exception", self._errors.attributes(event.error), event.unix_ns)
        elif event.name == "message_flashed":
            span.add_event("message_flashed", {"category": utf8(event.fields["category"])}, event.unix_ns)

    def teller(self, outputs: Outputs) -> Callable[[EventRecord, RequestRecord | None], None] | None:
        """Return what adds an event to the span that is current, or makes a child of it that has ended."""
        event_name, span_name = outputs.span_event, outputs.span
        told_name = event_name or ""

        def add_event(event: EventRecord, record: RequestRecord | None) -> None:
            # The hot path of a watched signal.
            span = span_here(record)
            if type(span) is ServerSpan and span.add_own_event(told_name, event.fields, event.unix_ns):
                return
            if span.is_recording():
                span.add_event(told_name, self._attributes.of_event(event.fields), event.unix_ns)

        def make_child(event: EventRecord, record: RequestRecord | None) -> None:
            if event_name is not None:
                add_event(event, record)
            if event.started_unix_ns is not None:
                attributes = self._attributes.of_event(event.fields)
                span = self._tracer.start_span(span_name or "", attributes=attributes, start_time=event.started_unix_ns)
                span.end(event.unix_ns)

        if span_name is not None:
            return make_child
        return None if event_name is None else add_event

    def _render(self, event: EventRecord) -> None:
        template = utf8(event.fields["template"])
        # Made when it has ended: a render is never current, so that nothing hangs on one that ends elsewhere or never.
        span = self._tracer.start_span(
            "render <string>" if template == "<string>" else f"render {template}",
            attributes={"flask.template": template},
            start_time=event.started_unix_ns,
        )
        if event.error is not None:
            span.set_attribute("error.type", error_type_of(event.error))
            span.set_status(Status(StatusCode.ERROR, self._errors.describe(event.error)))
        span.end(event.unix_ns)


def span_here(record: RequestRecord | None) -> Any:
    """Return the span that is current; the request's own is started where anybody will see it."""
    waiting: RequestSpan | None = None if record is None else record.span
    if waiting is None or record is None or otel_context.get_current() is not record.context:
        span: Any = trace.get_current_span()
        if type(span) is not RequestSpan:
            return span
        waiting = span
    started = waiting.started_span  # each look at an attribute of it is a long one
    if started is not None:
        return started
    return waiting.start() if waiting.is_recording() else INVALID_SPAN
