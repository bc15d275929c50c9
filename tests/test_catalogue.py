from __future__ import annotations

import pytest
from flask import signals
from opentelemetry.semconv import metrics as stable_metrics
from opentelemetry.semconv._incubating.attributes import http_attributes as incubating_http
from opentelemetry.semconv._incubating.attributes import user_attributes
from opentelemetry.semconv.attributes import client_attributes
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.semconv.attributes import http_attributes
from opentelemetry.semconv.attributes import network_attributes
from opentelemetry.semconv.attributes import server_attributes
from opentelemetry.semconv.attributes import url_attributes
from opentelemetry.semconv.attributes import user_agent_attributes
from opentelemetry.semconv.metrics import http_metrics

from flask_signal_observability import catalogue

CONVENTION = {
    value
    for module in (
        client_attributes,
        error_attributes,
        http_attributes,
        incubating_http,
        network_attributes,
        server_attributes,
        url_attributes,
        user_agent_attributes,
        user_attributes,
    )
    for value in vars(module).values()
    if isinstance(value, str)
}


@pytest.mark.parametrize("attribute", catalogue.ATTRIBUTES.values(), ids=lambda attribute: attribute.name)
def test_every_attribute_that_is_not_ours_is_the_conventions(attribute: catalogue.Attribute) -> None:
    assert (attribute.name in CONVENTION) == (attribute.level != "ours")


def test_the_duration_is_the_conventions_in_prometheus_spelling() -> None:
    assert stable_metrics
    name = http_metrics.HTTP_SERVER_REQUEST_DURATION
    assert catalogue.METRICS[name.replace(".", "_") + "_seconds"].kind == "histogram"


def test_the_signals_are_flasks_ten() -> None:
    assert set(catalogue.SIGNALS) == {
        name for name, value in vars(signals).items() if type(value).__name__.endswith("Signal")
    }
    assert len(catalogue.SIGNALS) == 10


@pytest.mark.parametrize("metric", catalogue.METRICS.values(), ids=lambda metric: metric.name)
def test_every_metric_has_help_and_a_name_that_says_its_unit(metric: catalogue.Metric) -> None:
    assert metric.help.endswith(".")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert (metric.kind == "histogram") == bool(metric.buckets)
    if metric.unit:
        assert metric.name.endswith("_" + metric.unit)
