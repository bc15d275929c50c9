"""A SERVER span that is the SDK's in everything but the price of its attributes.

The SDK looks at every attribute value to find out what it is: 53 of the 139 microseconds of a request's span under
cProfile. Ours are strings and numbers, known to be; so the span is started by the SDK's own rules, with the attributes
in a plain dict until somebody else adds one.

This is the one place that holds private names of ``opentelemetry.sdk.trace``; ``tests/test_sinks_server_span.py``
compares every span with the SDK's own. Where one of the names is missing, :func:`make_starter` falls back to
``Tracer.start_span``.
"""

from __future__ import annotations

import sys
import threading
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
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
    Started = tuple[trace.Span, int, int, bool]
    Starter = Callable[[str, Context, Attributes, int], Started]

__all__ = ["PLAIN", "ServerSpan", "make_starter"]

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

# A member of an enumeration is looked up at length (CPython 3.11).
SERVER = SpanKind.SERVER
SAMPLED, DROPPED = Decision.RECORD_AND_SAMPLE, Decision.DROP
UNSET = Status(StatusCode.UNSET)

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

    It returns the span, its trace id and span id, both 0 where it has none, and whether it is sampled. The attributes
    are the caller's to give away, and hold strings, numbers and lists of strings only.
    """
    if (
        type(tracer) is sdk.Tracer
        and all(hasattr(tracer, name) for name in NEEDED)
        and hasattr(tracer.id_generator, "is_trace_id_random")
        and hasattr(TraceFlags, "random_trace_id")
    ):
        return _sdk_starter(tracer)

    def start(name: str, parent: Context, attributes: Attributes, start_unix_ns: int) -> Started:
        return _started(tracer.start_span(name, parent, SERVER, attributes, start_time=start_unix_ns))

    return start


def _started(span: trace.Span) -> Started:
    context = span.get_span_context()
    return (
        (span, context.trace_id, context.span_id, context.trace_flags.sampled)
        if context.is_valid
        else (span, 0, 0, False)
    )


def _sdk_starter(tracer: Any) -> Starter:
    room = _room_of(tracer._span_limits)
    on_start = tracer.span_processor.on_start

    def start(name: str, parent_context: Context, attributes: Attributes, start_unix_ns: int) -> Started:
        # The hot path, and the SDK's Tracer.start_span line by line but for the class of the span.
        parent: SpanContext | None = trace.get_current_span(parent_context).get_span_context()
        if not tracer._is_enabled():
            return _started(trace.NonRecordingSpan(parent))  # type: ignore[arg-type]
        ids = tracer.id_generator
        if parent is None or not parent.is_valid:
            parent, trace_id, random = None, ids.generate_trace_id(), bool(ids.is_trace_id_random())
        else:
            trace_id, random = parent.trace_id, parent.trace_flags.random_trace_id
        sampler = tracer.sampler
        given: Mapping[str, AttributeValue] | None = attributes
        if parent is None and (sampler is DEFAULT_ON or sampler is ALWAYS_ON):
            decision: Any = SAMPLED  # known without asking
            trace_state = None
        else:
            result = sampler.should_sample(parent_context, trace_id, name, SERVER, attributes, ())
            decision, given, trace_state = result.decision, result.attributes, result.trace_state
        sampled = decision is SAMPLED
        span_id = ids.generate_span_id()
        flags = FLAGS[sampled, random]
        context = SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags, trace_state=trace_state)
        record_end_metrics = tracer._tracer_metrics.start_span(parent, decision)
        if decision is DROPPED:
            return trace.NonRecordingSpan(context), trace_id, span_id, sampled
        span = ServerSpan(tracer, name, context, parent, record_end_metrics, room)
        if (
            (given is attributes or given == attributes)  # a sampler may have put anything there
            and len(attributes) <= room
            and PLAIN.issuperset(map(type, attributes.values()))
            and "" not in attributes
        ):
            span._attributes = OwnAttributes(attributes)
        elif given:
            span.set_attributes(given)
        span._start_time = start_unix_ns
        on_start(span, parent_context=parent_context)
        return span, trace_id, span_id, sampled

    return start


def _room_of(limits: Any) -> int:
    """Return how many attributes the limits leave without a look at any value."""
    if limits.max_span_attribute_length is not None:
        return 0
    room: int | None = limits.max_span_attributes
    return sys.maxsize if room is None else room


class OwnAttributes(dict[str, Any]):
    """Attributes that need no look: plain values, fewer than the limit."""

    _immutable = False  # set by the SDK when the span ends


class ServerSpan(sdk.Span):
    """The SDK's span, with a way in for attributes that are known to be clean.

    A test holds it against what the SDK's own ``__init__`` sets.
    """

    def __init__(
        self,
        tracer: Any,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        record_end_metrics: Callable[[], None],
        room: int,
    ) -> None:
        # All of it on the instance: what lies on the class is looked up at length (CPython 3.11).
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = SERVER
        self._resource = tracer.resource
        self._instrumentation_info = tracer.instrumentation_info
        self._instrumentation_scope = tracer._instrumentation_scope
        self._sampler = tracer.sampler
        self._trace_config = None
        self._span_processor = tracer.span_processor
        self._limits = tracer._span_limits
        self._record_exception = self._set_status_on_exception = True
        self._record_end_metrics = record_end_metrics
        self._lock = threading.Lock()
        self._events: Any = ()
        self._links: Any = ()
        self._status = UNSET
        self._start_time: int | None = None
        self._end_time: int | None = None
        self._room = room
        self._attributes: Any = OwnAttributes()

    def add_own(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes of which the caller knows that their keys are text."""
        with self._lock:
            own = self._attributes
            if (
                type(own) is OwnAttributes
                and self._end_time is None
                and len(own) + len(attributes) <= self._room
                and PLAIN.issuperset(map(type, attributes.values()))
                and "" not in attributes
                and own.keys().isdisjoint(attributes)  # the SDK moves what is set again to the end
            ):
                own.update(attributes)
                return
        self.set_attributes(attributes)

    def add_own_event(self, name: str, attributes: Attributes, unix_ns: int) -> None:
        """Add an event of which the caller knows that the keys of its attributes are text; none where it has ended."""
        limits = self._limits
        if (
            limits.max_attribute_length is None
            and (limits.max_event_attributes is None or len(attributes) <= limits.max_event_attributes)
            and PLAIN.issuperset(map(type, attributes.values()))
            and "" not in attributes
        ):
            event = sdk.Event(name, OwnAttributes(attributes), unix_ns)
            with self._lock:
                if self._end_time is None:
                    if self._events == ():
                        self._events = self._new_events()  # type: ignore[no-untyped-call]
                    self._events.append(event)
        elif self._end_time is None:
            self.add_event(name, attributes, unix_ns)

    def _readable_span(self) -> sdk.ReadableSpan:
        # What the SDK's own does with thirteen arguments.
        span = sdk.ReadableSpan.__new__(sdk.ReadableSpan)
        span.__dict__ = {
            "_name": self._name,
            "_context": self._context,
            "_kind": self._kind,
            "_instrumentation_info": self._instrumentation_info,
            "_instrumentation_scope": self._instrumentation_scope,
            "_parent": self._parent,
            "_start_time": self._start_time,
            "_end_time": self._end_time,
            "_attributes": self._attributes,
            "_events": self._events,
            "_links": self._links,
            "_resource": self._resource,
            "_status": self._status,
        }
        return span

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
