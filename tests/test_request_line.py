from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_signal_observability.config import Config
from flask_signal_observability.record import RequestRecord
from flask_signal_observability.rendering import timestamp_of
from flask_signal_observability.rendering import to_json_line
from flask_signal_observability.request_line import level_of
from flask_signal_observability.request_line import MAX_SHAPES
from flask_signal_observability.request_line import MAX_SIZES
from flask_signal_observability.request_line import MAX_TEXT
from flask_signal_observability.request_line import RequestLines
from flask_signal_observability.sinks.logs import LogsSink

PLAIN: dict[str, Any] = {
    "path": "/orders/7",
    "route": "/orders/<int:number>",
    "endpoint": "order",
    "status": 200,
    "request_id": "r" * 32,
    "trace_id": "a" * 32,
    "span_id": "b" * 16,
    "client_address": "203.0.113.7",
    "peer_address": "::1",
    "response_size": 41,
}


def request(duration_ns: int = 1_500_000, **known: Any) -> RequestRecord:
    record = RequestRecord(None, "shop", {}, known.pop("method", "GET"), 1_795_342_140_123_456_789, 0, lambda _: None)
    for name, value in {**PLAIN, **known}.items():
        setattr(record, name, value)
    record.end(duration_ns)
    return record


def rendered(record: RequestRecord, service: str = "shop") -> bytes:
    sink = LogsSink(Config(service_name=service, log_stream=io.StringIO()))
    return to_json_line(sink._request(record, record.ended_unix_ns, level_of(record), "request_finished"))


def put_together(record: RequestRecord, service: str = "shop") -> bytes | None:
    """Return the line, or None where it is left to the renderer."""
    written: list[bytes] = []
    left: list[RequestRecord] = []
    RequestLines(service, written.append, left.append).finish(record)
    assert len(written) + len(left) == 1
    return written[0] if written else None


def items(line: bytes) -> list[tuple[str, Any]]:
    assert line.endswith(b"\n")
    assert len(line.decode().splitlines()) == 1
    return list(json.loads(line).items())


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


TEXT = st.text(st.characters(), max_size=20)
RECORDS = st.builds(
    request,
    duration_ns=st.integers(0, 10**15),
    method=st.sampled_from(["GET", "_OTHER", "QUERY"]),
    path=st.text(st.characters(codec="ascii"), max_size=20) | TEXT,
    route=optional(TEXT),
    endpoint=optional(TEXT),
    user=optional(TEXT),
    status=optional(st.integers(0, 999)),
    response_size=optional(st.integers(0)),
    client_address=optional(st.ip_addresses().map(str)),
    peer_address=optional(st.ip_addresses().map(str)),
    request_id=optional(st.just("abc./:@")),
    trace_id=optional(st.just("a" * 32)),
    error_type=optional(st.just("ValueError")),
    query=optional(st.just("a=1")),
    request_size=optional(st.just(3)),
    method_original=optional(st.just("BREW")),
    client_disconnected=st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(RECORDS, st.text(min_size=1).filter(str.isprintable).filter(str.strip))
def test_a_line_says_what_the_renderer_says_in_its_order(record: RequestRecord, service: str) -> None:
    if record.trace_id is None:
        record.span_id = None
    line = put_together(record, service)
    if line is not None:
        assert items(line) == items(rendered(record, service))


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"trace_id": None, "span_id": None},
        {"route": None, "endpoint": None},
        {"user": 'a"\n'},
        {"request_size": 0},
        {"user": "ada", "request_size": 12},
        {"response_size": None},
        {"path": '/a"b\\c\x1f'},
        {"duration_ns": 0},
        {"duration_ns": 999_999_999},
    ],
    ids=str,
)
def test_a_plain_request_is_put_together(known: dict[str, Any]) -> None:
    record = request(**known)
    line = put_together(record)
    assert line is not None
    assert items(line) == items(rendered(record))


@pytest.mark.parametrize(("status", "level"), [(None, "info"), (399, "info"), (404, "warning"), (500, "error")])
def test_the_level_is_the_statuss(status: int | None, level: str) -> None:
    line = put_together(request(status=status))
    assert line is not None
    assert json.loads(line)["level"] == level


def test_each_moment_is_written_whichever_came_before() -> None:
    written: list[bytes] = []
    lines = RequestLines("shop", written.append, lambda record: None)
    moments = [1_795_342_140_999_999_999, 1_795_342_141_000_000_000, 1_795_342_140_000_000_999, 0, 86_400_000_001_000]
    for unix_ns in moments:
        record = request()
        record.ended_unix_ns = unix_ns
        lines.finish(record)
    assert [json.loads(line)["timestamp"] for line in written] == [timestamp_of(unix_ns) for unix_ns in moments]


@pytest.mark.parametrize(
    "known",
    [
        {"annotations": {"a": 1}},
        {"error_type": "ValueError"},
        {"query": "a=1"},
        {"method_original": "BREW"},
        {"client_disconnected": True},
        {"client_address": None},
        {"peer_address": None},
        {"request_id": None},
        {"path": "/é"},
        {"path": "/" * (MAX_TEXT + 1)},
        {"user": "u" * 10_000},
        {"user": "é"},
        {"duration_ns": 1_000_000_000},
        {"method": 'G"'},
    ],
    ids=lambda known: next(iter(known)),
)
def test_anything_unusual_is_left_to_the_renderer(known: dict[str, Any]) -> None:
    assert put_together(request(**known)) is None


def test_the_longest_line_is_none_that_would_be_cut() -> None:
    record = request(path="\x01" * MAX_TEXT, user="\x01" * MAX_TEXT)
    line = put_together(record)
    assert line is not None
    assert items(line) == items(rendered(record))


def test_what_is_kept_stays_small() -> None:
    lines = RequestLines("shop", lambda line: None, lambda record: None)
    for number in range(MAX_SHAPES + 5):
        lines.finish(request(status=number, response_size=number))
    assert len(lines._shapes["/orders/<int:number>"]) <= MAX_SHAPES
    assert len(lines._sizes) <= MAX_SIZES
