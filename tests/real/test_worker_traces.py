"""Spans of gunicorn's workers: none is lost, doubled or mixed up, however a worker is made and ends."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import TYPE_CHECKING

import pytest

from .client import send
from .programs import eventually
from .served import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

    from .client import Answer
    from .collector import Collector
    from .otlp_receiver import OtlpReceiver
    from .served import Served
    from .spans import Span

pytestmark = pytest.mark.real

NEVER_BY_ITSELF = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
HOOKS = ("--config", "python:flask_signal_observability.gunicorn")
WORKER_CLASSES = ("sync", "gthread", "gevent")
REQUESTS = 20


def served_by(
    worker_class: str, directory: Path, endpoint: str, *options: str, app: str = "create_app()", **env: str
) -> contextlib.AbstractContextManager[Served]:
    if worker_class == "gevent":
        pytest.importorskip("gevent")
    return serving(
        f"worker_app:{app}",
        directory=directory,
        workers=2,
        threads=4 if worker_class == "gthread" else 1,  # gunicorn makes a gthread worker of a sync one with threads
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **NEVER_BY_ITSELF, **env},
        options=("--worker-class", worker_class, *options),
    )


def told(server: Served, event: str) -> list[dict[str, Any]]:
    return [record for record in server.records if record["event"] == event]


def send_until_the_worker_was_recycled(server: Served) -> list[Answer]:
    answers: list[Answer] = []

    def next_worker_answers() -> bool:
        answers.append(server.send("/json"))
        return len(answers) >= REQUESTS and len({answer.text for answer in answers}) > 1

    eventually(next_worker_answers, timeout=20, what="the worker to be recycled")
    return answers


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["forked", "preloaded"])
@pytest.mark.parametrize("worker_class", WORKER_CLASSES)
def test_no_span_is_lost_where_workers_are_recycled_and_then_stopped(
    worker_class: str, preload: tuple[str, ...], tmp_path: Path, collector: Collector
) -> None:
    name = f"{worker_class}{''.join(preload)}"
    options = ("--workers=1", "--max-requests=12", *preload)
    with served_by(worker_class, tmp_path, collector.endpoint, *options, OTEL_SERVICE_NAME=name) as server:
        answers = send_until_the_worker_was_recycled(server)
        server.stop()
        finished = told(server, "request_finished")
    assert {answer.status for answer in answers} == {200}

    def of_this_test(spans: list[Span]) -> list[Span]:
        return [span for span in spans if span.resource["service.name"] == name]

    spans = of_this_test(collector.wait_for(lambda spans: len(of_this_test(spans)) >= len(answers)))
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == len({span.trace_id for span in spans}) == len({span.span_id for span in spans}) == len(answers)
    assert {span.attributes["flask.request_id"] for span in spans} == ids
    assert {(record["trace_id"], record["span_id"]) for record in finished} == {(s.trace_id, s.span_id) for s in spans}


def test_what_the_master_traced_before_the_fork_is_neither_repeated_nor_in_the_way(
    tmp_path: Path, otlp_receiver: OtlpReceiver
) -> None:
    with served_by("sync", tmp_path, otlp_receiver.endpoint, "--preload", app="create_busy_app()") as server:
        with ThreadPoolExecutor(4) as clients:
            answers = list(clients.map(server.send, ["/slow"] * REQUESTS))
        server.stop()
    assert len({answer.text for answer in answers}) == 2, "one worker answered everything"
    assert Counter(span.name for span in otlp_receiver.spans) == {
        "exported by the master": 1,
        "queued in the master": 1,
        "GET /slow": REQUESTS,
    }


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The address of a collector that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(("worker_class", "hooks"), [("sync", ()), ("gthread", HOOKS), ("gevent", ())])
def test_a_collector_that_says_nothing_does_not_hold_up_the_stop(
    worker_class: str, hooks: tuple[str, ...], tmp_path: Path, black_hole: str
) -> None:
    limit = {"OBSERVABILITY_FLUSH_TIMEOUT_SECONDS": "1"}
    # One worker: gunicorn forgets a SIGTERM that comes while another is still starting.
    with served_by(worker_class, tmp_path, black_hole, "--preload", "--workers=1", *hooks, **limit) as server:
        assert server.send("/json").status == 200
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 5
        assert "could not be delivered within 1 s" in server.output
        assert "Traceback" not in server.output


def request_to_be_cut_off(server: Served, path: str) -> threading.Thread:
    """Send a request that gets no answer of the app's."""

    def ask() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert send(server.port, path).status == 500

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def abort_asleep(server: Served) -> None:
    """Send the signal that the master sends; a gthread worker whose threads are busy says that it is well."""
    asleep = eventually(lambda: list(server.directory.glob("asleep-*")), timeout=10, what="a sleeping worker")
    os.kill(int(asleep[0].name.removeprefix("asleep-")), signal.SIGABRT)


def wait_for_the_master(server: Served) -> None:
    """The master itself aborts a worker that says nothing for its ``timeout``."""


@pytest.mark.parametrize(
    ("worker_class", "path", "abort"),
    [
        ("sync", "/asleep", wait_for_the_master),
        ("sync", "/busy", wait_for_the_master),
        ("gthread", "/asleep", abort_asleep),
        ("gevent", "/busy", wait_for_the_master),
    ],
)
def test_a_request_that_a_time_out_cuts_off_is_in_every_output_and_the_next_worker_says_that_it_starts(
    worker_class: str, path: str, abort: Callable[[Served], None], tmp_path: Path, otlp_receiver: OtlpReceiver
) -> None:
    error_type = "flask_signal_observability.gunicorn.WorkerTimeout"
    with served_by(worker_class, tmp_path, otlp_receiver.endpoint, "--timeout", "2", *HOOKS) as server:
        client = request_to_be_cut_off(server, path)
        abort(server)
        eventually(lambda: len(told(server, "worker_started")) == 3, timeout=15, what="the next worker")
        client.join()
        (span,) = otlp_receiver.spans  # of the other worker's requests none is exported yet
        (exception,) = told(server, "exception")
        (finished,) = told(server, "request_finished")
        assert (span.name, span.status, span.events) == (f"GET {path}", "ERROR", ("exception",))
        assert span.attributes["error.type"] == finished["error.type"] == exception["exception.type"] == error_type
        assert "http.response.status_code" not in span.attributes
        assert finished["trace_id"] == exception["trace_id"] == span.trace_id
        assert [line.split()[-3:] for line in server.audit_lines] == [["anonymous@127.0.0.1", "accessed", path]]
        (journal,) = server.journal_lines
        assert error_type in journal
        (metrics,) = tmp_path.glob("metrics-*.txt")
        sample = rf'duration_seconds_count\{{error_type="{re.escape(error_type)}".*http_route="{path}".*\}} 1.0'
        assert re.search(sample, metrics.read_text())
        ages = [record["gunicorn.worker.age"] for record in told(server, "worker_started")]
        assert sorted(ages) == [1, 2, 3]


def test_without_hooks_a_time_out_is_told_as_what_gunicorn_raises(tmp_path: Path, otlp_receiver: OtlpReceiver) -> None:
    with served_by("sync", tmp_path, otlp_receiver.endpoint, "--timeout", "2") as server:
        client = request_to_be_cut_off(server, "/asleep")
        (span,) = otlp_receiver.wait_for(bool)
        client.join()
        assert (span.name, span.status, span.attributes["error.type"]) == ("GET /asleep", "ERROR", "SystemExit")
        assert [record["error.type"] for record in told(server, "request_finished")] == ["SystemExit"]
        assert len(server.audit_lines) == len(server.journal_lines) == 1
