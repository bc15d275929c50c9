"""A SERVER span that is the SDK's in everything but the price of its attributes.

The SDK looks at every attribute value to find out what it is: 53 of the 139 microseconds of a request's span under
cProfile. Ours are strings and numbers, known to be; so the span is started by the SDK's own rules, with the attributes
in a plain dict until somebody else adds one.

This is the one place that holds private names of ``opentelemetry.sdk.trace``; ``tests/test_sinks_server_span.py``
compares every span with the SDK's own. Where one of the names is missing, :func:`make_starter` falls back to
``Tracer.start_span``.
"""

from __future__ import annotations

import threading
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import SpanContext
from opentelemetry.trace import SpanKind
from opentelemetry.trace import Status
from opentelemetry.trace import StatusCode
from opentelemetry.trace import TraceFlags

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    Attributes = dict[str, AttributeValue]
    Starter = Callable[[str, Context, Attributes, int], trace.Span]

__all__ = ["ServerSpan", "make_starter"]

NEEDED = (
    "sampler",
    "resource",
    "span_processor",
    "id_generator",
    "instrumentation_info",
    "_span_limits",
    "_instrumentation_scope",
    "_tracer_metrics",
    "_is_enabled",
)
"""What is read from the SDK's Tracer; there since opentelemetry-sdk 1.45."""

UNSET = Status(StatusCode.UNSET)

STRING = frozenset({str})
PLAIN = frozenset({str, int, float, bool})
"""Types whose values the SDK takes as they are."""

RANDOM = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
FLAGS = {
    (sampled, random): TraceFlags((TraceFlags.SAMPLED if sampled else 0) | (RANDOM if random else 0))
    for sampled in (False, True)
    for random in (False, True)
}


def make_starter(tracer: trace.Tracer) -> Starter:
    """Return the function that starts a SERVER span of a name, parent context, attributes and start in Unix ns.

    The attributes are the caller's to give away, and hold strings, numbers and lists of strings only.
    """
    if (
        type(tracer) is sdk.Tracer
        and all(hasattr(tracer, name) for name in NEEDED)
        and hasattr(tracer.id_generator, "is_trace_id_random")
        and hasattr(TraceFlags, "random_trace_id")
    ):
        return _sdk_starter(tracer)

    def start(name: str, parent: Context, attributes: Attributes, start_unix_ns: int) -> trace.Span:
        return tracer.start_span(name, parent, SpanKind.SERVER, attributes, start_time=start_unix_ns)

    return start


def _sdk_starter(tracer: Any) -> Starter:
    def start(name: str, parent_context: Context, attributes: Attributes, start_unix_ns: int) -> trace.Span:
        # The hot path, and the SDK's Tracer.start_span line by line but for the class of the span.
        parent: SpanContext | None = trace.get_current_span(parent_context).get_span_context()
        if not tracer._is_enabled():
            return trace.NonRecordingSpan(parent)  # type: ignore[arg-type]
        ids = tracer.id_generator
        if parent is None or not parent.is_valid:
            parent, trace_id, random = None, ids.generate_trace_id(), bool(ids.is_trace_id_random())
        else:
            trace_id, random = parent.trace_id, parent.trace_flags.random_trace_id
        result = tracer.sampler.should_sample(parent_context, trace_id, name, SpanKind.SERVER, attributes, ())
        context = SpanContext(
            trace_id,
            ids.generate_span_id(),
            is_remote=False,
            trace_flags=FLAGS[result.decision.is_sampled(), random],
            trace_state=result.trace_state,
        )
        record_end_metrics = tracer._tracer_metrics.start_span(parent, result.decision)
        if not result.decision.is_recording():
            return trace.NonRecordingSpan(context)
        span = ServerSpan(tracer, name, context, parent, record_end_metrics)
        sampled = result.attributes or {}
        # A sampler may have put anything there.
        add = span.add_own if STRING.issuperset(map(type, sampled)) else span.set_attributes
        add(sampled)
        span.start(start_unix_ns, parent_context)
        return span

    return start


class OwnAttributes(dict[str, Any]):
    """Attributes that need no look: plain values, fewer than the limit."""

    _immutable = False  # set by the SDK when the span ends


class ServerSpan(sdk.Span):
    """The SDK's span, with a way in for attributes that are known to be clean."""

    def __init__(  # a test holds it against what the SDK's own __init__ sets
        self,
        tracer: Any,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        record_end_metrics: Callable[[], None],
    ) -> None:
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = SpanKind.SERVER
        self._resource = tracer.resource
        self._instrumentation_info = tracer.instrumentation_info
        self._instrumentation_scope = tracer._instrumentation_scope
        self._sampler = tracer.sampler
        self._trace_config = None
        self._span_processor = tracer.span_processor
        self._limits = limits = tracer._span_limits
        self._record_exception = self._set_status_on_exception = True
        self._record_end_metrics = record_end_metrics
        self._lock = threading.Lock()
        self._events: Any = ()
        self._links: Any = ()
        self._status = UNSET
        self._start_time = self._end_time = None
        self._room = 0 if limits.max_span_attribute_length is not None else limits.max_span_attributes
        self._attributes: Any = OwnAttributes()

    def add_own(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes of which the caller knows that their keys are strings."""
        with self._lock:
            own = self._attributes
            if (
                type(own) is OwnAttributes
                and self._end_time is None
                and (self._room is None or len(own) + len(attributes) <= self._room)
                and PLAIN.issuperset(map(type, attributes.values()))
                and "" not in attributes
                and (not own or own.keys().isdisjoint(attributes))  # the SDK moves what is set again to the end
            ):
                own.update(attributes)
                return
        self.set_attributes(attributes)

    @property
    def attributes(self) -> Any:
        """The attributes as they are at any time, for who may keep them or read them in another thread."""
        self._let_others_in()
        return super().attributes

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """See :class:`opentelemetry.trace.Span`."""
        self._let_others_in()
        super().set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        """See :class:`opentelemetry.trace.Span`."""
        self._let_others_in()
        super().set_attribute(key, value)

    def _add_event(self, event: Any) -> None:
        with self._lock:
            if self._events == ():
                self._events = self._new_events()  # type: ignore[no-untyped-call]
        super()._add_event(event)

    def _add_link(self, link: Any) -> None:
        with self._lock:
            if self._links == ():
                self._links = self._new_links(())
        super()._add_link(link)

    def _let_others_in(self) -> None:
        """Hand the attributes to the SDK's own container: from now on it looks at every value."""
        with self._lock:
            if type(self._attributes) is OwnAttributes and self._end_time is None:
                limits = self._limits
                self._attributes = BoundedAttributes(
                    limits.max_span_attributes,
                    self._attributes,
                    immutable=False,
                    max_value_len=limits.max_span_attribute_length,
                )
