"""Whatever the collector does, requests do not wait for it, nothing piles up, and what is lost is counted."""

from __future__ import annotations

import contextlib
import gc
import logging
import socket
import statistics
import subprocess
import threading
import time
import warnings
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from opentelemetry import trace
from prometheus_client import CollectorRegistry

from flask_signal_observability import exporters
from flask_signal_observability import Observability
from flask_signal_observability.providers import BoundedTracerProvider
from flask_signal_observability.span_export import SpanQueue
from tests.real.collector import collecting
from tests.real.otlp_receiver import receiving
from tests.real.otlp_receiver import Reply
from tests.real.programs import eventually
from tests.real.programs import executable

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the OTLP exporter is not installed")

# urllib3 leaves the socket of a handshake that failed to the garbage collector, which comes whenever it likes.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def _sockets_are_collected_here() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


REQUESTS = 300
ADDED_MEDIAN_SECONDS = 0.02
ADDED_SECONDS = 0.5
"""The export is on another thread, which takes the interpreter for some milliseconds at a time; a request that waited
for a collector would take a second at least, which is the exporter's time-out here."""
FORGIVEN = 6
"""Requests that a busy machine may hold up; if one of each batch waited, these would be 37."""
QUEUE = 64
BATCH = 8
FLUSH_SECONDS = 1
MARGIN_SECONDS = 4.0
"""Without a limit a full queue would take eight seconds, a time-out for each batch."""
WAIT_SECONDS = 60.0
DROPPED = "observability_dropped_total"
EXPORTED = "otel_sdk_exporter_span_exported_total"


class Exporting:
    """An observed app whose spans go to an endpoint, through a provider of the package's own."""

    def __init__(self) -> None:
        self.app = Flask("shop")
        self.app.add_url_rule("/", "home", lambda: "home")
        self.registry = CollectorRegistry()
        options: dict[str, Any] = {"logs": False, "audit": False, "metrics_shared": "off"}
        Observability(self.app, registry=self.registry, flush_timeout_seconds=FLUSH_SECONDS, **options)
        provider = trace.get_tracer_provider()
        assert isinstance(provider, BoundedTracerProvider)
        self.provider = provider

    def request_seconds(self, requests: int = REQUESTS) -> list[float]:
        """Return how long each of some requests took."""
        client = self.app.test_client()
        taken = []
        for _ in range(requests):
            started = time.perf_counter()
            assert client.get("/").status_code == 200
            taken.append(time.perf_counter() - started)
        return taken

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    def told(self) -> float:
        """Return how many spans are accounted for, delivered or not."""
        samples = [s for metric in self.registry.collect() for s in metric.samples]
        full = self.value(DROPPED, sink="tracing", reason="queue")
        return full + sum(sample.value for sample in samples if sample.name == EXPORTED)

    def shutdown_seconds(self) -> float:
        started = time.monotonic()
        self.provider.shutdown()
        return time.monotonic() - started


@pytest.fixture
def exporting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Exporting]]:
    """Return the function that observes an app whose collector is at an endpoint."""
    made: list[BoundedTracerProvider] = []
    proxy = trace.ProxyTracerProvider()
    monkeypatch.setattr(trace, "set_tracer_provider", made.append)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: made[-1] if made else proxy)
    monkeypatch.setattr(exporters._once_a_minute, "_last_told", {})

    def make(endpoint: str, **environ: str) -> Exporting:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_BSP_MAX_QUEUE_SIZE": str(QUEUE),
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(BATCH),
            "REQUESTS_CA_BUNDLE": "",
            "CURL_CA_BUNDLE": "",
            **environ,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Exporting()

    yield make
    for provider in made:
        end(provider)


def end(provider: BoundedTracerProvider) -> None:
    """Leave no thread behind that tries again, and logs, in the next test."""
    provider.shutdown()
    for processor in provider._active_span_processor._span_processors:
        assert isinstance(processor, SpanQueue)
        processor.span_exporter.shutdown()
    for thread in threading.enumerate():
        if thread.name == "OtelBatchSpanRecordProcessor":
            thread.join()


@pytest.fixture(scope="module")
def undisturbed_seconds() -> list[float]:
    """How long the same requests take where spans go nowhere."""
    app = Flask("shop")
    app.add_url_rule("/", "home", lambda: "home")
    options: dict[str, Any] = {"logs": False, "audit": False, "metrics_shared": "off"}
    provider = trace.NoOpTracerProvider()
    Observability(app, registry=CollectorRegistry(), tracer_provider=provider, **options)
    client = app.test_client()
    taken = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        client.get("/")
        taken.append(time.perf_counter() - started)
    return taken


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the endpoint of a server that does this with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()
        open_connections: list[socket.socket] = []

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = server.accept()
                    open_connections.append(connection)
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in open_connections:
                connection.close()


def reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def say_garbage(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"\xff\x00 what is this?\r\n\r\n" * 10)
    connection.close()


def never_answer(connection: socket.socket) -> None:
    """Keep it open: later than anybody waits."""


@contextlib.contextmanager
def down() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
    yield endpoint


@contextlib.contextmanager
def answering(*replies: Reply) -> Iterator[str]:
    with receiving() as receiver:
        receiver.script(*replies * 100)
        yield receiver.endpoint


@contextlib.contextmanager
def with_bad_tls(directory: Path) -> Iterator[str]:
    """A receiver whose certificate nobody signed."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    openssl = str(executable("openssl", remedy="apt-get install openssl"))
    made = (*("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"), *("-subj", "/CN=127.0.0.1"))
    subprocess.run(
        [openssl, "req", "-x509", "-nodes", *made, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
        timeout=30,
    )
    with receiving(certificate, key) as receiver:
        yield receiver.endpoint


TROUBLES: dict[str, Callable[[Path], contextlib.AbstractContextManager[str]]] = {
    "down": lambda _: down(),
    "429": lambda _: answering(Reply(429)),
    "503 with Retry-After": lambda _: answering(Reply(503, {"Retry-After": "30"})),
    "400": lambda _: answering(Reply(400, body=b"no")),
    "garbage": lambda _: listening(say_garbage),
    "late": lambda _: listening(never_answer),
    "resets": lambda _: listening(reset),
    "bad TLS": with_bad_tls,
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_no_request_waits_and_every_span_is_accounted_for(
    trouble: str,
    exporting: Callable[[str], Exporting],
    undisturbed_seconds: list[float],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with TROUBLES[trouble](tmp_path) as endpoint:
        exported = exporting(endpoint)
        taken = exported.request_seconds()
        added = statistics.median(taken) - statistics.median(undisturbed_seconds)
        held_up = [seconds for seconds in taken if seconds > max(undisturbed_seconds) + ADDED_SECONDS]
        assert added < ADDED_MEDIAN_SECONDS
        assert len(held_up) <= FORGIVEN
        seconds = exported.shutdown_seconds()
    assert seconds < FLUSH_SECONDS + MARGIN_SECONDS
    assert exported.value(EXPORTED, error_type="") == 0
    # What is still queued when the time to flush is over is what the queue holds, at most, and the batch in hand.
    assert REQUESTS - QUEUE - BATCH <= exported.told() <= REQUESTS
    told = [(record.name, record.levelno) for record in caplog.records if record.name.startswith("opentelemetry.")]
    assert len(told) == len(set(told)), caplog.text


def test_what_a_full_queue_refuses_is_counted(exporting: Callable[..., Exporting]) -> None:
    in_hand = threading.Event()
    with listening(lambda connection: in_hand.set()) as endpoint:
        exported = exporting(endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="30", OTEL_BSP_MAX_EXPORT_BATCH_SIZE=str(QUEUE))
        exported.request_seconds(1)
        assert in_hand.wait(WAIT_SECONDS)
        exported.request_seconds(QUEUE + 10)
        assert exported.value(DROPPED, sink="tracing", reason="queue") == 10


def test_the_exporter_says_a_thing_once_a_minute_and_then_again(
    exporting: Callable[..., Exporting], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def complaints() -> int:
        return sum(record.levelno == logging.ERROR for record in caplog.records)

    with answering(Reply(400)) as endpoint:
        exported = exporting(endpoint)
        exported.request_seconds(100)
        eventually(lambda: exported.told() == 100, timeout=WAIT_SECONDS, what="refusals")
        assert complaints() == 1
        monkeypatch.setattr(exporters, "LOG_INTERVAL_SECONDS", 0.0)
        exported.request_seconds(1)
        eventually(lambda: complaints() == 2, timeout=WAIT_SECONDS, what="another line")


def test_spans_wait_for_a_collector_that_comes_back(exporting: Callable[..., Exporting]) -> None:
    with receiving() as receiver:
        receiver.script(Reply(503, {"Retry-After": "0"}))
        exported = exporting(receiver.endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="5")
        exported.request_seconds(20)
        receiver.wait_for(lambda spans: len(spans) == 20)
        assert len({span.span_id for span in receiver.spans}) == 20
        eventually(
            lambda: exported.value(EXPORTED, error_type="") == 20,
            timeout=WAIT_SECONDS,
            what="20 spans told as delivered",
        )
    assert exported.value(DROPPED, sink="tracing", reason="export") == 0


@pytest.mark.real
def test_a_real_collector_gets_what_was_not_lost_while_it_was_away(
    exporting: Callable[..., Exporting], tmp_path: Path
) -> None:
    with collecting(tmp_path) as collector:
        exported = exporting(collector.endpoint, OTEL_BSP_SCHEDULE_DELAY="10")
        exported.request_seconds(5)
        collector.wait_for(lambda spans: len(spans) == 5)
        collector.stop()
        exported.request_seconds(5)
        eventually(lambda: exported.told() == 10, timeout=WAIT_SECONDS, what="the loss to be counted")
    assert exported.value(EXPORTED, error_type="") == 5
    assert exported.value(DROPPED, sink="tracing", reason="export") == 5
