from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from flask_signal_observability import providers

if TYPE_CHECKING:
    from pathlib import Path

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
    assert seen["processors"] == ["BatchSpanProcessor"]
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


def test_the_service_name_of_the_resource_attributes_is_honoured(tmp_path: Path) -> None:
    seen, _ = run(tmp_path, OTEL_RESOURCE_ATTRIBUTES="deployment.environment=prod,service.name=the%20shop")
    assert seen["service"] == "the shop"


class Exporter(SpanExporter):
    result: SpanExportResult | None = SpanExportResult.SUCCESS

    def export(self, spans: object) -> SpanExportResult:
        if self.result is None:
            raise OSError("gone")
        return self.result

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return timeout_millis > 5


def test_spans_that_an_exporter_gives_up_are_counted() -> None:
    dropped: list[int] = []
    exporter = Exporter()
    counting = providers.CountingExporter(exporter, dropped.append)
    assert counting.export([1]) is SpanExportResult.SUCCESS
    exporter.result = SpanExportResult.FAILURE
    assert counting.export([1, 2]) is SpanExportResult.FAILURE
    exporter.result = None
    with pytest.raises(OSError, match="gone"):
        counting.export([1, 2, 3])
    assert dropped == [2, 3]
    assert counting.force_flush(10) is True
    assert counting.force_flush(1) is False
    counting.shutdown()
