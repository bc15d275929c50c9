"""Log records on the wire: the real collector takes them, from every process that there is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk._logs import export

from .collector import collecting
from .programs import eventually
from .programs import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .collector import Collector
    from .conftest import Serve

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not hasattr(export, "LogRecordExporter"), reason="opentelemetry-sdk before 1.39"),
]

OTLP = {"OBSERVABILITY_LOG_STREAM": "otlp", "OTEL_BLRP_SCHEDULE_DELAY": "200"}

_record = re.compile(r"^LogRecord #\d+\n(.*?)^Flags: (\d+)$", re.MULTILINE | re.DOTALL)
_field = re.compile(r"^ *([A-Z][\w ]*?) *: (.*)$", re.MULTILINE)
_attribute = re.compile(r"^     -> (\S+): \w+\((.*)\)$", re.MULTILINE)


@dataclass
class Sent:
    """A record as the collector printed it."""

    fields: dict[str, str]
    attributes: dict[str, str]
    flags: int


def sent_to(collector: Collector) -> list[Sent]:
    return [
        Sent(dict(_field.findall(text)), dict(_attribute.findall(text)), int(flags))
        for text, flags in _record.findall(collector.output)
    ]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collecting(tmp_path_factory.mktemp("collector"), printed="logs") as running:
        yield running


def test_a_request_and_its_error_arrive_with_name_severity_and_trace(served: Serve, collector: Collector) -> None:
    server = served(env={**OTLP, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}, workers=2)
    trace_id = "a" * 32
    headers = {"traceparent": f"00-{trace_id}-{'b' * 16}-01", "X-Request-ID": "abc"}
    assert server.send("/error", headers=headers).status == 500
    assert server.send("/json", headers=headers).status == 200
    server.stop()  # what a worker has not sent yet must be now
    eventually(lambda: len(sent_to(collector)) == 3, timeout=15, what="three records in the collector")
    exception, failed, answered = sorted(sent_to(collector), key=lambda sent: int(sent.fields["Timestamp"]))
    assert [sent.fields["EventName"] for sent in (exception, failed, answered)] == [
        "exception",
        "request_finished",
        "request_finished",
    ]
    assert [sent.fields["SeverityText"] for sent in (exception, failed, answered)] == ["ERROR", "ERROR", "INFO"]
    assert {sent.fields["Trace ID"] for sent in (exception, failed, answered)} == {trace_id}
    assert {sent.flags & 1 for sent in (exception, failed, answered)} == {1}
    assert exception.fields["Span ID"] == failed.fields["Span ID"] != answered.fields["Span ID"]
    assert exception.attributes["exception.type"] == "LookupError"
    assert failed.attributes["http.response.status_code"] == "500"
    assert answered.attributes["flask.request_id"] == "abc"
    assert "service.name: Str(shop)" in collector.output
    assert server.records == []


def test_an_app_without_its_collector_answers_counts_the_loss_and_ends(served: Serve) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    env = {**OTLP, "OTEL_EXPORTER_OTLP_ENDPOINT": nobody, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    server = served(env={**env, "OBSERVABILITY_TRACING": "false"})
    assert server.send("/json").status == 200
    lost = 'observability_dropped_total{reason="export",sink="logs"} 1.0'
    eventually(lambda: lost in server.send("/metrics").text, timeout=15.0, what=lost)
    server.stop()
