"""Metrics over OTLP: what arrives, under which names, from which process, and what it costs to have nobody there."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from importlib.metadata import EntryPoint
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry
from prometheus_client import Counter
from prometheus_client import Enum
from prometheus_client import Gauge
from prometheus_client import Histogram
from prometheus_client import Info
from prometheus_client import Summary
from prometheus_client.core import CounterMetricFamily
from prometheus_client.core import GaugeHistogramMetricFamily

from flask_signal_observability import ConfigurationError
from flask_signal_observability import exporters
from flask_signal_observability.catalogue import METRICS
from flask_signal_observability.metrics_push.naming import CONVENTIONS
from flask_signal_observability.sinks.families import DERIVED

from .prometheus_names import name_of
from .prometheus_names import series_of
from .real.otlp_receiver import receiving
from .real.otlp_receiver import Reply
from .real.programs import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Observed
    from .real.otlp_receiver import OtlpReceiver

    Observe = Callable[..., Observed]
    Push = Callable[..., Observed]

HEADERS = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with receiving() as started:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{started.endpoint}/v1/metrics")
        yield started


@pytest.fixture
def pushing(observe: Observe, receiver: OtlpReceiver) -> Iterator[Push]:
    """Return the function that observes a shop which pushes; nothing is pushed by itself in a test's time."""
    made: list[Observed] = []

    def make(app: Flask | None = None, **settings: Any) -> Observed:
        made.append(observe(with_views(app or Flask("shop")), metrics_push=True, **settings))
        return made[-1]

    yield make
    for observed in made:
        metrics_of_app(observed).close()  # while there is a receiver


def with_views(app: Flask) -> Flask:
    app.secret_key = "of these tests only"

    @app.get("/orders/<int:number>")
    def order(number: int) -> dict[str, float]:
        return {"share": 1 / (number - 13)}

    return app


def push(observed: Observed) -> None:
    metrics_of_app(observed).push.push()


def metrics_of_app(observed: Observed) -> Any:
    (sink,) = (sink for sink in observed.pipeline.sinks if sink.name == "metrics")
    return sink


def scraped(families: Iterable[Any]) -> dict[frozenset[tuple[str, str]], float]:
    """What is in a registry as Prometheus keeps it: an empty label is none."""
    return {
        frozenset({"__name__": sample.name, **{k: v for k, v in sample.labels.items() if v}}.items()): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def last_values(receiver: OtlpReceiver) -> dict[frozenset[tuple[str, str]], float]:
    """What was pushed, without ``job`` and ``instance``."""
    return {
        frozenset((name, value) for name, value in labels if name not in ("job", "instance")): series.last
        for labels, series in series_of(receiver.pushes).items()
    }


def metrics_of(push: Any) -> dict[str, Any]:
    return {metric.name: metric for metric in push.resource_metrics[0].scope_metrics[0].metrics}


def resource_of(push: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in push.resource_metrics[0].resource.attributes}


# Names


def test_prometheus_gets_the_names_labels_and_values_of_a_scrape(pushing: Push, receiver: OtlpReceiver) -> None:
    observed = pushing()
    for path in ("/orders/7", "/orders/13", "/nowhere"):
        observed.client().get(path)
    count_something_in(observed)
    push(observed)
    assert last_values(receiver) == pytest.approx(scraped(observed.registry.collect()))


def test_every_family_of_the_catalogue_gets_its_name_back(pushing: Push, receiver: OtlpReceiver) -> None:
    observed = pushing()
    observed.client().get("/orders/7")
    count_something_in(observed)
    push(observed)
    assert {name_of(metric) for metric in metrics_of(receiver.pushes[0]).values()} == set(METRICS)


def count_something_in(observed: Observed) -> None:
    families = metrics_of_app(observed).families
    for name in set(METRICS) - DERIVED:
        child = families[name].child(*(f"some {label}" for label in METRICS[name].labels))
        if METRICS[name].buckets:
            child.observe(1_000_000, (time.time_ns(), "a" * 32, "b" * 16))
        else:
            child.inc()


def test_a_metric_of_the_conventions_goes_under_the_conventions_name_unit_and_kind(
    pushing: Push, receiver: OtlpReceiver
) -> None:
    from opentelemetry.semconv._incubating.metrics import http_metrics as incubating
    from opentelemetry.semconv.metrics import http_metrics as stable

    observed = pushing()
    observed.client().get("/orders/7")
    push(observed)
    metrics = metrics_of(receiver.pushes[0])
    assert {metric.name for metric in METRICS.values() if metric.source} == set(CONVENTIONS)
    duration = metrics[stable.HTTP_SERVER_REQUEST_DURATION]
    assert (duration.unit, duration.WhichOneof("data")) == ("s", "histogram")
    active = metrics[incubating.HTTP_SERVER_ACTIVE_REQUESTS]
    assert (active.unit, active.WhichOneof("data"), active.sum.is_monotonic) == ("{request}", "sum", False)
    size = metrics[incubating.HTTP_SERVER_RESPONSE_BODY_SIZE]
    assert (size.unit, size.WhichOneof("data")) == ("By", "histogram")
    attributes = {each.key: each.value for each in duration.histogram.data_points[-1].attributes}
    assert attributes["http.route"].string_value == "/orders/<int:number>"
    assert attributes["http.response.status_code"].int_value == 200
    assert "error.type" not in attributes, "there was none"


def test_metrics_of_the_app_itself_keep_their_names(pushing: Push, receiver: OtlpReceiver) -> None:
    registry = CollectorRegistry()
    Counter("orders_paid", "Paid.", ["currency"], registry=registry).labels("EUR").inc(3)
    Gauge("queue_length", "Waiting.", registry=registry).set(4)
    Gauge("jobs_created", "Not a time.", registry=registry).set(1)
    Histogram("pick_seconds", "Picking.", ["zone"], buckets=(1, 2), registry=registry).labels("a").observe(1.5)
    Summary("lag_seconds", "Behind.", registry=registry).observe(2)
    Info("build", "Of what.", registry=registry).info({"commit": "abc"})
    Enum("light", "It is.", states=["red", "green"], registry=registry).state("red")
    expected = scraped(registry.collect())
    push(pushing(registry=registry))
    found = last_values(receiver)
    assert {key: found.get(key) for key in expected} == expected


def test_an_annotation_that_is_a_label_is_an_attribute(pushing: Push, receiver: OtlpReceiver) -> None:
    from flask_signal_observability import annotate

    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: annotate(tier="gold") or "")
    observed = pushing(app, metric_labels={"tier": ("gold",)})
    observed.client().get("/")
    push(observed)
    duration = metrics_of(receiver.pushes[0])["http.server.request.duration"]
    assert "tier" in {each.key for each in duration.histogram.data_points[-1].attributes}


# Points


def test_an_exemplar_leads_to_its_trace_and_is_sent_once(pushing: Push, receiver: OtlpReceiver) -> None:
    observed = pushing()
    observed.client().get("/orders/7", headers=HEADERS)
    push(observed)
    push(observed)
    first, second = (metrics_of(push)["http.server.request.duration"].histogram for push in receiver.pushes)
    (exemplar,) = first.data_points[-1].exemplars
    assert exemplar.trace_id.hex() == "a" * 32
    assert exemplar.span_id.hex() == format(observed.server_span.context.span_id, "016x")
    point = first.data_points[-1]
    assert exemplar.as_double == pytest.approx(point.sum)
    assert point.start_time_unix_nano <= exemplar.time_unix_nano <= point.time_unix_nano
    assert not second.data_points[-1].exemplars


def test_exemplars_of_the_apps_own_metrics_are_sent(pushing: Push, receiver: OtlpReceiver) -> None:
    registry = CollectorRegistry()
    histogram = Histogram("pick_seconds", "Picking.", buckets=(1, 2), registry=registry)
    observed = pushing(registry=registry)
    histogram.observe(1.5, {"trace_id": "c" * 32, "span_id": "d" * 16, "zone": "a"})
    histogram.observe(0.5, {"order": "7"})
    push(observed)
    of_order, of_trace = metrics_of(receiver.pushes[0])["pick_seconds"].histogram.data_points[-1].exemplars
    assert (of_trace.trace_id.hex(), of_trace.span_id.hex(), of_trace.as_double) == ("c" * 32, "d" * 16, 1.5)
    assert [each.key for each in of_trace.filtered_attributes] == ["zone"]
    assert [each.key for each in of_order.filtered_attributes] == ["order"]
    assert of_order.trace_id == b""


def test_a_series_begins_with_0_so_that_its_first_value_is_an_increase(pushing: Push, receiver: OtlpReceiver) -> None:
    observed = pushing()
    before_ns = time.time_ns()
    observed.client().get("/orders/7")
    push(observed)
    observed.client().get("/orders/7")
    observed.client().get("/nowhere")
    push(observed)
    first, second = (metrics_of(push)["http.server.request.duration"].histogram for push in receiver.pushes)
    zero, one = first.data_points
    assert (zero.count, one.count, zero.time_unix_nano) == (0, 1, zero.start_time_unix_nano)
    assert zero.time_unix_nano < before_ns < one.time_unix_nano
    assert one.start_time_unix_nano == zero.start_time_unix_nano
    two, new_zero, new_one = second.data_points
    assert (two.count, new_zero.count, new_one.count) == (2, 0, 1)
    assert two.start_time_unix_nano == zero.start_time_unix_nano
    assert new_zero.time_unix_nano == one.time_unix_nano, "it was not there at the push before"


def test_what_was_not_counted_here_does_not_begin_with_0(pushing: Push, receiver: OtlpReceiver) -> None:
    class OfTheDatabase:
        def collect(self) -> Iterator[CounterMetricFamily]:
            yield CounterMetricFamily("orders_ever", "Since the shop opened.", value=1_000_000)
            yield GaugeHistogramMetricFamily("sizes", "Not in OTLP.", buckets=[("+Inf", 1)], gsum_value=1)

    registry = CollectorRegistry()
    registry.register(OfTheDatabase())  # type: ignore[arg-type]
    push(pushing(registry=registry))
    metrics = metrics_of(receiver.pushes[0])
    (point,) = metrics["orders_ever_total"].sum.data_points
    assert (point.as_int, point.start_time_unix_nano) == (1_000_000, 0)
    assert "sizes" not in metrics


def test_counters_and_histograms_are_cumulative(pushing: Push, receiver: OtlpReceiver) -> None:
    observed = pushing()
    observed.client().get("/orders/7")
    push(observed)
    metrics = metrics_of(receiver.pushes[0])
    counted = [getattr(metric, metric.WhichOneof("data")) for metric in metrics.values()]
    assert {data.aggregation_temporality for data in counted if hasattr(data, "aggregation_temporality")} == {2}
    assert metrics["flask_signals_total"].sum.is_monotonic
    assert metrics["flask_app_info"].WhichOneof("data") == "gauge"


def test_a_collector_that_fails_takes_no_other_with_it(pushing: Push, receiver: OtlpReceiver) -> None:
    class Broken:
        is_registered = False

        def collect(self) -> Iterator[CounterMetricFamily]:
            if self.is_registered:
                raise LookupError
            return iter(())

    registry, broken = CollectorRegistry(), Broken()
    registry.register(broken)  # type: ignore[arg-type]
    observed = pushing(registry=registry, strict=False)
    broken.is_registered = True
    push(observed)
    broken.is_registered = False
    assert "flask_signals_total" in metrics_of(receiver.pushes[0])
    assert observed.value("observability_errors_total", sink="metrics", stage="collect") == 1


# Who sends


def test_the_resource_is_that_of_the_spans(pushing: Push, receiver: OtlpReceiver) -> None:
    observed = pushing(provider_options={"resource": Resource({"service.name": "till", "k8s.pod.name": "till-1"})})
    push(observed)
    assert {"service.name": "till", "k8s.pod.name": "till-1"}.items() <= resource_of(receiver.pushes[0]).items()


def test_without_spans_the_resource_names_the_service(
    pushing: Push, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=nightly,team=till")
    push(pushing(tracing=False, tracer_provider=None))
    sent = resource_of(receiver.pushes[0])
    assert (sent["service.name"], sent["team"]) == ("shop", "till")
    assert sent["service.instance.id"] == "nightly", "the only process keeps the name that it was given"


def test_a_forked_process_sends_what_it_counts_under_an_id_of_its_own(pushing: Push, receiver: OtlpReceiver) -> None:
    observed = pushing(provider_options={"resource": Resource({"service.instance.id": "nightly"})})
    push(observed)
    child = os.fork()
    if not child:
        try:
            push(observed)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    of_parent, of_child = (resource_of(push)["service.instance.id"] for push in receiver.pushes)
    assert of_parent == "nightly"
    assert of_child.startswith("nightly.")
    assert len(of_child) > len("nightly.")


def test_apps_that_share_a_registry_are_sent_once(pushing: Push, receiver: OtlpReceiver) -> None:
    first = pushing()
    second = pushing(Flask("till"), registry=first.registry)
    assert metrics_of_app(first).push is metrics_of_app(second).push


# When


def test_metrics_are_pushed_at_the_interval_of_the_standard_variable(
    pushing: Push, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    began = time.monotonic()
    pushing()
    receiver.wait_for_pushes(3)
    elapsed = time.monotonic() - began
    assert elapsed > 0.25
    assert len(receiver.pushes) <= elapsed / 0.1 + 1, "and not in a busy loop"


def test_what_is_counted_last_is_pushed_when_the_sinks_are_closed(pushing: Push, receiver: OtlpReceiver) -> None:
    observed = pushing()
    observed.client().get("/orders/7")
    assert receiver.pushes == []
    metrics_of_app(observed).close()
    metrics_of_app(observed).close()
    (push,) = receiver.pushes
    assert "http.server.request.duration" in metrics_of(push)


def test_flush_pushes_at_once_and_the_app_goes_on(pushing: Push, receiver: OtlpReceiver) -> None:
    observed = pushing()
    for number in (1, 2):
        observed.client().get("/orders/7")
        observed.observability.flush()
        assert metrics_of(receiver.pushes[-1])["http.server.request.duration"].histogram.data_points[-1].count == number


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf"])
@pytest.mark.parametrize("variable", ["OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT"])
def test_a_time_that_cannot_be_is_a_configuration_error(
    variable: str, value: str, pushing: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"{variable}='{value}'"):
        pushing()


# Nobody there


def test_a_push_that_fails_is_counted_and_told_once_a_minute(
    pushing: Push, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    observed = pushing()
    receiver.script(Reply(400), Reply(400))
    push(observed)
    push(observed)
    assert observed.value("observability_dropped_total", sink="metrics", reason="export") == 2
    ours = [record for record in caplog.records if record.name == "flask_signal_observability"]
    assert len(ours) == 1
    assert "could not be pushed" in ours[0].getMessage()
    push(observed)
    assert last_values(receiver) != {}, "the next one brings them"


def test_without_its_collector_a_process_ends_within_the_limit_and_its_requests_are_answered(
    observe: Observe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released = threading.Event()
    Hanging.released = released
    monkeypatch.setattr(
        exporters, "entry_points", lambda **_: [EntryPoint("mine", f"{__name__}:Hanging", exporters.METRICS.group)]
    )
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "mine")
    observed = observe(with_views(Flask("shop")), metrics_push=True, flush_timeout_seconds=1)
    began = time.monotonic()
    assert observed.client().get("/orders/7").status_code == 200
    metrics_of_app(observed).close()
    assert 0.9 < time.monotonic() - began < 5
    released.set()
    assert "not delivered within 1 s" in caplog.text
    assert observed.value("observability_dropped_total", sink="metrics", reason="export") == 1


def test_an_exporter_that_breaks_is_kept_by_the_guard(
    observe: Observe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        exporters, "entry_points", lambda **_: [EntryPoint("mine", f"{__name__}:Broken", exporters.METRICS.group)]
    )
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "mine")
    observed = observe(metrics_push=True, strict=False)
    push(observed)
    assert observed.value("observability_errors_total", sink="metrics", stage="push") == 1


def test_a_refused_connection_is_a_push_that_fails(
    observe: Observe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    observed = observe(metrics_push=True)
    push(observed)
    assert observed.value("observability_dropped_total", sink="metrics", reason="export") == 1


class Hanging:
    released = threading.Event()

    def export(self, data: Any, timeout_millis: float) -> None:
        self.released.wait(30)


class Broken:
    def export(self, data: Any, timeout_millis: float) -> None:
        raise TypeError("a mistake")


# Whether at all


@pytest.mark.parametrize("named", ["none", "prometheus", "prometheus,none"])
def test_an_environment_that_names_nothing_to_push_to_is_obeyed(
    named: str, pushing: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", named)
    before = threading.active_count()
    assert metrics_of_app(pushing()).push is None
    assert threading.active_count() == before


def test_a_disabled_sdk_pushes_nothing(pushing: Push, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert metrics_of_app(pushing()).push is None


def test_without_the_extra_one_warning_names_it(
    pushing: Push, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exporters, "entry_points", lambda **_: [])
    assert metrics_of_app(pushing()).push is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert 'it gets no metrics: pip install "flask-signal-observability[otlp]"' in record.getMessage()


def test_where_it_is_off_nothing_of_it_is_imported() -> None:
    program = (
        "import sys; from flask import Flask; from flask_signal_observability import Observability;"
        "Observability(Flask('shop'), audit=False);"
        "print([name for name in sys.modules if 'metrics_push' in name or 'sdk.metrics' in name])"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSERVABILITY_"))}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, env=environ
    )
    assert done.stdout == "[]\n"


JOB = """
from flask import Flask
from prometheus_client import Counter
from flask_signal_observability import Observability
app = Flask("nightly")
Observability(app, logs=False, audit=False)
paid = Counter("orders_paid", "Paid.")

@app.cli.command("charge")
def charge():
    paid.inc(5)
    with app.test_request_context("/charge"):
        app.preprocess_request()
"""


def test_a_short_job_pushes_once_when_it_ends_and_the_spans_delivery_is_in_it(
    tmp_path: Path, receiver: OtlpReceiver
) -> None:
    (tmp_path / "job.py").write_text(JOB + "\n    app.test_client().get('/nothing')\n")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSERVABILITY_"))}
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "job", "charge"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
        env={**clean, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OBSERVABILITY_METRICS_PUSH": "true"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    (push,) = receiver.pushes
    metrics = metrics_of(push)
    assert [point.as_double for point in metrics["orders_paid_total"].sum.data_points] == [0, 5]
    assert metrics["otel.sdk.exporter.span.exported"].sum.data_points[-1].as_int == len(receiver.spans) == 1
    assert resource_of(push)["service.name"] == "nightly"
