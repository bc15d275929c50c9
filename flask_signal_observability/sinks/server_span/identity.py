"""What is settled of a span before there is one: its ids, its parent, and whether it is sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import INVALID_SPAN_CONTEXT
from opentelemetry.trace import SpanContext
from opentelemetry.trace import TraceFlags

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import TraceState

    Identity = tuple["Decision", int, int]
    """A decision, and the ids of the trace and of the span; a plain tuple is made in no time."""

__all__ = ["FLAGS", "MAX_SPAN_ID", "NO_STATE", "Decision", "context_of"]

MAX_TRACE_ID, MAX_SPAN_ID = 2**128 - 1, 2**64 - 1
NO_STATE = INVALID_SPAN_CONTEXT.trace_state
new_tuple = tuple.__new__

RANDOM = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
FLAGS = {
    (sampled, random): TraceFlags((TraceFlags.SAMPLED if sampled else 0) | (RANDOM if random else 0))
    for sampled in (False, True)
    for random in (False, True)
}


class Decision:
    """What is settled of a span before there is one, but its ids: the same for all that have no parent.

    Args:
        parent: The parent's context, where there is a valid one.
        is_sampled: Whether the sampler takes it.
        is_recording: Whether it is recorded at all.
        flags: Those of its context.
        trace_state: That of its context.
        record_end_metrics: To be called when it has ended, or is given up.
    """

    __slots__ = ("flags", "is_recording", "is_sampled", "parent", "record_end_metrics", "trace_state")

    def __init__(
        self,
        parent: SpanContext | None,
        is_sampled: bool,  # noqa: FBT001 - keywords cost a request 300 instructions
        is_recording: bool,  # noqa: FBT001
        flags: TraceFlags,
        trace_state: TraceState,
        record_end_metrics: Callable[[], None],
    ) -> None:
        self.parent = parent
        self.is_sampled = is_sampled
        self.is_recording = is_recording
        self.flags = flags
        self.trace_state = trace_state
        self.record_end_metrics = record_end_metrics


def context_of(identity: Identity) -> SpanContext:
    """Return what ``SpanContext(...)`` does: a tuple, behind a function that takes as long as the rest of it all."""
    decision, trace_id, span_id = identity
    valid = 0 < trace_id <= MAX_TRACE_ID and 0 < span_id <= MAX_SPAN_ID
    return new_tuple(SpanContext, (trace_id, span_id, False, decision.flags, decision.trace_state, valid))
