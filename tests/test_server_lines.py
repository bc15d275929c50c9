"""What the servers' own lines hold of a request, from a real Werkzeug and a real gunicorn."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from http.client import HTTPException
from threading import Thread
from typing import Any
from typing import TYPE_CHECKING

import pytest
import structlog
from flask import Flask
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from werkzeug.serving import make_server

from flask_signal_observability import configure_logging
from flask_signal_observability.redaction import Redaction
from flask_signal_observability.server_lines import masked_queries
from flask_signal_observability.server_lines import unstyled

from .real.client import send
from .real.programs import eventually
from .real.served import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

CANARY = "canary-4711"
BROKEN = """
from flask import Flask
from flask_signal_observability import Observability

app = Flask("shop")
Observability(app)


@app.get("/broken")
def broken():
    yield "half"
    raise LookupError("half-way")
"""
QUERY = f"password={CANARY}&code=abc"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What configure_logging may write to; what it changes is put back."""
    loggers = [logging.getLogger(), logging.getLogger("werkzeug")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield io.StringIO()
    for handler in loggers[0].handlers:
        if handler not in before[0][1]:
            handler.close()
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def werkzeugs_line(stream: io.StringIO, path: str, *, capture_query: bool, form: str = "json") -> str:
    app = Flask("shop")
    app.config["OBSERVABILITY_CAPTURE_QUERY"] = capture_query
    server = make_server("127.0.0.1", 0, app, threaded=False)
    configure_logging(app, stream=stream, format=form)
    serving_one = Thread(target=server.handle_request)
    serving_one.start()
    send(server.server_port, path)
    serving_one.join(10)
    server.server_close()
    (line,) = stream.getvalue().splitlines()
    return line


def test_a_line_of_werkzeugs_is_without_query_and_colours(stream: io.StringIO) -> None:
    record = json.loads(werkzeugs_line(stream, f"/missing?{QUERY}", capture_query=False))
    assert record["event"].endswith('] "GET /missing HTTP/1.1" 404 -')
    assert "\x1b" not in record["event"]


def test_a_line_of_werkzeugs_has_its_query_masked_where_queries_are_captured(stream: io.StringIO) -> None:
    record = json.loads(werkzeugs_line(stream, f"/missing?a=%E2%80%83&{QUERY}", capture_query=True))
    assert '"GET /missing?a=' in record["event"]
    assert record["event"].endswith('&password=REDACTED&code=abc HTTP/1.1" 404 -')


def test_werkzeugs_colours_are_not_escaped_on_a_console(stream: io.StringIO) -> None:
    line = werkzeugs_line(stream, f"/missing?{QUERY}", capture_query=False, form="console")
    assert '"GET /missing HTTP/1.1" 404 -' in line
    assert "x1b" not in line


@pytest.mark.parametrize(
    "options", [(), ("--logger-class", "flask_signal_observability.gunicorn.Logger")], ids=["configured", "logger"]
)
def test_gunicorns_line_about_an_error_is_without_query(tmp_path: Path, options: tuple[str, ...]) -> None:
    app = "log_app:create_app()" if not options else "app:create_app()"
    with serving(app, directory=tmp_path, options=("-c", str(break_the_server(tmp_path)), *options)) as server:
        server.send(f"/json?{QUERY}")
        written: Callable[[], str] = lambda: server.output + "".join(map(json.dumps, server.records))  # noqa: E731
        eventually(lambda: "Error handling request" in written(), timeout=10, what="the line")
        server.stop()
        assert "Error handling request GET /json" in written()
        assert CANARY not in written()


@pytest.mark.parametrize(
    ("path", "options"),
    [("/broken", ()), ("/asleep", ("--worker-class", "sync", "--threads", "1", "--timeout", "1"))],
)
def test_gunicorns_line_about_an_error_that_was_told_has_the_ids_and_no_traceback(
    tmp_path: Path, path: str, options: tuple[str, ...]
) -> None:
    hooks = ("-c", "python:flask_signal_observability.gunicorn")
    with serving("log_app:create_app()", directory=tmp_path, options=(*hooks, *options)) as server:
        with contextlib.suppress(OSError, HTTPException):
            server.send(path)
        eventually(lambda: any(of_gunicorn(server.records)), timeout=10, what="gunicorn's line")
        server.stop()
    (line,) = of_gunicorn(server.records)
    (told,) = [record for record in server.records if record["event"] == "exception"]
    assert told["exception.type"] == line["exception.type"]
    assert "exception" not in line
    ids = ("service", "request_id", "trace_id", "span_id")
    assert [line[key] for key in ids] == [told[key] for key in ids]


def of_gunicorn(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["event"].startswith("Error handling request")]


def test_gunicorns_own_stream_has_the_traceback_and_the_ids(tmp_path: Path) -> None:
    options = ("--logger-class", "flask_signal_observability.gunicorn.Logger")
    (tmp_path / "broken.py").write_text(BROKEN)
    with serving("broken:app", directory=tmp_path, options=options) as server:
        with contextlib.suppress(OSError, HTTPException):
            server.send("/broken")
        server.stop()
        (line,) = of_gunicorn([json.loads(line) for line in server.output.splitlines()])
    (told,) = [record for record in server.records if record["event"] == "exception"]
    assert line["exception"][0]["exc_type"] == "LookupError"
    assert line["request_id"] == told["request_id"]


def break_the_server(directory: Path) -> Path:
    """Return a configuration of gunicorn's whose hook fails before the app is called."""
    path = directory / "hooks.py"
    path.write_text("def pre_request(worker, request):\n    if 'metrics' not in request.path: raise LookupError\n")
    return path


@settings(max_examples=30)
@given(st.text(alphabet=st.characters(exclude_characters=" \t\r\n")), st.text())
def test_nothing_of_a_query_is_left_behind_its_mark(before: str, after: str) -> None:
    assert "=secret" not in masked_queries(f'"GET /{before}?a=secret{before} HTTP/1.1" {after}', None)


def test_a_question_stays() -> None:
    questions: list[Any] = ["who asks? nobody", "who?"]
    assert [masked_queries(text, each) for text in questions for each in (None, Redaction())] == [
        *(2 * [questions[0]]),
        *(2 * [questions[1]]),
    ]


def test_what_is_no_colour_stays() -> None:
    assert unstyled("a\x1b[1;31mb\x1b[0m \x1b]0;title\x07") == "ab \x1b]0;title\x07"
