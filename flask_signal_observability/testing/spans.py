"""The spans that end while somebody listens, whatever provider they come from."""

from __future__ import annotations

import weakref
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["EndedSpans", "provider_of_its_own", "spans_below"]


class EndedSpans(SpanProcessor):
    """Hands the spans of a provider to those that listen. A provider gets one and keeps it: none can be taken away."""

    def __init__(self) -> None:
        self.listeners: list[list[ReadableSpan]] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Tell of a span that was recorded, on the thread that ended it."""
        for spans in self.listeners:
            spans.append(span)

    @classmethod
    def of(cls, provider: Any) -> EndedSpans | None:
        """Return the one of this provider; None where it takes no processors, as one that is not the SDK's."""
        if not hasattr(provider, "add_span_processor"):
            return None
        processor = _processors.get(provider)
        if processor is None:
            processor = _processors[provider] = cls()
            provider.add_span_processor(processor)
        return processor


_processors: weakref.WeakKeyDictionary[Any, EndedSpans] = weakref.WeakKeyDictionary()


def provider_of_its_own() -> TracerProvider:
    """Return a provider that exports nothing and samples all."""
    return TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)


def spans_below(spans: list[ReadableSpan], span_id: str | None, others: frozenset[str]) -> list[ReadableSpan]:
    """Return the span of this id and those below it, by their start.

    Args:
        spans: to look among; in the order in which they ended.
        span_id: 16 hex digits.
        others: ids of other requests' spans, which end the search.
    """
    if span_id is None:
        return []
    root = int(span_id, 16)
    stops = {int(other, 16) for other in others} - {root}
    found = {root}
    below: dict[int, ReadableSpan] = {}
    grows = True
    while grows:
        grows = False
        for span in spans:
            own = _id_of(span)
            parent = None if span.parent is None else span.parent.span_id
            if own not in below and own not in stops and (own == root or parent in found):
                below[own] = span
                found.add(own)
                grows = True
    return sorted(below.values(), key=lambda span: (_id_of(span) != root, span.start_time or 0))


def _id_of(span: ReadableSpan) -> int:
    return 0 if span.context is None else span.context.span_id
