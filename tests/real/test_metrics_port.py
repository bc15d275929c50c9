"""A metrics port apart from the workers: a gunicorn whose workers are all busy still answers a scrape."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from .client import send
from .programs import eventually
from .programs import free_port
from .served import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .client import Answer
    from .served import Served

pytestmark = pytest.mark.real

HOOKS = ("--config", "python:flask_signal_observability.gunicorn")
WORKERS = 2
REQUESTS = 6
OF_A_MOMENT = re.compile(r"process_|python_gc_|#")


@contextlib.contextmanager
def port_served(directory: Path, settings: str, *options: str, **env: str) -> Iterator[Served]:
    """Serve the app by workers that take one request at a time."""
    with serving(
        f"port_app:create_app({settings})",
        directory=directory,
        workers=WORKERS,
        threads=1,
        env=env,
        options=("--worker-class", "sync", *HOOKS, *options),
    ) as server:
        yield server


def lines(answer: Answer) -> set[str]:
    return {line for line in answer.text.split("\n") if not OF_A_MOMENT.match(line)}


def names(answer: Answer) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", answer.text, re.MULTILINE))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def every_worker_held(server: Served) -> Iterator[None]:
    clients = [threading.Thread(target=server.send, args=("/held",)) for _ in range(WORKERS)]
    for client in clients:
        client.start()
    try:
        eventually(lambda: len(list(server.directory.glob("held-*"))) == WORKERS, timeout=10, what="busy workers")
        yield
    finally:
        (server.directory / "release").touch()
        for client in clients:
            client.join()


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["forked", "preloaded"])
def test_the_port_answers_for_workers_that_are_all_busy_and_is_gone_with_the_master(
    preload: tuple[str, ...], tmp_path: Path
) -> None:
    port = free_port()
    with port_served(tmp_path, f"metrics_port={port}", *preload, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) as server:
        eventually(lambda: listens(port), timeout=10, what="the metrics port")
        for _ in range(REQUESTS):
            server.send("/")
        answer = server.send("/metrics")
        assert lines(send(port, "/")) == lines(answer)
        assert "sold_total 6.0" in lines(answer)
        assert names(send(port, "/")) == names(answer)
        with every_worker_held(server):
            told = lines(send(port, "/"))
            assert "observability_workers 2.0" in told
            active = 'http_server_active_requests{flask_app="shop",http_request_method="GET",url_scheme="http"} 2.0'
            assert active in told
            assert [line[-4:] for line in told if "duration_seconds_count" in line and 'http_route="/"' in line] == [
                " 6.0"
            ]
    assert not listens(port)
    assert "metrics_port" not in server.output


def test_a_port_that_is_taken_is_one_warning_and_had_as_soon_as_it_is_free(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        options = "metrics_access='token:s3cret'"
        with port_served(tmp_path, options, "--workers=1", OBSERVABILITY_METRICS_PORT=str(port)) as server:
            warning = f"metrics_port {port} could not be opened"
            eventually(lambda: warning in server.output, timeout=10, what="the warning")
            taken.close()
            eventually(lambda: listens(port), timeout=10, what="the metrics port")
            assert server.output.count(warning) == 1
            assert send(port, "/").status == 401
            assert send(port, "/", headers={"Authorization": "Bearer s3cret"}).status == 200


def test_a_reload_and_a_killed_master_leave_nothing_behind(tmp_path: Path) -> None:
    port = free_port()
    pidfile = tmp_path / "pid"
    with port_served(tmp_path, f"metrics_port={port}", "--workers=1", "--pid", str(pidfile)) as server:
        eventually(lambda: listens(port), timeout=10, what="the metrics port")
        server.send("/")
        master = int(pidfile.read_text())
        os.kill(master, signal.SIGHUP)
        started = "observability_worker_starts_total 2.0"
        eventually(lambda: started in send(port, "/").text, timeout=15, what="the new workers")
        assert 'http_route="/",' in send(port, "/").text
        os.kill(master, signal.SIGKILL)
        eventually(lambda: not listens(port), timeout=10, what="the end of the metrics port")
