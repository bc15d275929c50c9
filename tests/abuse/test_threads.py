"""Threads that are interrupted after every few bytecodes: every sink still counts exactly, and nobody is mixed up."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import structlog
from blinker import Namespace
from flask import flash
from flask import Flask
from flask import render_template_string
from flask import Response
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from flask_signal_observability import access_logged
from flask_signal_observability import annotate
from flask_signal_observability import carry_context
from flask_signal_observability import configure_logging
from flask_signal_observability.queue_room import QueueRoom
from flask_signal_observability.span_export import SpanQueue
from tests.conftest import Observed

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Sequence
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

THREADS = 8
ROUNDS = 25
REQUESTS = THREADS * ROUNDS
DURATION = "http_server_request_duration_seconds"


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(function: Callable[[int], None], threads: int = THREADS) -> None:
    """Call the function with each thread's number, all at once; what raised there is raised here."""
    barrier = threading.Barrier(threads)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(60)
            function(number)
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if errors:
        raise errors[0]


def make_app() -> Flask:
    app = Flask("shop")
    app.secret_key = "of these tests only"

    @app.get("/home/<who>")
    def home(who: str) -> str:
        annotate(who=who)
        flash(who)
        access_logged.send("home", action="looked", object=who)
        return render_template_string("{{ who }}", who=who)

    @app.get("/streamed/<who>")
    def streamed(who: str) -> Response:
        def chunks() -> Iterator[str]:
            for _ in range(3):
                annotate(who=who)
                yield who

        return Response(chunks())

    @app.get("/error/<who>")
    def error(who: str) -> str:
        annotate(who=who)
        raise LookupError(who)

    @app.get("/aside/<who>")
    def aside(who: str) -> str:
        def tell() -> None:
            annotate(who=who)

        thread = threading.Thread(target=carry_context(tell))
        thread.start()
        thread.join()
        return who

    return app


PATHS = ("home", "streamed", "error", "aside")


@pytest.fixture
def visited(tmp_path: Path) -> Iterator[Observed]:
    """An app that all threads have visited, each request under an id of its own."""
    log_path = tmp_path / "app.json"
    observed = Observed(
        tmp_path, make_app(), log_stream=str(log_path), audit_format="json", metric_labels={"who": ("0.0",)}
    )
    observed.stream = log_path  # type: ignore[assignment]

    def visit(thread: int) -> None:
        client = observed.app.test_client()
        for step in range(ROUNDS):
            who = f"{thread}.{step}"
            for path in PATHS:
                answer = client.get(f"/{path}/{who}", headers={"X-Request-ID": f"{path}-{who}"})
                assert answer.status_code == (500 if path == "error" else 200)
                assert answer.headers["X-Request-ID"] == f"{path}-{who}"
                answer.close()

    in_threads(visit)
    yield observed
    observed.provider.shutdown()
    for sink in observed.pipeline.sinks:
        if hasattr(sink, "close"):
            sink.close()


def test_every_sink_tells_each_request_once_and_as_its_own(visited: Observed, tmp_path: Path) -> None:
    expected = {f"{path}-{thread}.{step}" for path in PATHS for thread in range(THREADS) for step in range(ROUNDS)}
    spans = Counter(str((span.attributes or {})["flask.request_id"]) for span in visited.server_spans)
    assert spans == Counter(expected)
    for span in visited.server_spans:
        attributes = dict(span.attributes or {})
        assert str(attributes["flask.request_id"]).partition("-")[2] == attributes["who"]

    records = [json.loads(line) for line in (tmp_path / "app.json").read_text().splitlines()]
    finished = [record for record in records if record["event"] == "request_finished"]
    assert Counter(record["request_id"] for record in finished) == Counter(expected)
    assert all(record["request_id"].partition("-")[2] == record["who"] for record in finished)
    by_id = {str((span.attributes or {})["flask.request_id"]): span for span in visited.server_spans}
    assert all(f"{by_id[r['request_id']].context.trace_id:032x}" == r["trace_id"] for r in finished)

    lines = [json.loads(line) for line in visited.audit_lines]
    assert Counter(line["request_id"] for line in lines) == Counter(expected)
    looked = [line for line in lines if line["action"] == "looked"]
    assert all(line["object"] == line["request_id"].partition("-")[2] for line in looked)
    assert len(looked) == REQUESTS
    assert len(visited.journal_lines) == REQUESTS


def test_metrics_lose_and_gain_nothing(visited: Observed) -> None:
    for path in PATHS:
        route = f"/{path}/<who>"
        assert visited.value(f"{DURATION}_count", http_route=route) == REQUESTS
        assert visited.value(f"{DURATION}_bucket", http_route=route, le="+Inf") == REQUESTS
    assert visited.value(f"{DURATION}_count", who="0.0") == len(PATHS)
    assert visited.value("http_server_active_requests") == 0
    assert visited.value("flask_app_contexts_active") == 0
    assert visited.value("flask_messages_flashed_total") == REQUESTS
    assert visited.value("flask_exceptions_total") == REQUESTS
    assert visited.value("flask_template_render_duration_seconds_count") == REQUESTS
    assert visited.value("flask_signals_total", signal="request_started") == REQUESTS * len(PATHS)
    assert visited.value("flask_audit_records_total", outcome="written") == REQUESTS * len(PATHS)
    assert visited.value("observability_errors_total") == 0


def test_scrapes_in_between_never_go_down(observe: Callable[..., Observed]) -> None:
    observed = observe(make_app(), metrics_access="open")
    ended = threading.Event()
    seen: list[float] = []

    def visit_or_scrape(thread: int) -> None:
        client = observed.app.test_client()
        if thread:
            for step in range(ROUNDS):
                client.get(f"/aside/{thread}.{step}").close()
            return
        while not ended.is_set():
            seen.append(observed.value(f"{DURATION}_count"))
            if seen[-1] == (THREADS - 1) * ROUNDS:
                ended.set()

    in_threads(visit_or_scrape)
    assert seen == sorted(seen)


def test_a_watched_signal_is_counted_exactly(observe: Callable[..., Observed]) -> None:
    observed = observe(make_app())
    paid = Namespace().signal("paid")
    watched = observed.observability.watch(paid, measure="paid_euros", value="amount", buckets=(1, 10), log="info")

    def pay(thread: int) -> None:
        for _ in range(ROUNDS):
            paid.send(observed.app, amount=2)

    in_threads(pay)
    watched.stop()
    assert observed.value("paid_euros_count") == REQUESTS
    assert observed.value("paid_euros_sum") == REQUESTS * 2
    assert len(observed.records("paid")) == REQUESTS


class Slow(SpanExporter):
    """Takes spans one batch at a time, and remembers how many."""

    def __init__(self) -> None:
        self.spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += len(spans)
        return SpanExportResult.SUCCESS


def test_a_span_is_exported_or_refused_and_counted_either_way() -> None:
    refused: list[None] = []
    told: list[int] = []
    exporter = Slow()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SpanQueue(exporter, lambda n, _: told.append(n), lambda: refused.append(None)))
    tracer = provider.get_tracer("threads")

    def trace(thread: int) -> None:
        for _ in range(500):
            tracer.start_span("one").end()

    in_threads(trace)
    provider.shutdown()
    assert exporter.spans == sum(told)
    assert exporter.spans + len(refused) == THREADS * 500


def test_places_in_a_queue_are_never_given_twice() -> None:
    refused: list[None] = []
    room = QueueRoom(100, lambda: refused.append(None))
    taken: list[int] = []

    def take_and_leave(thread: int) -> None:
        mine = sum(room.take() for _ in range(1000))
        taken.append(mine)

    in_threads(take_and_leave)
    assert sum(taken) == 100
    assert len(refused) == THREADS * 1000 - 100
    room.leave(100)
    assert room.take()


def test_every_line_of_many_loggers_is_whole(observe: Callable[..., Observed], tmp_path: Path) -> None:
    observed = observe(make_app())
    path = tmp_path / "lines.json"
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    configure_logging(observed.app, stream=str(path), format="json")
    try:

        def tell(thread: int) -> None:
            for step in range(ROUNDS):
                logging.getLogger("shop").warning("line %s.%s", thread, step)

        in_threads(tell)
    finally:
        for handler in [handler for handler in root.handlers if handler not in before]:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
        logging.captureWarnings(False)
        structlog.reset_defaults()
    lines = Counter(json.loads(line)["event"] for line in path.read_text().splitlines())
    assert lines == Counter(f"line {thread}.{step}" for thread in range(THREADS) for step in range(ROUNDS))
