"""``carry_context``: what a thread does for a request is the request's, and nothing of it stays in the thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import TYPE_CHECKING

import flask
import pytest
from flask import Response
from jinja2 import DictLoader
from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry import trace
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flask_signal_observability import add_request_context
from flask_signal_observability import annotate
from flask_signal_observability import carry_context
from flask_signal_observability.record import current_record

from .lifecycle.outputs import assert_quiet
from .test_orphans import assert_below_the_server_span
from .test_orphans import chunks
from .test_orphans import fetch
from .test_orphans import Span
from .test_orphans import view_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Tracer

    from .conftest import Observed

WAIT_SECONDS = 10.0


def in_a_thread(work: Callable[[], Any]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(WAIT_SECONDS)


def in_a_pool(work: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(WAIT_SECONDS)


def with_the_request(work: Callable[[], Any]) -> Callable[[], Any]:
    return carry_context(flask.copy_current_request_context(work))


def within_the_request(work: Callable[[], Any]) -> Callable[[], Any]:
    return flask.copy_current_request_context(carry_context(work))


starts = pytest.mark.parametrize("start", [in_a_thread, in_a_pool], ids=lambda start: start.__name__)
carries = pytest.mark.parametrize(
    "carry", [carry_context, with_the_request, within_the_request], ids=lambda carry: carry.__name__
)

Start = Callable[[Callable[[], Any]], None]
Carry = Callable[[Callable[[], Any]], Callable[[], Any]]


@starts
@carries
def test_a_carried_thread_makes_children_of_the_span_that_was_current(
    observed: Observed, tracer: Tracer, span: Span, start: Start, carry: Carry, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> str:
        start(carry(span))
        with tracer.start_as_current_span("outer"):
            start(carry(lambda: tracer.start_span("inner").end()))
        return "ok"

    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    assert_below_the_server_span(observed)
    inner, outer = (one for one in observed.spans if one.name in ("inner", "outer"))
    assert inner.parent.span_id == outer.context.span_id
    assert observed.value("flask_app_contexts_active") == 0
    assert_quiet(caplog)


@starts
@carries
def test_a_carried_thread_annotates_and_logs_as_its_request(
    observed: Observed, tracer: Tracer, start: Start, carry: Carry
) -> None:
    logged: list[Any] = []

    def work() -> None:
        annotate(tenant="acme")
        logged.append(add_request_context(None, "info", {}))
        with tracer.start_as_current_span("here"):
            logged.append(add_request_context(None, "info", {}))

    def view() -> str:
        start(carry(work))
        return "ok"

    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    ids = {key: observed.record[key] for key in ("request_id", "trace_id", "span_id", "service")}
    (here,) = (one for one in observed.spans if one.name == "here")
    assert logged == [ids, {**ids, "span_id": trace.format_span_id(here.context.span_id)}]
    assert observed.record["tenant"] == observed.server_span.attributes["tenant"] == "acme"


def test_a_carried_thread_is_the_first_to_need_the_server_span(observed: Observed, span: Span) -> None:
    observed.app.url_value_preprocessor(lambda *_: in_a_thread(carry_context(span)))
    observed.app.add_url_rule("/", view_func=lambda: "ok", endpoint="view")
    fetch(observed)
    assert_below_the_server_span(observed)
    assert observed.server_span.name == "GET /"


def test_a_function_carried_out_of_a_stream_belongs_to_its_request(observed: Observed, span: Span) -> None:
    view_of(lambda span: Response(chunks(lambda: in_a_thread(carry_context(span)))))(observed.app, span)
    fetch(observed)
    assert_below_the_server_span(observed)


def test_one_carried_function_runs_in_many_threads_at_once(observed: Observed, span: Span) -> None:
    together = threading.Barrier(4)

    def work(_: int) -> None:
        together.wait(WAIT_SECONDS)
        span()
        together.wait(WAIT_SECONDS)

    def view() -> str:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(carry_context(work), range(8)))
        return "ok"

    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    assert_below_the_server_span(observed, count=8)


def test_renders_that_overlap_in_two_threads_of_a_request_are_both_told(observed: Observed) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        go_on.wait(WAIT_SECONDS)
        return ""

    def view() -> str:
        work = flask.copy_current_request_context(lambda: flask.render_template("slow.html", slow=slow))
        thread = threading.Thread(target=carry_context(work))
        thread.start()
        begun.wait(WAIT_SECONDS)
        return flask.render_template("quick.html", end=lambda: go_on.set() or thread.join(WAIT_SECONDS) or "ok")

    observed.app.jinja_loader = DictLoader({"slow.html": "{{ slow() }}", "quick.html": "{{ end() }}"})
    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    renders = observed.samples("flask_template_render_duration_seconds_count")
    assert {sample.labels["template"]: sample.value for sample in renders} == {"slow.html": 1, "quick.html": 1}


# What is carried beyond the end of a request, and outside of any.


class Late:
    """A thread of a request that goes on when the request is over."""

    def __init__(self, carry: Carry, work: Callable[[], Any]) -> None:
        self.carry = carry
        self.work = work
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.errors: list[BaseException] = []

    def view(self) -> str:
        self.thread = threading.Thread(target=self._run, args=(self.carry(self._work),))
        self.thread.start()
        return "ok"

    def _run(self, carried: Callable[[], Any]) -> None:
        try:
            carried()
        except BaseException as error:
            self.errors.append(error)

    def _work(self) -> None:
        self.begun.set()
        self.go_on.wait(WAIT_SECONDS)
        self.work()

    def end(self) -> None:
        self.go_on.set()
        self.thread.join(WAIT_SECONDS)
        assert self.errors == []


def assert_told_once_in_each(observed: Observed) -> None:
    assert len(observed.server_spans) == len(observed.records("request_finished")) == len(observed.audit_lines) == 1
    assert observed.duration_sample.value == 1
    assert observed.value("http_server_active_requests") == 0


def late_work(observed: Observed, span: Span) -> Callable[[], None]:
    def work() -> None:
        span()
        annotate(tenant="acme")
        assert add_request_context(None, "info", {})["request_id"] == observed.record["request_id"]
        with observed.app.app_context():
            flask.render_template_string("ok")

    return work


@carries
def test_what_a_carried_thread_does_after_the_request_has_ended_harms_nothing(
    observed: Observed, span: Span, carry: Carry, caplog: pytest.LogCaptureFixture
) -> None:
    late = Late(carry, late_work(observed, span))
    observed.app.add_url_rule("/", view_func=late.view)
    fetch(observed)
    record = observed.record
    late.end()
    assert observed.record == record
    assert "tenant" not in observed.server_span.attributes
    assert_told_once_in_each(observed)
    assert_below_the_server_span(observed)
    assert_quiet(caplog)


@carries
def test_an_app_context_that_outlives_its_request_in_a_carried_thread_counts_nobody_elses_out(
    observed: Observed, carry: Carry
) -> None:
    late = Late(carry, lambda: None)

    def view() -> str:
        late.view()
        late.begun.wait(WAIT_SECONDS)
        return "ok"

    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    with observed.app.app_context():
        late.end()
        assert observed.value("flask_app_contexts_active") == 1
    assert observed.value("flask_app_contexts_active") == 0


def test_a_carried_function_called_when_the_request_is_over_makes_no_second_one(
    observed: Observed, span: Span, caplog: pytest.LogCaptureFixture
) -> None:
    carried: list[Callable[[], None]] = []
    view_of(lambda span: carried.append(carry_context(late_work(observed, span))) or "ok")(observed.app, span)
    fetch(observed)
    in_a_thread(carried[0])
    carried[0]()
    assert_told_once_in_each(observed)
    assert_below_the_server_span(observed, count=2)
    assert observed.value("flask_app_contexts_active") == 0
    assert_quiet(caplog)


def test_a_request_made_in_a_carried_thread_is_a_child_while_its_own_goes_on(
    observed: Observed,
) -> None:
    carried: list[Callable[[], Any]] = []

    def outer() -> str:
        carried.append(carry_context(lambda: fetch(observed, "/inner")))
        in_a_thread(carried[0])
        return "ok"

    observed.app.add_url_rule("/", view_func=outer)
    observed.app.add_url_rule("/inner", view_func=lambda: "ok", endpoint="inner")
    fetch(observed)
    in_a_thread(carried[0])
    during, outside, after = observed.server_spans
    assert during.parent.span_id == outside.context.span_id
    assert outside.parent is None
    assert after.parent is None


def test_a_function_carried_outside_a_request_takes_only_opentelemetrys_context(
    observed: Observed, tracer: Tracer, span: Span
) -> None:
    records: list[Any] = []

    def work() -> None:
        span()
        annotate(tenant="acme")
        records.append(current_record.get())

    with tracer.start_as_current_span("job"):
        in_a_thread(carry_context(work))
    in_a_thread(carry_context(work))
    inside, job, alone = observed.spans
    assert inside.parent.span_id == job.context.span_id
    assert alone.parent is None
    assert records == [None, None]
    assert observed.server_spans == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_carried_function_gives_its_thread_back_as_it_was(observed: Observed, fails: bool) -> None:
    carried: list[Callable[[], str]] = []

    def work() -> str:
        otel_context.attach(otel_context.set_value("leaked", 1))
        if fails:
            raise LookupError("failed")
        return "done"

    def view() -> str:
        carried.append(carry_context(work))
        return "ok"

    observed.app.add_url_rule("/", view_func=view)
    fetch(observed)
    mine = otel_context.set_value("mine", 1)
    token = otel_context.attach(mine)
    try:
        if fails:
            with pytest.raises(LookupError, match="failed"):
                carried[0]()
        else:
            assert carried[0]() == "done"
        assert otel_context.get_current() is mine
        assert current_record.get() is None
    finally:
        otel_context.detach(token)


def test_a_carried_function_keeps_its_arguments_and_its_name() -> None:
    def resize(image: str, *, width: int) -> tuple[str, int]:
        """Make it smaller."""
        return image, width

    carried = carry_context(resize)
    assert carried("a", width=1) == ("a", 1)
    assert (carried.__name__, carried.__doc__) == ("resize", "Make it smaller.")


# What comes with a request.


class CloudTrace(TextMapPropagator):
    """Reads a header of its own, and writes none: ``fields`` name what is written."""

    @property
    def fields(self) -> set[str]:
        return set()

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        pass

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
        (value,) = getter.get(carrier, "x-cloud-trace") or [""]
        if not value:
            return context
        trace_id, span_id = (int(part, 16) for part in value.split("/"))
        caller = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(1))
        return trace.set_span_in_context(trace.NonRecordingSpan(caller), context)


@pytest.fixture
def cloud_trace() -> Iterator[None]:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator([TraceContextTextMapPropagator(), CloudTrace()]))
    yield
    propagate.set_global_textmap(before)


@pytest.mark.usefixtures("cloud_trace")
def test_a_propagator_that_writes_nothing_is_asked_for_the_caller_all_the_same(observed: Observed) -> None:
    observed.app.add_url_rule("/", view_func=lambda: "")
    observed.client().get("/", headers={"X-Cloud-Trace": "ab" * 16 + "/" + "cd" * 8})
    observed.client().get("/", headers={"traceparent": f"00-{'12' * 16}-{'34' * 8}-01"})
    first, second = observed.server_spans
    assert (first.parent.trace_id, first.parent.span_id) == (int("ab" * 16, 16), int("cd" * 8, 16))
    assert second.parent.trace_id == int("12" * 16, 16)
