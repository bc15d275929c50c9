"""What every test of the pipeline needs: a real app, observed by real sinks that a test can read."""

from __future__ import annotations

import io
import json
import logging
import signal
import socket
from typing import Any
from typing import TYPE_CHECKING

import flask
import pytest
from flask import Flask
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry

from flask_signal_observability import Observability
from flask_signal_observability.record import current_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.trace import Tracer

DURATION = "http_server_request_duration_seconds"


class Observed:
    """An observed app, and what came out of it."""

    def __init__(self, directory: Path, app: Flask | None = None, *, strict: bool = True, **settings: Any) -> None:
        self.app = app or Flask("shop")
        self.registry: CollectorRegistry = settings.pop("registry", None) or CollectorRegistry()
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **settings.pop("provider_options", {}))
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.stream = io.StringIO()
        self.audit_path = directory / f"{self.app.name}-audit.log"
        self.journal_path = directory / f"{self.app.name}-journal.log"
        self.failures: list[BaseException] = []
        options = {
            "audit_requests": True,
            "audit_path": str(self.audit_path),
            "error_journal_path": str(self.journal_path),
            "log_stream": self.stream,
            "log_format": "json",
            "log_level": "DEBUG",
            "registry": self.registry,
            "tracer_provider": self.provider,
        }
        self.observability = Observability(self.app, **{**options, **settings})
        self.pipeline = self.app.extensions["observability"]
        if strict:
            self.pipeline.guard.failed = self._fail

    def _fail(self, sink: str, stage: str, error: BaseException) -> None:
        raise AssertionError(f"{sink} failed at {stage}") from error

    def client(self) -> Any:
        return self.app.test_client()

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def server_spans(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.kind is SpanKind.SERVER]

    @property
    def server_span(self) -> ReadableSpan:
        (span,) = self.server_spans
        return span

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that carry these labels."""
        return sum(s.value for s in self.samples(name) if labels.items() <= s.labels.items())

    def samples(self, name: str) -> list[Any]:
        return [s for metric in self.registry.collect() for s in metric.samples if s.name == name]

    @property
    def duration_sample(self) -> Any:
        (sample,) = self.samples(f"{DURATION}_count")
        assert sample.value == 1
        return sample

    def records(self, event: str | None = None) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [record for record in records if event in (None, record["event"])]

    @property
    def record(self) -> dict[str, Any]:
        (record,) = self.records("request_finished")
        return record

    @property
    def audit_lines(self) -> list[str]:
        return self.audit_path.read_text().splitlines() if self.audit_path.exists() else []

    @property
    def journal_lines(self) -> list[str]:
        return self.journal_path.read_text().splitlines() if self.journal_path.exists() else []


@pytest.fixture
def observe(tmp_path: Path) -> Iterator[Callable[..., Observed]]:
    """Return the function that observes an app, any setting as a keyword."""
    made: list[Observed] = []

    def make(app: Flask | None = None, **settings: Any) -> Observed:
        observed = Observed(tmp_path, app, **settings)
        made.append(observed)
        return observed

    yield make
    for observed in made:
        observed.provider.shutdown()
        for sink in observed.pipeline.sinks:
            if hasattr(sink, "close"):
                sink.close()


@pytest.fixture
def observed(observe: Callable[..., Observed]) -> Observed:
    """An observed app without a view."""
    return observe()


@pytest.fixture
def tracer(observed: Observed) -> Tracer:
    """The app's own."""
    return observed.provider.get_tracer("app")


@pytest.fixture
def span(tracer: Tracer) -> Callable[..., None]:
    """Makes the span ``here``, whatever it is called with."""

    def make(*_: Any, **__: Any) -> None:
        with tracer.start_as_current_span("here"):
            pass

    return make


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Processes started here can be interrupted: a script's ``&`` has its programs ignore SIGINT, and theirs, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def no_logger_is_left_disabled() -> Iterator[None]:
    """Apps that fail on purpose say nothing; their loggers are the next test's as well."""
    yield
    for name in [*logging.Logger.manager.loggerDict]:
        logging.getLogger(name).disabled = False


@pytest.fixture(autouse=True)
def no_context_is_left_behind() -> Iterator[None]:
    """A context of Flask's that a test leaves pushed would be the next test's."""
    yield
    assert not flask.has_app_context()
    assert current_record.get() is None
