from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flask_signal_observability import ConfigurationError
from flask_signal_observability import exporters
from flask_signal_observability import providers
from flask_signal_observability import span_export
from flask_signal_observability.exporters import TRACES

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.sdk.trace import TracerProvider

    from .conftest import Observed

PROGRAM = """
import json, logging, socket, sys
logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
connections = []
connect = socket.socket.connect
socket.socket.connect = lambda self, address: connections.append(address) or connect(self, address)
from flask import Flask
from opentelemetry import trace
SETUP
from flask_signal_observability import Observability
app = Flask("shop")
Observability(app, logs=False, audit=False)
app.add_url_rule("/", view_func=lambda: format(trace.get_current_span().get_span_context().trace_id, "032x"))
trace_id = app.test_client().get("/").text
provider = trace.get_tracer_provider()
print(json.dumps({
    "trace_id": trace_id,
    "provider": type(provider).__module__,
    "processors": [type(p).__name__ for p in getattr(provider, "_active_span_processor")._span_processors],
    "service": provider.resource.attributes["service.name"],
    "connections": [str(c) for c in connections],
}))
"""


def run(tmp_path: Path, setup: str = "", **environ: str) -> tuple[dict[str, object], str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSERVABILITY_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("SETUP", setup)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=tmp_path,
        env={**clean, **environ},
    )
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_with_nothing_named_spans_have_ids_and_nothing_connects_anywhere(tmp_path: Path) -> None:
    seen, stderr = run(tmp_path)
    assert seen["trace_id"] != "0" * 32
    assert seen["processors"] == []
    assert seen["connections"] == []
    assert stderr == ""


def test_an_endpoint_alone_means_otlp_over_http_in_batches(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.close()
        seen, _ = run(
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_SERVICE_NAME="from-env",
        )
    assert seen["processors"] == ["SpanQueue"]
    assert seen["service"] == "from-env"


def test_exporters_are_named_by_the_standard_variable(tmp_path: Path) -> None:
    seen, _ = run(tmp_path, OTEL_TRACES_EXPORTER="console,none")
    assert seen["processors"] == ["SimpleSpanProcessor"]


def test_none_wins_over_an_endpoint(tmp_path: Path) -> None:
    seen, _ = run(tmp_path, OTEL_TRACES_EXPORTER="none", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert seen["processors"] == []
    assert seen["connections"] == []


def test_an_exporter_that_is_not_installed_is_one_clear_warning(tmp_path: Path) -> None:
    seen, stderr = run(tmp_path, OTEL_TRACES_EXPORTER="zipkin_elsewhere")
    assert seen["processors"] == []
    assert stderr.count("WARNING") == 1
    assert "zipkin_elsewhere" in stderr


def test_without_the_extra_the_warning_names_it(tmp_path: Path) -> None:
    hide = "import importlib.metadata as m; real = m.entry_points; m.entry_points = lambda **k: []"
    _, stderr = run(tmp_path, hide, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert 'pip install "flask-signal-observability[otlp]"' in stderr


def test_an_exporter_that_cannot_be_loaded_is_one_clear_warning(tmp_path: Path) -> None:
    broken = "m.EntryPoint(name='otlp_proto_http', value='nowhere:Exporter', group='opentelemetry_traces_exporter')"
    setup = f"import importlib.metadata as m; m.entry_points = lambda **k: [{broken}]"
    seen, stderr = run(tmp_path, setup, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert seen["processors"] == []
    assert stderr.count("WARNING") == 1
    assert "nowhere" in stderr


def test_a_provider_of_the_app_is_used_as_it_is(tmp_path: Path) -> None:
    setup = (
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.resources import Resource\n"
        "trace.set_tracer_provider(TracerProvider(resource=Resource({'service.name': 'mine'})))"
    )
    seen, _ = run(tmp_path, setup, OTEL_TRACES_EXPORTER="console")
    assert seen["service"] == "mine"
    assert seen["processors"] == []


def test_a_variable_that_the_sdk_refuses_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(tmp_path, OTEL_TRACES_EXPORTER="otlp", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="99999")
    assert "ConfigurationError: the OTEL_* environment variables cannot be used" in failed.value.stderr


def test_a_provider_that_the_environment_names_and_nobody_has_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(tmp_path, OTEL_PYTHON_TRACER_PROVIDER="our_own")
    assert "ConfigurationError: OTEL_PYTHON_TRACER_PROVIDER='our_own' names no TracerProvider" in failed.value.stderr
    assert "remove the variable" in failed.value.stderr


def test_the_service_name_of_the_resource_attributes_is_honoured(tmp_path: Path) -> None:
    seen, _ = run(tmp_path, OTEL_RESOURCE_ATTRIBUTES="deployment.environment=prod,service.name=the%20shop")
    assert seen["service"] == "the shop"


@pytest.fixture
def no_global_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[TracerProvider]]:
    """Return the list of what is installed as OpenTelemetry's global provider, here where there is none yet."""
    for variable in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(variable)
    installed: list[TracerProvider] = []
    proxy = trace.ProxyTracerProvider()
    monkeypatch.setattr(trace, "set_tracer_provider", installed.append)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: installed[-1] if installed else proxy)
    yield installed
    for provider in installed:
        provider.shutdown()


def processors(provider: TracerProvider) -> list[object]:
    return list(provider._active_span_processor._span_processors)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": " Console , otlp,none"}, ["console", "otlp"]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, []),
        ({"OTEL_TRACES_EXPORTER": ",", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ["console"]),
    ],
)
@pytest.mark.usefixtures("no_global_provider")
def test_the_exporters_are_those_that_the_environment_names(
    environ: dict[str, str], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    assert providers.exporter_names() == names


def test_what_is_installed_is_used_by_the_next_app_too(no_global_provider: list[TracerProvider]) -> None:
    first = providers.tracer_provider("first", None, 5)
    assert providers.tracer_provider("second", None, 5) is first
    assert no_global_provider == [first]
    assert no_global_provider[0].resource.attributes["service.name"] == "first"
    assert processors(no_global_provider[0]) == []


@pytest.mark.parametrize(("counted", "exporter"), [(True, "CountingExporter"), (False, "ProcessExporter")])
def test_an_exporter_is_counted_where_somebody_counts(
    counted: bool, exporter: str, no_global_provider: list[TracerProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    providers.tracer_provider("shop", print if counted else None, 5)
    ((processor,),) = map(processors, no_global_provider)
    assert isinstance(processor, BatchSpanProcessor)
    assert type(processor.span_exporter).__name__ == exporter


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
@pytest.mark.usefixtures("no_global_provider")
def test_the_protocol_chooses_the_exporter(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exporters, "entry_points", lambda **_: [])
    monkeypatch.setenv(variable, "grpc")
    assert providers.make_exporter("otlp") is None
    assert "'otlp_proto_grpc', which is not installed" in caplog.text
    assert "install its package" in caplog.text


@pytest.mark.usefixtures("no_global_provider")
def test_the_console_needs_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporters, "entry_points", lambda **_: [])
    assert isinstance(providers.make_exporter("console"), ConsoleSpanExporter)


@pytest.mark.parametrize("value", ["nowhere:Exporter", "builtins:int.from_bytes", f"{__name__}:Refusing"])
@pytest.mark.usefixtures("no_global_provider")
def test_an_exporter_that_cannot_be_made_is_none_and_one_warning(
    value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = EntryPoint("mine", value, TRACES.group)
    monkeypatch.setattr(exporters, "entry_points", lambda **_: [broken])
    assert providers.make_exporter("mine") is None
    (record,) = caplog.records
    assert "the span exporter 'mine' cannot be used" in record.getMessage()


def test_a_variable_that_is_refused_installs_nothing(
    no_global_provider: list[TracerProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")
    with pytest.raises(ConfigurationError, match=r"the OTEL_\* environment variables cannot be used"):
        providers.tracer_provider("shop", None, 5)
    assert no_global_provider == []


def test_spans_of_an_app_that_an_exporter_gives_up_are_in_its_metrics(
    observe: Callable[..., Observed],
    no_global_provider: list[TracerProvider],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing = EntryPoint("failing", f"{__name__}:Failing", TRACES.group)
    monkeypatch.setattr(exporters, "entry_points", lambda **_: [failing])
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "failing")
    observed = observe(tracer_provider=None)
    observed.app.add_url_rule("/", view_func=lambda: "")
    for _ in range(3):
        assert observed.client().get("/").status_code == 200
    (provider,) = no_global_provider
    assert provider.resource.attributes["service.name"] == "shop"
    provider.force_flush()
    assert observed.value("observability_dropped_total", sink="tracing", reason="export") == 3
    assert observed.value("otel_sdk_exporter_span_exported_total", error_type="_OTHER") == 3


def test_ids_are_valid_and_do_not_follow_a_seed() -> None:
    ids = providers.KernelIdGenerator()
    seen: set[int] = set()
    for _ in range(3):
        random.seed(0)
        seen |= {ids.generate_trace_id(), ids.generate_span_id()}
    assert len(seen) == 6
    assert all(0 < trace_id < 1 << 128 for trace_id in seen)


def test_an_id_is_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([bytes(8), b"\1" * 8, bytes(16), b"\2" * 16])
    monkeypatch.setattr(os, "urandom", lambda _: next(drawn))
    ids = providers.KernelIdGenerator()
    assert ids.generate_span_id() == int.from_bytes(b"\1" * 8, "big")
    assert ids.generate_trace_id() == int.from_bytes(b"\2" * 16, "big")


def test_a_forked_process_exports_through_an_exporter_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    of_master, of_child = InMemorySpanExporter(), InMemorySpanExporter()
    made = [None, of_child]
    exporter = span_export.ProcessExporter(of_master, made.pop)
    exporter.export([])
    assert len(made) == 2, "the first process has one already"
    monkeypatch.setattr(os, "getpid", lambda: -1)
    exporter.export([])
    exporter.shutdown()
    assert of_child._stopped
    assert not of_master._stopped
    monkeypatch.setattr(os, "getpid", lambda: -2)
    exporter.export([])  # none could be made: the one of before goes on
    assert made == []


def test_a_provider_that_cannot_deliver_says_so_and_does_not_wait_longer_than_its_limit(
    no_global_provider: list[TracerProvider], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hanging = EntryPoint("hanging", f"{__name__}:Hanging", TRACES.group)
    monkeypatch.setattr(exporters, "entry_points", lambda **_: [hanging])
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "hanging")
    provider = providers.tracer_provider("shop", None, 0.1)
    provider.get_tracer("test").start_span("last").end()
    began = time.monotonic()
    providers.deliver(provider, 60)
    assert time.monotonic() - began < 5
    providers.deliver(provider, 60)  # as the SDK does when the interpreter ends
    assert [record.getMessage() for record in caplog.records] == [providers.NOT_DELIVERED % 0.1]
    Hanging.released.set()


def test_another_provider_is_flushed_in_bounded_time(caplog: pytest.LogCaptureFixture) -> None:
    class Slow(trace.NoOpTracerProvider):
        def force_flush(self) -> None:
            Hanging.released.wait(30)

    Hanging.released.clear()
    providers.deliver(trace.NoOpTracerProvider(), 60)  # which has nothing to flush
    assert caplog.records == []
    providers.deliver(Slow(), 0.1)
    assert [record.getMessage() for record in caplog.records] == [providers.NOT_DELIVERED % 0.1]
    Hanging.released.set()


class Hanging(SpanExporter):
    released = threading.Event()

    def export(self, spans: object) -> SpanExportResult:
        self.released.wait(30)
        return SpanExportResult.SUCCESS


class Refusing(SpanExporter):
    def __init__(self) -> None:
        raise RuntimeError("no endpoint")


class Failing(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.FAILURE


class Exporter(SpanExporter):
    result: SpanExportResult | None = SpanExportResult.SUCCESS

    def export(self, spans: object) -> SpanExportResult:
        if self.result is None:
            raise OSError("gone")
        return self.result

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return timeout_millis > 5


def test_spans_are_counted_by_how_their_export_ended() -> None:
    exported: list[tuple[int, str]] = []
    exporter = Exporter()
    counting = span_export.CountingExporter(exporter, lambda *told: exported.append(told))
    assert counting.export([1]) is SpanExportResult.SUCCESS
    exporter.result = SpanExportResult.FAILURE
    assert counting.export([1, 2]) is SpanExportResult.FAILURE
    exporter.result = None
    with pytest.raises(OSError, match="gone"):
        counting.export([1, 2, 3])
    assert exported == [(1, ""), (2, "_OTHER"), (3, "OSError")]
    assert counting.force_flush(10) is True
    assert counting.force_flush(1) is False
    counting.shutdown()
