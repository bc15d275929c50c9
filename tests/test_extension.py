from __future__ import annotations

import gc
import logging
import subprocess
import sys
import urllib.request
import weakref
from collections.abc import Callable
from typing import Any
from typing import TYPE_CHECKING

import prometheus_client
import pytest
from flask import flash
from flask import Flask
from flask import g
from flask import signals
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

import flask_signal_observability
from flask_signal_observability import access_logged
from flask_signal_observability import annotate
from flask_signal_observability import ConfigurationError
from flask_signal_observability import Observability
from flask_signal_observability import Sink
from flask_signal_observability.catalogue import SIGNALS
from flask_signal_observability.teardowns import TEARDOWN_SIGNALS
from flask_signal_observability.teardowns import told_here

from .conftest import DURATION
from .conftest import Observed
from .test_boundary import serve

if TYPE_CHECKING:
    from pathlib import Path

Observe = Callable[..., Observed]


def test_all_names_the_public_names() -> None:
    # Each is fetched at its first use.
    assert all(hasattr(flask_signal_observability, name) for name in flask_signal_observability.__all__)
    public = {
        name
        for name, value in vars(flask_signal_observability).items()
        if not name.startswith("_") and type(value).__name__ not in {"module", "_Feature"}
    }
    assert public == set(flask_signal_observability.__all__)
    assert flask_signal_observability.__all__ == sorted(flask_signal_observability.__all__)


def test_init_app_returns_the_app_and_the_second_one_changes_nothing(tmp_path: Path) -> None:
    app = Flask("shop")
    observability = Observability(registry=CollectorRegistry(), tracing=False, logs=False, audit=False)
    assert observability.init_app(app) is app
    boundary, pipeline = app.wsgi_app, app.extensions["observability"]
    assert Observability().init_app(app) is app
    assert (app.wsgi_app, app.extensions["observability"]) == (boundary, pipeline)


def test_one_object_serves_several_apps(observe: Observe, tmp_path: Path) -> None:
    observed = observe(Flask("one"))
    other = Flask("two")
    other.add_url_rule("/", view_func=lambda: "")
    observed.observability.init_app(other)
    other.test_client().get("/")
    assert [s.labels["flask_app"] for s in observed.samples(f"{DURATION}_count")] == ["two"]


def test_a_keyword_of_init_app_beats_one_of_the_object_and_holds_for_this_app_alone() -> None:
    observability = Observability(
        registry=CollectorRegistry(), tracing=False, logs=False, audit=False, max_routes=7, max_series=70
    )
    one = observability.init_app(Flask("one"), max_routes=8)
    two = observability.init_app(Flask("two"))
    configs = [app.extensions["observability"].config for app in (one, two)]
    assert [(config.max_routes, config.max_series) for config in configs] == [(8, 70), (7, 70)]


@pytest.mark.parametrize(
    ("keywords", "told"), [({"audit_request": True}, "did you mean audit_requests"), ({"sinks": []}, "Observability")]
)
def test_a_keyword_that_init_app_does_not_take_is_a_wrong_setting(keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Observability().init_app(Flask("shop"), **keywords)


@pytest.mark.parametrize("settings", [{"tracin": False}, {"metrics_port": 0}, {"exclude": ("healthz",)}])
def test_a_wrong_setting_is_refused_at_init_app(settings: dict[str, Any]) -> None:
    app = Flask("shop")
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        Observability(app, **settings)
    assert "observability" not in app.extensions
    assert not isinstance(app.wsgi_app, type(None))
    assert app.test_client().get("/").status_code == 404


@pytest.mark.parametrize("sinks", [[object()], [Sink], Sink, "logs"])
def test_what_is_no_sink_is_refused(sinks: Any) -> None:
    with pytest.raises(ConfigurationError, match="sinks="):
        Observability(Flask("shop"), sinks=sinks)


def test_what_is_no_provider_or_no_app_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="tracer_provider=1"):
        Observability(tracer_provider=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="'shop'"):
        Observability("shop")  # type: ignore[arg-type]


def test_a_callable_that_takes_other_arguments_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"user=.*takes no arguments"):
        Observability(Flask("shop"), user=lambda request: "alice")
    with pytest.raises(ConfigurationError, match="metrics_access"):
        Observability(Flask("shop"), metrics_access=lambda: True)


def test_a_sink_of_ones_own_gets_the_stages_that_it_overrides(observe: Observe) -> None:
    class Own(Sink):
        name = "own"

        def __init__(self) -> None:
            self.seen: list[str] = []

        def start(self, record: Any) -> None:
            self.seen.append(f"start {record.route}")

        def finish(self, record: Any) -> None:
            self.seen.append(f"finish {record.status} {record.trace_id is not None}")

    own = Own()
    observed = observe(sinks=[own])
    observed.app.add_url_rule("/", view_func=lambda: "")
    observed.client().get("/")
    assert own.seen == ["start /", "finish 200 True"]


@pytest.mark.parametrize("stage", ["open", "attach", "detach", "start", "event", "signal", "context", "finish"])
def test_a_sink_that_always_raises_changes_no_byte_of_the_response(observe: Observe, stage: str) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError(stage)

    broken = type("Broken", (), {"name": "broken", stage: staticmethod(fail)})()
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: ("hello", {"X-Own": "1"}))
    bare_statuses, bare_headers, bare_body = serve(app)
    observed = observe(app, strict=False, sinks=[broken])
    with app.app_context():
        pass
    statuses, headers, body = serve(app, HTTP_X_REQUEST_ID="r")
    assert (statuses, list(body)) == (bare_statuses, list(bare_body))
    assert headers == [*bare_headers, ("X-Request-ID", "r")]
    if stage != "event":
        assert observed.value("observability_errors_total", sink="broken", stage=stage) >= 1
    assert observed.record["http.response.status_code"] == 200
    assert len(observed.audit_lines) == 1


@pytest.mark.parametrize("sink", ["tracing", "metrics", "logs", "audit"])
def test_each_sink_can_be_switched_off(observe: Observe, sink: str) -> None:
    observed = observe(**{sink: False})
    observed.app.add_url_rule("/", view_func=lambda: "")
    assert observed.client().get("/").status_code == 200
    outputs = {
        "tracing": len(observed.spans),
        "metrics": len(observed.samples(f"{DURATION}_count")),
        "logs": len(observed.records("request_finished")),
        "audit": len(observed.audit_lines),
    }
    assert outputs == {**dict.fromkeys(outputs, 1), sink: 0}


def test_all_ten_signals_are_observed_and_go_with_their_app() -> None:
    app = Flask("shop")
    gc.collect()
    before = {name: sum(map(len, getattr(signals, name)._by_sender.values())) for name in SIGNALS}
    Observability(app, registry=CollectorRegistry(), tracing=False, logs=False, audit=False)
    received = {name for name in SIGNALS if getattr(signals, name).has_receivers_for(app)}
    assert received == set(SIGNALS) - set(TEARDOWN_SIGNALS)
    assert all(told_here(app, name) for name in TEARDOWN_SIGNALS)
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None
    assert {name: sum(map(len, getattr(signals, name)._by_sender.values())) for name in SIGNALS} == before


def test_sixty_apps_of_a_factory_leave_nothing_behind() -> None:
    registry = CollectorRegistry()

    def create_app() -> weakref.ref[Flask]:
        app = Flask("shop")
        Observability(app, registry=registry, tracing=False, logs=False, audit=False)
        app.test_client().get("/")
        return weakref.ref(app)

    apps = [create_app() for _ in range(60)]
    gc.collect()
    assert [app for app in apps if app() is not None] == []


@pytest.mark.parametrize(
    ("settings", "connected"),
    [({}, True), ({"metrics": False}, False), ({"metrics": False, "sinks": [Sink()]}, True)],
    ids=["metrics", "no metrics", "a sink of one's own"],
)
def test_signals_that_are_only_counted_are_received_where_somebody_counts(
    observe: Observe, settings: dict[str, Any], connected: bool
) -> None:
    observed = observe(**settings)
    for signal in (signals.appcontext_pushed, signals.appcontext_popped):
        assert bool(list(signal.receivers_for(observed.app))) is connected
    assert told_here(observed.app, "appcontext_tearing_down") is connected
    assert told_here(observed.app, "request_tearing_down")


def test_context_signals_can_be_left_alone(observe: Observe) -> None:
    observed = observe(context_signals=False)
    assert not signals.appcontext_pushed.has_receivers_for(observed.app)
    assert not any(told_here(observed.app, signal) for signal in TEARDOWN_SIGNALS)
    observed.app.add_url_rule("/", view_func=lambda: "")
    observed.client().get("/")
    assert observed.value("flask_signals_total", signal="request_started") == 1
    assert observed.value("flask_signals_total", signal="appcontext_pushed") == 0


def test_metrics_are_answered_before_flask_sees_the_request(observe: Observe) -> None:
    app = Flask("shop")
    app.before_request(lambda: ("closed", 503))
    observed = observe(app)
    response = observed.client().get("/metrics")
    assert response.status_code == 200
    assert "http_server_active_requests" in response.text
    assert observed.spans == []
    assert observed.records() == []
    assert observed.samples(f"{DURATION}_count") == []
    assert observed.value("flask_signals_total") == 0


def test_metrics_of_a_mounted_app_are_below_its_prefix(observe: Observe) -> None:
    observed = observe()
    client = Client(DispatcherMiddleware(Flask("root"), {"/api": observed.app}))
    assert client.get("/api/metrics").status_code == 200
    assert client.get("/metrics").status_code == 404


def test_metrics_can_be_elsewhere_or_nowhere(observe: Observe) -> None:
    assert observe(Flask("a"), metrics_path="/internal/prom").client().get("/internal/prom").status_code == 200
    off = observe(Flask("b"), metrics_path=None)
    assert off.client().get("/metrics").status_code == 404
    assert off.server_span.attributes["url.path"] == "/metrics"


def test_metrics_are_closed_to_what_came_through_a_proxy(observed: Observed) -> None:
    response = observed.client().get("/metrics", headers={"X-Forwarded-For": "203.0.113.7"})
    assert response.status_code == 403
    assert "metrics_access" in response.text


def test_a_view_hidden_by_the_metrics_is_warned_about(observe: Observe, caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("shop")
    app.add_url_rule("/metrics", view_func=lambda: "mine")
    observe(app)
    assert "metrics_path" in caplog.text


def test_a_view_added_later_is_warned_about_at_its_first_scrape(
    observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    observed.app.add_url_rule("/metrics", view_func=lambda: "mine")
    for _ in range(2):
        observed.client().get("/metrics")
    assert caplog.text.count("metrics_path") == 1


def test_metrics_port_serves_the_same_answer(observe: Observe, free_port: int) -> None:
    observed = observe(metrics_port=free_port)
    with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=10) as response:
        assert b"http_server_active_requests" in response.read()
    observed.app.extensions["observability"].metrics_server.close()


def test_the_library_configures_no_global_logging(observed: Observed) -> None:
    program = (
        "import logging, structlog, flask_signal_observability as f, flask\n"
        "f.Observability(flask.Flask('a'))\n"
        "assert logging.getLogger().handlers == [] and not structlog.is_configured()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert logging.getLogger("flask_signal_observability").handlers == []


def test_a_canary_secret_is_in_no_output(observe: Observe) -> None:
    canary = "eyJhbGciOiJIUzI1NiJ9.Y2FuYXJ5LTQ3MTE.c2lnbmF0dXJl"
    app = Flask("shop")
    app.secret_key = "k"

    def view(part: str) -> str:
        local = canary  # noqa: F841
        flash(canary)
        annotate(token=canary, nested={"password": canary}, note=f"Bearer {canary}")
        access_logged.send("shop", secret=canary)
        raise ValueError(f"cannot use {canary}")

    app.add_url_rule("/<part>", view_func=view, methods=["POST"])
    observed = observe(
        app,
        capture_query=True,
        capture_request_headers=("authorization", "cookie", "x-note"),
        capture_response_headers=("set-cookie",),
    )
    response = observed.client().post(
        f"/{canary}?token={canary}&note={canary}",
        data={"password": canary},
        headers={"Authorization": f"Bearer {canary}", "Cookie": f"session={canary}", "X-Note": f"Bearer {canary}"},
    )
    assert response.status_code == 500
    outputs = [
        *(span.to_json() for span in observed.spans),
        observed.client().get("/metrics", headers={"Accept": "application/openmetrics-text"}).text,
        observed.stream.getvalue(),
        *observed.audit_lines,
        *observed.journal_lines,
    ]
    assert len(outputs) == 5
    assert [output for output in outputs if canary.split(".")[1] in output] == []


LONE_SURROGATE = "\udfff"


def test_a_lone_surrogate_breaks_no_batch_of_spans_and_no_scrape(observe: Observe) -> None:
    app = Flask("shop")
    app.secret_key = "k"

    def view() -> str:
        flash("m", LONE_SURROGATE)
        annotate(note=LONE_SURROGATE, notes=[LONE_SURROGATE])
        g.current_user = LONE_SURROGATE
        raise ValueError(LONE_SURROGATE)

    app.add_url_rule("/", view_func=view)
    observed = observe(app)
    observed.client().get("/")
    encoded = encode_spans(observed.spans)
    (span,) = encoded.resource_spans[0].scope_spans[0].spans
    assert "\\udfff" in span.status.message
    assert {a.key: a.value.string_value for a in span.attributes}["note"] == "\\udfff"
    assert b"\\udfff" in prometheus_client.generate_latest(observed.registry)
    assert observed.record["user.id"] == "\\udfff"


def test_a_label_is_cut(observe: Observe) -> None:
    app = Flask("shop")
    app.secret_key = "k"
    app.add_url_rule("/", view_func=lambda: flash("m", "c" * 100_000) or "")
    observed = observe(app)
    observed.client().get("/")
    (sample,) = observed.samples("flask_messages_flashed_total")
    assert sample.labels["category"] == "c" * 255 + "…"


def test_an_annotation_whose_text_fails_costs_no_sample(observe: Observe) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError

    observed = observe(metric_labels={"tenant": ("a",)}, strict=False)
    observed.app.add_url_rule("/", view_func=lambda: annotate(tenant=Hostile()) or "")
    observed.client().get("/")
    assert observed.duration_sample.labels["tenant"] == "_OTHER"


def test_another_extension_of_the_same_name_is_told() -> None:
    app = Flask("shop")
    app.extensions["observability"] = object()
    with pytest.raises(ConfigurationError, match="taken by object"):
        Observability(app, registry=CollectorRegistry())


def test_apps_that_share_differently_need_registries_of_their_own(observe: Observe) -> None:
    registry = CollectorRegistry()
    observe(registry=registry)
    with pytest.raises(ConfigurationError, match="metrics_shared='off'"):
        observe(Flask("admin"), registry=registry, metrics_shared="off")


def test_a_directory_that_cannot_be_had_is_one_warning(
    observe: Observe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)  # which is not followed
    observed = observe(metrics_shared=str(tmp_path / "link"))
    assert caplog.text.count("cannot be shared") == 1
    observed.client().get("/")
    assert observed.duration_sample.value == 1


def test_without_messages_the_journal_has_none_either(observe: Observe) -> None:
    observed = observe(exception_message=False)
    observed.app.add_url_rule("/", view_func=lambda: int("secret-4711"))
    observed.client().get("/")
    assert observed.journal_lines[0].endswith("Critical error in <Flask 'shop'>: ValueError")


def test_queries_in_captured_urls_are_redacted(observe: Observe) -> None:
    observed = observe(capture_request_headers=("referer",), capture_response_headers=("location",))
    observed.app.add_url_rule("/", view_func=lambda: ("", 302, {"Location": "/next?access_token=s1&page=2"}))
    observed.client().get("/", headers={"Referer": "https://a.example/?token=s2&b=1"})
    attributes = observed.server_span.attributes
    assert attributes["http.request.header.referer"] == ("https://a.example/?token=REDACTED&b=1",)
    assert attributes["http.response.header.location"] == ("/next?access_token=REDACTED&page=2",)


def test_flush_hands_over_the_spans_that_are_queued(observe: Callable[..., Observed]) -> None:
    observed = observe()
    exporter = InMemorySpanExporter()
    observed.provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=600_000))
    observed.client().get("/")
    assert exporter.get_finished_spans() == ()
    observed.observability.flush()
    assert [span.name for span in exporter.get_finished_spans()] == ["GET"]


def test_flush_of_an_app_that_is_observed_by_another_object_works_too(observed: Observed) -> None:
    flushed: list[str] = []
    observed.pipeline.sinks[0].flush = lambda: flushed.append("spans")
    Observability(observed.app).flush()
    assert flushed == ["spans"]


@pytest.mark.parametrize("registry", [5, object(), "REGISTRY"])
def test_a_registry_that_is_none_is_refused(registry: object) -> None:
    with pytest.raises(ConfigurationError, match="has no register"):
        Observability(registry=registry)  # type: ignore[arg-type]
