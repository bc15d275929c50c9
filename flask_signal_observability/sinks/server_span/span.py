"""The SDK's span with a way in for attributes that are known to be clean, and the one that is made at its end."""

from __future__ import annotations

import threading
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import SpanKind
from opentelemetry.trace import Status
from opentelemetry.trace import StatusCode

from .identity import context_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import SpanContext
    from opentelemetry.util.types import AttributeValue

    from .identity import Identity

    Attributes = dict[str, AttributeValue]

__all__ = ["PLAIN", "SERVER", "UNSET", "OwnAttributes", "ServerSpan", "event_of", "readable_span", "server_span"]

# A member of an enumeration is looked up at length (CPython 3.11).
SERVER = SpanKind.SERVER
UNSET = Status(StatusCode.UNSET)

new_object = object.__new__

PLAIN = frozenset({str, int, float, bool})
"""Types whose values the SDK takes as they are."""


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
    # Thirteen stores cost a third of a dict of thirteen (CPython 3.11).
    span: Any = new_object(sdk.ReadableSpan)
    span._name = name
    span._context = context
    span._kind = SERVER
    span._instrumentation_info = instrumentation_info
    span._instrumentation_scope = instrumentation_scope
    span._parent = parent
    span._start_time = start_unix_ns
    span._end_time = end_unix_ns
    span._attributes = attributes
    span._events = events
    span._links = links
    span._resource = resource
    span._status = status
    return span  # type: ignore[no-any-return]


def event_of(name: str, attributes: dict[str, Any], unix_ns: int) -> sdk.Event:
    """Return what ``Event(...)`` does."""
    event = new_object(sdk.Event)
    own = {"_name": name, "_timestamp": unix_ns, "_attributes": attributes}
    event.__dict__ = own  # pyright: ignore[reportAttributeAccessIssue]
    return event


class OwnAttributes(dict[str, Any]):
    """Attributes that need no look: plain values, fewer than the limit."""

    _immutable = False  # set by the SDK when the span ends


class ServerSpan(sdk.Span):
    """The SDK's span, with a way in for attributes that are known to be clean.

    Made by :func:`server_span`; a test holds that against what the SDK's own ``__init__`` sets.
    """

    _room: int
    _attributes: Any
    _events: Any
    _links: Any

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


def server_span(tracer: Any, name: str, identity: Identity, room: int) -> ServerSpan:
    """Return a span that has not started; ``ServerSpan(...)`` would go through the ``__new__`` of the SDK's.

    Args:
        tracer: The SDK's.
        name: Its name.
        identity: What is settled of it.
        room: How many attributes the limits leave without a look at any value.
    """
    span: Any = new_object(ServerSpan)
    decision = identity[0]
    # All of it on the instance: what lies on the class is looked up at length (CPython 3.11).
    span._name = name
    span._context = context_of(identity)
    span._parent = decision.parent
    span._kind = SERVER
    span._resource = tracer.resource
    span._instrumentation_info = tracer.instrumentation_info
    span._instrumentation_scope = tracer._instrumentation_scope
    span._sampler = tracer.sampler
    span._trace_config = None
    span._span_processor = tracer.span_processor
    span._limits = tracer._span_limits
    span._record_exception = span._set_status_on_exception = True
    span._record_end_metrics = decision.record_end_metrics
    span._lock = threading.Lock()
    span._events = ()
    span._links = ()
    span._status = UNSET
    span._start_time = None
    span._end_time = None
    span._room = room
    span._attributes = OwnAttributes()
    return span  # type: ignore[no-any-return]
