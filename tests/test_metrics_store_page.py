from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from werkzeug.test import Client

from flask_signal_observability.access import make_rule
from flask_signal_observability.catalogue import Metric
from flask_signal_observability.exposition import Exposition
from flask_signal_observability.guard import Guard
from flask_signal_observability.metrics_store.family import Family
from flask_signal_observability.metrics_store.store import MetricsStore

BOUNDS = (0.005, 1.0, 2.5, 1_000_000.0, 10_000_000.0)

values = st.text() | st.sampled_from(["", "%s", "%%", '"', "\\", "\n", "\\n", "é", "\ud800", "{}", "a b"])
amounts = st.integers(0, 2**50) | st.sampled_from([0, 5_000_000, 5_000_001, 10**15, 999_999, 10**6])
ids = st.integers(1, 2**128 - 1).map(lambda number: f"{number:032x}")
observed = st.lists(
    st.tuples(st.tuples(values, values), amounts, st.none() | st.tuples(st.integers(1, 2**62), ids, st.just("a" * 16))),
    max_size=12,
)
FORMATS = [
    ("text/plain", generate_latest),
    ("text/plain;version=1.0.0", generate_latest),
    ("application/openmetrics-text;version=1.0.0", generate_openmetrics),
]


def registered(*families: tuple[Metric, tuple[tuple[tuple[str, ...], Any], ...]]) -> CollectorRegistry:
    store, registry = MetricsStore(), CollectorRegistry()
    for metric, children in families:
        family = Family(metric, store)
        for labels, act in children:
            act(family.child(*labels))
    registry.register(store)
    return registry


def ours(registry: CollectorRegistry, accept: str) -> bytes:
    guard = Guard()
    return Client(Exposition(registry, make_rule("open", guard), guard)).get("/", headers={"Accept": accept}).data


@pytest.mark.parametrize(("accept", "generate"), FORMATS)
@pytest.mark.parametrize("unit", ["seconds", "bytes", ""])
@settings(max_examples=50, deadline=None)
@given(children=observed)
def test_histograms_are_written_as_prometheus_client_writes_them(
    accept: str, generate: Any, unit: str, children: list[Any]
) -> None:
    metric = Metric("size", "histogram", 'Help "me"\\\n.', ("zone", "a"), unit, BOUNDS)
    observations = tuple((labels, lambda child, a=a, e=e: child.observe(a, e)) for labels, a, e in children)
    registry = registered((metric, observations))
    assert ours(registry, accept) == generate(registry)


@pytest.mark.parametrize(("accept", "generate"), FORMATS)
@pytest.mark.parametrize(("name", "kind"), [("things_total", "counter"), ("things", "gauge")])
@settings(max_examples=50, deadline=None)
@given(children=st.lists(st.tuples(st.tuples(values, values), st.integers(-(2**40), 2**60)), max_size=12))
def test_counters_and_gauges_are_written_as_prometheus_client_writes_them(
    accept: str, generate: Any, name: str, kind: Any, children: list[Any]
) -> None:
    metric = Metric(name, kind, 'Help "me"\\\n.', ("zone", "a"))
    registry = registered((metric, tuple((labels, lambda child, n=n: child.set(n)) for labels, n in children)))
    assert ours(registry, accept) == generate(registry)


@pytest.mark.parametrize(("accept", "generate"), FORMATS)
def test_families_without_labels_and_without_series_are_written_too(accept: str, generate: Any) -> None:
    registry = registered(
        (Metric("things", "gauge", "Things."), (((), lambda child: child.set(3)),)),
        (Metric("never_total", "counter", "Never.", ("a",)), ()),
        (Metric("length", "histogram", "Length.", buckets=(1.0,)), (((), lambda child: child.observe(1)),)),
    )
    assert ours(registry, accept) == generate(registry)
    assert b"length_count 1.0\n" in ours(registry, accept)


@pytest.mark.parametrize("escaping", ["allow-utf-8", "underscores", "dots", "values"])
@pytest.mark.parametrize(
    ("media_type", "generate"),
    [("text/plain", generate_latest), ("application/openmetrics-text", generate_openmetrics)],
)
def test_names_are_escaped_as_prometheus_client_escapes_them(media_type: str, generate: Any, escaping: str) -> None:
    metric = Metric("the_things_total", "counter", "Things.", ("a_b",))
    registry = registered((metric, ((("c_d",), lambda child: child.inc()),)))
    accept = f"{media_type};version=1.0.0;escaping={escaping}"
    assert ours(registry, accept) == generate(registry, escaping=escaping)


def test_an_amount_at_a_bound_is_below_it_and_sums_are_exact() -> None:
    seconds = Metric("length_seconds", "histogram", "Length.", (), "seconds", (0.1, 1.0))
    observe = lambda child: [child.observe(100_000_000) for _ in range(3)]  # noqa: E731
    registry = registered((seconds, (((), observe),)))
    assert registry.get_sample_value("length_seconds_bucket", {"le": "0.1"}) == 3
    assert registry.get_sample_value("length_seconds_sum") == 0.3
