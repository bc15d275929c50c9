from __future__ import annotations

from collections.abc import Callable
from typing import Any

import prometheus_client
import pytest
from flask import flash
from flask import Flask
from flask import render_template_string
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry

from flask_signal_observability import annotate
from flask_signal_observability import ConfigurationError
from flask_signal_observability import Observability
from flask_signal_observability.sinks.families import Families

from .conftest import DURATION
from .conftest import Observed

Observe = Callable[..., Observed]


def shop() -> Flask:
    app = Flask("shop")
    app.secret_key = "k"
    app.add_url_rule("/", view_func=lambda: "hello", endpoint="home", methods=["GET", "POST"])
    app.add_url_rule("/bad", view_func=lambda: 1 / 0, endpoint="bad")
    app.add_url_rule("/page", view_func=lambda: flash("x", "info") or render_template_string("page"), endpoint="page")
    return app


def test_a_request_is_one_sample_under_the_conventions_labels(observe: Observe) -> None:
    observed = observe(shop())
    observed.client().get("/")
    assert observed.duration_sample.labels == {
        "flask_app": "shop",
        "http_request_method": "GET",
        "url_scheme": "http",
        "http_route": "/",
        "http_response_status_code": "200",
        "error_type": "",
    }
    assert observed.value("http_server_response_body_size_bytes_sum") == 5


def test_unmatched_urls_share_one_series(observe: Observe) -> None:
    observed = observe(shop())
    for number in range(20):
        observed.client().get(f"/nothing/{number}")
    (sample,) = observed.samples(f"{DURATION}_count")
    assert sample.value == 20
    assert sample.labels["http_route"] == ""
    assert sample.labels["http_response_status_code"] == "404"


def test_made_up_methods_share_one_series(observe: Observe) -> None:
    observed = observe(shop())
    for number in range(20):
        observed.client().open("/", method=f"BREW{number}")
    (sample,) = observed.samples(f"{DURATION}_count")
    assert sample.labels["http_request_method"] == "_OTHER"
    assert [s.labels["http_request_method"] for s in observed.samples("http_server_active_requests")] == ["_OTHER"]


def test_an_unhandled_error_is_counted_by_its_class(observe: Observe) -> None:
    observed = observe(shop())
    observed.client().get("/bad")
    assert observed.value("flask_exceptions_total", exception_type="ZeroDivisionError", http_route="/bad") == 1
    assert observed.duration_sample.labels["error_type"] == "ZeroDivisionError"
    assert observed.duration_sample.labels["http_response_status_code"] == "500"


def test_templates_are_timed_and_messages_counted(observe: Observe) -> None:
    observed = observe(shop())
    observed.client().get("/page")
    assert observed.value("flask_template_render_duration_seconds_count", template="<string>") == 1
    assert observed.value("flask_messages_flashed_total", category="info") == 1


def test_the_requests_in_flight_are_counted_with_one_child(observe: Observe) -> None:
    observed = observe(shop())
    seen: list[float] = []

    def view() -> str:
        seen.append(observed.value("http_server_active_requests"))
        return ""

    observed.app.add_url_rule("/during", view_func=view)
    observed.client().get("/during")
    assert seen == [1]
    assert observed.value("http_server_active_requests") == 0


def test_exemplars_name_sampled_traces(observe: Observe) -> None:
    observed = observe(shop())
    observed.client().get("/page")
    context = observed.server_span.get_span_context()
    expected = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    for name in (DURATION, "flask_template_render_duration_seconds"):
        exemplars = [s.exemplar for s in observed.samples(f"{name}_bucket") if s.exemplar]
        assert [exemplar.labels for exemplar in exemplars] == [expected]


def test_unsampled_traces_leave_no_exemplar(observe: Observe) -> None:
    observed = observe(shop(), provider_options={"sampler": ALWAYS_OFF})
    observed.client().get("/page")
    assert observed.spans == []
    assert observed.duration_sample.value == 1
    assert not any(s.exemplar for s in observed.samples(f"{DURATION}_bucket"))


def test_two_apps_share_one_registry_under_their_names(observe: Observe) -> None:
    registry = CollectorRegistry()
    for name in ("one", "two"):
        app = Flask(name)
        app.add_url_rule("/", view_func=lambda: "")
        observe(app, registry=registry).client().get("/")
    samples = [s for m in registry.collect() for s in m.samples if s.name == f"{DURATION}_count"]
    assert sorted(s.labels["flask_app"] for s in samples) == ["one", "two"]


def test_a_registry_that_holds_these_names_already_is_refused() -> None:
    registry = CollectorRegistry()
    prometheus_client.Gauge("http_server_active_requests", "mine", registry=registry)
    with pytest.raises(ConfigurationError, match="http_server_active_requests"):
        Observability(Flask("shop"), registry=registry, tracing=False, logs=False, audit=False)


def test_annotations_become_labels_where_allowed(observe: Observe) -> None:
    observed = observe(shop(), metric_labels={"tenant": ("acme", "globex")})
    for tenant in ("acme", "initech", None):
        observed.app.add_url_rule(
            f"/{tenant}", endpoint=f"{tenant}", view_func=lambda tenant=tenant: annotate(tenant=tenant) or ""
        )
    for path in ("/acme", "/initech", "/None", "/"):
        observed.client().get(path)
    by_tenant = [(s.labels["http_route"], s.labels["tenant"]) for s in observed.samples(f"{DURATION}_count")]
    assert sorted(by_tenant) == [("/", ""), ("/None", ""), ("/acme", "acme"), ("/initech", "_OTHER")]


def test_metric_labels_that_differ_on_one_registry_are_refused() -> None:
    registry = CollectorRegistry()
    Families.of(registry, ("tenant",))
    with pytest.raises(ConfigurationError, match="tenant"):
        Observability(Flask("shop"), registry=registry, tracing=False, logs=False, audit=False)


def test_beyond_max_routes_a_route_is_other_and_counted(observe: Observe) -> None:
    observed = observe(max_routes=2)
    for number in range(4):
        observed.app.add_url_rule(f"/r{number}", view_func=lambda: "", endpoint=str(number))
    for number in (0, 1, 2, 3, 2):
        observed.client().get(f"/r{number}")
    routes = {s.labels["http_route"]: s.value for s in observed.samples(f"{DURATION}_count")}
    assert routes == {"/r0": 1, "/r1": 1, "_OTHER": 3}
    assert observed.value("observability_series_overflow_total", metric=DURATION) == 3
    assert observed.server_spans[2].attributes["http.route"] == "/r2"


def test_beyond_max_label_values_categories_are_other(observe: Observe) -> None:
    observed = observe(shop(), max_label_values=2)

    def view() -> str:
        for number in range(5):
            flash("x", f"c{number}")
        return ""

    observed.app.add_url_rule("/flash", view_func=view)
    observed.client().get("/flash")
    counted = {s.labels["category"]: s.value for s in observed.samples("flask_messages_flashed_total")}
    assert counted == {"c0": 1, "c1": 1, "_OTHER": 3}


def test_beyond_max_series_everything_is_other(observe: Observe) -> None:
    observed = observe(max_series=2)
    for number in range(4):
        observed.app.add_url_rule(f"/r{number}", view_func=lambda: "", endpoint=str(number))
    for number in (0, 1, 2, 3, 3):
        observed.client().get(f"/r{number}")
    routes = {s.labels["http_route"]: s.value for s in observed.samples(f"{DURATION}_count")}
    assert routes == {"/r0": 1, "/r1": 1, "_OTHER": 3}
    assert observed.value("observability_series_overflow_total", metric=DURATION) == 3


@pytest.mark.parametrize(
    ("status", "label"), [("200 OK", "200"), ("599 X", "599"), ("600 X", "_OTHER"), ("099 X", "_OTHER"), ("x", "")]
)
def test_a_status_is_a_label_only_where_http_knows_its_class(observed: Observed, status: str, label: str) -> None:
    observed.app.wsgi_app.wsgi_app = lambda environ, start_response: start_response(status, []) or [b""]
    list(observed.app(environ(), lambda *_: None))
    assert observed.duration_sample.labels["http_response_status_code"] == label


@pytest.mark.parametrize(("scheme", "label"), [("https", "https"), ("gopher", "_OTHER"), ("", "_OTHER")])
def test_a_scheme_is_http_or_https_or_other(observed: Observed, scheme: str, label: str) -> None:
    list(observed.app({**environ(), "wsgi.url_scheme": scheme}, lambda *_: None))
    assert observed.duration_sample.labels["url_scheme"] == label


def environ() -> dict[str, Any]:
    from werkzeug.test import create_environ

    return create_environ("/")


def test_failures_of_a_sink_are_counted_under_its_name(observe: Observe) -> None:
    class Broken:
        name = "broken"

        def finish(self, record: object) -> None:
            raise OSError("disk full")

    observed = observe(shop(), strict=False, sinks=[Broken()])
    assert observed.client().get("/").text == "hello"
    assert observed.value("observability_errors_total", sink="broken", stage="finish") == 1


def test_the_app_is_described(observed: Observed) -> None:
    (info,) = observed.samples("flask_app_info")
    assert info.value == 1
    assert info.labels["flask_app"] == "shop"
    assert info.labels["flask_version"].startswith("3.")


def test_without_metrics_nothing_is_registered(observe: Observe) -> None:
    observed = observe(shop(), metrics=False)
    assert observed.client().get("/").text == "hello"
    assert observed.client().get("/metrics").status_code == 404
    assert list(observed.registry.collect()) == []


def test_series_of_closed_labels_are_there_before_the_first_event(observe: Observe) -> None:
    observed = observe(shop())
    outcomes = {s.labels["outcome"]: s.value for s in observed.samples("flask_audit_records_total")}
    assert outcomes == {"written": 0, "lost": 0}
    assert observed.value("otel_sdk_exporter_span_exported_total", error_type="") == 0


def test_a_request_leaves_and_is_counted_whatever_its_sum_has_come_to(observe: Observe) -> None:
    observed = observe(shop())
    families = Families.of(observed.registry, (), "auto")
    observed.client().get("/")
    (labels,) = families["http_server_request_duration_seconds"]._children
    child = families["http_server_request_duration_seconds"].child(*labels)
    families.store.words[child.sum_index] = 2**63 - 1
    observed.client().get("/")
    assert observed.value(f"{DURATION}_count") == 2
    assert families.store.words[child.sum_index] == 2**63 - 1
    assert observed.value("http_server_active_requests") == 0


def test_an_audit_line_of_a_request_that_cannot_be_counted_is_counted(
    observe: Callable[..., Observed], monkeypatch: pytest.MonkeyPatch
) -> None:
    observed = observe(strict=False)
    observed.app.add_url_rule("/", view_func=lambda: "")
    metrics = observed.pipeline.sinks[-1]

    def no_room(*_: object) -> None:
        raise OSError("no room for a series")

    monkeypatch.setattr(metrics._shapes, "make", no_room)
    observed.client().get("/")
    assert len(observed.audit_lines) == 1
    assert observed.value("flask_audit_records_total", outcome="written") == 1
    assert observed.value("observability_errors_total", sink="metrics", stage="finish") == 1
