"""A short job pushes once, when it ends; a Prometheus that has got it shows it in the same dashboards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from ..prometheus_names import series_of
from .client import answers
from .client import send
from .dashboard_queries import queries
from .dashboard_queries import substituted
from .dashboard_queries import variables
from .otlp_receiver import receiving
from .programs import executable
from .programs import free_port
from .programs import running
from .prometheus import REMEDY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..prometheus_names import Series
    from .dashboard_queries import Query

pytestmark = pytest.mark.real

COUNT = "http_server_request_duration_seconds_count"

JOB = """
from flask import Flask, flash, render_template_string
from flask_signal_observability import Observability
app = Flask("nightly")
app.secret_key = "of these tests only"
Observability(app)

@app.get("/bill/<int:customer>")
def bill(customer):
    flash("sent", "success")
    return render_template_string("{{ share }}", share=1 / (customer - 3))

@app.cli.command("bills")
def bills():
    for customer in range(6):
        app.test_client().get(f"/bill/{customer}")
"""

BOARDS = ("fso-overview", "fso-route", "fso-errors")


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, float]]:
    """A Prometheus that holds what one short job has pushed, and when that was."""
    directory = tmp_path_factory.mktemp("job")
    (directory / "job.py").write_text(JOB)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSERVABILITY_"))}
    with receiving() as receiver:
        command = [sys.executable, "-m", "flask", "--app", "job", "bills"]
        env = {**clean, "OBSERVABILITY_METRICS_PUSH": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        subprocess.run(command, check=True, cwd=directory, timeout=60, env=env, capture_output=True)
        series = series_of(receiver.pushes)
    (directory / "pushed.txt").write_text(openmetrics(series))
    promtool, prometheus = (executable(name, remedy=REMEDY) for name in ("promtool", "prometheus"))
    import_ = [promtool, "tsdb", "create-blocks-from", "openmetrics", "pushed.txt", "data"]
    subprocess.run(import_, check=True, cwd=directory, timeout=60, capture_output=True)
    (directory / "prometheus.yml").write_text("{}")
    port = free_port()
    start: list[str | Path] = [prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    start.append(f"--web.listen-address=127.0.0.1:{port}")
    with running(start, name="prometheus", directory=directory, ready=lambda: answers(port, "/-/ready")):
        yield port, max(unix_ns for each in series.values() for unix_ns in each.samples) / 1e9


def openmetrics(found: dict[frozenset[tuple[str, str]], Series]) -> str:
    lines = []
    for key, series in sorted(found.items(), key=lambda item: (dict(item[0])["__name__"], sorted(item[0]))):
        labels = dict(key)
        name = labels.pop("__name__")
        text = ",".join(f"{label}={json.dumps(value)}" for label, value in labels.items())
        lines += [f"{name}{{{text}}} {value} {unix_ns / 1e9:.3f}" for unix_ns, value in sorted(series.samples.items())]
    return "\n".join([*lines, "# EOF\n"])


def asked(night: tuple[int, float], promql: str) -> list[float]:
    port, ended = night
    answer = send(port, f"/api/v1/query?{urlencode({'query': promql, 'time': ended + 0.001})}")
    assert answer.status == 200, answer.text
    return [float(each["value"][1]) for each in json.loads(answer.body)["data"]["result"]]


def test_prometheus_sees_the_increase_of_a_job_that_pushed_once(night: tuple[int, float]) -> None:
    (requests,) = asked(night, f'sum(increase({COUNT}{{job="nightly"}}[1h]))')
    assert requests > 0
    assert asked(night, f'sum({COUNT}{{job="nightly"}})') == [6]


QUERIES = [
    query
    for query in queries()
    if query.where.startswith(BOARDS) and not re.search(r"offset|\w:\w", query.expr)  # recorded, or before the job
]


def test_there_are_queries_to_be_asked() -> None:
    assert len(QUERIES) > 40


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_a_dashboard_shows_a_job_that_pushed_once(night: tuple[int, float], query: Query) -> None:
    chosen = {variable.name: variable.all_value for variable in variables()}
    assert asked(night, substituted(query.expr, chosen)), query.expr
