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
from flask_signal_observability.rendering import to_json_line
from flask_signal_observability.request_line import MAX_PATH
from flask_signal_observability.request_line import MAX_SHAPES
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


def rendered(record: RequestRecord, service: str = "shop", level: str = "info") -> bytes:
    sink = LogsSink(Config(service_name=service, log_stream=io.StringIO()))
    return to_json_line(sink._request(record, record.ended_unix_ns, level, "request_finished"))


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
    line = RequestLines(service).of(record, "info")
    if line is not None:
        assert items(line) == items(rendered(record, service))


def test_a_plain_request_is_put_together() -> None:
    lines = RequestLines("shop")
    for known in ({}, {"trace_id": None, "span_id": None}, {"route": None, "endpoint": None}, {"user": 'a"\n'}):
        record = request(**known)
        line = lines.of(record, "info")
        assert line is not None
        assert items(line) == items(rendered(record))


@pytest.mark.parametrize(
    "known",
    [
        {"annotations": {"a": 1}},
        {"error_type": "ValueError"},
        {"query": "a=1"},
        {"request_size": 0},
        {"method_original": "BREW"},
        {"client_disconnected": True},
        {"client_address": None},
        {"peer_address": None},
        {"request_id": None},
        {"path": "/é"},
        {"path": "/" * (MAX_PATH + 1)},
        {"user": "u" * 10_000},
        {"method": 'G"'},
    ],
    ids=lambda known: next(iter(known)),
)
def test_anything_unusual_is_left_to_the_renderer(known: dict[str, Any]) -> None:
    assert RequestLines("shop").of(request(**known), "info") is None


def test_the_longest_line_is_none_that_would_be_cut() -> None:
    record = request(path="\x01" * MAX_PATH, user="u" * 3000)
    line = RequestLines("shop").of(record, "info")
    assert line is not None
    assert items(line) == items(rendered(record)) or b"truncated" in rendered(record)


def test_shapes_are_few() -> None:
    lines = RequestLines("shop")
    for number in range(MAX_SHAPES + 5):
        lines.of(request(status=number), "info")
    assert len(lines._shapes) <= MAX_SHAPES
