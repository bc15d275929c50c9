from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from flask import abort
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from flask_signal_observability.log_sampling import LogSampling
from flask_signal_observability.providers import exports
from flask_signal_observability.record import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .conftest import Observed

    Observe = Callable[..., Observed]

RATES = st.floats(0, 1)
TRACE_IDS = st.integers(1, 2**128 - 1)


def request(**known: Any) -> RequestRecord:
    record = RequestRecord(None, "shop", {}, "GET", 0, 0, lambda record: None)
    for name, value in known.items():
        setattr(record, name, value)
    return record


def kept(rate: float, *, slow: float = 1.0, follows_traces: bool = True, **known: Any) -> bool:
    return LogSampling(rate, slow, follows_traces=follows_traces).keeps(request(**known))


@given(RATES, TRACE_IDS)
def test_an_unsampled_trace_is_kept_where_opentelemetrys_ratio_would_sample_it(rate: float, trace_id: int) -> None:
    decision = TraceIdRatioBased(rate).should_sample(None, trace_id, "GET /").decision
    assert kept(rate, trace_id=f"{trace_id:032x}") is (decision is Decision.RECORD_AND_SAMPLE)


@given(RATES, RATES, TRACE_IDS)
def test_of_two_rates_the_lower_keeps_nothing_that_the_higher_does_not(a: float, b: float, trace_id: int) -> None:
    low, high = sorted((a, b))
    trace = f"{trace_id:032x}"
    assert kept(low, trace_id=trace) <= kept(high, trace_id=trace)


@given(st.binary(min_size=1))
def test_without_a_trace_the_request_id_decides_and_always_the_same(name: bytes) -> None:
    request_id = name.hex()
    assert kept(0.5, request_id=request_id) is kept(0.5, request_id=request_id)
    assert kept(1.0, request_id=request_id)
    assert not kept(0.0, request_id=request_id)


def test_request_ids_are_kept_at_about_the_rate() -> None:
    assert 150 < sum(kept(0.2, request_id=f"id-{number}") for number in range(1000)) < 250


def test_a_sampled_trace_is_kept_where_traces_are_exported_and_only_there() -> None:
    assert kept(0.0, trace_id="f" * 32, sampled=True)
    assert not kept(0.0, trace_id="f" * 32, sampled=True, follows_traces=False)


def test_a_slow_request_is_kept() -> None:
    assert kept(0.0, slow=0.5, trace_id="f" * 32, duration_ns=500_000_000)
    assert not kept(0.0, slow=0.5, trace_id="f" * 32, duration_ns=499_999_999)
    assert not kept(0.0, slow=0.0, trace_id="f" * 32)  # it is still running


def shop() -> Flask:
    app = Flask("shop")
    app.add_url_rule("/", "home", lambda: "x")
    app.add_url_rule("/missing", "missing", lambda: abort(404))
    app.add_url_rule("/error", "error", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    return app


def finished(observed: Observed) -> list[str]:
    for path in ("/", "/missing", "/error"):
        observed.client().get(path)
    return [record["url.path"] for record in observed.records("request_finished")]


OFF = {"provider_options": {"sampler": ALWAYS_OFF}}


def test_errors_and_their_exceptions_are_always_written(observe: Observe) -> None:
    observed = observe(shop(), log_sample_rate=0, **OFF)
    assert finished(observed) == ["/error"]
    assert len(observed.records("exception")) == 1


def test_slow_requests_are_always_written(observe: Observe) -> None:
    observed = observe(shop(), log_sample_rate=0, slow_request_seconds=0, **OFF)
    assert finished(observed) == ["/", "/missing", "/error"]


@pytest.mark.parametrize("rate", [0, 1])
def test_a_log_and_a_span_go_together(observe: Observe, rate: float) -> None:
    observed = observe(shop(), log_sample_rate=0, provider_options={"sampler": TraceIdRatioBased(rate)})
    paths = finished(observed)
    spans = [span.attributes["url.path"] for span in observed.server_spans if span.attributes]
    assert paths == (spans if rate else ["/error"])


def test_what_a_request_says_at_debug_is_sampled_with_it(observe: Observe) -> None:
    observed = observe(shop(), log_sample_rate=0, log_level="DEBUG", **OFF)
    finished(observed)
    assert {record["event"] for record in observed.records()} == {"exception", "request_finished"}


def test_the_level_still_counts(observe: Observe) -> None:
    observed = observe(shop(), log_sample_rate=0.5, slow_request_seconds=0, log_level="ERROR")
    assert finished(observed) == ["/error"]


def test_metrics_and_audit_are_never_sampled(observe: Observe) -> None:
    observed = observe(shop(), log_sample_rate=0, **OFF)
    finished(observed)
    assert observed.value("http_server_request_duration_seconds_count") == 3
    assert len(observed.audit_lines) == 3


def test_spans_that_go_nowhere_say_nothing_about_logs(monkeypatch: pytest.MonkeyPatch, observe: Observe) -> None:
    from flask_signal_observability import providers

    for variable in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(variable, raising=False)
    local = providers._provider_of_environment("shop", None, 1, lambda: None)
    assert not exports(local)
    assert not exports(None)
    assert exports(observe().provider)
