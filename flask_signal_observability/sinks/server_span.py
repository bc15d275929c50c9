"""A SERVER span that is the SDK's in everything but its price.

The SDK looks at every attribute value to find out what it is: 53 of the 139 microseconds of a request's span under
cProfile. Ours are strings and numbers, known to be; so the span is started by the SDK's own rules, with the attributes
in a plain dict until somebody else adds one.

Most spans need not be made at all before they end: where neither the sampler nor a processor would look at one that
starts, its :class:`Identity` is all that a child, a record or an exemplar needs, and at its end it becomes the
``ReadableSpan`` that processors and exporters get.

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
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import INVALID_SPAN_CONTEXT
from opentelemetry.trace import SpanContext
from opentelemetry.trace import SpanKind
from opentelemetry.trace import Status
from opentelemetry.trace import StatusCode
from opentelemetry.trace import TraceFlags
from opentelemetry.trace import TraceState

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    Attributes = dict[str, AttributeValue]

__all__ = ["PLAIN", "UNSET", "Identity", "ServerSpan", "Starter", "make_starter"]

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
SAMPLED, DROPPED = sampling.Decision.RECORD_AND_SAMPLE, sampling.Decision.DROP
UNSET = Status(StatusCode.UNSET)

KNOWN_SAMPLERS = (
    (sampling.ALWAYS_ON, SAMPLED),
    (sampling.DEFAULT_ON, SAMPLED),
    (sampling.ALWAYS_OFF, DROPPED),
    (sampling.DEFAULT_OFF, DROPPED),
)
"""Samplers whose decision on a span without a parent is known without asking."""

DELEGATES = (
    "_root",
    "_remote_parent_sampled",
    "_remote_parent_not_sampled",
    "_local_parent_sampled",
    "_local_parent_not_sampled",
)
"""What a ParentBased sampler asks."""

QUIET_CLASSES = (sdk.SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor)
"""Classes whose ``on_start`` and ``_on_ending`` do nothing."""

MAX_TRACE_ID, MAX_SPAN_ID = 2**128 - 1, 2**64 - 1
NO_STATE = INVALID_SPAN_CONTEXT.trace_state
new_tuple = tuple.__new__

PLAIN = frozenset({str, int, float, bool})
"""Types whose values the SDK takes as they are."""

RANDOM = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
FLAGS = {
    (sampled, random): TraceFlags((TraceFlags.SAMPLED if sampled else 0) | (RANDOM if random else 0))
    for sampled in (False, True)
    for random in (False, True)
}


class Identity:
    """What is settled of a span before there is one."""

    __slots__ = ("context", "ids", "is_recording", "is_sampled", "parent", "record_end_metrics")

    def __init__(
        self,
        context: SpanContext,
        parent: SpanContext | None,
        ids: str,
        is_sampled: bool,  # noqa: FBT001 - keywords cost a request 300 instructions
        is_recording: bool,  # noqa: FBT001
        record_end_metrics: Callable[[], None],
    ) -> None:
        self.context = context
        self.parent = parent
        self.ids = ids
        """Those of the trace and of the span, 32 and 16 hex digits."""
        self.is_sampled = is_sampled
        self.is_recording = is_recording
        self.record_end_metrics = record_end_metrics


class Starter:
    """Starts SERVER spans through the API, whatever the tracer is."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def identify(self, parent_context: Context) -> Identity | None:
        """Return the identity of a span that need not start before it ends; None where it must be started."""
        return None

    def start(
        self,
        name: str,
        parent_context: Context,
        attributes: Attributes,
        start_unix_ns: int,
        identity: Identity | None = None,
    ) -> trace.Span:
        """Start a span.

        Args:
            name: Its name.
            parent_context: Where its parent is.
            attributes: The caller's to give away; strings, numbers and lists of strings only.
            start_unix_ns: Unix time in nanoseconds.
            identity: What :meth:`identify` has returned for this context, where it did.
        """
        return self._tracer.start_span(name, parent_context, SERVER, attributes, start_time=start_unix_ns)

    def end_unstarted(
        self,
        identity: Identity,
        name: str,
        attributes: Attributes,
        status: Status,
        start_unix_ns: int,
        end_unix_ns: int,
    ) -> sdk.ReadableSpan | None:
        """Hand a span that was never started to the processors; None where it has to be started after all.

        Args:
            identity: Of a span that is recording.
            name: Its name.
            attributes: The caller's to give away; strings and numbers only.
            status: Its status.
            start_unix_ns: Unix time in nanoseconds.
            end_unix_ns: Unix time in nanoseconds.
        """
        return None


def make_starter(tracer: trace.Tracer) -> Starter:
    """Return what starts SERVER spans: by our own hands where the tracer is the SDK's and has what that needs."""
    if (
        type(tracer) is sdk.Tracer
        and all(hasattr(tracer, name) for name in NEEDED)
        and hasattr(tracer.id_generator, "is_trace_id_random")
        and hasattr(TraceFlags, "random_trace_id")
        and tuple(INVALID_SPAN_CONTEXT) == (0, 0, False, TraceFlags(0), NO_STATE, False)
    ):
        return SdkStarter(tracer)
    return Starter(tracer)


class SdkStarter(Starter):
    """Starts the SDK's spans as the SDK's ``Tracer.start_span`` does, line by line, but for the class of the span."""

    def __init__(self, tracer: Any) -> None:
        super().__init__(tracer)
        self._tracer: Any = tracer
        self._room = _room_of(tracer._span_limits)
        self._on_start = tracer.span_processor.on_start
        self._on_end = tracer.span_processor.on_end
        self._sampler: Any = None
        self._processors: Any = None
        self._can_wait = False
        self._root_decision: Any = None

    def identify(self, parent_context: Context) -> Identity | None:
        """Return the identity of a span that need not start before it ends; None where it must be started."""
        # The hot path.
        tracer = self._tracer
        processors = getattr(tracer.span_processor, "_span_processors", None)
        if tracer.sampler is not self._sampler or processors is not self._processors:
            self._look_again(processors)
        if not self._can_wait or not tracer._is_enabled():
            return None
        return self._identity(parent_context, "", None)[0]

    def _identity(self, parent_context: Context, name: str, attributes: Any) -> tuple[Identity, Any]:
        """Return the identity, and the attributes that the sampler leaves."""
        tracer = self._tracer
        ids = tracer.id_generator
        # Mostly there is nothing in the context, and so no parent.
        parent = trace.get_current_span(parent_context).get_span_context() if parent_context else None
        if parent is None or not parent.is_valid:
            parent, trace_id, random = None, ids.generate_trace_id(), bool(ids.is_trace_id_random())
        else:
            trace_id, random = parent.trace_id, parent.trace_flags.random_trace_id
        sampler = tracer.sampler
        trace_state = None
        if parent is None and sampler is self._sampler and self._root_decision is not None:
            decision = self._root_decision
        else:
            result = sampler.should_sample(parent_context, trace_id, name, SERVER, attributes, ())
            decision, attributes, trace_state = result.decision, result.attributes, result.trace_state
        sampled = decision is SAMPLED
        span_id = ids.generate_span_id()
        identity = Identity(
            context_of(trace_id, span_id, FLAGS[sampled, random], trace_state),
            parent,
            (trace_id << 64 | span_id).to_bytes(24, "big").hex(),
            sampled,
            decision is not DROPPED,
            tracer._tracer_metrics.start_span(parent, decision),
        )
        return identity, attributes

    def start(
        self,
        name: str,
        parent_context: Context,
        attributes: Attributes,
        start_unix_ns: int,
        identity: Identity | None = None,
    ) -> trace.Span:
        """Start a span; see :meth:`Starter.start`."""
        tracer = self._tracer
        given: Mapping[str, AttributeValue] | None = attributes
        if identity is None:
            if not tracer._is_enabled():
                return trace.NonRecordingSpan(trace.get_current_span(parent_context).get_span_context())
            identity, given = self._identity(parent_context, name, attributes)
        if not identity.is_recording:
            return trace.NonRecordingSpan(identity.context)
        span = ServerSpan(tracer, name, identity, self._room)
        if (given is attributes or given == attributes) and self._is_clean(attributes):  # a sampler may have its own
            span._attributes = OwnAttributes(attributes)
        elif given:
            span.set_attributes(given)
        span._start_time = start_unix_ns
        self._on_start(span, parent_context=parent_context)
        return span

    def end_unstarted(
        self,
        identity: Identity,
        name: str,
        attributes: Attributes,
        status: Status,
        start_unix_ns: int,
        end_unix_ns: int,
    ) -> sdk.ReadableSpan | None:
        """Hand a span that was never started to the processors; see :meth:`Starter.end_unstarted`."""
        if len(attributes) > self._room:
            return None
        tracer = self._tracer
        identity.record_end_metrics()
        span = readable_span(
            name,
            identity.context,
            identity.parent,
            tracer.resource,
            attributes,
            (),
            (),
            status,
            start_unix_ns,
            end_unix_ns,
            tracer.instrumentation_info,
            tracer._instrumentation_scope,
        )
        self._on_end(span)
        return span

    def _is_clean(self, attributes: Attributes) -> bool:
        """Tell whether the SDK would take the attributes as they are."""
        return (
            len(attributes) <= self._room and PLAIN.issuperset(map(type, attributes.values())) and "" not in attributes
        )

    def _look_again(self, processors: Any) -> None:
        """Find out what sampler and processors would see of a span that starts: others may have come."""
        tracer = self._tracer
        self._sampler = sampler = tracer.sampler
        self._processors = processors
        self._root_decision = next((decision for known, decision in KNOWN_SAMPLERS if known is sampler), None)
        self._can_wait = (
            type(tracer.span_processor) is sdk.SynchronousMultiSpanProcessor
            and isinstance(processors, tuple)
            and all(map(is_quiet, processors))
            and needs_ids_alone(sampler)
        )


def is_quiet(processor: sdk.SpanProcessor) -> bool:
    """Tell whether a processor does nothing with a span before its end."""
    kind, own = type(processor), getattr(processor, "__dict__", {})
    if "on_start" in own or "_on_ending" in own:
        return False
    return any(
        getattr(kind, "on_start", None) is quiet.on_start and getattr(kind, "_on_ending", None) is quiet._on_ending
        for quiet in QUIET_CLASSES
    )


def needs_ids_alone(sampler: sampling.Sampler) -> bool:
    """Tell whether a sampler looks at nothing but the trace id and the parent."""
    if type(sampler) in {sampling.ParentBased, sampling.ParentBasedTraceIdRatio}:
        delegates = [getattr(sampler, name, None) for name in DELEGATES]
        return all(delegate is not None and needs_ids_alone(delegate) for delegate in delegates)
    return type(sampler) in {sampling.StaticSampler, sampling.TraceIdRatioBased}


def context_of(trace_id: int, span_id: int, flags: TraceFlags, trace_state: TraceState | None) -> SpanContext:
    """Return what ``SpanContext(...)`` does: a tuple, behind a function that takes as long as the rest of it all."""
    valid = 0 < trace_id <= MAX_TRACE_ID and 0 < span_id <= MAX_SPAN_ID
    state = NO_STATE if trace_state is None else trace_state
    return new_tuple(SpanContext, (trace_id, span_id, False, flags, state, valid))


def _room_of(limits: Any) -> int:
    """Return how many attributes the limits leave without a look at any value."""
    if limits.max_span_attribute_length is not None:
        return 0
    room: int | None = limits.max_span_attributes
    return sys.maxsize if room is None else room


def readable_span(
    name: str,
    context: SpanContext | None,
    parent: SpanContext | None,
    resource: Any,
    attributes: Any,
    events: Any,
    links: Any,
    status: Status,
    start_unix_ns: int | None,
    end_unix_ns: int | None,
    instrumentation_info: Any,
    instrumentation_scope: Any,
) -> sdk.ReadableSpan:
    """Return what ``ReadableSpan(...)`` does with thirteen keywords."""
    span = sdk.ReadableSpan.__new__(sdk.ReadableSpan)
    span.__dict__ = {
        "_name": name,
        "_context": context,
        "_kind": SERVER,
        "_instrumentation_info": instrumentation_info,
        "_instrumentation_scope": instrumentation_scope,
        "_parent": parent,
        "_start_time": start_unix_ns,
        "_end_time": end_unix_ns,
        "_attributes": attributes,
        "_events": events,
        "_links": links,
        "_resource": resource,
        "_status": status,
    }
    return span


def event_of(name: str, attributes: dict[str, Any], unix_ns: int) -> sdk.Event:
    """Return what ``Event(...)`` does."""
    event = sdk.Event.__new__(sdk.Event)
    own = {"_name": name, "_timestamp": unix_ns, "_attributes": attributes}
    event.__dict__ = own  # pyright: ignore[reportAttributeAccessIssue]
    return event


class OwnAttributes(dict[str, Any]):
    """Attributes that need no look: plain values, fewer than the limit."""

    _immutable = False  # set by the SDK when the span ends


class ServerSpan(sdk.Span):
    """The SDK's span, with a way in for attributes that are known to be clean.

    A test holds it against what the SDK's own ``__init__`` sets.
    """

    def __init__(self, tracer: Any, name: str, identity: Identity, room: int) -> None:
        # All of it on the instance: what lies on the class is looked up at length (CPython 3.11).
        self._name = name
        self._context = identity.context
        self._parent = identity.parent
        self._kind = SERVER
        self._resource = tracer.resource
        self._instrumentation_info = tracer.instrumentation_info
        self._instrumentation_scope = tracer._instrumentation_scope
        self._sampler = tracer.sampler
        self._trace_config = None
        self._span_processor = tracer.span_processor
        self._limits = tracer._span_limits
        self._record_exception = self._set_status_on_exception = True
        self._record_end_metrics = identity.record_end_metrics
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

    def add_own_event(self, name: str, attributes: dict[str, Any], unix_ns: int) -> bool:
        """Add an event, unless the span has ended; False where the SDK would not take the attributes as they are.

        The caller knows that their keys are text.
        """
        limits = self._limits
        if (
            limits.max_attribute_length is not None
            or (limits.max_event_attributes is not None and len(attributes) > limits.max_event_attributes)
            or not PLAIN.issuperset(map(type, attributes.values()))
            or "" in attributes
        ):
            return False
        if self._events == ():
            with self._lock:
                if self._events == ():
                    self._events = self._new_events()  # type: ignore[no-untyped-call]
        if self._end_time is None:
            self._events.append(event_of(name, attributes.copy(), unix_ns))  # under a lock of its own
        return True

    def _readable_span(self) -> sdk.ReadableSpan:
        return readable_span(
            self._name,
            self._context,
            self._parent,
            self._resource,
            self._attributes,
            self._events,
            self._links,
            self._status,
            self._start_time,
            self._end_time,
            self._instrumentation_info,
            self._instrumentation_scope,
        )

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
