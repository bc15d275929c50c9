"""Other ways to serve: which of them have workers that share, and which have nobody to share with."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .client import answers
from .client import send
from .programs import eventually
from .programs import free_port
from .programs import running
from .programs import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.real

WORKERS = 3
REQUESTS = 30

APP = """
import os
from flask import Flask
from flask_signal_observability import Observability
app = Flask("shop")
app.add_url_rule("/", "home", lambda: str(os.getpid()))
Observability(app, metrics_access="open", tracing=False, logs=False, audit=False)
"""


def serve(directory: Path, port: int, *command: str) -> Iterator[None]:
    (directory / "application.py").write_text(APP)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OBSERVABILITY_", "OTEL_"))}
    environment = inherited | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(directory), *filter(None, sys.path)]),
        "XDG_RUNTIME_DIR": str(directory),
    }
    return running(
        command, name="server", directory=directory, ready=lambda: answers(port, "/metrics"), env=environment
    )


def value(port: int, name: str) -> float:
    text = send(port, "/metrics").body.decode()
    return sum(float(number) for number in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def pids_that_answer(port: int) -> set[bytes]:
    return {send(port, "/").body for _ in range(REQUESTS)}


@pytest.mark.parametrize("options", [(), ("--lazy-apps",), ("--py-call-osafterfork",)], ids=" ".join)
def test_uwsgi(tmp_path: Path, options: tuple[str, ...]) -> None:
    uwsgi = Path(sys.executable).with_name("uwsgi")
    program = str(uwsgi) if uwsgi.exists() else shutil.which("uwsgi")
    if program is None:
        pytest.skip("uwsgi is not installed")
    port = free_port()
    command = [
        *(program, "--http-socket", f"127.0.0.1:{port}", "--master", "--processes", str(WORKERS), "--die-on-term"),
        *("--wsgi-file", str(tmp_path / "application.py"), "--callable", "app", "--need-app", *options),
    ]
    with serve(tmp_path, port, *command):
        eventually(lambda: value(port, "observability_workers") == WORKERS, timeout=30, what="the workers")
        pids_that_answer(port)
        assert value(port, "http_server_request_duration_seconds_count") == REQUESTS
        assert value(port, "observability_worker_starts_total") == WORKERS


def test_flask_run_with_its_reloader(tmp_path: Path) -> None:
    port = free_port()
    command = (sys.executable, "-m", "flask", "--app", "application", "run", "--port", str(port), "--reload")
    with serve(tmp_path, port, *command):
        assert len(pids_that_answer(port)) == 1
        assert value(port, "http_server_request_duration_seconds_count") == REQUESTS
        assert value(port, "observability_workers") == value(port, "observability_worker_starts_total") == 1
    assert list(tmp_path.glob("flask_signal_observability-*")) == []


def test_waitress(tmp_path: Path) -> None:
    if importlib.util.find_spec("waitress") is None:
        unavailable_here = "waitress is not installed"
        pytest.skip(unavailable_here)
    port = free_port()
    with serve(tmp_path, port, sys.executable, "-m", "waitress", f"--listen=127.0.0.1:{port}", "application:app"):
        assert len(pids_that_answer(port)) == 1
        assert value(port, "http_server_request_duration_seconds_count") == REQUESTS
        assert value(port, "observability_workers") == 1
    assert list(tmp_path.glob("flask_signal_observability-*")) == []


def test_gunicorn_that_reloads(tmp_path: Path) -> None:
    if importlib.util.find_spec("gunicorn") is None:
        unavailable("gunicorn is not installed")
    port = free_port()
    command = (sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "--reload", "application:app")
    with serve(tmp_path, port, *command):
        eventually(lambda: value(port, "observability_workers") == 2, timeout=30, what="the workers")
        before = pids_that_answer(port)
        (tmp_path / "application.py").write_text(APP + "# changed\n")
        eventually(lambda: value(port, "observability_worker_starts_total") == 4, timeout=30, what="new workers")
        eventually(lambda: value(port, "observability_workers") == 2, timeout=30, what="the old ones to end")
        counted = value(port, "http_server_request_duration_seconds_count")
        assert counted == REQUESTS
        assert pids_that_answer(port).isdisjoint(before)
