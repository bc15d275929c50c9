"""An app that has set up everything itself keeps it: one program, with and without ``Observability``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import io, json, logging, logging.config, sys
import structlog
from flask import Flask
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, Counter, make_wsgi_app, multiprocess
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

own_log, own_structlog = io.StringIO(), io.StringIO()
logging.config.dictConfig({
    "version": 1,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {"own": {"class": "logging.StreamHandler", "stream": own_log, "formatter": "plain"}},
    "root": {"level": "INFO", "handlers": ["own"]},
})
structlog.configure(
    processors=[structlog.processors.KeyValueRenderer()], logger_factory=structlog.PrintLoggerFactory(own_structlog)
)
exporter = InMemorySpanExporter()
provider = TracerProvider(resource=Resource.create({"service.name": "mine"}))
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
coupons = Counter("coupons", "Used.")
apart = CollectorRegistry()
visits = Counter("visits", "Made.", registry=apart)

app = Flask("shop")
app.logger.addHandler(logging.NullHandler())

if sys.argv[1] == "observed":
    from flask_signal_observability import Observability
    Observability(app, log_stream="log", log_format="json", metrics_path="/ours")


@app.get("/<int:number>")
def view(number):
    coupons.inc()
    visits.inc()
    logging.getLogger("shop").info("looked")
    structlog.get_logger().info("looked", number=number)
    with trace.get_tracer("mine").start_as_current_span("work"):
        return str(1 / number)


of_all = CollectorRegistry()
multiprocess.MultiProcessCollector(of_all)
client = Client(DispatcherMiddleware(app, {"/theirs": make_wsgi_app(of_all), "/apart": make_wsgi_app(apart)}))
answers = [client.get("/1"), client.get("/0")]
print(json.dumps({
    "answers": [[answer.status_code, answer.text] for answer in answers],
    "log": own_log.getvalue().splitlines(),
    "structlog": own_structlog.getvalue().splitlines(),
    "spans": [[span.name, span.parent is not None] for span in exporter.get_finished_spans()],
    "service": exporter.get_finished_spans()[0].resource.attributes["service.name"],
    "is_global": trace.get_tracer_provider() is provider,
    "handlers": [len(logging.root.handlers), len(app.logger.handlers), logging.root.level],
    "processors": [type(processor).__name__ for processor in structlog.get_config()["processors"]],
    "theirs": client.get("/theirs").text,
    "apart": client.get("/apart").text,
    "ours": client.get("/ours").text,
}))
"""


def run(directory: Path, mode: str) -> dict[str, Any]:
    shared = directory / mode
    shared.mkdir()
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSERVABILITY_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        capture_output=True,
        text=True,
        check=True,
        cwd=directory,
        env={**environ, "PROMETHEUS_MULTIPROC_DIR": str(shared)},
        timeout=60,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], Path]:
    directory = tmp_path_factory.mktemp("beside")
    return run(directory, "plain"), run(directory, "observed"), directory


Programs = tuple[dict[str, Any], dict[str, Any], "Path"]


@pytest.mark.parametrize(
    "thing", ["answers", "structlog", "processors", "handlers", "is_global", "service", "apart", "theirs"]
)
def test_it_stays_as_it_was(programs: Programs, thing: str) -> None:
    plain, observed, _ = programs
    if thing in ("apart", "theirs"):
        counted = [[line for line in each[thing].splitlines() if "_total" in line] for each in (plain, observed)]
        assert len(counted[0]) >= 1
        assert counted[0] == counted[1]
    else:
        assert observed[thing] == plain[thing]


def test_the_lines_of_its_own_handler_are_the_same_and_none_is_there_twice(programs: Programs) -> None:
    plain, observed, _ = programs
    assert [line for line in observed["log"] if not line.startswith(" ")][:2] == plain["log"][:2]
    assert observed["log"].count("INFO shop looked") == plain["log"].count("INFO shop looked") == 2
    assert sum("Exception on /0" in line for line in observed["log"]) == 1


def test_its_spans_and_ours_go_to_its_exporter_the_one_below_the_other(programs: Programs) -> None:
    plain, observed, _ = programs
    assert plain["spans"] == [["work", False]] * 2
    assert observed["spans"] == [["work", True], ["GET /<int:number>", False]] * 2


def test_our_metrics_tell_of_its_own_too(programs: Programs) -> None:
    ours = programs[1]["ours"]
    assert "coupons_total 2.0" in ours
    assert 'http_server_request_duration_seconds_count{error_type=""' in ours
    assert programs[0]["ours"].startswith("<!doctype html>")


def test_our_records_are_beside_its_lines(programs: Programs) -> None:
    records = [json.loads(line) for line in (programs[2] / "log").read_text().splitlines()]
    assert [record["event"] for record in records] == ["request_finished", "exception", "request_finished"]
