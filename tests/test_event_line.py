from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_signal_observability.config import Config
from flask_signal_observability.event_line import EventLines
from flask_signal_observability.record import EventRecord
from flask_signal_observability.record import RequestRecord
from flask_signal_observability.sinks.logs import LogsSink
from flask_signal_observability.sinks.logs import OWN_KEYS

NS = 1_795_342_140_123_456_789


def event_with(fields: dict[str, Any], duration_ns: int | None = None) -> EventRecord:
    return EventRecord("order-paid", "shop", fields, NS, duration_ns=duration_ns)


def request_with(**known: Any) -> RequestRecord:
    record = RequestRecord(None, "shop", {}, "GET", NS, 0, lambda _: None)
    record.request_id = "r" * 32
    for name, value in known.items():
        setattr(record, name, value)
    return record


def line_of(event: EventRecord, record: RequestRecord | None) -> bytes | None:
    return EventLines("info", "order-paid", "shop", OWN_KEYS).of(event, record)


def rendered(event: EventRecord, record: RequestRecord | None) -> bytes:
    stream = io.StringIO()
    LogsSink(Config(service_name="shop", log_stream=stream, log_format="json"))._write_event("info", event, record)
    return stream.getvalue().encode()


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
REQUESTS = st.sampled_from([None, request_with(), request_with(trace_id="a" * 32, span_id="b" * 16)])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=()), max_size=8), VALUES, max_size=4), REQUESTS)
def test_a_line_says_what_the_renderer_says_in_its_order(fields: dict[str, Any], record: RequestRecord | None) -> None:
    line = line_of(event_with(fields), record)
    if line is not None:
        assert line == rendered(event_with(fields), record)
        assert len(line.decode().splitlines()) == 1


@pytest.mark.parametrize("known", [{}, {"trace_id": "a" * 32, "span_id": "b" * 16}])
def test_a_plain_event_is_put_together(known: dict[str, Any]) -> None:
    event, record = event_with({"amount": 12.5, "note": 'a"\u2028é'}), request_with(**known)
    line = line_of(event, record)
    assert line is not None
    assert line == rendered(event, record)
    assert json.loads(line)["note"] == 'a"\u2028é'


@pytest.mark.parametrize(
    ("event", "record"),
    [
        (event_with({}), None),
        (event_with({"level": "forged"}), None),
        (event_with({"a": "x" * 5000}), None),
        (event_with({"a": 1}, duration_ns=5), None),
        (event_with({"a": 1}), request_with(annotations={"tenant": "acme"})),
        (event_with({"a": 1}), request_with(request_id=None)),
    ],
    ids=["nothing", "own key", "long", "timed", "annotated", "without id"],
)
def test_anything_unusual_is_left_to_the_renderer(event: EventRecord, record: RequestRecord | None) -> None:
    assert line_of(event, record) is None


def test_a_service_whose_name_is_very_long_is_left_to_the_renderer() -> None:
    lines = EventLines("info", "order-paid", "s" * 10_000, OWN_KEYS)
    assert lines.of(event_with({"a": 1}), None) is None
