"""Gunicorn's own log in a real gunicorn: the master's lines and the workers', with the app's."""

from __future__ import annotations

import json
from typing import Any
from typing import TYPE_CHECKING

import pytest

from .real.programs import eventually
from .real.served import serving

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("gunicorn")

LOGGER = ("--logger-class", "flask_signal_observability.gunicorn.Logger")


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_error_and_the_access_log_are_records(tmp_path: Path) -> None:
    access = tmp_path / "access.json"
    options = (*LOGGER, "--access-logfile", str(access), "--name", "shop-web")
    with serving(directory=tmp_path, options=options) as server:
        server.send("/json?token=x", headers={"X-Request-ID": "abc", "User-Agent": "curl/8"})
        eventually(lambda: "/json" in access.read_text(), timeout=10, what="the access log")
        server.stop()
        told = records(server.output)
    events = [record["event"].partition(":")[0] for record in told]
    assert events[0].startswith("Starting gunicorn")
    assert {"Listening at", "Booting worker with pid", "Shutting down"} <= set(events)
    assert {(record["service"], record["logger"]) for record in told} == {("shop-web", "gunicorn.error")}
    (request,) = [record for record in records(access.read_text()) if record["url.path"] == "/json"]
    assert request["duration_seconds"] > 0
    assert {**request, "timestamp": "", "duration_seconds": 0} == {
        "timestamp": "",
        "level": "info",
        "event": "request_served",
        "service": "shop-web",
        "logger": "gunicorn.access",
        "request_id": "abc",
        "http.request.method": "GET",
        "url.path": "/json",
        "http.response.status_code": 200,
        "client.address": "127.0.0.1",
        "user_agent.original": "curl/8",
        "http.response.body.size": 20,
        "duration_seconds": 0,
    }


@pytest.mark.parametrize(
    ("given", "service"), [({}, "app"), ({"OTEL_SERVICE_NAME": "named"}, "named")], ids=["nothing", "variable"]
)
def test_the_service_is_the_variables_else_the_apps_module(
    tmp_path: Path, given: dict[str, str], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gunicorn.config import Config

    from flask_signal_observability.gunicorn import Logger

    monkeypatch.chdir(tmp_path)
    for key in ("OBSERVABILITY_SERVICE_NAME", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(key, raising=False)
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    config = Config()
    config.set("default_proc_name", "app:create_app()")
    config.set("errorlog", "gunicorn.log")
    server = Logger(config)
    server.error("hello")
    for handler in server.error_log.handlers[:]:
        server.error_log.removeHandler(handler)
        handler.close()
    server.error_log.propagate = True
    assert records((tmp_path / "gunicorn.log").read_text())[0]["service"] == service


def test_there_is_no_access_log_unless_it_is_asked_for(tmp_path: Path) -> None:
    with serving(directory=tmp_path, options=LOGGER) as server:
        server.send("/json")
        server.stop()
        assert "/json" not in server.output


def test_a_setting_that_cannot_work_ends_gunicorn_with_its_name(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="OBSERVABILITY_LOG_FORMAT='xml'"),
        serving(directory=tmp_path, options=LOGGER, env={"OBSERVABILITY_LOG_FORMAT": "xml"}),
    ):
        pass


def test_a_logging_configuration_of_ones_own_stays_as_it_is() -> None:
    import logging

    from gunicorn.config import Config

    from flask_signal_observability.gunicorn import Logger

    config = Config()
    config.set("logconfig_dict", {"version": 1})
    names = ("gunicorn.error", "gunicorn.access")
    before = [(logging.getLogger(name), logging.getLogger(name).handlers[:]) for name in names]
    root = logging.getLogger().handlers[:]
    try:
        server = Logger(config)
        assert {type(handler.formatter) for handler in server.error_log.handlers} == {logging.Formatter}
    finally:
        logging.getLogger().handlers[:] = root
        for logger, handlers in before:
            logger.handlers[:], logger.propagate = handlers, True


def test_the_logger_needs_neither_flask_nor_the_sdk_in_the_master() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from flask_signal_observability.gunicorn import Logger; "
        "print([n for n in ('flask', 'blinker', 'prometheus_client', 'opentelemetry.sdk') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
