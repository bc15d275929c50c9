from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import Response
from opentelemetry.trace import StatusCode

from flask_signal_observability import gunicorn
from flask_signal_observability import shutdown
from flask_signal_observability import Sink
from flask_signal_observability.metrics_store.group import Group
from flask_signal_observability.metrics_store.places import directory_for
from flask_signal_observability.metrics_store.places import take_away
from flask_signal_observability.metrics_store.workers import Leader

from .real.served import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Observed

ERROR_TYPE = "flask_signal_observability.gunicorn.WorkerTimeout"

NEVER_ENDS = "never ends"


class Worker(SimpleNamespace):
    """What the hooks see of gunicorn's worker."""

    def __init__(self, **changed: Any) -> None:
        super().__init__(**{"pid": os.getpid(), "age": 7, "cfg": SimpleNamespace(timeout=30), "signs": 0, **changed})

    def notify(self) -> None:
        self.signs += 1


@pytest.fixture(autouse=True)
def only_the_apps_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_signal_observability.signals._pipelines", [])


def test_the_hooks_need_neither_flask_nor_the_sdk_in_the_master() -> None:
    program = "import sys, json, flask_signal_observability.gunicorn; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    roots = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "flask_signal_observability" in roots
    assert not roots & {"flask", "blinker", "opentelemetry", "prometheus_client", "structlog", "ssl", "threading"}


def test_gunicorn_takes_the_hooks_from_the_module_and_from_a_file_that_imports_them(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    own = tmp_path / "gunicorn.conf.py"
    own.write_text("from flask_signal_observability.gunicorn import *\nworkers = 3\n")
    program = (
        "import sys\n"
        "from gunicorn.app.wsgiapp import WSGIApplication\n"
        "sys.argv = ['gunicorn', '-c', sys.argv[1], 'app:app']\n"
        "cfg = WSGIApplication().cfg\n"
        "hooks = (cfg.on_exit, cfg.post_worker_init, cfg.pre_fork, cfg.worker_abort, cfg.worker_exit)\n"
        "print(cfg.workers, *(hook.__module__ + '.' + hook.__name__ for hook in hooks))\n"
    )
    for source, workers in (("python:flask_signal_observability.gunicorn", 1), (f"file:{own}", 3)):
        done = subprocess.run(
            [sys.executable, "-c", program, source], capture_output=True, text=True, check=True, timeout=60
        )
        hooks = [f"flask_signal_observability.gunicorn.{name}" for name in gunicorn.__all__ if name != "WorkerTimeout"]
        assert done.stdout.split() == [str(workers), *hooks]


def test_a_worker_that_starts_is_a_record(observed: Observed) -> None:
    gunicorn.post_worker_init(Worker())
    (record,) = observed.records("worker_started")
    assert record["level"] == "info"
    assert record["process.pid"] == os.getpid()
    assert record["gunicorn.worker.age"] == 7
    assert "trace_id" not in record
    assert observed.spans == []


def test_a_worker_that_starts_is_no_record_above_info(observe: Callable[..., Observed]) -> None:
    observed = observe(log_level="WARNING")
    gunicorn.post_worker_init(Worker())
    assert observed.records() == []


def test_a_time_out_gives_a_sign_of_life_and_ends_the_view_that_is_in_the_way(observed: Observed) -> None:
    worker = Worker()

    @observed.app.get("/stuck")
    def stuck() -> str:
        gunicorn.worker_abort(worker)
        return "too late"

    with pytest.raises(SystemExit) as ended:
        observed.client().get("/stuck")
    gunicorn.worker_exit(None, worker)
    assert ended.value.code == 1
    assert worker.signs == 1
    assert observed.record["error.type"] == ERROR_TYPE
    assert "http.response.status_code" not in observed.record
    (exception,) = observed.records("exception")
    assert exception["exception.message"] == "the worker was silent for more than 30 s"
    assert "stuck" in [frame["name"] for frame in exception["exception"][0]["frames"]]
    assert observed.server_span.status.status_code is StatusCode.ERROR
    assert observed.duration_sample.labels["error_type"] == ERROR_TYPE
    assert len(observed.audit_lines) == len(observed.journal_lines) == 1


def test_a_worker_that_is_closing_already_can_still_be_aborted() -> None:
    def closed() -> None:
        raise ValueError("I/O operation on closed file")

    with pytest.raises(gunicorn.WorkerTimeout):
        gunicorn.worker_abort(Worker(notify=closed))


def open_request(observed: Observed, path: str = "/stream") -> Any:
    """Return a body whose request is open, as one in another thread is."""
    observed.app.add_url_rule(path, view_func=lambda: Response(iter([NEVER_ENDS, NEVER_ENDS])))
    body = observed.app.wsgi_app(
        {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
        },
        lambda status, headers, exc_info=None: lambda data: None,
    )
    next(iter(body))
    return body


def test_requests_that_a_worker_leaves_open_end_with_what_ended_the_worker(observed: Observed) -> None:
    body = open_request(observed)
    assert observed.server_spans == []
    try:
        raise gunicorn.WorkerTimeout(30)
    except SystemExit:
        gunicorn.worker_exit(None, Worker())
    assert observed.record["error.type"] == ERROR_TYPE
    assert observed.server_span.attributes is not None
    assert observed.server_span.attributes["error.type"] == ERROR_TYPE
    assert observed.duration_sample.labels["error_type"] == ERROR_TYPE
    assert len(observed.audit_lines) == 1
    body.close()
    assert len(observed.records("request_finished")) == 1


def test_a_worker_that_ends_without_a_reason_ends_its_requests_as_an_exit(observed: Observed) -> None:
    body = open_request(observed)
    gunicorn.worker_exit(None, Worker())
    assert observed.record["error.type"] == "SystemExit"
    body.close()


def test_excluded_requests_stay_unseen_to_the_end(observe: Callable[..., Observed]) -> None:
    observed = observe(exclude=("/quiet",))
    body = open_request(observed, "/quiet")
    gunicorn.worker_exit(None, Worker())
    assert list(body) == [NEVER_ENDS.encode()]
    assert observed.records() == observed.spans == observed.audit_lines == []


def test_the_master_which_calls_worker_exit_for_a_worker_that_is_gone_closes_nothing(observed: Observed) -> None:
    body = open_request(observed)
    gunicorn.worker_exit(None, Worker(pid=os.getpid() + 1))
    assert observed.records("request_finished") == []
    body.close()


def test_every_sink_is_closed_and_one_that_fails_costs_the_others_nothing(observe: Callable[..., Observed]) -> None:
    closed: list[str] = []

    class Own(Sink):
        def __init__(self, name: str) -> None:
            self.name = name

        def finish(self, record: object) -> None:
            pass

        def close(self) -> None:
            closed.append(self.name)
            if closed == ["first"]:
                raise OSError("disk gone")

    observed = observe(sinks=[Own("first"), Own("second")], strict=False)
    gunicorn.worker_exit(None, Worker())
    assert closed == ["first", "second"]
    assert observed.value("observability_errors_total", sink="first", stage="close") == 1


def test_a_provider_of_the_app_is_flushed_and_left_open(observed: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[bool] = []
    monkeypatch.setattr(observed.provider, "force_flush", lambda: flushed.append(True))
    gunicorn.worker_exit(None, Worker())
    assert flushed == [True]
    observed.app.add_url_rule("/", view_func=lambda: "")
    observed.client().get("/")
    assert len(observed.server_spans) == 1


def test_a_shutdown_that_hangs_is_left_behind_at_its_limit_and_asked_only_once() -> None:
    asked = []
    limited = shutdown.BoundedShutdown(lambda: asked.append(True) or time.sleep(30), 0.1)
    began = time.monotonic()
    assert limited() is False
    assert limited() is False
    assert 0.1 <= time.monotonic() - began < 5
    assert asked == [True]


def test_a_shutdown_that_ends_is_not_waited_for_any_longer() -> None:
    assert shutdown.BoundedShutdown(lambda: None, 60)() is True
    assert shutdown.within(60, lambda: None) is True
    assert shutdown.within(0.05, lambda: time.sleep(30)) is False


FORKING = """
import os, sys, threading
from flask_signal_observability.shutdown import BoundedShutdown
limited = BoundedShutdown(lambda: print("closed", flush=True), 10)
if sys.argv[1] == "unseen":  # as a server in C forks: no function of os.register_at_fork runs
    import ctypes
    child = ctypes.CDLL(None).fork()
else:
    child = os.fork()
if child == 0:
    ended = limited()
    os._exit(0 if ended else 1)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
limited()
"""


@pytest.mark.parametrize("fork", ["seen", "unseen"])
def test_a_forked_process_shuts_down_for_itself(fork: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, fork], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["closed", "child 0", "closed"]


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["", "preload"])
def test_a_master_that_ends_takes_away_what_its_workers_shared(tmp_path: Path, options: tuple[str, ...]) -> None:
    pytest.importorskip("gunicorn")
    hooks = ("-c", "python:flask_signal_observability.gunicorn")
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    home = tmp_path / f"flask_signal_observability-{os.geteuid()}"
    with serving(directory=tmp_path, workers=2, options=(*hooks, *options), env=env) as server:
        assert len(list(home.iterdir())) == 1
        server.stop()
    assert list(home.iterdir()) == []


def test_a_master_whose_workers_shared_nothing_ends_as_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    take_away(Leader(os.getpid()))
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_worker_shares_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = directory_for(Leader(os.getpid()))
    group = Group(path)
    member = group.join()
    take_away(Leader(os.getpid()))
    assert Path(path).exists()
    member.close()
    group.close()
    take_away(Leader(os.getpid()))
    assert not Path(path).exists()
