"""What a start imports: rooms of features that are off stay closed. Time is the benchmark's affair."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "flask_signal_observability"

DEPENDENCIES = (
    "import flask, blinker, orjson, prometheus_client.core, structlog\n"
    "import opentelemetry.propagate, opentelemetry.sdk.trace.export\n"
)
IMPORT = f"from {PACKAGE} import Observability\n"
OBSERVE = "import os\napp = flask.Flask('shop')\napp.get('/')(lambda: 'hello')\nObservability(app{settings})\n"
SERVE = (
    "client = app.test_client()\n"
    "assert client.get('/').status_code == 200\n"
    "assert client.get('/missing').status_code == 404\n"
    "assert client.get('/metrics').status_code == 200\n"
)
TELL = "import sys; print(*sys.modules, file=sys.stderr)"

OFF = {
    *("audit.chain", "audit.durability", "audit.json_line", "audit.key", "audit.reading", "audit.rotation"),
    *("audit.verification", "cli", "flask_exporter_names", "instrumentor", "log_config", "metrics_push.push"),
    *("metrics_port.server", "metrics_store.archive", "metrics_store.directory", "metrics_store.group"),
    *(
        "otlp_logs",
        "prerequisites",
        "queue_room",
        "refusal",
        "sinks.sql_comments",
        "span_export",
        "testing",
        "watching",
        "watching.entry",
        "metrics_store.names",
    ),
    *("watching.namespaces", "watching.settings", "watching.watch"),
}
"""Each belongs to a setting, a command or a call, and what none of them names is served without it."""

FOREIGN = {"asyncio", "multiprocessing", "sqlite3", "tempfile", "urllib.request", "unittest", "gunicorn", "requests"}

ON = {
    "audit_chain=True": "audit.chain",
    "audit_durability='each'": "audit.durability",
    "audit_format='json'": "audit.json_line",
    "audit_keep=2, audit_rotate_bytes=4096": "audit.rotation",
    "audit_requests=True, audit_on_error='closed'": "refusal",
    "metric_names='flask_exporter'": "flask_exporter_names",
    "metrics_shared=os.getcwd()": "metrics_store.group",
    "sql_comments=True": "sinks.sql_comments",
    "watch={'flask.signals:request_started': {'log': 'debug'}}": "watching.watch",
}


def modules_of(program: str, directory: Path) -> set[str]:
    """Run a program in a process of its own, and return what it has imported when it ends."""
    given = ("OTEL_", "OBSERVABILITY_")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(given)}
    done = subprocess.run(
        [sys.executable, "-c", program + TELL],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environ,
        cwd=directory,
    )
    return set(done.stderr.split())


def ours(modules: set[str]) -> set[str]:
    return {name.removeprefix(f"{PACKAGE}.") for name in modules if name.startswith(f"{PACKAGE}.")}


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return modules_of(DEPENDENCIES, tmp_path_factory.mktemp("without"))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return modules_of(DEPENDENCIES + IMPORT, tmp_path_factory.mktemp("imported"))


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return modules_of(DEPENDENCIES + IMPORT + OBSERVE.format(settings=""), tmp_path_factory.mktemp("observed"))


def test_the_import_brings_nothing_of_what_is_asked_for_by_name(imported: set[str]) -> None:
    assert not ours(imported) & OFF


def test_an_app_with_the_defaults_brings_nothing_of_what_is_off(observed: set[str]) -> None:
    assert not ours(observed) & OFF


def test_the_import_brings_nothing_that_the_dependencies_do_not(imported: set[str], without: set[str]) -> None:
    assert {name for name in imported - without if not name.startswith(PACKAGE)} <= {"ipaddress"}


def test_nothing_heavy_is_brought_by_an_app(observed: set[str], without: set[str]) -> None:
    assert not (observed - without) & FOREIGN


def test_requests_and_scrapes_import_nothing_of_ours(observed: set[str], tmp_path: Path) -> None:
    served = modules_of(DEPENDENCIES + IMPORT + OBSERVE.format(settings="") + SERVE, tmp_path)
    assert ours(served) == ours(observed)


@pytest.mark.parametrize(("settings", "room"), ON.items(), ids=json.dumps)
def test_what_is_on_is_there_before_the_first_request(settings: str, room: str, tmp_path: Path) -> None:
    assert room in ours(modules_of(DEPENDENCIES + IMPORT + OBSERVE.format(settings=f", {settings}"), tmp_path))
