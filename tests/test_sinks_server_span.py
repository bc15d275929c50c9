"""ServerSpan is the SDK's own span in everything that a processor or an exporter can see of it."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import logging
import sys
import threading
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
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
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

from flask_signal_observability.providers import KernelIdGenerator
from flask_signal_observability.sinks.server_span import starter as span_starter
from flask_signal_observability.sinks.server_span.identity import context_of
from flask_signal_observability.sinks.server_span.span import event_of
from flask_signal_observability.sinks.server_span.span import ServerSpan
from flask_signal_observability.sinks.server_span.starter import make_starter
from flask_signal_observability.sinks.server_span.starter import NEEDED

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Mapping

    from .conftest import Observed

    Operation = tuple[str, tuple[Any, ...]]

SDK_VERSION = tuple(int(part) for part in importlib.metadata.version("opentelemetry-sdk").split(".")[:2])
needs_fast_path = pytest.mark.skipif(SDK_VERSION < (1, 45), reason="an older SDK starts its own spans")

START_NS = 1_700_000_000_000_000_000
NAME = "GET /orders/<int:order_id>"


@pytest.fixture(scope="module", autouse=True)
def sdk_says_nothing() -> Iterator[None]:
    """The SDK warns of each late or unclean value: there are many thousand here."""
    logger = logging.getLogger("opentelemetry")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


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
    """Writes down all that it is shown, when it is shown.

    To look at the attributes of a span that has just started is what ends the fast path: not all processors do.
    """

    def __init__(self, *, looks_early: bool = False) -> None:
        self._looks_early = looks_early
        self.seen: list[Any] = []
        self.ended: list[sdk.ReadableSpan] = []
        self.sampled: list[sdk.ReadableSpan] = []

    def on_start(self, span: sdk.Span, parent_context: Context | None = None) -> None:
        self.seen.append(("start", span.name, span.start_time, parent_context, span.is_recording()))
        if self._looks_early:
            self.seen.append(view(span))

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
    """What the providers of both are made with, and the parent."""

    limits: tuple[int | None, ...] = (None,) * 8
    sampler: sampling.Sampler = sampling.ALWAYS_ON
    parent: Context = dataclasses.field(default_factory=lambda: NO_PARENT)
    random_ids: bool = True
    looks_early: bool = False

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


NO_PARENT = Context({"other": "value"})
RESOURCE = Resource({"service.name": "shop"}, "https://opentelemetry.io/schemas/1.44.0")
SCOPE = ("flask_signal_observability", "0.1.0", "https://opentelemetry.io/schemas/1.44.0")


def start_ours(tracer: trace.Tracer, parent: Context, attributes: dict[str, Any]) -> trace.Span:
    return make_starter(tracer).start(NAME, parent, attributes, START_NS)


def start_theirs(tracer: trace.Tracer, parent: Context, attributes: dict[str, Any]) -> trace.Span:
    return tracer.start_span(NAME, parent, SpanKind.SERVER, attributes, start_time=START_NS)


def told_by(
    start: Callable[..., trace.Span], setting: Setting, attributes: Mapping[str, Any], operations: list[Operation]
) -> Any:
    """Return everything that can be seen of a span: by its maker, its processor and the OTLP exporter."""
    processor = Watching(looks_early=setting.looks_early)
    provider = setting.provider(processor)
    # A copy: the attributes are the starter's to keep.
    span = told(start, provider.get_tracer(*SCOPE), setting.parent, dict(attributes))
    if not isinstance(span, trace.Span):
        return span  # a sampler may make a start fail
    results = [told(apply, span, *operation) for operation in operations]
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


def told(act: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of ``act``, or the class of what it raises."""
    try:
        return act(*arguments)
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
        "flat_json": told(span.to_json, None),
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


def both(setting: Setting, attributes: dict[str, Any], *operations: Operation) -> tuple[Any, Any]:
    return (
        told_by(start_ours, setting, attributes, list(operations)),
        told_by(start_theirs, setting, attributes, list(operations)),
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

parents = st.just(NO_PARENT) | contexts.map(
    lambda context: trace.set_span_in_context(NonRecordingSpan(context), NO_PARENT)
)
all_settings = st.builds(Setting, limits, samplers, parents, st.booleans(), st.booleans())
default_settings = st.builds(Setting, random_ids=st.booleans())


# The span.


@given(all_settings, clean, operations)
@settings(max_examples=400, deadline=None)
def test_a_span_is_the_sdks_under_any_limits_sampler_and_parent(
    setting: Setting, attributes: dict[str, Any], operations: list[Operation]
) -> None:
    ours, theirs = both(setting, attributes, *operations)
    assert ours == theirs


@given(default_settings, clean, operations)
@settings(max_examples=200, deadline=None)
def test_a_span_that_is_recorded_is_the_sdks_whatever_is_done_to_it(
    setting: Setting, attributes: dict[str, Any], operations: list[Operation]
) -> None:
    ours, theirs = both(setting, attributes, *operations)
    assert ours["recording"]
    assert ours == theirs


def attributes_at_the_end(told: Any) -> list[str]:
    (seen,) = (seen for when, *seen in told["seen"] if when == "end")
    attributes: list[str] = seen[0]["attributes"]
    return attributes


def test_an_attribute_that_is_set_again_moves_to_the_end() -> None:
    ours, theirs = both(Setting(), {"a": 1, "b": 2}, ("add_own", ({"a": 3},)))
    assert attributes_at_the_end(ours) == ["'b': int 2", "'a': int 3"]
    assert ours == theirs


def test_beyond_the_limit_the_oldest_attribute_goes() -> None:
    setting = Setting(limits=(2,) * 8)
    ours, theirs = both(setting, {"a": 1, "b": 2}, ("add_own", ({"c": 3},)))
    assert attributes_at_the_end(ours) == ["'b': int 2", "'c': int 3"]
    assert ours == theirs


def test_a_value_is_cut_at_the_limit_of_its_length() -> None:
    setting = Setting(limits=(None,) * 7 + (3,))
    ours, theirs = both(setting, {"a": "12345"}, ("add_own", ({"b": "123"},)))
    assert attributes_at_the_end(ours) == ["'a': str '123'", "'b': str '123'"]
    assert ours == theirs


def test_an_empty_key_is_dropped() -> None:
    ours, theirs = both(Setting(), {"a": 1}, ("add_own", ({"": 1},)))
    assert attributes_at_the_end(ours) == ["'a': int 1"]
    assert ours == theirs


@needs_fast_path
@pytest.mark.parametrize("key", ["", 7, None, (1,), Odd()])
def test_a_key_of_a_samplers_that_is_no_text_becomes_what_the_sdk_makes_of_it(key: Any) -> None:
    setting = Setting(sampler=OwnSampler(sampling.Decision.RECORD_AND_SAMPLE, {key: "x"}, True, None))
    ours, theirs = both(setting, {"a": 1})
    assert attributes_at_the_end(ours) == ["'a': int 1"] + ([f"{str(key)!r}: str 'x'"] if key else [])
    assert ours == theirs


def test_a_view_of_the_attributes_shows_what_comes_later() -> None:
    span = start_ours(Setting().provider(Watching()).get_tracer("x"), NO_PARENT, {"a": 1})
    assert isinstance(span, sdk.Span)
    seen = span.attributes
    span.set_attributes({"b": 2})
    span.end()
    assert dict(seen or {}) == {"a": 1, "b": 2}


@needs_fast_path
def test_a_disabled_tracer_hands_on_the_parent() -> None:
    parent = SpanContext(7, 9, is_remote=True, trace_flags=TraceFlags(1))
    context = trace.set_span_in_context(NonRecordingSpan(parent), NO_PARENT)
    for start in (start_ours, start_theirs):
        tracer = Setting().provider(Watching()).get_tracer("x")
        tracer._tracer_config.is_enabled = False  # type: ignore[attr-defined]
        span = start(tracer, context, {})
        assert not span.is_recording()
        assert span.get_span_context() is parent


@needs_fast_path
def test_a_resource_that_changes_is_the_next_spans() -> None:
    processor = Watching()
    provider = Setting().provider(processor)
    starter = make_starter(provider.get_tracer("x"))
    provider._update_resource(Resource({"service.name": "child"}))  # what the SDK does after a fork
    starter.start(NAME, NO_PARENT, {}, START_NS).end()
    assert processor.ended[0].resource.attributes["service.name"] == "child"


@needs_fast_path
def test_the_sdks_own_metrics_count_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")

    def counted(start: Callable[..., trace.Span]) -> list[Any]:
        reader = InMemoryMetricReader()
        meters = MeterProvider([reader], shutdown_on_exit=False)
        tracer = TracerProvider(shutdown_on_exit=False, meter_provider=meters).get_tracer("x")
        told = []
        span = start(tracer, NO_PARENT, {})
        for act in (lambda: None, span.end):
            act()
            data: Any = reader.get_metrics_data()
            metrics = data.resource_metrics[0].scope_metrics[0].metrics
            spans = [m for m in metrics if m.name.startswith("otel.sdk.span.")]
            told.append([(m.name, [(p.attributes, p.value) for p in m.data.data_points]) for m in spans])
        meters.shutdown()
        return told

    ours = counted(start_ours)
    assert [name for name, _ in ours[0]] == ["otel.sdk.span.started", "otel.sdk.span.live"]
    assert ours == counted(start_theirs)


# What it is built on.


@needs_fast_path
def test_the_sdks_tracer_has_all_that_is_read_from_it() -> None:
    tracer = Setting().provider(Watching()).get_tracer("x")
    assert [name for name in NEEDED if not hasattr(tracer, name)] == []
    assert isinstance(start_ours(tracer, NO_PARENT, {}), ServerSpan)


@needs_fast_path
def test_a_span_has_the_attributes_that_the_sdk_gives_its_own() -> None:
    tracer = Setting().provider(Watching()).get_tracer("x")
    ours, theirs = start_ours(tracer, NO_PARENT, {}), vars(start_theirs(tracer, NO_PARENT, {}))
    assert vars(ours).keys() - {"_room"} == theirs.keys()
    # All but its ids, and what a span has for itself.
    same = theirs.keys() - {"_context", "_lock", "_attributes", "_events", "_links", "_status"}
    assert {name: getattr(ours, name) for name in same} == {name: theirs[name] for name in same}


@needs_fast_path
def test_an_event_has_the_attributes_that_the_sdk_gives_its_own() -> None:
    assert vars(event_of("paid", {"amount": 1}, 5)) == vars(sdk.Event("paid", {"amount": 1}, 5))


class OtherTracer(sdk.Tracer):
    """Somebody's own, which may do anything in start_span."""


def other_tracer(provider: TracerProvider) -> trace.Tracer:
    tracer = provider.get_tracer(*SCOPE)
    tracer.__class__ = OtherTracer
    return tracer


def test_a_tracer_of_another_class_starts_its_own_span() -> None:
    processor = Watching()
    span = start_ours(other_tracer(Setting().provider(processor)), NO_PARENT, {"a": ["x"]})
    span.end(START_NS + 1)
    assert not isinstance(span, ServerSpan)
    (ended,) = processor.ended
    assert (ended.name, ended.kind, ended.start_time) == (NAME, SpanKind.SERVER, START_NS)
    assert dict(ended.attributes or {}) == {"a": ("x",)}


@needs_fast_path
def test_a_request_has_the_same_attributes_whether_its_tracer_has_all_that_is_needed_or_not(
    observe: Callable[..., Observed], monkeypatch: pytest.MonkeyPatch
) -> None:
    def attributes_of_a_request(kind: type) -> dict[str, Any]:
        observed = observe()
        kinds: list[type] = []
        observed.app.add_url_rule("/<name>", view_func=lambda name: kinds.append(type(started())) or name)
        observed.client().get("/ann", headers={"X-Request-ID": "1"})
        assert [issubclass(seen, kind) for seen in kinds] == [True]
        assert issubclass(kinds[0], ServerSpan) == (kind is ServerSpan)
        assert observed.record["trace_id"] == f"{observed.server_span.context.trace_id:032x}"
        return dict(observed.server_span.attributes or {})

    def started() -> trace.Span:
        return trace.get_current_span().start()  # type: ignore[attr-defined, no-any-return]

    fast = attributes_of_a_request(ServerSpan)
    monkeypatch.setattr(span_starter, "NEEDED", (*NEEDED, "_not_there"))
    assert attributes_of_a_request(sdk._Span) == fast
    assert fast["http.route"] == "/<name>"
    assert fast["http.response.status_code"] == 200


def test_a_request_is_served_without_a_span_where_the_sdk_is_disabled(
    observe: Callable[..., Observed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    observed = observe()
    traces: list[int] = []

    def view() -> str:
        traces.append(trace.get_current_span().get_span_context().trace_id)
        return "hello"

    observed.app.add_url_rule("/", view_func=view)
    parent = f"00-{7:032x}-{9:016x}-01"
    assert observed.client().get("/").data == b"hello"
    assert observed.client().get("/", headers={"traceparent": parent}).status_code == 200
    assert traces == [0, 7 if SDK_VERSION >= (1, 45) else 0]  # an older one forgets the caller
    assert observed.spans == []
    assert [record["http.response.status_code"] for record in observed.records("request_finished")] == [200, 200]


# Threads.


def in_threads(*acts: Callable[[], None]) -> None:
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], None]) -> None:
        barrier.wait(10)
        act()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@needs_fast_path
@pytest.mark.usefixtures("hasty_threads")
def test_threads_lose_no_attribute_event_or_link() -> None:
    times, kinds = 40, 4
    unlimited = Setting(limits=(SpanLimits.UNSET,) * 8)
    link = SpanContext(1, 1, is_remote=True)

    def add(span: Any, thread: int) -> None:
        for number in range(times):
            key = f"{thread}.{number}"
            (span.add_own if thread % 2 else span.set_attributes)({f"own.{key}": number})
            span.set_attribute(f"one.{key}", [number])
            span.add_event(key)
            span.add_link(link, {"key": key})

    for _ in range(10):
        processor = Watching()
        span: Any = start_ours(unlimited.provider(processor).get_tracer("x"), NO_PARENT, {"first": 1})
        in_threads(*(functools.partial(add, span, thread) for thread in range(kinds)))
        span.end()
        (ended,) = processor.ended
        assert len(ended.attributes or {}) == 1 + 2 * times * kinds
        assert len({event.name for event in ended.events}) == len(ended.events) == times * kinds
        assert len({(k.attributes or {})["key"] for k in ended.links}) == len(ended.links) == times * kinds


@needs_fast_path
def test_an_attribute_set_by_another_thread_amid_our_own_is_kept_with_them() -> None:
    span: Any = start_ours(Setting().provider(Watching()).get_tracer("x"), NO_PARENT, {})
    thread = threading.Thread(target=span.set_attribute, args=("theirs", 1))

    class Slow(dict[str, Any]):
        def values(self) -> Any:
            thread.start()
            thread.join(0.2)  # comes to its end only where nothing keeps it out
            return super().values()

    span.add_own(Slow(ours=1))
    thread.join(10)
    assert dict(span.attributes) == {"ours": 1, "theirs": 1}


# A span that nobody looks at before its end.


class Ended(sdk.SpanProcessor):
    """Looks at spans that have ended, and at no other."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.ended: list[sdk.ReadableSpan] = []

    def on_end(self, span: sdk.ReadableSpan) -> None:
        self.seen.append(view(span))
        self.ended.append(span)


def at_its_end(
    end: Callable[..., None], setting: Setting, attributes: Mapping[str, Any], status: Status
) -> tuple[Any, Any]:
    processor = Ended()
    provider = setting.provider(processor)
    end(provider.get_tracer(*SCOPE), setting.parent, dict(attributes), status)
    provider.shutdown()
    return processor.seen, told(lambda: encode_spans(processor.ended).SerializeToString(deterministic=True))


def end_ours(tracer: trace.Tracer, parent: Context, attributes: dict[str, Any], status: Status) -> None:
    starter = make_starter(tracer)
    identity = starter.identify(parent)
    assert identity is not None
    if not identity[0].is_recording:
        return
    times = START_NS, START_NS + 10**9
    if starter.end_unstarted(identity, NAME, attributes, status, *times) is None:
        span = starter.start(NAME, parent, attributes, START_NS, identity)
        span.set_status(status)
        span.end(times[1])


def end_theirs(tracer: trace.Tracer, parent: Context, attributes: dict[str, Any], status: Status) -> None:
    span = tracer.start_span(NAME, parent, SpanKind.SERVER, attributes, start_time=START_NS)
    span.set_status(status)
    span.end(START_NS + 10**9)


known_samplers = [
    sampling.ALWAYS_ON,
    sampling.ALWAYS_OFF,
    sampling.DEFAULT_ON,
    sampling.DEFAULT_OFF,
    sampling.TraceIdRatioBased(0.5),
    sampling.ParentBasedTraceIdRatio(0.5),
    sampling.ParentBased(sampling.TraceIdRatioBased(1.0)),
]
quiet_settings = st.builds(Setting, limits, st.sampled_from(known_samplers), parents, st.booleans())
own_values = texts | st.integers(-(2**63), 2**63 - 1)
ends = st.sampled_from([Status(StatusCode.UNSET), Status(StatusCode.ERROR), Status(StatusCode.ERROR, "it broke")])


@needs_fast_path
@given(quiet_settings, st.dictionaries(few_keys, own_values, max_size=6), ends)
@settings(max_examples=200, deadline=None)
def test_a_span_that_was_never_started_is_the_sdks_at_its_end(
    setting: Setting, attributes: dict[str, Any], status: Status
) -> None:
    assert at_its_end(end_ours, setting, attributes, status) == at_its_end(end_theirs, setting, attributes, status)


@needs_fast_path
@pytest.mark.parametrize(
    "sampler",
    [
        OwnSampler(sampling.Decision.RECORD_AND_SAMPLE, None, adds=False, trace_state=None),
        sampling.ParentBased(OwnSampler(sampling.Decision.DROP, None, adds=False, trace_state=None)),
        type("Mine", (sampling.TraceIdRatioBased,), {})(0.5),
    ],
)
def test_a_sampler_that_may_look_at_the_span_has_it_started(sampler: sampling.Sampler) -> None:
    tracer = Setting(sampler=sampler).provider(Ended()).get_tracer("x")
    assert make_starter(tracer).identify(NO_PARENT) is None


@needs_fast_path
@pytest.mark.parametrize("loud", [Watching(), type("Duck", (), {"on_end": print, "shutdown": print})()])
def test_a_processor_that_looks_at_what_starts_has_it_started_from_then_on(loud: Any) -> None:
    provider = Setting().provider(Ended())
    starter = make_starter(provider.get_tracer("x"))
    assert starter.identify(NO_PARENT) is not None
    provider.add_span_processor(loud)
    assert starter.identify(NO_PARENT) is None


@needs_fast_path
def test_a_sampler_that_is_replaced_is_asked_from_then_on() -> None:
    tracer: Any = Setting().provider(Ended()).get_tracer("x")
    starter = make_starter(tracer)
    identity = starter.identify(NO_PARENT)
    assert identity is not None
    assert identity[0].is_sampled
    tracer.sampler = sampling.ALWAYS_OFF
    identity = starter.identify(NO_PARENT)
    assert identity is not None
    assert not identity[0].is_sampled


@needs_fast_path
@pytest.mark.parametrize("touch", ["nothing", "context", "attribute"])
def test_a_request_has_one_id_whether_its_span_is_touched_or_not(observe: Callable[..., Observed], touch: str) -> None:
    observed = observe()
    seen: list[SpanContext] = []

    @observed.app.get("/<name>")
    def view_of(name: str) -> str:
        span = trace.get_current_span()
        if touch != "nothing":
            seen.append(span.get_span_context())
        if touch == "attribute":
            span.set_attribute("tenant", "acme")
        return name

    observed.client().get("/ann")
    span = observed.server_span
    assert seen == ([] if touch == "nothing" else [span.context])
    assert span.attributes is not None
    assert span.attributes.get("tenant") == ("acme" if touch == "attribute" else None)
    assert observed.record["trace_id"] == f"{span.context.trace_id:032x}"
    assert observed.record["span_id"] == f"{span.context.span_id:016x}"


@needs_fast_path
def test_a_span_that_ended_without_being_started_says_so_and_stays_readable(observe: Callable[..., Observed]) -> None:
    observed = observe()
    kept: list[Any] = []
    observed.app.add_url_rule("/", view_func=lambda: kept.append(trace.get_current_span()) or "")
    observed.client().get("/")
    (span,) = kept
    assert span.get_span_context() == observed.server_span.context
    assert not span.is_recording()
    assert span.attributes == observed.server_span.attributes
    span.set_attribute("late", "value")
    span.end()
    assert "late" not in observed.server_span.attributes
    assert len(observed.server_spans) == 1


@needs_fast_path
@pytest.mark.parametrize("parent", [NO_PARENT, Context()])
def test_the_sdks_own_metrics_count_a_span_that_was_never_started(
    monkeypatch: pytest.MonkeyPatch, parent: Context
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    provider = TracerProvider(shutdown_on_exit=False, meter_provider=meters)
    end_ours(provider.get_tracer("x"), parent, {}, Status(StatusCode.UNSET))
    data: Any = reader.get_metrics_data()
    told = {m.name: m.data.data_points[0].value for m in data.resource_metrics[0].scope_metrics[0].metrics}
    assert (told["otel.sdk.span.started"], told["otel.sdk.span.live"]) == (1, 0)
    meters.shutdown()


@needs_fast_path
@pytest.mark.parametrize(
    "sampler",
    [
        sampling.ALWAYS_ON,
        sampling.DEFAULT_OFF,
        sampling.TraceIdRatioBased(0.3),
        sampling.ParentBasedTraceIdRatio(0.3),
        sampling.ParentBased(sampling.ParentBasedTraceIdRatio(1.0)),
    ],
    ids=lambda sampler: sampler.get_description()[:40],
)
def test_a_span_without_a_parent_is_sampled_where_its_sampler_says_so(sampler: sampling.Sampler) -> None:
    starter = make_starter(TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("x"))
    for _ in range(200):
        identity = starter.identify(Context())
        assert identity is not None
        context = context_of(identity)
        told = sampler.should_sample(Context(), context.trace_id, "").decision
        assert identity[0].is_sampled == context.trace_flags.sampled == told.is_sampled()
        assert context.is_valid


def test_a_sampler_that_was_derived_from_the_sdks_is_asked_about_a_span_without_a_parent() -> None:
    class Moody(sampling.TraceIdRatioBased):
        def should_sample(self, *arguments: Any, **keywords: Any) -> sampling.SamplingResult:
            return sampling.SamplingResult(sampling.Decision.RECORD_AND_SAMPLE)

    starter = make_starter(TracerProvider(sampler=Moody(0.0), shutdown_on_exit=False).get_tracer("x"))
    assert starter.identify(Context()) is None  # it may look at the name: the span is started when that is known


@needs_fast_path
@pytest.mark.parametrize("generator", [id_generator.RandomIdGenerator(), KernelIdGenerator(), CountedIds(random=False)])
@pytest.mark.parametrize("sampler", [sampling.ALWAYS_ON, sampling.DEFAULT_OFF, sampling.TraceIdRatioBased(1.0)])
def test_spans_without_a_parent_have_ids_of_their_own_and_the_flags_that_the_sdk_gives_them(
    generator: id_generator.IdGenerator, sampler: sampling.Sampler
) -> None:
    provider = TracerProvider(id_generator=generator, sampler=sampler, shutdown_on_exit=False)
    tracer = provider.get_tracer("x")
    starter = make_starter(tracer)
    identities = [starter.identify(Context()) for _ in range(3)]
    contexts = [context_of(identity) for identity in identities if identity is not None]
    theirs = tracer.start_span("theirs", Context()).get_span_context()
    assert {context.trace_flags for context in contexts} == {theirs.trace_flags}
    assert all(context.trace_state == theirs.trace_state for context in contexts)
    assert len({context.trace_id for context in contexts} | {context.span_id for context in contexts}) == 6


@needs_fast_path
@pytest.mark.parametrize("generator", [id_generator.RandomIdGenerator(), KernelIdGenerator()])
def test_what_is_decided_of_spans_without_a_parent_is_decided_once(generator: id_generator.IdGenerator) -> None:
    tracer = TracerProvider(id_generator=generator, shutdown_on_exit=False).get_tracer("x")
    starter = make_starter(tracer)
    decided = [identity[0] for identity in (starter.identify(Context()), starter.identify(Context())) if identity]
    assert len(decided) == 2
    assert decided[0] is decided[1]


@needs_fast_path
def test_an_id_generator_that_is_replaced_is_asked_from_then_on() -> None:
    tracer: Any = TracerProvider(shutdown_on_exit=False).get_tracer("x")
    starter = make_starter(tracer)
    assert starter.identify(Context()) is not None
    tracer.id_generator = CountedIds(random=False)
    identity = starter.identify(Context())
    assert identity is not None
    assert identity[1:] == ((0x1234 << 100) + 1, 0xABCD_0002)
    assert not context_of(identity).trace_flags.random_trace_id


@needs_fast_path
def test_a_tracer_that_is_switched_off_has_no_span_that_waits() -> None:
    tracer: Any = TracerProvider(shutdown_on_exit=False).get_tracer("x")
    starter = make_starter(tracer)
    assert starter.identify(Context()) is not None
    tracer._tracer_config = type(tracer._tracer_config)(is_enabled=False)
    assert starter.identify(Context()) is None
