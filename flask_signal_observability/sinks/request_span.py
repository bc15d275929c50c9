"""What stands for a request's server span from its first moment on."""

from __future__ import annotations

import threading
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from ..guard import Guard
    from ..record import RequestRecord

    Begin = Callable[[RequestRecord, Context], trace.Span]

__all__ = ["RequestSpan"]


class RequestSpan(trace.Span):
    """Stands for the server span from the first moment on, and starts the real one at its first use.

    So a session store that talks to its database before the route is known has a parent, and yet a sampler sees
    ``http.route`` wherever nothing asked earlier.
    """

    def __init__(self, begin: Begin, guard: Guard, record: RequestRecord, parent: Context) -> None:
        self._begin = begin
        self._guard = guard
        self._record: RequestRecord | None = record
        self._parent = parent
        self._lock = threading.RLock()
        self._starting = False
        self.started_span: trace.Span | None = None

    def start(self) -> trace.Span:
        """Return the real span, started now if it was not yet. Two threads may come here first."""
        if self.started_span is not None:
            return self.started_span
        with self._lock:
            if self._starting:
                # A sampler or processor asked for the current span while that is being started (a log call will do).
                return trace.get_current_span(self._parent)
            if self.started_span is None and self._record is not None:
                self._starting = True
                try:
                    begun = self._guard.call("tracing", "begin", self._begin, self._record, self._parent)
                    self.started_span = INVALID_SPAN if begun is None else begun
                finally:
                    self._starting = False
                # The record holds this span: without a way back they need no garbage collector.
                self._record = None
            return self.started_span or INVALID_SPAN

    def abandon(self) -> None:
        """Become the caller's span: what is made from here on hangs on that."""
        if self.started_span is not None:
            self.started_span.end()
        self.started_span = trace.NonRecordingSpan(trace.get_current_span(self._parent).get_span_context())
        self._record = None

    def get_span_context(self) -> trace.SpanContext:
        """See :class:`opentelemetry.trace.Span`."""
        return self.start().get_span_context()

    def is_recording(self) -> bool:
        """See :class:`opentelemetry.trace.Span`."""
        return self.start().is_recording()

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
        return getattr(self.start(), name)
