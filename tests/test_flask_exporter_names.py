from __future__ import annotations

from typing import Any

import pytest
from flask import abort
from flask import Flask
from prometheus_client import CollectorRegistry
from prometheus_client import Counter
from prometheus_flask_exporter import PrometheusMetrics
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from flask_signal_observability import ConfigurationError
from flask_signal_observability import Observability

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

GROUPS = ("path", "endpoint", "url_rule")


def shop(name: str = "shop") -> Flask:
    app = Flask(name)
    app.logger.disabled = True

    @app.route("/orders/<int:number>", methods=["GET", "POST"])
    def order(number: int) -> str:
        return str(1 / number)

    app.get("/teapot", endpoint="teapot")(lambda: abort(418))
    app.get("/unavailable", endpoint="maintenance")(lambda: ("", 503))
    app.get("/plain", endpoint="plain")(lambda: "")
    return app


def visit(app: Flask) -> None:
    client = app.test_client()
    for path in ("/plain", "/plain", "/orders/1", "/orders/2", "/orders/0", "/teapot", "/unavailable", "/nowhere"):
        client.get(path)
    client.post("/orders/3")
    client.delete("/orders/3")
    client.options("/plain")
    client.head("/plain")


def observe(app: Flask, registry: CollectorRegistry | None = None, **settings: Any) -> CollectorRegistry:
    registry = registry or CollectorRegistry()
    off = {"tracing": False, "logs": False, "audit": False, "metric_names": "flask_exporter"}
    Observability(app, registry=registry, **{**off, **settings})
    return registry


def counted(registry: CollectorRegistry, *, without: tuple[str, ...] = ()) -> Samples:
    """The samples of the exporter's names whose values do not depend on how long anything took."""
    samples: Samples = {}
    for family in registry.collect():
        if family.name.startswith("flask_http_request"):
            for sample in family.samples:
                labels = {key: value for key, value in sample.labels.items() if key not in without}
                if sample.name.endswith(("_count", "_total")) or labels.get("le") == "+Inf":
                    key = sample.name, frozenset(labels.items())
                    samples[key] = samples.get(key, 0) + sample.value
    return samples


def exporter(app: Flask, group: str) -> CollectorRegistry:
    """Observe an app by prometheus-flask-exporter itself."""
    registry = CollectorRegistry()
    PrometheusMetrics(app, group_by=group, registry=registry, path=None)
    return registry


@pytest.mark.parametrize("group", GROUPS[1:])
def test_the_same_traffic_is_told_as_by_the_exporter_itself(group: str) -> None:
    theirs, ours = shop(), shop()
    told, tells = exporter(theirs, group), observe(ours)
    visit(theirs)
    visit(ours)
    expected = counted(told)
    assert len(expected) > 20
    assert counted(tells, without=tuple({*GROUPS} - {group})) == expected


def test_paths_are_those_of_the_exporter_where_a_route_has_no_variable_part() -> None:
    theirs, ours = shop(), shop()
    told, tells = exporter(theirs, "path"), observe(ours)
    for app in (theirs, ours):
        for path in ("/plain", "/teapot", "/unavailable"):
            app.test_client().get(path)
    assert counted(tells, without=("endpoint", "url_rule")) == counted(told)


def test_buckets_and_types_are_those_of_the_exporter() -> None:
    theirs, ours = shop(), shop()
    told, tells = exporter(theirs, "endpoint"), observe(ours)
    for app in (theirs, ours):
        app.test_client().get("/plain")

    def shape(registry: CollectorRegistry) -> set[tuple[str, str, str]]:
        return {
            (family.name, family.type, sample.labels.get("le", ""))
            for family in registry.collect()
            for sample in family.samples
            if family.name.startswith(("flask_http_request", "flask_exporter")) and not sample.name.endswith("_created")
        }

    assert shape(tells) == shape(told)


def test_it_is_what_our_own_histogram_says() -> None:
    app = shop()
    registry = observe(app)
    visit(app)

    def total(name: str) -> float:
        return sum(s.value for family in registry.collect() for s in family.samples if s.name == name)

    for suffix in ("_count", "_sum", "_bucket"):
        ours = total(f"http_server_request_duration_seconds{suffix}")
        assert total(f"flask_http_request_duration_seconds{suffix}") == pytest.approx(ours)


def test_it_is_off_unless_it_is_asked_for() -> None:
    app = shop()
    registry = observe(app, metric_names="own")
    visit(app)
    assert counted(registry) == {}


def test_metrics_answers_with_it() -> None:
    app = shop()
    observe(app)
    visit(app)
    text = app.test_client().get("/metrics").text
    assert 'flask_http_request_total{method="GET",status="200"} 4.0' in text
    assert 'flask_http_request_exceptions_total{method="GET",status="500"} 1.0' in text
    assert "flask_exporter_info{version=" in text


def test_apps_of_one_registry_are_added_up_and_a_mounted_one_has_its_prefix_in_the_path() -> None:
    first, second = shop(), shop("api")
    registry = observe(first)
    observe(second, registry)
    client = Client(DispatcherMiddleware(first, {"/api": second}))
    client.get("/plain")
    client.get("/api/orders/1")
    places = {
        tuple(sample.labels[name] for name in GROUPS)
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "flask_http_request_duration_seconds_count"
    }
    assert places == {
        ("/plain", "plain", "/plain"),
        ("/api/orders/<int:number>", "order", "/orders/<int:number>"),
    }


def test_names_that_are_taken_are_told_at_once() -> None:
    registry = CollectorRegistry()
    Counter("flask_http_request_total", "Taken.", registry=registry)
    with pytest.raises(ConfigurationError, match="flask_http_request"):
        observe(shop(), registry)
