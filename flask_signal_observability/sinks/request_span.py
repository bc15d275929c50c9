"""What stands for a request's server span from its first moment on."""

from __future__ import annotations

import threading
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN

from .server_span.identity import context_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from ..record import RequestRecord
    from .server_span.identity import Identity

    Begin = Callable[[RequestRecord, Context, Identity | None], trace.Span | None]

__all__ = ["NAME", "RequestSpan", "stand_in"]

NAME = "tracing"
"""Of the sink; under it the guard counts what fails."""


class RequestSpan(trace.Span):
    """Stands for the server span from the first moment on, and starts the real one at its first use.

    So a session store that talks to its database before the route is known has a parent, and yet a sampler sees
    ``http.route`` wherever nothing asked earlier. With an identity, a child is no such use: it needs the ids alone.

    It is the API's span, and no ``opentelemetry.sdk.trace.Span`` by ``isinstance``: who finds one of those may take
    what lies in it (``_attributes``, ``_events``), which is not there before the span is started. What the SDK's span
    has beyond the API's is found by name.
    """

    # What a class has under the name of an instance's attribute makes each store of that a long one (CPython 3.11):
    # these are set by stand_in() alone.
    _begin: Begin
    _record: RequestRecord | None
    _parent: Context
    _settled_context: trace.SpanContext | None
    _has_children: bool
    _starting: bool
    _ended_span: Any
    identity: Identity | None
    """What is settled of the span before it is started, where anything is."""
    started_span: trace.Span | None
    token: Any
    """Gives back what was current before the request's code runs."""

    @property
    def settled_context(self) -> trace.SpanContext | None:
        """The span's context, where it is settled before the span is started; made when it is first asked for."""
        if self._settled_context is None and self.identity is not None:
            self._settled_context = context_of(self.identity)
        return self._settled_context

    def start(self) -> trace.Span:
        """Return the real span, started now if it was not yet. Two threads may come here first."""
        if self.started_span is not None:
            return self.started_span
        # A lock is made by who needs one; whoever comes first, both have the same.
        with vars(self).setdefault("_lock", threading.RLock()):
            if self._starting:
                # A sampler or processor asked for the current span while that is being started (a log call will do).
                return trace.get_current_span(self._parent)
            if self.started_span is None and self._record is not None:
                self._starting = True
                try:
                    begun = self._begin(self._record, self._parent, self.identity)
                    if self._record is not None:  # else the request has ended meanwhile, in another thread
                        self.started_span = INVALID_SPAN if begun is None else begun
                finally:
                    self._starting = False
                # The record holds this span: without a way back they need no garbage collector.
                self._record = None
            return self.started_span or INVALID_SPAN

    def ended(self, span: Any) -> None:
        """Be over without having been started; ``span`` is what can be read from now on, where it was recorded."""
        self._record = None
        self._ended_span = span
        # Over what another thread may have started a moment ago: nobody would ever end that.
        self.started_span = INVALID_SPAN

    def abandon(self) -> None:
        """Become the caller's span: what is made from here on hangs on that.

        ``otel.sdk.span.started``, where the SDK's own metrics are on, has counted a span with an identity: the SDK
        counts as it samples, and has nothing that takes one back. ``otel.sdk.span.live`` is settled.
        """
        if self.started_span is not None or self._has_children:
            self.start().end()
        elif self.identity is not None:
            self.identity[0].record_end_metrics()
        self.identity = self._settled_context = None
        self.started_span = trace.NonRecordingSpan(trace.get_current_span(self._parent).get_span_context())
        self._record = None

    def get_span_context(self) -> trace.SpanContext:
        """See :class:`opentelemetry.trace.Span`."""
        context = self.settled_context
        if context is None:
            return self.start().get_span_context()
        self._has_children = True
        return context

    def is_recording(self) -> bool:
        """See :class:`opentelemetry.trace.Span`."""
        if self.identity is None or self.started_span is not None:
            return self.start().is_recording()
        return self.identity[0].is_recording and self._record is not None

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """See :class:`opentelemetry.trace.Span`."""
        self.start().set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """See :class:`opentelemetry.trace.Span`."""
        self.start().set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """See :class:`opentelemetry.trace.Span`."""
        self.start().add_event(name, attributes, timestamp)

    def add_link(self, context: trace.SpanContext, attributes: Any = None) -> None:
        """See :class:`opentelemetry.trace.Span`."""
        self.start().add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """See :class:`opentelemetry.trace.Span`."""
        self.start().update_name(name)

    def set_status(self, status: Any, description: str | None = None) -> None:
        """See :class:`opentelemetry.trace.Span`."""
        self.start().set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """See :class:`opentelemetry.trace.Span`."""
        self.start().record_exception(exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:
        """See :class:`opentelemetry.trace.Span`."""
        self.start().end(end_time)

    def __getattr__(self, name: str) -> Any:
        # What the SDK's span has beyond the API's: name, attributes, parent ...
        span = self.start() if self._ended_span is None else self._ended_span
        return getattr(span, name)


def stand_in(begin: Begin, record: RequestRecord, parent: Context, identity: Identity | None) -> RequestSpan:
    """Return what stands for the span of a request; ``__init__`` would cost each 500 instructions more.

    Args:
        begin: Starts it; returns None where that fails, and does not raise.
        record: The request's.
        parent: Where the span's parent is.
        identity: What is settled of the span, where anything is.
    """
    span = RequestSpan()
    span._begin = begin
    span._record = record
    span._parent = parent
    span.identity = identity
    span.started_span = span.token = span._settled_context = span._ended_span = None
    span._starting = span._has_children = False
    return span
