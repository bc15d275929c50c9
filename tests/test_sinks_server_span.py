"""ServerSpan is the SDK's own span in everything that a processor or an exporter can see of it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import warnings
from typing import Any
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import id_generator
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan
from opentelemetry.trace import SpanContext
from opentelemetry.trace import SpanKind
from opentelemetry.trace import Status
from opentelemetry.trace import StatusCode
from opentelemetry.trace import TraceFlags
from opentelemetry.trace import TraceState

from flask_signal_observability.sinks.server_span import make_starter
from flask_signal_observability.sinks.server_span import ServerSpan

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    Operation = tuple[str, tuple[Any, ...]]

SDK_VERSION = tuple(int(part) for part in importlib.metadata.version("opentelemetry-sdk").split(".")[:2])
needs_fast_path = pytest.mark.skipif(SDK_VERSION < (1, 45), reason="an older SDK starts its own spans")

START_NS = 1_700_000_000_000_000_000
NAME = "GET /orders/<int:order_id>"


# One span twice: started by us, and by the SDK.


class CountedIds(id_generator.IdGenerator):
    """Gives the same ids to both."""

    def __init__(self, *, random: bool) -> None:
        self._random = random
        self._last = 0

    def generate_span_id(self) -> int:
        self._last += 1
        return 0xABCD_0000 + self._last

    def generate_trace_id(self) -> int:
        self._last += 1
        return (0x1234 << 100) + self._last

    def is_trace_id_random(self) -> bool:
        return self._random


class Watching(sdk.SpanProcessor):
    """Writes down all that it is shown, when it is shown."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.ended: list[sdk.ReadableSpan] = []
        self.sampled: list[sdk.ReadableSpan] = []

    def on_start(self, span: sdk.Span, parent_context: Context | None = None) -> None:
        self.seen.append(("start", view(span), parent_context, span.is_recording()))
        self._attributes_at_start = span.attributes

    def _on_ending(self, span: sdk.Span) -> None:
        self.seen.append(("ending", view(span), span.is_recording()))
        self._touch(span)

    def on_end(self, span: sdk.ReadableSpan) -> None:
        self.seen.append(("end", view(span)))
        self.ended.append(span)
        if span.context is not None and span.context.trace_flags.sampled:
            self.sampled.append(span)

    @staticmethod
    def _touch(span: sdk.Span) -> None:
        # It is too late for all of these.
        span.set_attribute("late", value=True)
        span.set_attributes({"later": "x"})
        span.add_event("late")
        span.update_name("late")
        span.set_status(StatusCode.ERROR)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A provider, and a parent; made anew for each of the two."""

    limits: tuple[int | None, ...] = (None,) * 8
    sampler: sampling.Sampler = sampling.ALWAYS_ON
    parent: SpanContext | None = None
    random_ids: bool = True

    def provider(self, processor: sdk.SpanProcessor) -> TracerProvider:
        provider = TracerProvider(
            sampler=self.sampler,
            resource=RESOURCE,
            shutdown_on_exit=False,
            id_generator=CountedIds(random=self.random_ids),
            span_limits=SpanLimits(*self.limits),
        )
        provider.add_span_processor(processor)
        return provider

    def parent_context(self) -> Context:
        base = Context({"other": "value"})
        return base if self.parent is None else trace.set_span_in_context(NonRecordingSpan(self.parent), base)


RESOURCE = Resource({"service.name": "shop"}, "https://opentelemetry.io/schemas/1.44.0")
SCOPE = ("flask_signal_observability", "0.1.0", "https://opentelemetry.io/schemas/1.44.0")


def start_ours(tracer: trace.Tracer, parent: Context, attributes: dict[str, Any]) -> trace.Span:
    return make_starter(tracer)(NAME, parent, attributes, START_NS)


def start_theirs(tracer: trace.Tracer, parent: Context, attributes: dict[str, Any]) -> trace.Span:
    return tracer.start_span(NAME, parent, SpanKind.SERVER, attributes, start_time=START_NS)


def told_by(
    start: Callable[..., trace.Span], setting: Setting, attributes: Mapping[str, Any], operations: list[Operation]
) -> Any:
    """Return everything that can be seen of a span: by its maker, its processor and the OTLP exporter."""
    processor = Watching()
    provider = setting.provider(processor)
    # A copy: the attributes are the starter's to keep.
    span = start(provider.get_tracer(*SCOPE), setting.parent_context(), dict(attributes))
    results = [told(lambda: apply(span, *operation)) for operation in operations]
    span.end(START_NS + 10**9)
    provider.shutdown()
    return {
        "recording": isinstance(span, sdk.Span),
        "context": context_view(span.get_span_context()),
        "results": results,
        "seen": processor.seen,
        "sampled": len(processor.sampled),
        "otlp": told(lambda: encode_spans(processor.ended).SerializeToString(deterministic=True)),
    }


def apply(span: trace.Span, name: str, arguments: tuple[Any, ...]) -> Any:
    if name == "attributes":
        return items(span.attributes) if isinstance(span, sdk.Span) else None
    if name == "add_own" and not isinstance(span, ServerSpan):
        name = "set_attributes"
    return getattr(span, name)(*arguments)


def told(act: Callable[[], Any]) -> Any:
    """Return the result of ``act``, or the class of what it raises."""
    try:
        return act()
    except Exception as error:
        return type(error)


def view(span: sdk.ReadableSpan) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        info = span.instrumentation_info
    return {
        "name": span.name,
        "context": context_view(span.context),
        "same_context": span.get_span_context() is span.context,
        "parent": context_view(span.parent),
        "kind": span.kind,
        "times": (span.start_time, span.end_time),
        "status": (span.status.status_code, span.status.description, span.status.is_ok, span.status.is_unset),
        "attributes": items(span.attributes),
        "events": [(e.name, e.timestamp, items(e.attributes), e.dropped_attributes) for e in span.events],
        "links": [(context_view(k.context), items(k.attributes), k.dropped_attributes) for k in span.links],
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "resource": span.resource,
        "scope": (span.instrumentation_scope, info),
        "json": told(span.to_json),
        "flat_json": told(lambda: span.to_json(indent=None)),
    }


def items(attributes: Mapping[str, Any] | None) -> list[str]:
    # In their order, and by their text: a NaN equals nothing, and True equals 1.
    return [f"{key!r}: {type(value).__name__} {value!r}" for key, value in (attributes or {}).items()]


def context_view(context: SpanContext | None) -> Any:
    if context is None:
        return None
    flags = context.trace_flags
    return (
        f"{context.trace_id:x}-{context.span_id:x}-{flags:x}",
        type(flags),
        context.is_remote,
        context.is_valid,
        context.trace_state.to_header(),
    )


# What may come.


class Odd:
    """A value whose text is its own."""

    def __str__(self) -> str:
        return "odd"


class Broken:
    """A value that has no text."""

    def __str__(self) -> str:
        raise ValueError("no text")


class Text(str):
    """A string that is more than one."""

    __slots__ = ()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
plain_values = texts | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.booleans()
clean_values = plain_values | st.lists(texts, max_size=3)
unclean_values = (
    clean_values
    | st.lists(plain_values | st.none(), max_size=3)
    | st.dictionaries(texts, plain_values, max_size=2)
    | st.binary(max_size=4)
    | st.sampled_from([None, Odd(), Broken(), object(), Text("more"), 2**70, StatusCode.OK, (1, "a")])
)
few_keys = st.sampled_from(["a", "b", "c", "http.route", "http.response.status_code"])
keys = few_keys | texts
unclean_keys = keys | st.sampled_from(["", None, 0, 7, (1,), Text("a"), Odd()])

clean = st.dictionaries(few_keys | texts.filter(bool), plain_values, max_size=6) | st.dictionaries(
    few_keys, clean_values, max_size=6
)
unclean = st.dictionaries(unclean_keys, unclean_values, max_size=6)
times = st.integers(START_NS, START_NS + 10**12)

trace_states = st.sampled_from([None, TraceState([("vendor", "1")]), TraceState([("a", "b"), ("c", "d")])])
contexts = st.builds(
    SpanContext,
    st.sampled_from([0, 1, 0xFFFF << 100, 2**128 - 1]),
    st.sampled_from([0, 1, 2**64 - 1]),
    st.booleans(),
    st.sampled_from([0, 1, 2, 3, 0xFF]).map(TraceFlags),
    trace_states,
)


def raised(text: str) -> Exception:
    try:
        raise KeyError(text)
    except KeyError as error:
        return error


errors = st.sampled_from([ValueError("no"), raised("key"), Broken, OSError(2, "gone")]).filter(
    lambda error: isinstance(error, BaseException)
)


def operation(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Operation]:
    return st.tuples(st.just(name), st.tuples(*arguments))


statuses = st.builds(Status, st.just(StatusCode.ERROR), st.none() | texts) | st.sampled_from(
    [Status(StatusCode.OK), Status(StatusCode.UNSET), StatusCode.ERROR, StatusCode.OK, StatusCode.UNSET]
)
operations = st.lists(
    st.one_of(
        operation("add_own", clean),
        operation("set_attributes", clean | unclean),
        operation("set_attribute", unclean_keys, unclean_values),
        operation("add_event", texts, st.none() | unclean, times),
        operation("add_link", contexts, st.none() | unclean),
        operation("record_exception", errors, st.none() | clean, times),
        operation("set_status", statuses),
        operation("set_status", st.sampled_from(StatusCode), st.none() | texts),
        operation("update_name", texts),
        operation("is_recording"),
        operation("attributes"),
        operation("end", times),
        operation("end", times),
    ),
    max_size=12,
)

limits = st.tuples(*[st.sampled_from([None, None, 0, 1, 2, 5, SpanLimits.UNSET])] * 8)


@dataclasses.dataclass(frozen=True)
class OwnSampler(sampling.Sampler):
    """Decides as it is told, and adds to or replaces the attributes and the trace state."""

    decision: sampling.Decision
    attributes: dict[Any, Any] | None
    adds: bool
    trace_state: TraceState | None

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: TraceState | None = None,
    ) -> sampling.SamplingResult:
        assert (name, kind, links, trace_state) == (NAME, SpanKind.SERVER, (), None)
        assert parent_context is not None
        assert trace_id
        assert parent_context["other"] == "value"
        told = {**attributes, **(self.attributes or {})} if self.adds else self.attributes
        return sampling.SamplingResult(self.decision, told, self.trace_state)

    def get_description(self) -> str:
        return "OwnSampler"


samplers = st.one_of(
    st.sampled_from(
        [
            sampling.ALWAYS_ON,
            sampling.ALWAYS_OFF,
            sampling.ParentBased(sampling.ALWAYS_ON),
            sampling.ParentBased(sampling.ALWAYS_OFF),
            sampling.TraceIdRatioBased(0.5),
            sampling.ParentBased(sampling.TraceIdRatioBased(0.0)),
        ]
    ),
    st.builds(OwnSampler, st.sampled_from(sampling.Decision), st.none() | clean | unclean, st.booleans(), trace_states),
)

all_settings = st.builds(Setting, limits, samplers, st.none() | contexts, st.booleans())
default_settings = st.builds(Setting, random_ids=st.booleans())


# The span.


@given(all_settings, clean, operations)
@settings(max_examples=400, deadline=None)
def test_a_span_is_the_sdks_under_any_limits_sampler_and_parent(
    setting: Setting, attributes: dict[str, Any], operations: list[Operation]
) -> None:
    ours = told_by(start_ours, setting, attributes, operations)
    assert ours == told_by(start_theirs, setting, attributes, operations)


@given(default_settings, clean, operations)
@settings(max_examples=200, deadline=None)
def test_a_span_that_is_recorded_is_the_sdks_whatever_is_done_to_it(
    setting: Setting, attributes: dict[str, Any], operations: list[Operation]
) -> None:
    ours = told_by(start_ours, setting, attributes, operations)
    assert ours["recording"]
    assert ours == told_by(start_theirs, setting, attributes, operations)
