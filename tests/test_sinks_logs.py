from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import weakref
from contextlib import suppress

import pytest
import structlog
from flask import abort
from flask import flash
from flask import Flask
from flask import render_template_string
from hypothesis import given
from hypothesis import strategies as st

from flask_signal_observability import annotate
from flask_signal_observability.catalogue import ATTRIBUTES
from flask_signal_observability.catalogue import LOG_EVENTS
from flask_signal_observability.config import Config
from flask_signal_observability.record import EventRecord
from flask_signal_observability.record import RequestRecord
from flask_signal_observability.sinks.logs import LogsSink

STARTED_NS = 1_795_342_140_123_456_789
BASE = ["timestamp", "level", "event", "service"]
IDS = {"request_id": "r" * 32, "trace_id": "a" * 32, "span_id": "b" * 16}


class Logs:
    """A sink on a stream in memory."""

    def __init__(self, **config):
        self.stream = io.StringIO()
        self.sink = LogsSink(Config(**{"service_name": "shop", "log_stream": self.stream, **config}))
        self.finish = self.sink.finisher()

    @property
    def records(self):
        return [json.loads(line) for line in self.stream.getvalue().split("\n")[:-1]]

    @property
    def record(self):
        (record,) = self.records
        return record


def request(**known):
    record = RequestRecord(None, "shop", {}, "GET", STARTED_NS, 0, lambda record: None)
    for name, value in {"path": "/items/7", "status": 200, "duration_ns": 1_500_000, **IDS, **known}.items():
        setattr(record, name, value)
    if record.duration_ns is not None:
        record.end(record.duration_ns)
    return record


def test_a_subclass_may_have_a_finish_of_its_own(observe):
    class Fewer(LogsSink):
        def finish(self, record):
            if record.path != "/quiet":
                super().finish(record)

    observed = observe()
    stream = io.StringIO()
    observed.pipeline.wire([Fewer(Config(log_stream=stream))])
    for path in ("/quiet", "/told"):
        observed.client().get(path)
    assert [json.loads(line)["url.path"] for line in stream.getvalue().splitlines()] == ["/told"]


def test_a_sink_that_nobody_has_any_more_needs_no_garbage_collector():
    gone = weakref.ref(Logs().sink)
    assert gone() is None


def caught(error, cause=None):
    try:
        raise error from cause
    except type(error):
        return error


def event(name, **given):
    return EventRecord(name, "shop", given.pop("fields", {}), STARTED_NS, **given)


def exception(error):
    return event("exception", error=error)


def test_a_finished_request_says_all_that_is_known():
    logs = Logs()
    logs.finish(
        request(
            route="/items/<int:id>",
            endpoint="item",
            client_address="203.0.113.7",
            peer_address="10.0.0.1",
            user="alice",
            query="a=1",
            request_size=3,
            response_size=1234,
        )
    )
    assert logs.record == {
        "timestamp": "2026-11-22T10:09:00.124956Z",
        "level": "info",
        "event": "request_finished",
        "service": "shop",
        **IDS,
        "http.request.method": "GET",
        "url.path": "/items/7",
        "url.query": "a=1",
        "http.route": "/items/<int:id>",
        "http.response.status_code": 200,
        "duration_seconds": 0.0015,
        "client.address": "203.0.113.7",
        "network.peer.address": "10.0.0.1",
        "user.id": "alice",
        "flask.endpoint": "item",
        "http.request.body.size": 3,
        "http.response.body.size": 1234,
    }
    assert list(logs.record)[:4] == BASE


def test_what_is_not_known_is_left_out():
    logs = Logs()
    logs.finish(request(status=None, trace_id=None, span_id=None))
    assert list(logs.record) == [*BASE, "request_id", "http.request.method", "url.path", "duration_seconds"]


def test_zero_is_known():
    logs = Logs()
    logs.finish(request(request_size=0, response_size=0, duration_ns=0))
    sizes = {"http.request.body.size": 0, "http.response.body.size": 0, "duration_seconds": 0.0}
    assert sizes.items() <= logs.record.items()


def test_a_made_up_method_is_told_beside_its_stand_in():
    logs = Logs()
    logs.finish(request(method="_OTHER", method_original="BREW"))
    assert logs.record["http.request.method"] == "_OTHER"
    assert logs.record["http.request.method_original"] == "BREW"


def test_a_client_that_left_is_told():
    logs = Logs()
    logs.finish(request(client_disconnected=True))
    assert logs.record["client_disconnected"] is True


@pytest.mark.parametrize(
    ("known", "level"),
    [
        ({"status": 200}, "info"),
        ({"status": 308}, "info"),
        ({"status": 404}, "warning"),
        ({"status": 499}, "warning"),
        ({"status": 500, "error_type": "500"}, "error"),
        ({"status": 503}, "error"),
        ({"status": 200, "error_type": "ValueError"}, "error"),
        ({"status": None, "error_type": "SystemExit"}, "error"),
        ({"status": None}, "info"),
    ],
)
def test_the_level_of_a_request_is_its_outcomes(known, level):
    logs = Logs()
    logs.finish(request(**known))
    assert logs.record["level"] == level


def test_a_request_that_starts_knows_less():
    logs = Logs(log_level="DEBUG")
    logs.sink.start(request(route="/items/<int:id>", status=None, duration_ns=None))
    assert logs.record["timestamp"] == "2026-11-22T10:09:00.123456Z"
    assert (logs.record["level"], logs.record["event"]) == ("debug", "request_started")
    assert logs.record["http.route"] == "/items/<int:id>"
    assert "duration_seconds" not in logs.record


def test_an_exception_is_structured_with_its_causes():
    logs = Logs()
    logs.sink.event(exception(caught(ValueError("no stock"), caught(KeyError("item")))), request())
    record = logs.record
    assert (record["level"], record["event"]) == ("error", "exception")
    assert (record["exception.type"], record["exception.message"]) == ("ValueError", "no stock")
    assert [stack["exc_type"] for stack in record["exception"]] == ["ValueError", "KeyError"]
    assert record["exception"][0]["frames"][-1]["name"] == "caught"
    assert IDS.items() <= record.items()


def test_an_exception_type_is_qualified():
    logs = Logs()
    logs.sink.event(exception(caught(json.JSONDecodeError("x", "", 0))), None)
    assert logs.record["exception.type"] == "json.decoder.JSONDecodeError"


def test_an_exception_outside_a_request_has_no_ids():
    logs = Logs()
    logs.sink.event(exception(caught(ValueError("x"))), None)
    assert not IDS.keys() & logs.record.keys()


def test_an_exception_event_without_an_error_is_a_record_all_the_same():
    logs = Logs()
    logs.sink.event(exception(None), request())
    assert list(logs.record) == [*BASE, *IDS]


def test_messages_can_be_kept_out():
    logs = Logs(exception_message=False)
    logs.sink.event(exception(caught(ValueError("private"), caught(KeyError("secret")))), request())
    assert "exception.message" not in logs.record
    assert not {"private", "secret"} & set(logs.stream.getvalue().replace("'", '"').split('"'))
    assert [stack["exc_type"] for stack in logs.record["exception"]] == ["ValueError", "KeyError"]


def test_a_long_message_is_cut():
    logs = Logs()
    logs.sink.event(exception(caught(ValueError("x" * 100_000))), request())
    assert logs.record["truncated"] is True
    assert len(logs.record["exception.message"].encode()) == 8192


def test_credentials_in_annotations_and_messages_are_masked():
    logs = Logs()
    token = "Bearer abcdef0123456789"
    logs.finish(request(annotations={"note": [token]}))
    logs.sink.event(exception(caught(ValueError(token))), None)
    assert len(logs.records) == 2
    assert "abcdef0123456789" not in logs.stream.getvalue()
    assert "Bearer REDACTED" in logs.stream.getvalue()


def test_a_render_is_timed():
    logs = Logs(log_level="DEBUG")
    logs.sink.event(event("template_rendered", fields={"template": "cart.html"}, duration_ns=2_000_000), request())
    assert logs.record == {
        **dict.fromkeys(BASE),
        "timestamp": "2026-11-22T10:09:00.123456Z",
        "level": "debug",
        "event": "template_rendered",
        "service": "shop",
        **IDS,
        "flask.template": "cart.html",
        "duration_seconds": 0.002,
    }


def test_a_render_that_failed_says_so():
    logs = Logs(log_level="DEBUG")
    logs.sink.event(event("template_rendered", fields={"template": "a"}, duration_ns=1, error=KeyError("x")), request())
    assert logs.record["error.type"] == "KeyError"


def test_a_flash_is_its_category_alone():
    logs = Logs(log_level="DEBUG")
    logs.sink.event(event("message_flashed", fields={"category": "error", "message": "private"}), request())
    assert logs.record["category"] == "error"
    assert "private" not in logs.stream.getvalue()


@pytest.mark.parametrize("name", ["access_logged", "order_paid"])
def test_other_events_are_none_of_its_business(name):
    logs = Logs(log_level="DEBUG")
    logs.sink.event(event(name, fields={"a": 1}), request())
    assert logs.records == []


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("DEBUG", ["request_started", "template_rendered", "exception", "request_finished"]),
        ("INFO", ["exception", "request_finished"]),
        ("WARNING", ["exception"]),
        ("ERROR", ["exception"]),
        ("CRITICAL", []),
    ],
)
def test_what_is_below_the_level_is_not_written(level, events):
    logs = Logs(log_level=level)
    logs.sink.start(request())
    logs.sink.event(event("template_rendered", fields={"template": "a"}), request())
    logs.sink.event(exception(caught(ValueError("x"))), request())
    logs.finish(request())
    assert [record["event"] for record in logs.records] == events


def test_nothing_is_built_for_a_level_that_is_off():
    class Untouchable(Exception):
        def __str__(self):
            raise AssertionError("the message was read")

    Logs(log_level="CRITICAL").sink.event(exception(caught(Untouchable())), request())


def test_annotations_are_added_to_the_requests_records():
    logs = Logs()
    record = request(annotations={"tenant": "acme", "cart": {"items": [1, 2]}})
    logs.sink.event(exception(caught(ValueError("x"))), record)
    logs.finish(record)
    for written in logs.records:
        assert (written["tenant"], written["cart"]) == ("acme", {"items": [1, 2]})


def test_annotations_are_redacted():
    logs = Logs(redact=("card",))
    logs.finish(request(annotations={"card": "x1", "nested": [{"api_key": "x2"}], "design": "x3"}))
    assert logs.record["card"] == logs.record["nested"][0]["api_key"] == "REDACTED"
    assert logs.record["design"] == "x3"


OWN = [*BASE, *IDS, "http.request.method", "http.route", "http.response.status_code", "error.type", "duration_seconds"]


@pytest.mark.parametrize("key", [*OWN, "exception", "truncated", "client_disconnected", "user.id"])
@pytest.mark.parametrize(
    "known", [{}, {"trace_id": None, "span_id": None, "request_id": None}], ids=["known", "unknown"]
)
def test_an_annotation_never_says_what_the_record_says_itself(key, known):
    logs, plain = Logs(), Logs()
    logs.finish(request(annotations={key: "forged"}, **known))
    plain.finish(request(**known))
    assert logs.record == plain.record


def test_every_attribute_of_a_request_that_is_logged_is_in_the_catalogue():
    logs = Logs()
    full = dict.fromkeys(["route", "endpoint", "client_address", "peer_address", "user", "query", "error_type"], "x")
    logs.finish(request(method_original="x", request_size=1, response_size=1, client_disconnected=True, **full))
    assert logs.record.keys() - {*BASE, *IDS, "duration_seconds"} <= ATTRIBUTES.keys()
    assert logs.record["event"] in LOG_EVENTS


@given(
    path=st.text(st.characters()),
    user=st.text(st.characters()),
    annotations=st.dictionaries(
        st.text(st.characters()),
        st.none() | st.binary() | st.integers() | st.lists(st.floats()) | st.text(st.characters()),
    ),
)
def test_whatever_a_client_sends_a_request_is_one_record(path, user, annotations):
    logs = Logs()
    logs.finish(request(path=path, user=user, annotations=annotations))
    assert logs.stream.getvalue().count("\n") == 1
    assert logs.record["event"] == "request_finished"


def test_structlogs_configuration_is_neither_read_nor_changed():
    def refuse(*_):
        raise structlog.DropEvent

    structlog.configure(processors=[refuse], wrapper_class=structlog.make_filtering_bound_logger(50))
    before = structlog.get_config()
    try:
        logs = Logs()
        logs.finish(request())
        assert logs.record["event"] == "request_finished"
        assert structlog.get_config() == before
    finally:
        structlog.reset_defaults()


def test_console_format_is_for_people():
    logs = Logs(log_format="console")
    logs.finish(request(route="/items/<int:id>"))
    assert "GET     /items/<int:id>" in logs.stream.getvalue()


def test_records_go_to_a_file(tmp_path):
    path = tmp_path / "app.log"
    logs = Logs(log_stream=str(path))
    logs.finish(request())
    logs.sink.close()
    assert json.loads(path.read_text())["event"] == "request_finished"


def test_a_file_that_cannot_be_written_is_an_oserror(tmp_path):
    logs = Logs(log_stream=str(tmp_path / "missing" / "app.log"))
    with pytest.raises(FileNotFoundError):
        logs.finish(request())


def test_a_file_that_cannot_be_written_is_a_warning_at_the_start(tmp_path, caplog):
    path = tmp_path / "missing" / "app.log"
    Logs(log_stream=str(path))
    (told,) = caplog.messages
    assert told == (
        f"log_stream='{path}' cannot be written: its directory {path.parent} does not exist: make it, or give another "
        "path; until then records are lost"
    )
    assert not path.parent.exists()


@pytest.mark.parametrize("stream", ["stdout", "stderr", "app.log"])
def test_what_can_be_written_is_no_warning(tmp_path, monkeypatch, caplog, stream):
    monkeypatch.chdir(tmp_path)
    Logs(log_stream=stream)
    assert caplog.messages == []
    assert list(tmp_path.iterdir()) == []


# In a real app.


def shop():
    app = Flask("shop")
    app.secret_key = "x"

    @app.get("/items/<int:id>")
    def item(id):  # noqa: A002
        annotate(tenant="acme")
        flash("private", "note")
        return render_template_string("item {{ id }}", id=id)

    @app.get("/fail")
    def fail():
        raise ZeroDivisionError("private")

    @app.get("/teapot")
    def teapot():
        abort(418)

    return app


def test_a_request_to_an_app_is_told_from_start_to_finish(observe):
    observed = observe(shop())
    observed.client().get("/items/7")
    events = ["request_started", "message_flashed", "template_rendered", "request_finished"]
    assert [record["event"] for record in observed.records()] == events
    assert {record["request_id"] for record in observed.records()} == {observed.record["request_id"]}
    assert observed.record["trace_id"] == f"{observed.server_span.context.trace_id:032x}"
    assert observed.record["http.route"] == "/items/<int:id>"
    assert observed.record["tenant"] == "acme"


def test_an_error_in_an_app_is_an_exception_and_a_finished_request(observe):
    observed = observe(shop())
    observed.client().get("/fail")
    (record,) = observed.records("exception")
    assert record["exception.type"] == observed.record["error.type"] == "ZeroDivisionError"
    assert record["exception"][0]["frames"][-1]["name"] == "fail"
    assert observed.record["level"] == "error"


def test_a_client_error_in_an_app_is_a_warning(observe):
    observed = observe(shop())
    observed.client().get("/teapot")
    assert (observed.record["level"], observed.record["http.response.status_code"]) == ("warning", 418)


SERVE = """
import os, sys
from flask import Flask
from prometheus_client import REGISTRY
from flask_signal_observability import Observability
app = Flask("shop")
Observability(app, audit=False)
@app.get("/")
def home():
    return "home"
def get():
    return app.test_client().get("/").status_code
"""


def run(code, **environ):
    environ = {**os.environ, "OTEL_TRACES_EXPORTER": "none", **environ}
    command = [sys.executable, "-c", SERVE + code]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, env=environ)


def test_a_process_without_a_terminal_logs_json_to_stdout():
    done = run("get(); get()")
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["request_finished"] * 2


def test_a_process_with_a_terminal_logs_columns_to_it():
    controlling, terminal = pty.openpty()
    code = "@app.get('/fail')\ndef fail():\n    raise LookupError('\\033[2J')\nget(); app.test_client().get('/fail')"
    environ = {**os.environ, "OTEL_TRACES_EXPORTER": "none", "NO_COLOR": "", "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", SERVE + code], stdout=terminal, timeout=60, check=True, env=environ)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # Linux's way of telling that the other end is closed
        while part := os.read(controlling, 65536):
            shown += part
    os.close(controlling)
    first, *others = shown.decode().splitlines()
    assert re.search(r"GET     / +.{0,5}32m200", first)
    assert [line for line in others if line == "  LookupError: \\x1b[2J"]
    assert re.search(r"GET     /fail +.{0,5}31m500", others[-1])


def test_a_broken_pipe_is_counted_and_the_request_answered():
    done = run(
        """
reading, writing = os.pipe()
os.dup2(writing, 1)
os.close(reading)
statuses = {get() for _ in range(100)}
failures = REGISTRY.get_sample_value("observability_errors_total", {"sink": "logs", "stage": "finish"})
sys.stderr.write(f"statuses {statuses} failures {failures}\\n")
"""
    )
    assert b"statuses {200} failures 100.0" in done.stderr
    assert done.returncode == 0


def test_a_process_without_stdout_serves_as_before():
    done = run("sys.stdout = None; sys.stderr.write(str(get()))")
    assert (done.stderr, done.returncode) == (b"200", 0)
