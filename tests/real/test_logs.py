"""The log of a served app: every line in it belongs to its request, and every request to its trace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from .served import serving

if TYPE_CHECKING:
    from pathlib import Path

    from .collector import Collector

pytestmark = pytest.mark.real

REQUESTS = 40
RATE = 0.25
LINES = ["by structlog", "by logging", "by warnings", "request_finished"]


def test_whatever_logs_in_a_request_writes_a_record_with_its_ids(tmp_path: Path) -> None:
    with serving("log_app:create_app()", directory=tmp_path, workers=2) as server:
        answers = [server.send("/json") for _ in range(4)]
        server.stop()
    for answer in answers:
        request_id = answer.headers["x-request-id"]
        records = [record for record in server.records if record.get("request_id") == request_id]
        assert [record["event"].rpartition(": ")[2] for record in records] == LINES
        others = [json.loads(line) for line in server.output.splitlines() if request_id in line]
        assert [record["event"] for record in others] == ["by a chain of its own"]
        ids = {(record["trace_id"], record["span_id"], record["service"]) for record in (*records, *others)}
        assert len(ids) == 1


def test_a_sampled_log_holds_the_requests_whose_traces_the_collector_has(tmp_path: Path, collector: Collector) -> None:
    env = {
        "OTEL_SERVICE_NAME": "sampled",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.5",
        "OBSERVABILITY_LOG_SAMPLE_RATE": str(RATE),
    }
    with serving("worker_app:create_app()", directory=tmp_path, workers=2, env=env) as server:
        for number in range(REQUESTS):
            # The caller samples every second one; the ids are spread over the whole range of their low bits.
            low = number * (1 << 64) // REQUESTS
            server.send("/json", headers={"traceparent": f"00-{'a' * 16}{low:016x}-{'b' * 16}-0{number % 2}"})
        for _ in range(REQUESTS):
            server.send("/json")
        server.stop()
        logged = {record["trace_id"] for record in server.records if record["event"] == "request_finished"}
    spans = collector.wait_for(lambda spans: len(spans) > REQUESTS // 2)
    sampled = {span.trace_id for span in spans if span.resource["service.name"] == "sampled"}
    assert len(sampled) > REQUESTS // 2
    assert sampled < logged
    # Beyond them the lowest quarter of what a caller did not sample: of ids that are sampled here it is a part.
    assert all(int(trace_id[16:], 16) < RATE * (1 << 64) for trace_id in logged - sampled)
    assert len(logged - sampled) == REQUESTS * RATE / 2
