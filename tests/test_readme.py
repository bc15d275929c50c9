from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flask_signal_observability import Config
from flask_signal_observability.catalogue import METRICS

README = (Path(__file__).parent.parent / "README.md").read_text()

DRIVE = """
app.logger.disabled = True
client = app.test_client()
client.get("/orders/7")
client.get("/orders/13")
print(client.get("/metrics").text)
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the README's first program prints when it is used as the README says, and where it ran."""
    directory = tmp_path_factory.mktemp("readme")
    (program,) = re.findall(r"```python\n(from flask import.*?)```", README, re.DOTALL)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSERVABILITY_"))}
    done = subprocess.run(
        [sys.executable, "-c", program + DRIVE],
        capture_output=True,
        text=True,
        check=True,
        cwd=directory,
        env={**environ, "OTEL_TRACES_EXPORTER": "console"},
        timeout=60,
    )
    return done.stdout, directory


def test_the_first_program_leaves_the_metrics_that_the_readme_shows(printed: tuple[str, Path]) -> None:
    shown = re.findall(r"^  ((?:http|flask)_\w+\{.*\} [\d.]+)$", README, re.MULTILINE)
    assert len(shown) == 5
    assert [line for line in shown if line not in printed[0].splitlines()] == []


def test_the_first_program_leaves_the_record_that_the_readme_shows(printed: tuple[str, Path]) -> None:
    (shown,) = re.findall(r'^  (\{"timestamp".*\})$', README, re.MULTILINE)
    keys = re.findall(r'"([\w.]+)":', shown)
    record = next(line for line in printed[0].splitlines() if line.startswith('{"timestamp"'))
    assert re.findall(r'"([\w.]+)":', record) == keys
    for unchanging in ('"http.route":"/orders/<int:number>"', '"http.response.body.size":41', '"level":"info"'):
        assert unchanging in record
        assert unchanging in shown


def test_the_first_program_leaves_the_span_that_the_readme_names(printed: tuple[str, Path]) -> None:
    assert '"name": "GET /orders/<int:number>"' in printed[0]
    assert '"name": "message_flashed"' in printed[0]
    assert '"name": "exception"' in printed[0]


def test_the_first_program_leaves_the_lines_that_the_readme_shows(printed: tuple[str, Path]) -> None:
    shown = [line.split("] ", 1)[1] for line in re.findall(r"^  (\[2026.*)$", README, re.MULTILINE)]
    written = [
        line.split("] ", 1)[1]
        for name in ("access_audit.log", "error_journal.log")
        for line in (printed[1] / name).read_text().splitlines()
    ]
    assert shown == [written[0], written[-1]]


LOGS = """
client = app.test_client()
client.get("/orders/7")
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_the_program_about_logs_leaves_lines_with_the_ids_of_their_request(tmp_path: Path, log_format: str) -> None:
    (program,) = re.findall(r"```python\n(import logging.*?)```", README, re.DOTALL)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSERVABILITY_"))}
    done = subprocess.run(
        [sys.executable, "-c", program + LOGS],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**environ, "OBSERVABILITY_LOG_FORMAT": log_format},
        timeout=60,
    )
    if log_format == "json":
        records = [json.loads(line) for line in done.stdout.splitlines()]
        assert [record.get("logger") for record in records] == ["shop.orders", "shop.stock", "py.warnings", None]
        assert len({(record["request_id"], record["trace_id"], record["service"]) for record in records}) == 1
        return
    written = [line for line in done.stdout.splitlines() if "py.warnings" not in line]
    changing = re.compile(r"^\S+| {6,}\d+\.\d ms|[0-9a-f]{8}$")
    lines = re.findall(r"^10:09:00.*7e981054$", README, re.MULTILINE)
    assert len(written) == 3
    assert [changing.sub("", line) for line in written] == [changing.sub("", line) for line in lines]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the program about an app's own signals leaves."""
    directory = tmp_path_factory.mktemp("watched")
    (program,) = re.findall(r"```python\n(from blinker import.*?)```", README, re.DOTALL)
    drive = """
app.logger.disabled = True
app.test_client().post("/pay")
print(app.test_client().get("/metrics").text, open("access_audit.log").read())
"""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSERVABILITY_"))}
    command = [sys.executable, "-c", program + drive]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=directory, env=environ, timeout=60
    ).stdout


def test_the_program_with_a_signal_leaves_what_the_readme_shows(watched: str) -> None:
    (shown,) = re.findall(r"^`POST /pay` leaves\n\n```text\n(.*?)```", README, re.DOTALL | re.MULTILINE)
    *metrics, record, audit = shown.splitlines()
    assert [line for line in metrics if line not in watched.splitlines()] == []
    assert audit.partition("] ")[2] in watched
    (written,) = re.findall(r'^\{.*"event":"order-paid".*\}$', watched, re.MULTILINE)
    assert re.findall(r'"([\w.]+)":', written) == re.findall(r'"([\w.]+)":', record)
    assert written.endswith('"amount":12.5,"currency":"EUR","card":"REDACTED"}')


def test_every_setting_is_in_the_readme() -> None:
    fields = {field.name for field in dataclasses.fields(Config)}
    assert [name for name in sorted(fields) if f"`{name}`" not in README] == []


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_every_metric_is_in_the_readme_with_its_kind_and_labels(metric: object) -> None:
    (row,) = re.findall(rf"^\| `{metric.name}` \| (\w+).* \| (?:`([\w ]*)`.*)?\|$", README, re.MULTILINE)
    assert row == (metric.kind, " ".join(metric.labels))


TOOL_BELT = """
from flask import Flask
from flask_signal_observability import Observability

app = Flask("shop")
app.logger.disabled = True
Observability(app, audit_requests=True, log_stream="app.log", log_format="json")
app.add_url_rule("/orders/<int:number>", view_func=lambda number: str(1 / (number - 13)))
"""


def test_every_command_of_the_tool_belt_runs(tmp_path: Path) -> None:
    (block,) = re.findall(r"^## Tool belt\n.*?```sh\n(.*?)```", README, re.DOTALL | re.MULTILINE)
    (tmp_path / "shop.py").write_text(TOOL_BELT)
    serve = """
import threading
from click.testing import CliRunner
from flask.cli import cli
from werkzeug.serving import make_server
import json, shlex, sys
from shop import app
server = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
app.test_client().get("/orders/13")
trace = json.loads(open("app.log").readline())["trace_id"]
for command in sys.stdin.read().splitlines():
    arguments = command.replace("localhost:8000", f"127.0.0.1:{server.server_port}").replace("7e981054", trace[:8])
    arguments = shlex.split(arguments.replace(" --follow", ""), comments=True)[1:]
    if "top" in arguments:
        arguments += ["--once", "--interval", "0.1"]
    result = CliRunner().invoke(cli, arguments)
    print(json.dumps([command, result.exit_code, result.output]))
server.shutdown()
"""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "OBSERVABILITY_", "FLASK_"))}
    done = subprocess.run(
        [sys.executable, "-c", serve],
        input=block,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environ,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    ran = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["flask')]
    assert len(ran) == 6
    assert [command for command, exit_code, output in ran if exit_code or not output] == []
    story = ran[2][2]
    assert "ZeroDivisionError" in story
    assert "accessed /orders/13" in story
