"""Spans on the wire: a real collector takes them, and no receiver's mood reaches the app."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from .otlp_receiver import receiving
from .otlp_receiver import Reply
from .programs import eventually
from .programs import executable
from .programs import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from .collector import Collector
    from .conftest import Serve
    from .otlp_receiver import OtlpReceiver
    from .served import Served
    from .spans import Span

pytestmark = pytest.mark.real

NEVER_BY_ITSELF = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}


def exporting_to(endpoint: str, **env: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **env}


def one_span_in(collector: Collector, server: Served, traceparent: str) -> Span:
    already = len(collector.spans)
    assert server.send("/json", headers={"traceparent": traceparent}).status == 200
    return collector.wait_for(lambda spans: len(spans) > already)[-1]


@pytest.fixture(scope="module")
def server(served: Serve, collector: Collector) -> Served:
    return served(env=exporting_to(collector.endpoint))


def test_a_collector_takes_a_span_with_its_service_name(server: Served, collector: Collector) -> None:
    span = one_span_in(collector, server, f"00-{'a' * 32}-{'b' * 16}-01")
    assert (span.trace_id, span.parent_id, span.kind, span.name) == ("a" * 32, "b" * 16, "SERVER", "GET /json")
    assert span.resource["service.name"] == "shop"


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{'0' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'0' * 16}-01",
        f"ff-{'a' * 32}-{'b' * 16}-01",
        "00-not-hex-at-all",
        "",
    ],
)
def test_an_invalid_traceparent_makes_a_root(server: Served, collector: Collector, traceparent: str) -> None:
    span = one_span_in(collector, server, traceparent)
    assert span.parent_id == ""
    assert span.trace_id not in ("a" * 32, "0" * 32)


def test_a_compressed_export_is_taken(served: Serve, otlp_receiver: OtlpReceiver) -> None:
    server = served(env=exporting_to(otlp_receiver.endpoint, OTEL_EXPORTER_OTLP_COMPRESSION="gzip"))
    server.send("/json")
    (span,) = otlp_receiver.wait_for(bool)
    assert otlp_receiver.requests[0]["content-encoding"] == "gzip"
    assert span.name == "GET /json"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for the loopback address that signs itself, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        [
            *(
                str(executable("openssl", remedy="apt-get install openssl")),
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
            ),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return certificate, key


# requests, below the exporter, prefers this variable to the exporter's own setting.
WITHOUT_OTHER_AUTHORITIES = {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}


def test_an_export_over_tls_is_taken(served: Serve, certificate: tuple[Path, Path]) -> None:
    with receiving(*certificate) as receiver:
        env = exporting_to(receiver.endpoint, OTEL_EXPORTER_OTLP_CERTIFICATE=str(certificate[0]))
        served(env={**env, **WITHOUT_OTHER_AUTHORITIES}).send("/json")
        (span,) = receiver.wait_for(bool)
    assert span.name == "GET /json"


def test_a_receiver_whose_certificate_nobody_signed_gets_nothing(served: Serve, certificate: tuple[Path, Path]) -> None:
    with receiving(*certificate) as receiver:
        server = served(
            env={**exporting_to(receiver.endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="2"), **WITHOUT_OTHER_AUTHORITIES}
        )
        assert server.send("/json").status == 200
        eventually(lambda: 'sink="tracing"' in server.send("/metrics").text, timeout=20, what="a dropped span")
        assert receiver.spans == []


def test_the_last_spans_are_exported_when_the_server_ends(served: Serve, otlp_receiver: OtlpReceiver) -> None:
    server = served(env=exporting_to(otlp_receiver.endpoint, **NEVER_BY_ITSELF))
    server.send("/json")
    assert otlp_receiver.spans == []
    server.stop()
    assert [span.name for span in otlp_receiver.spans] == ["GET /json"]


@pytest.mark.parametrize("refusal", [Reply(429), Reply(503, {"Retry-After": "1"})], ids=["429", "503"])
def test_a_busy_receiver_gets_the_span_later_and_once(
    served: Serve, otlp_receiver: OtlpReceiver, refusal: Reply
) -> None:
    otlp_receiver.script(refusal)
    server = served(env=exporting_to(otlp_receiver.endpoint))
    assert server.send("/json").status == 200
    otlp_receiver.wait_for(bool)
    server.stop()
    assert [span.name for span in otlp_receiver.spans] == ["GET /json"]
    assert len(otlp_receiver.requests) == 2


@pytest.mark.parametrize(
    "nonsense", [Reply(400, body=b"no"), Reply(200, body=b"\xff garbage \x00")], ids=["400", "garbage"]
)
def test_an_answer_that_makes_no_sense_does_not_stop_the_next_export(
    served: Serve, otlp_receiver: OtlpReceiver, nonsense: Reply
) -> None:
    otlp_receiver.script(nonsense)
    server = served(env=exporting_to(otlp_receiver.endpoint))
    assert server.send("/flashed").status == 200
    otlp_receiver.wait_for_requests(1)
    assert server.send("/json").status == 200
    assert otlp_receiver.wait_for(lambda spans: spans[-1:] != [] and spans[-1].name == "GET /json")


def test_an_app_without_its_collector_answers_counts_the_loss_and_ends(served: Serve) -> None:
    server = served(env=exporting_to(f"http://127.0.0.1:{free_port()}", OTEL_EXPORTER_OTLP_TIMEOUT="1"))
    assert server.send("/json").status == 200
    assert [r["http.route"] for r in server.records if r["event"] == "request_finished"] == ["/json"]
    lost = 'observability_dropped_total{reason="export",sink="tracing"} 1.0'
    eventually(lambda: lost in server.send("/metrics").text, timeout=15.0, what=lost)
    server.stop()
