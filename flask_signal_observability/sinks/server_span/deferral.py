"""Whether a span may wait to be made until it ends: who would look at one that starts."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from .identity import MAX_SPAN_ID

__all__ = ["DROPPED", "SAMPLED", "always_random", "can_wait", "root_bound"]

# A member of an enumeration is looked up at length (CPython 3.11).
SAMPLED, DROPPED = sampling.Decision.RECORD_AND_SAMPLE, sampling.Decision.DROP

PARENT_BASED = frozenset({sampling.ParentBased, sampling.ParentBasedTraceIdRatio})

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


CONSTANTS = tuple(getattr(kind, "is_trace_id_random", None) for kind in (IdGenerator, RandomIdGenerator))
"""Methods that say the same each time."""


def can_wait(tracer: Any, processors: Any) -> bool:
    """Tell whether neither the tracer's sampler nor these processors would see anything of a span that starts."""
    return (
        type(tracer.span_processor) is sdk.SynchronousMultiSpanProcessor
        and isinstance(processors, tuple)
        and all(map(is_quiet, processors))
        and needs_ids_alone(tracer.sampler)
    )


def root_bound(sampler: sampling.Sampler) -> int | None:
    """Return below which number the lower half of a trace id is when a span without a parent is sampled.

    None where the sampler has to be asked, as all but the SDK's own have.
    """
    if type(sampler) in PARENT_BASED:
        root: sampling.Sampler | None = getattr(sampler, "_root", None)
        return None if root is None else root_bound(root)
    if type(sampler) is sampling.TraceIdRatioBased and sampler.TRACE_ID_LIMIT == MAX_SPAN_ID:
        return sampler.bound
    return MAX_SPAN_ID + 1 if sampler is sampling.ALWAYS_ON else 0 if sampler is sampling.ALWAYS_OFF else None


def always_random(generator: Any) -> bool | None:
    """Tell whether a generator's trace ids are random; None where it has to be asked each time."""
    if "is_trace_id_random" in getattr(generator, "__dict__", {}):
        return None
    return bool(generator.is_trace_id_random()) if type(generator).is_trace_id_random in CONSTANTS else None


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
    if type(sampler) in PARENT_BASED:
        delegates = [getattr(sampler, name, None) for name in DELEGATES]
        return all(delegate is not None and needs_ids_alone(delegate) for delegate in delegates)
    return type(sampler) in {sampling.StaticSampler, sampling.TraceIdRatioBased}
