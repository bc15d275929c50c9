"""The ids of the span that is current, for who only writes them down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace

from .record import current_record

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

__all__ = ["context_here"]


def context_here() -> SpanContext:
    """Return the context of the current span, only to be written down.

    What stands for a request's span takes whoever asks it for its context for a child, or for a call to another
    service: then it has to be a span, even if the request turns out to be an excluded one.
    """
    span = trace.get_current_span()
    record = current_record.get()
    if record is not None and span is record.span:
        context: SpanContext | None = getattr(span, "settled_context", None)
        if context is not None:
            return context
    return span.get_span_context()
