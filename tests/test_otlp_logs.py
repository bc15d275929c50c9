from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk._logs import export
from opentelemetry.sdk.trace import TracerProvider

from flask_signal_observability import add_request_context
from flask_signal_observability import Config
from flask_signal_observability import ConfigurationError
from flask_signal_observability import exempt
from flask_signal_observability.rendering import to_json_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from .conftest import Observed

if not hasattr(export, "LogRecordExporter"):
    pytest.skip("opentelemetry-sdk before 1.39 has other names", allow_module_level=True)

from flask_signal_observability.otlp_logs import BoundedLoggerProvider
from flask_signal_observability.otlp_logs import open_otlp_stream
from flask_signal_observability.otlp_logs import OtlpStream

SUCCESS = export.LogRecordExportResult.SUCCESS
FAILURE = export.LogRecordExportResult.FAILURE

LINE = {
    "timestamp": "2026-11-22T10:09:00.123456Z",
    "level": "warning",
    "event": "request_finished",
    "service": "shop",
    "request_id": "abc",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "http.response.status_code": 404,
    "nested": {"a": [1, None, "x"]},
    "nothing": None,
}


class Sent(export.InMemoryLogRecordExporter):
    """What went through a stream, and what was lost on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: list[tuple[str, int]] = []
        self.provider = BoundedLoggerProvider(
            Config(service_name="shop", flush_timeout_seconds=5),
            {"memory": self},
            lambda *lost: self.dropped.append(lost),
        )
        self.stream = OtlpStream(self.provider, 5)

    def write(self, **fields: Any) -> None:
        self.stream.write(to_json_line(fields))

    @property
    def records(self) -> list[Any]:
        self.provider.force_flush()
        return [sent.log_record for sent in self.get_finished_logs()]

    @property
    def record(self) -> Any:
        (record,) = self.records
        return record


@pytest.fixture
def sent() -> Iterator[Sent]:
    sent = Sent()
    yield sent
    sent.stream.close()


@pytest.fixture(scope="module")
def sent_by_all() -> Iterator[Sent]:
    """One for all examples of a property: each has threads."""
    sent = Sent()
    yield sent
    sent.stream.close()


def test_an_event_has_its_name_severity_time_and_attributes(sent: Sent) -> None:
    sent.write(**LINE)
    record = sent.record
    assert (record.event_name, record.body) == ("request_finished", "request_finished")
    assert (record.severity_text, record.severity_number.value) == ("WARN", 13)
    assert record.timestamp == 1_795_342_140_123_456_000
    assert dict(record.attributes) == {
        "flask.request_id": "abc",
        "http.response.status_code": 404,
        "nested": {"a": (1, None, "x")},
    }
    assert sent.get_finished_logs()[0].resource.attributes["service.name"] == "shop"


def test_a_record_belongs_to_its_span_whatever_span_is_current(sent: Sent) -> None:
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))):
        sent.write(**LINE)
    assert (f"{sent.record.trace_id:032x}", f"{sent.record.span_id:016x}") == (LINE["trace_id"], LINE["span_id"])


def test_a_record_outside_of_a_request_has_no_span_though_one_is_current(sent: Sent) -> None:
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))):
        sent.write(event="worker_started")
    assert (sent.record.trace_id, sent.record.span_id) == (0, 0)


def test_the_flags_are_those_of_the_trace(sent: Sent) -> None:
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("x") as span:
        context = span.get_span_context()
        sent.write(event="x", trace_id=f"{context.trace_id:032x}", span_id=f"{context.span_id:016x}")
    assert sent.record.trace_flags.sampled


def test_a_line_that_is_sent_before_the_view_is_known_makes_no_span(
    sent: Sent, observe: Callable[..., Observed]
) -> None:
    class Slow(SecureCookieSessionInterface):
        def open_session(self, app: Any, request: Any) -> Any:
            sent.write(**add_request_context(None, "", {"event": "slow"}))
            return super().open_session(app, request)

    app = Flask("shop")
    app.add_url_rule("/", view_func=exempt(lambda: "pong"))
    app.session_interface = Slow()
    observed = observe(app)
    observed.client().get("/")
    assert observed.spans == []
    assert sent.record.trace_id
    assert sent.record.trace_flags.sampled


def test_a_message_has_no_event_name_and_its_logger_is_the_scope(sent: Sent) -> None:
    sent.write(event="paid 5", logger="shop.orders", level="info")
    assert (sent.record.event_name, sent.record.body) == (None, "paid 5")
    assert sent.get_finished_logs()[0].instrumentation_scope.name == "shop.orders"


@pytest.mark.parametrize(
    ("level", "severity"),
    [("debug", 5), ("info", 9), ("warning", 13), ("error", 17), ("critical", 21), ("notice", 9), (None, 9), ([], 9)],
)
def test_a_level_is_a_severity(sent: Sent, level: object, severity: int) -> None:
    sent.write(event="x", level=level)
    assert sent.record.severity_number.value == severity


def test_an_exception_is_text_under_the_conventions_name(sent: Sent) -> None:
    from flask_signal_observability.tracebacks import exception_dicts

    sent.write(event="x", exception=exception_dicts(LookupError("gone"), message=True))
    assert dict(sent.record.attributes) == {"exception.stacktrace": "LookupError: gone\n"}


@pytest.mark.parametrize("own", ["text", [{"frames": 5}], 7, {"a": 1}])
def test_an_exception_of_the_apps_own_may_be_anything(sent: Sent, own: object) -> None:
    sent.write(event="x", exception=own)
    assert "exception" in sent.record.attributes


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from([*LINE, "exception", "logger", ""]) | st.text(st.characters(), max_size=5)


@settings(max_examples=100, deadline=None)
@given(lines=st.lists(st.dictionaries(KEYS, ANYTHING, max_size=4), min_size=1, max_size=3))
def test_whatever_a_record_holds_it_can_be_sent(sent_by_all: Sent, lines: list[dict[str, Any]]) -> None:
    encoder = pytest.importorskip("opentelemetry.exporter.otlp.proto.common._log_encoder")
    sent_by_all.clear()
    for line in lines:
        sent_by_all.write(**{"event": "x", **line})
    assert len(sent_by_all.records) == len(lines)
    assert encoder.encode_logs(sent_by_all.get_finished_logs()).SerializeToString()


# What goes wrong.


def test_what_the_collector_refuses_is_counted(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "export", lambda batch: FAILURE)
    sent.write(**LINE)
    sent.write(**LINE)
    sent.provider.force_flush()
    assert sent.dropped == [("export", 2)]


def test_an_export_that_raises_is_counted(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(batch: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(sent, "export", fail)
    sent.write(**LINE)
    sent.provider.force_flush()
    assert sent.dropped == [("export", 1)]


def test_a_full_queue_takes_no_more_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "4")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "600000")
    sent = Sent()
    arrived, let_go = threading.Event(), threading.Event()

    def stuck(batch: object) -> Any:
        arrived.set()
        let_go.wait(10)
        return SUCCESS

    monkeypatch.setattr(sent, "export", stuck)
    for _ in range(4):
        sent.write(**LINE)
    assert arrived.wait(10)
    for _ in range(7):
        sent.write(**LINE)
    assert sent.dropped == [("queue", 1)] * 3
    let_go.set()
    sent.stream.close()


def test_what_is_said_during_an_export_goes_to_stderr(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export_and_say(batch: object) -> Any:
        sent.write(event="collector is down")
        return SUCCESS

    monkeypatch.setattr(sent, "export", export_and_say)
    sent.write(**LINE)
    sent.provider.force_flush()
    assert json.loads(capsys.readouterr().err)["event"] == "collector is down"
    monkeypatch.undo()
    assert sent.records == []


def test_what_is_told_after_the_end_goes_to_stderr(sent: Sent, capsys: pytest.CaptureFixture[str]) -> None:
    sent.stream.close()
    sent.write(event="late")
    assert json.loads(capsys.readouterr().err)["event"] == "late"
    assert sent.dropped == []


def test_a_missing_exporter_is_one_warning_and_stdout(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert open_otlp_stream(Config(service_name="shop"), None) is None
    (warning,) = caplog.messages
    assert "otlp_proto_grpc" in warning
    assert "they go to stdout" in warning


@pytest.mark.parametrize("named", ["nowhere", "nowhere,none"])
def test_an_unknown_exporter_is_one_warning_and_stdout(
    named: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", named)
    assert open_otlp_stream(Config(service_name="shop"), None) is None
    (warning,) = caplog.messages
    assert warning == (
        "the environment asks for the log exporter 'nowhere', which is not installed, so it gets no records "
        "(they go to stdout where no other exporter takes them): install its package"
    )


@pytest.mark.parametrize("named", ["None", "none,none"])
def test_no_exporter_asked_for_is_one_warning_and_stdout(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, named: str
) -> None:
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", named)
    assert open_otlp_stream(Config(service_name="shop"), None) is None
    assert caplog.messages == [
        'log_stream="otlp" sends nothing while OTEL_LOGS_EXPORTER is none; the records go to stdout instead'
    ]


def test_the_console_exporter_writes_the_data_model_to_stdout() -> None:
    program = (
        "import flask, flask_signal_observability as f\n"
        "app = flask.Flask('shop')\n"
        "f.Observability(app, log_stream='otlp', tracing=False, metrics=False, audit=False)\n"
        "app.test_client().get('/')\n"
    )
    environ = {**os.environ, "OTEL_LOGS_EXPORTER": "console"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, env=environ
    )
    assert done.stderr == ""
    assert json.loads(done.stdout)["severity_text"] == "WARN"


def test_an_exporter_that_raises_keeps_nothing_from_the_others() -> None:
    class Broken(export.InMemoryLogRecordExporter):
        def export(self, batch: object) -> Any:
            raise RuntimeError("no")

    whole = export.InMemoryLogRecordExporter()
    dropped = lost_by({"first": Broken(), "whole": whole, "last": Broken()})
    assert len(whole.get_finished_logs()) == 1
    assert dropped == []


def lost_by(exporters: dict[str, Any]) -> list[tuple[str, int]]:
    """Send one record through all of these, and return what was counted as lost."""
    dropped: list[tuple[str, int]] = []
    provider = BoundedLoggerProvider(Config(service_name="shop"), exporters, lambda *lost: dropped.append(lost))
    OtlpStream(provider, 5).write(to_json_line(LINE))
    provider.shutdown()
    return dropped


class Refusing(export.InMemoryLogRecordExporter):
    """Takes nothing, and fails to flush."""

    def __init__(self) -> None:
        super().__init__()
        self.flushes = 0

    def export(self, batch: object) -> Any:
        return FAILURE

    def force_flush(self, timeout_millis: int = 0) -> bool:
        self.flushes += 1
        return False


def test_what_no_exporter_takes_is_lost_once() -> None:
    assert lost_by({"one": Refusing(), "other": Refusing()}) == [("export", 1)]


def test_a_flush_that_fails_keeps_none_of_the_others_waiting() -> None:
    exporters = {"one": Refusing(), "other": Refusing()}
    provider = BoundedLoggerProvider(Config(service_name="shop"), exporters, None)
    assert not provider.queue.force_flush()
    provider.shutdown()
    assert all(exporter.flushes for exporter in exporters.values())


def test_a_disabled_sdk_is_one_warning_and_stdout(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")
    assert open_otlp_stream(Config(service_name="shop"), None) is None
    assert [record.getMessage() for record in caplog.records] == [
        'log_stream="otlp" sends nothing while OTEL_SDK_DISABLED is true; the records go to stdout instead'
    ]


def test_without_the_extra_the_warning_names_it_and_records_go_to_stdout() -> None:
    program = (
        "import importlib.metadata as m; m.entry_points = lambda **_: ()\n"
        "import flask, flask_signal_observability as f\n"
        "app = flask.Flask('shop')\n"
        "f.Observability(app, log_stream='otlp', log_format='json', tracing=False, metrics=False, audit=False)\n"
        "app.test_client().get('/')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert 'pip install "flask-signal-observability[otlp]"' in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert json.loads(done.stdout)["event"] == "request_finished"


def test_a_variable_that_the_sdk_refuses_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "many")
    with pytest.raises(ConfigurationError, match="many"):
        open_otlp_stream(Config(service_name="shop"), None)
