"""Starts SERVER spans, by the SDK's rules and, where that is the same, without the SDK's price."""

from __future__ import annotations

import random
import sys
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import INVALID_SPAN_CONTEXT
from opentelemetry.trace import TraceFlags

from .deferral import can_wait
from .deferral import DROPPED
from .deferral import root_bound
from .deferral import SAMPLED
from .identity import FLAGS
from .identity import Identity
from .identity import MAX_SPAN_ID
from .identity import NO_STATE
from .span import OwnAttributes
from .span import PLAIN
from .span import readable_span
from .span import SERVER
from .span import ServerSpan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Status
    from opentelemetry.util.types import AttributeValue

    Attributes = dict[str, AttributeValue]

__all__ = ["NEEDED", "Starter", "make_starter"]

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


RANDOM_TRACE_ID, RANDOM_SPAN_ID = RandomIdGenerator.generate_trace_id, RandomIdGenerator.generate_span_id


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
        self._root_bound: int | None = None
        self._random_ids: Any = None

    def identify(self, parent_context: Context) -> Identity | None:
        """Return the identity of a span that need not start before it ends; None where it must be started."""
        # The hot path.
        tracer = self._tracer
        processors = getattr(tracer.span_processor, "_span_processors", None)
        if tracer.sampler is not self._sampler or processors is not self._processors:
            self._look_again(processors)
        if not self._can_wait or not tracer._is_enabled():
            return None
        bound = self._root_bound
        ids = tracer.id_generator
        if (
            bound is None
            or parent_context
            or ids is not self._random_ids
            # A test that wants ids of its own may replace these at any time; 0.1 µs.
            or RandomIdGenerator.generate_trace_id is not RANDOM_TRACE_ID
            or RandomIdGenerator.generate_span_id is not RANDOM_SPAN_ID
            or ids.__dict__
        ):
            return self._identity(parent_context, "", None)[0]
        # What RandomIdGenerator and the sampler do, in one step.
        bits = random.getrandbits(192)
        lower = bits >> 64 & MAX_SPAN_ID
        if not (lower and bits & MAX_SPAN_ID):  # an id of zeros is none
            return self._identity(parent_context, "", None)[0]
        sampled = lower < bound
        record_end_metrics = tracer._tracer_metrics.start_span(None, SAMPLED if sampled else DROPPED)
        return Identity(bits, None, sampled, sampled, FLAGS[sampled, True], None, record_end_metrics)

    def _identity(self, parent_context: Context, name: str, attributes: Any) -> tuple[Identity, Any]:
        """Return the identity, and the attributes that the sampler leaves."""
        tracer = self._tracer
        ids = tracer.id_generator
        # Mostly there is nothing in the context, and so no parent.
        parent = trace.get_current_span(parent_context).get_span_context() if parent_context else None
        if parent is None or not parent.is_valid:
            parent, trace_id, is_random = None, ids.generate_trace_id(), bool(ids.is_trace_id_random())
        else:
            trace_id, is_random = parent.trace_id, parent.trace_flags.random_trace_id
        result = tracer.sampler.should_sample(parent_context, trace_id, name, SERVER, attributes, ())
        decision = result.decision
        sampled = decision is SAMPLED
        identity = Identity(
            trace_id << 64 | ids.generate_span_id(),
            parent,
            sampled,
            decision is not DROPPED,
            FLAGS[sampled, is_random],
            result.trace_state,
            tracer._tracer_metrics.start_span(parent, decision),
        )
        return identity, result.attributes

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
        self._root_bound = root_bound(sampler)
        self._random_ids = tracer.id_generator if type(tracer.id_generator) is RandomIdGenerator else None
        self._can_wait = can_wait(tracer, processors)


def _room_of(limits: Any) -> int:
    """Return how many attributes the limits leave without a look at any value."""
    if limits.max_span_attribute_length is not None:
        return 0
    room: int | None = limits.max_span_attributes
    return sys.maxsize if room is None else room
