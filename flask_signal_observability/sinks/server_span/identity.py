"""What is settled of a span before there is one: its ids, its parent, and whether it is sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import INVALID_SPAN_CONTEXT
from opentelemetry.trace import SpanContext
from opentelemetry.trace import TraceFlags

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import TraceState

__all__ = ["FLAGS", "MAX_SPAN_ID", "NO_STATE", "Identity", "context_of"]

MAX_TRACE_ID, MAX_SPAN_ID = 2**128 - 1, 2**64 - 1
NO_STATE = INVALID_SPAN_CONTEXT.trace_state
new_tuple = tuple.__new__

RANDOM = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
FLAGS = {
    (sampled, random): TraceFlags((TraceFlags.SAMPLED if sampled else 0) | (RANDOM if random else 0))
    for sampled in (False, True)
    for random in (False, True)
}


class Identity:
    """What is settled of a span before there is one.

    Args:
        bits: The trace's id, 128 bits, and below it the span's, 64.
        parent: The parent's context, where there is a valid one.
        is_sampled: Whether the sampler takes it.
        is_recording: Whether it is recorded at all.
        flags: Those of its context.
        trace_state: That of its context, where the sampler gives one.
        record_end_metrics: To be called when it has ended, or is given up.
    """

    __slots__ = (
        "_bits",
        "_context",
        "flags",
        "ids",
        "is_recording",
        "is_sampled",
        "parent",
        "record_end_metrics",
        "trace_state",
    )

    def __init__(
        self,
        bits: int,
        parent: SpanContext | None,
        is_sampled: bool,  # noqa: FBT001 - keywords cost a request 300 instructions
        is_recording: bool,  # noqa: FBT001
        flags: TraceFlags,
        trace_state: TraceState | None,
        record_end_metrics: Callable[[], None],
    ) -> None:
        self.parent = parent
        self.is_sampled = is_sampled
        self.is_recording = is_recording
        self.flags = flags
        self.trace_state = trace_state
        self.record_end_metrics = record_end_metrics
        self._bits = bits
        self.ids = bits.to_bytes(24, "big").hex()
        """Those of the trace and of the span, 32 and 16 hex digits."""
        self._context: SpanContext | None = None

    @property
    def context(self) -> SpanContext:
        """As the span will have it; made when it is first asked for: mostly never, where a request is not sampled."""
        if self._context is None:
            self._context = context_of(self._bits >> 64, self._bits & MAX_SPAN_ID, self.flags, self.trace_state)
        return self._context


def context_of(trace_id: int, span_id: int, flags: TraceFlags, trace_state: TraceState | None) -> SpanContext:
    """Return what ``SpanContext(...)`` does: a tuple, behind a function that takes as long as the rest of it all."""
    valid = 0 < trace_id <= MAX_TRACE_ID and 0 < span_id <= MAX_SPAN_ID
    state = NO_STATE if trace_state is None else trace_state
    return new_tuple(SpanContext, (trace_id, span_id, False, flags, state, valid))
