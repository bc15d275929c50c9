"""Metrics that are pushed: from gunicorn's workers, through a collector, into a Prometheus."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ..prometheus_names import series_of
from .client import answers
from .client import send
from .collector import collecting
from .programs import eventually
from .programs import free_port
from .programs import running
from .programs import unavailable
from .served import serving

if TYPE_CHECKING:
    from ..prometheus_names import Series
    from .otlp_receiver import OtlpReceiver
    from .served import Served

pytestmark = pytest.mark.real

ONLY_AT_THE_END = {"OTEL_METRIC_EXPORT_INTERVAL": "600000", "OTEL_TRACES_EXPORTER": "none"}
COUNT = "http_server_request_duration_seconds_count"
REQUESTS = 24


def pushing_to(endpoint: str, **env: str) -> dict[str, str]:
    return {"OBSERVABILITY_METRICS_PUSH": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **ONLY_AT_THE_END, **env}


def of_name(name: str, pushes: list[Any]) -> dict[str, list[Series]]:
    """The series of one name, by their ``instance``."""
    found: dict[str, list[Series]] = {}
    for key, series in series_of(pushes).items():
        labels = dict(key)
        if labels["__name__"] == name:
            found.setdefault(labels["instance"], []).append(series)
    return found


def counted(pushes: list[Any]) -> float:
    return sum(series.last for each in of_name(COUNT, pushes).values() for series in each)


@pytest.mark.parametrize(("worker_class", "preload"), [("gthread", ("--preload",)), ("gevent", ())])
def test_each_worker_pushes_its_own_part_however_it_ends(
    worker_class: str, preload: tuple[str, ...], tmp_path: Path, otlp_receiver: OtlpReceiver
) -> None:
    if worker_class == "gevent":
        pytest.importorskip("gevent")
    options = ("--worker-class", worker_class, "--max-requests=10", *preload)
    env = pushing_to(otlp_receiver.endpoint, OTEL_RESOURCE_ATTRIBUTES="service.instance.id=pod-1")
    threads = 4 if worker_class == "gthread" else 1
    with serving(directory=tmp_path, workers=2, threads=threads, env=env, options=options) as server:
        for _ in range(REQUESTS):
            eventually(lambda: answered(server), timeout=10, what="an answer")
        server.stop()
    assert counted(otlp_receiver.pushes) == REQUESTS
    instances = of_name("flask_app_info", otlp_receiver.pushes)
    # gevent's workers look once a second whether they are to be recycled.
    assert len(instances) >= (2 if worker_class == "gevent" else 3)
    assert len(instances) == len(otlp_receiver.pushes), "one push a worker, and none of the master"
    assert all(instance.startswith("pod-1.") for instance in instances)
    active = of_name("http_server_active_requests", otlp_receiver.pushes)
    assert {series.last for each in active.values() for series in each} == {0}


def answered(server: Served) -> bool:
    with contextlib.suppress(ConnectionError):
        return server.send("/json").status == 200
    return False


def test_workers_that_uwsgi_forks_behind_pythons_back_push_and_its_master_does_not(
    tmp_path: Path, otlp_receiver: OtlpReceiver
) -> None:
    program = Path(sys.executable).with_name("uwsgi")
    if not program.exists():
        unavailable("uwsgi is not installed")
    port = free_port()
    env = {**os.environ, **pushing_to(otlp_receiver.endpoint, OTEL_METRIC_EXPORT_INTERVAL="300")}
    env["XDG_RUNTIME_DIR"] = str(tmp_path)
    command = [
        *(program, "--http-socket", f"127.0.0.1:{port}", "--master", "--processes", "2", "--enable-threads"),
        *("--die-on-term", "--wsgi-file", "application.py", "--callable", "app"),
    ]
    (tmp_path / "application.py").write_text("from tests.real.app import create_app\n\napp = create_app()\n")
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    ready = partial(answers, port, "/metrics")
    with running(command, name="uwsgi", directory=tmp_path, ready=ready, env=env):
        for _ in range(REQUESTS):
            send(port, "/json")
        eventually(lambda: counted(otlp_receiver.pushes) == REQUESTS, timeout=10, what="all requests")
        workers = of_name("observability_workers", otlp_receiver.pushes)
    assert [series.last for each in workers.values() for series in each] == [1, 1]


def test_the_hook_of_gunicorn_pushes_once_and_after_the_spans(tmp_path: Path, otlp_receiver: OtlpReceiver) -> None:
    env = pushing_to(otlp_receiver.endpoint, OTEL_TRACES_EXPORTER="otlp", OTEL_BSP_SCHEDULE_DELAY="600000")
    options = ("--config", "python:flask_signal_observability.gunicorn")
    with serving(directory=tmp_path, env=env, options=options) as server:
        server.send("/json")
        server.stop()
    (push,) = otlp_receiver.pushes
    assert counted([push]) == 1
    ((delivered,),) = of_name("otel_sdk_exporter_span_exported_total", [push]).values()
    assert delivered.last == len(otlp_receiver.spans) == 1


def test_a_collector_that_is_down_holds_up_no_request_and_the_end_of_no_worker(tmp_path: Path) -> None:
    env = pushing_to(
        f"http://127.0.0.1:{free_port()}",
        OTEL_METRIC_EXPORT_INTERVAL="200",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
        OBSERVABILITY_FLUSH_TIMEOUT_SECONDS="2",
    )
    with serving(directory=tmp_path, env=env) as server:
        lost = 'observability_dropped_total{reason="export",sink="metrics"}'
        eventually(lambda: lost in server.send("/metrics").text, timeout=15, what=lost)
        assert server.send("/json").status == 200
        server.stop()
    assert server.output.count("the metrics could not be pushed") <= 1


def test_what_goes_through_a_collector_is_what_a_scrape_tells(tmp_path: Path, otlp_receiver: OtlpReceiver) -> None:
    paths = ("/json", "/error", "/flashed", "/page/1", "/nowhere", "/dashboard?user=alice")
    (tmp_path / "collector").mkdir()
    (tmp_path / "app").mkdir()
    with collecting(tmp_path / "collector", forward_to=otlp_receiver.endpoint) as collector:
        env = pushing_to(collector.endpoint, OBSERVABILITY_METRICS_SHARED="off", OTEL_TRACES_EXPORTER="otlp")
        with serving(directory=tmp_path / "app", env=env) as server:
            for path in paths:
                server.send(path)
            scraped = eventually(lambda: scrape_of(server, len(paths)), timeout=10, what="a scrape of all requests")
            server.stop()
        otlp_receiver.wait_for_pushes(1)
    pushed = series_of(otlp_receiver.pushes)
    values = {key - {("job", "shop"), instance_of(key)}: series.last for key, series in pushed.items()}
    assert {key: values[key] for key in scraped} == pytest.approx(scraped)
    assert all(GOES_ON.match(dict(key)["__name__"]) for key in values.keys() - scraped.keys())
    traces = {exemplar.trace_id.hex() for series in pushed.values() for exemplar in series.exemplars}
    assert {span.trace_id for span in otlp_receiver.spans} >= traces != set()


GOES_ON = re.compile("process_|python_gc_|otel_sdk_")
"""What counts on after the last request."""


def scrape_of(server: Served, requests: int) -> dict[frozenset[tuple[str, str]], float]:
    """What a scrape tells as Prometheus keeps it, where it tells of so many requests."""
    scraped = {
        frozenset({"__name__": sample.name, **{k: v for k, v in sample.labels.items() if v}}.items()): sample.value
        for family in text_string_to_metric_families(server.send("/metrics").text)
        for sample in family.samples
        if not GOES_ON.match(sample.name)
    }
    return scraped if sum(v for key, v in scraped.items() if ("__name__", COUNT) in key) == requests else {}


def instance_of(key: frozenset[tuple[str, str]]) -> tuple[str, str]:
    return next(pair for pair in key if pair[0] == "instance")
