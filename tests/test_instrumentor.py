from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import flask
import pytest
from flask import Flask
from flask import Response

from flask_signal_observability import Observability
from flask_signal_observability.instrumentor import FlaskSignalObservabilityInstrumentor

if TYPE_CHECKING:
    from collections.abc import Iterator

FlaskInstrumentor = pytest.importorskip(
    "opentelemetry.instrumentation.flask", reason="needs the extra bench"
).FlaskInstrumentor

COMMAND = Path(sys.executable).parent / "opentelemetry-instrument"


@pytest.fixture
def instrumented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every app made from here on is observed, and writes its records to this file."""
    settings = {
        "LOG_STREAM": str(tmp_path / "log"),
        "LOG_FORMAT": "json",
        "AUDIT_PATH": str(tmp_path / "audit"),
        "ERROR_JOURNAL_PATH": str(tmp_path / "journal"),
    }
    for key, value in settings.items():
        monkeypatch.setenv(f"OBSERVABILITY_{key}", value)
    monkeypatch.setenv("OBSERVABILITY_METRICS_PATH", "/m")
    instrumentor = FlaskSignalObservabilityInstrumentor()
    instrumentor.instrument()
    yield tmp_path / "log"
    instrumentor.uninstrument()


def records(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [record for record in map(json.loads, lines) if record["event"] == "request_finished"]


def shop(name: str) -> Flask:
    app = Flask(name)
    app.logger.disabled = True
    app.get("/orders/<int:number>", endpoint="order")(lambda number: str(1 / number))
    app.get("/stream", endpoint="stream")(lambda: Response(part for part in "abc"))
    return app


def test_the_first_request_is_told_like_any_other(instrumented: Path) -> None:
    client = shop("first").test_client()
    answers = [client.get("/orders/1"), client.get("/orders/1")]
    first, second = records(instrumented)
    assert [answer.text for answer in answers] == ["1.0", "1.0"]
    assert first.keys() == second.keys()
    assert (first["http.route"], first["http.response.status_code"]) == ("/orders/<int:number>", 200)
    assert answers[0].headers["X-Request-ID"] == first["request_id"]


def test_a_first_request_that_fails_or_streams_is_told_too(instrumented: Path) -> None:
    assert shop("failing").test_client().get("/orders/0").status_code == 500
    assert shop("streaming").test_client().get("/stream").text == "abc"
    failed, streamed = records(instrumented)
    assert failed["error.type"] == "ZeroDivisionError"
    assert streamed["http.response.body.size"] == 3


def test_a_first_scrape_is_answered_and_contexts_are_balanced(instrumented: Path) -> None:
    app = shop("scraped")
    client = app.test_client()
    assert "flask_app_info" in client.get("/m").text
    client.get("/orders/1")
    assert 'flask_app_contexts_active{flask_app="scraped"} 0.0' in client.get("/m").text


def test_the_view_and_what_comes_before_it_run_once(instrumented: Path) -> None:
    app, ran = shop("once"), []
    app.before_request(lambda: ran.append("before"))
    app.after_request(lambda response: ran.append("after") or response)
    app.test_client().get("/orders/1")
    assert ran == ["before", "after"]


def test_first_requests_that_come_together_are_all_told_once(instrumented: Path) -> None:
    app, barrier = shop("together"), threading.Barrier(4)

    def visit(_: int) -> int:
        barrier.wait(10)
        return app.test_client().get("/orders/1").status_code

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(visit, range(4))) == [200] * 4
    assert len(records(instrumented)) == 4


def test_an_app_with_an_observability_keeps_it_even_if_a_context_was_pushed_before(instrumented: Path) -> None:
    app = shop("own")
    with app.app_context():
        pass
    Observability(app, logs=False, audit=False, metrics=False)
    mine = app.extensions["observability"]
    assert app.test_client().get("/orders/1").text == "1.0"
    assert app.extensions["observability"] is mine
    assert records(instrumented) == []


def test_an_app_of_opentelemetrys_own_instrumentation_is_left_to_it(
    instrumented: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = shop("theirs")
    FlaskInstrumentor().instrument_app(app)
    client = app.test_client()
    assert [client.get("/orders/1").text for _ in range(2)] == ["1.0", "1.0"]
    assert records(instrumented) == []
    (told,) = [record.getMessage() for record in caplog.records if record.name == "flask_signal_observability"]
    assert "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=flask" in told


def test_a_wrong_setting_costs_no_request(
    instrumented: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OBSERVABILITY_LOG_LEVEL", "LOUD")
    client = shop("wrong").test_client()
    assert [client.get("/orders/1").text for _ in range(2)] == ["1.0", "1.0"]
    assert "LOUD" in caplog.text


def test_no_class_of_flask_is_touched(instrumented: Path) -> None:
    before = flask.Flask, dict(vars(flask.Flask))
    shop("untouched").test_client().get("/orders/1")
    assert (flask.Flask, dict(vars(flask.Flask))) == before


def test_the_command_finds_it() -> None:
    (point,) = [
        point
        for point in metadata.entry_points(group="opentelemetry_instrumentor")
        if point.name == "flask_signal_observability"
    ]
    assert point.load() is FlaskSignalObservabilityInstrumentor


def test_flask_run_under_the_command_is_observed_from_its_first_request(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "app.py").write_text(
        "from flask import Flask\napp = Flask('shop')\napp.get('/orders/<int:n>')(lambda n: {'n': n})\n"
    )
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSERVABILITY_"))}
    environ = {**ours, "OBSERVABILITY_LOG_STREAM": "log", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "flask"}
    command = [str(COMMAND), "--traces_exporter", "none", "flask", "run", "--port", str(free_port)]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        text = answer(f"http://127.0.0.1:{free_port}/orders/7", process)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=10)
    assert json.loads(text) == {"n": 7}, output
    (record,) = records(tmp_path / "log")
    assert record["http.route"] == "/orders/<int:n>"


def answer(url: str, process: subprocess.Popen[str]) -> str:
    until = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return str(response.read().decode())
        except urllib.error.URLError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.05)
