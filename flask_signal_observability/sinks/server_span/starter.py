"""Starts SERVER spans, by the SDK's rules and, where that is the same, without the SDK's price."""

from __future__ import annotations

import sys
from typing import Any
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import INVALID_SPAN_CONTEXT
from opentelemetry.trace import TraceFlags

from .deferral import always_random
from .deferral import can_wait
from .deferral import DROPPED
from .deferral import root_bound
from .deferral import SAMPLED
from .identity import context_of
from .identity import Decision
from .identity import FLAGS
from .identity import MAX_SPAN_ID
from .identity import NO_STATE
from .span import OwnAttributes
from .span import PLAIN
from .span import readable_span
from .span import SERVER
from .span import server_span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Status
    from opentelemetry.util.types import AttributeValue

    from .identity import Identity

    Attributes = dict[str, AttributeValue]
    Roots = tuple[Decision | None, int, Decision, Decision]
    """The decision, where it is one for all; else the bound that ``root_bound()`` tells, that below it, the other."""

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
    "_tracer_config",
)
"""What is read from the SDK's Tracer; there since opentelemetry-sdk 1.45."""


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
        # Beside any other than this one can_wait() lets no span wait.
        many: Any = sdk.SynchronousMultiSpanProcessor
        self._processor = tracer.span_processor if type(tracer.span_processor) is many else many()
        # What _look_again() has found.
        self._sampler: Any = None
        self._ids: Any = None
        self._processors: Any = None
        self._can_wait = False
        self._roots: Roots | None = None

    def identify(self, parent_context: Context) -> Identity | None:
        """Return the identity of a span that need not start before it ends; None where it must be started."""
        # The hot path.
        tracer = self._tracer
        ids = tracer.id_generator
        if (
            self._processor._span_processors is not self._processors
            or tracer.sampler is not self._sampler
            or ids is not self._ids
        ):
            self._look_again()
        if not self._can_wait or not tracer._tracer_config.is_enabled:
            return None
        roots = self._roots
        if roots is None or parent_context:
            return self._identity(parent_context, "", None)[0]
        decision, bound, sampled, dropped = roots
        trace_id = ids.generate_trace_id()
        if decision is None:
            decision = sampled if trace_id & MAX_SPAN_ID < bound else dropped
        return decision, trace_id, ids.generate_span_id()

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
        choice = result.decision
        sampled = choice is SAMPLED
        decision = Decision(
            parent,
            sampled,
            choice is not DROPPED,
            FLAGS[sampled, is_random],
            NO_STATE if result.trace_state is None else result.trace_state,
            tracer._tracer_metrics.start_span(parent, choice),
        )
        return (decision, trace_id, ids.generate_span_id()), result.attributes

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
            if not tracer._tracer_config.is_enabled:
                return trace.NonRecordingSpan(trace.get_current_span(parent_context).get_span_context())
            identity, given = self._identity(parent_context, name, attributes)
        if not identity[0].is_recording:
            return trace.NonRecordingSpan(context_of(identity))
        span = server_span(tracer, name, identity, self._room)
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
        decision = identity[0]
        decision.record_end_metrics()
        span = readable_span(
            name,
            context_of(identity),
            decision.parent,
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
        for processor in self._processor._span_processors:
            processor.on_end(span)
        return span

    def _is_clean(self, attributes: Attributes) -> bool:
        """Tell whether the SDK would take the attributes as they are."""
        return (
            len(attributes) <= self._room and PLAIN.issuperset(map(type, attributes.values())) and "" not in attributes
        )

    def _look_again(self) -> None:
        """Find out what sampler and processors would see of a span that starts: others may have come."""
        tracer = self._tracer
        processors, sampler, ids = self._processor._span_processors, tracer.sampler, tracer.id_generator
        self._can_wait = can_wait(tracer, processors)
        self._roots = self._decisions(root_bound(sampler), always_random(ids))
        # Last, so that until then every thread looks for itself.
        self._processors, self._sampler, self._ids = processors, sampler, ids

    def _decisions(self, bound: int | None, is_random: bool | None) -> Roots | None:  # noqa: FBT001
        """Return what is decided of spans without a parent; None where that is found out for each."""
        metrics = self._tracer._tracer_metrics
        if bound is None or is_random is None or type(metrics).__name__ != "NoOpTracerMetrics":
            return None
        end = metrics.start_span(None, DROPPED)
        dropped = Decision(None, False, False, FLAGS[False, is_random], NO_STATE, end)  # noqa: FBT003
        sampled = Decision(None, True, True, FLAGS[True, is_random], NO_STATE, end)  # noqa: FBT003
        return dropped if bound == 0 else sampled if bound > MAX_SPAN_ID else None, bound, sampled, dropped


def _room_of(limits: Any) -> int:
    """Return how many attributes the limits leave without a look at any value."""
    if limits.max_span_attribute_length is not None:
        return 0
    room: int | None = limits.max_span_attributes
    return sys.maxsize if room is None else room
