from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import warnings

import flask.logging
import pytest
import structlog
from flask import Flask
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from flask_signal_observability import add_request_context
from flask_signal_observability import ConfigurationError
from flask_signal_observability import configure_logging
from flask_signal_observability.record import current_record
from flask_signal_observability.record import RequestRecord

LIBRARIES = ("werkzeug", "gunicorn.error", "gunicorn.access", "shop")


@pytest.fixture(autouse=True)
def restored():
    """Put back what configure_logging changes for the whole process."""
    loggers = [logging.getLogger(), *map(logging.getLogger, LIBRARIES)]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        for handler in logger.handlers:
            if handler not in handlers and logger is loggers[0]:
                handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def bare_the_root(monkeypatch):
    """Return what takes pytest's handlers from the root logger, for this test: they raise, and keep others away.

    A call, since pytest adds them anew when the test itself begins.
    """
    return lambda: monkeypatch.setattr(logging.getLogger(), "handlers", [])


@pytest.fixture
def stream():
    return io.StringIO()


def records(stream):
    return [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]


def only(stream):
    (record,) = records(stream)
    return record


def test_a_line_of_the_standard_library_is_a_record(stream):
    configure_logging(stream=stream)
    logging.getLogger("shop.orders").info("paid %d", 5)
    record = only(stream)
    assert list(record) == ["timestamp", "level", "event", "service", "logger"]
    assert (record["level"], record["event"], record["logger"]) == ("info", "paid 5", "shop.orders")


def test_a_line_of_structlog_is_a_record(stream):
    configure_logging(stream=stream)
    structlog.get_logger("shop.orders").warning("paid", amount=5)
    record = only(stream)
    assert list(record) == ["timestamp", "level", "event", "service", "logger", "amount"]
    assert (record["level"], record["event"], record["logger"], record["amount"]) == (
        "warning",
        "paid",
        "shop.orders",
        5,
    )


def test_structlogs_context_and_arguments_are_kept(stream):
    configure_logging(stream=stream)
    with structlog.contextvars.bound_contextvars(tenant="acme"):
        structlog.get_logger().info("paid %d", 5)
    assert (only(stream)["event"], only(stream)["tenant"]) == ("paid 5", "acme")


def test_what_structlogs_processors_tell_each_other_is_no_field(stream):
    configure_logging(stream=stream)
    structlog.configure(processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter])
    structlog.get_logger().warning("login of %s", "alice", _record=1, _from_structlog=True, kept="x")
    assert list(only(stream)) == ["timestamp", "level", "event", "service", "logger", "kept"]


def test_extra_fields_are_included(stream):
    configure_logging(stream=stream)
    logging.getLogger("shop").info("paid", extra={"amount": 5, "password": "x"})
    assert only(stream)["amount"] == 5
    assert only(stream)["password"] == "REDACTED"


def test_what_another_handler_leaves_on_a_line_is_no_field(stream):
    other = logging.StreamHandler(io.StringIO())
    other.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger("shop").addHandler(other)
    configure_logging(stream=stream)
    logging.getLogger("shop").info("paid")
    assert not {"message", "asctime"} & only(stream).keys()


@pytest.mark.parametrize("key", ["timestamp", "level", "event", "service", "logger"])
def test_fields_of_a_line_never_replace_the_records_own(stream, key):
    configure_logging(stream=stream)
    logging.getLogger("shop").info("paid", extra={key: "forged"})
    assert "forged" not in stream.getvalue()
    if key != "event":
        structlog.get_logger("shop").info("paid", **{key: "forged"})
        assert "forged" not in stream.getvalue()


def test_credentials_in_lines_are_masked(stream):
    configure_logging(stream=stream)
    token = "Bearer abcdef0123456789"
    logging.getLogger("shop").info("sent %s", token, extra={"deep": [{"a": token}]})
    assert "abcdef0123456789" not in stream.getvalue()


def log_exception(logger):
    try:
        raise KeyError("cause")
    except KeyError as cause:
        try:
            raise ValueError("no stock") from cause
        except ValueError:
            logger.exception("failed")


@pytest.mark.parametrize("get_logger", [logging.getLogger, structlog.get_logger], ids=["stdlib", "structlog"])
def test_an_exception_is_structured(stream, get_logger):
    configure_logging(stream=stream)
    log_exception(get_logger("shop"))
    record = only(stream)
    assert (record["level"], record["event"]) == ("error", "failed")
    assert [stack["exc_type"] for stack in record["exception"]] == ["ValueError", "KeyError"]
    assert "exc_info" not in record


def test_exception_messages_can_be_kept_out(stream):
    app = Flask("shop")
    app.config["OBSERVABILITY_EXCEPTION_MESSAGE"] = False
    configure_logging(app, stream=stream)
    log_exception(logging.getLogger("shop"))
    assert only(stream)["exception"][0]["exc_type"] == "ValueError"
    assert "no stock" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("get_logger", [logging.getLogger, structlog.get_logger], ids=["stdlib", "structlog"])
def test_a_stack_is_shown(stream, get_logger, log_format):
    configure_logging(stream=stream, format=log_format)
    get_logger("shop").info("here", stack_info=True)
    assert "in test_a_stack_is_shown" in (only(stream)["stack"] if log_format == "json" else stream.getvalue())


@pytest.mark.parametrize("get_logger", [logging.getLogger, structlog.get_logger], ids=["stdlib", "structlog"])
def test_exc_info_without_an_exception_is_no_exception(stream, get_logger):
    configure_logging(stream=stream)
    get_logger("shop").error("odd", exc_info=True)
    assert "exception" not in only(stream)


def test_the_level_filters_both(stream):
    configure_logging(stream=stream, level="WARNING")
    for get_logger in (logging.getLogger, structlog.get_logger):
        get_logger("shop").info("left out")
        get_logger("shop").warning("written")
    assert [record["event"] for record in records(stream)] == ["written", "written"]


def test_a_logger_with_a_lower_level_of_its_own_is_filtered_too(stream):
    logging.getLogger("shop").setLevel("DEBUG")
    configure_logging(stream=stream, level="INFO")
    logging.getLogger("shop").debug("left out")
    assert records(stream) == []


def test_calling_twice_replaces_its_own_handler_alone(stream):
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    first = io.StringIO()
    configure_logging(stream=first, level="ERROR")
    configure_logging(stream=stream, level="INFO")
    logging.getLogger("shop").info("once")
    structlog.get_logger("shop").info("once")
    assert first.getvalue() == ""
    assert len(records(stream)) == 2
    assert other in logging.getLogger().handlers


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("debug", [False, True])
def test_the_apps_logger_writes_one_record_a_line(stream, capsys, when, debug, bare_the_root):
    bare_the_root()
    app = Flask("shop")
    app.debug = debug
    if when == "before":
        assert flask.logging.default_handler in app.logger.handlers
    configure_logging(app, stream=stream)
    app.logger.info("hello")
    assert only(stream)["event"] == "hello"
    assert capsys.readouterr() == ("", "")


def test_a_handler_that_the_app_added_stays(stream):
    app = Flask("shop")
    own = io.StringIO()
    app.logger.addHandler(logging.StreamHandler(own))
    configure_logging(app, stream=stream)
    app.logger.warning("hello")
    assert own.getvalue() == "hello\n"
    assert only(stream)["event"] == "hello"


def test_werkzeugs_lines_are_records(stream, capsys, monkeypatch, bare_the_root):
    import werkzeug._internal

    bare_the_root()
    monkeypatch.setattr(werkzeug._internal, "_logger", None)
    werkzeug._internal._log("info", "first")
    assert "first" in capsys.readouterr().err
    configure_logging(stream=stream)
    werkzeug._internal._log("info", "second")
    assert (only(stream)["event"], only(stream)["logger"]) == ("second", "werkzeug")
    assert capsys.readouterr() == ("", "")


def test_gunicorns_lines_are_records(stream, capsys):
    from gunicorn.config import Config as GunicornConfig
    from gunicorn.glogging import Logger

    config = GunicornConfig()
    config.set("accesslog", "-")
    server = Logger(config)
    configure_logging(stream=stream)
    server.info("Booting worker with pid: %s", 7)
    server.access_log.info("GET / 200")
    assert [record["logger"] for record in records(stream)] == ["gunicorn.error", "gunicorn.access"]
    assert capsys.readouterr() == ("", "")


def test_an_access_line_of_gunicorns_is_a_record_with_fields(stream):
    from gunicorn.glogging import SafeAtoms

    configure_logging(stream=stream)
    atoms = {
        "h": "203.0.113.7",
        "m": "GET",
        "U": "/a",
        "s": "200",
        "B": 5,
        "L": "0.5",
        "a": "-",
        "{x-request-id}o": "r",
    }
    log = logging.getLogger("gunicorn.access")
    log.setLevel("INFO")
    log.info('%(h)s "%(m)s %(U)s?token=x" %(s)s', SafeAtoms(atoms))
    record = only(stream)
    assert (record["event"], record["request_id"], record["duration_seconds"]) == ("request_served", "r", 0.5)
    assert (record["http.response.status_code"], record["http.response.body.size"]) == (200, 5)
    assert "user_agent.original" not in record
    assert "token" not in stream.getvalue()


@pytest.mark.parametrize("category", [DeprecationWarning, UserWarning])
def test_a_warning_is_a_record(stream, category, bare_the_root):
    bare_the_root()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logging(stream=stream)
        warnings.warn("old way", category, stacklevel=1)
        logging.captureWarnings(capture=False)
    record = only(stream)
    assert (record["level"], record["logger"]) == ("warning", "py.warnings")
    assert record["event"].endswith(f"{category.__name__}: old way")
    assert "\n" not in record["event"]


def test_a_record_of_a_request_names_the_service_of_its_app(observe, stream):
    observed = observe(service_name="observed")
    configure_logging(stream=stream)
    chained = []

    @observed.app.get("/")
    def home():
        chained.append(add_request_context(None, "info", {"service": "own"}))
        logging.getLogger("shop").warning("x")
        return ""

    observed.client().get("/")
    logging.getLogger("shop").warning("outside")
    assert [record["service"] for record in records(stream)] == ["observed", "unknown_service"]
    assert chained[0]["service"] == "observed"


def test_an_error_of_an_earlier_request_is_told_in_full_again(observe, stream):
    observed = observe(log_stream=stream)
    configure_logging(observed.app, stream=stream)
    again = LookupError("always the same object")

    def raised():
        raise again

    def caught():
        try:
            raise again
        except LookupError:
            observed.app.logger.exception("caught")
        return ""

    observed.app.add_url_rule("/raised", view_func=raised)
    observed.app.add_url_rule("/caught", view_func=caught)
    observed.client().get("/raised")
    observed.client().get("/caught")
    (record,) = [record for record in records(stream) if record["event"] == "caught"]
    assert record["exception"][0]["exc_type"] == "LookupError"


@pytest.mark.parametrize("together", [True, False])
def test_the_traceback_of_an_error_is_in_a_stream_once(observe, stream, together):
    observed = observe(log_stream=stream) if together else observe()
    configure_logging(observed.app, stream=stream)
    observed.app.add_url_rule("/", view_func=lambda: 1 / 0)
    observed.client().get("/")
    told = [record for record in records(stream) if "exception" in record]
    assert [record["event"] for record in told] == (["exception"] if together else ["Exception on / [GET]"])
    (of_flask,) = [record for record in records(stream) if record.get("logger") == "shop"]
    assert of_flask.get("exception.type") == ("ZeroDivisionError" if together else None)


def test_the_elastic_schema_holds_for_every_line(stream):
    app = Flask("shop")
    app.config["OBSERVABILITY_LOG_SCHEMA"] = "ecs"
    configure_logging(app, stream=stream)
    log_exception(logging.getLogger("shop"))
    record = only(stream)
    assert (record["message"], record["log.logger"], record["service.name"]) == ("failed", "shop", "shop")
    assert "ValueError: no stock" in record["error.stack_trace"]


def test_a_line_in_a_request_carries_its_ids(observe, stream):
    observed = observe()
    configure_logging(observed.app, stream=stream)

    @observed.app.get("/")
    def home():
        observed.app.logger.warning("stdlib")
        structlog.get_logger().warning("structlog")
        return ""

    observed.client().get("/", headers={"X-Request-ID": "abc"})
    span = observed.server_span.context
    for record in records(stream):
        assert record["request_id"] == "abc"
        assert record["trace_id"] == observed.record["trace_id"] == f"{span.trace_id:032x}"
        assert record["span_id"] == f"{span.span_id:016x}"
    assert len(records(stream)) == 2


def test_a_line_in_a_child_span_names_the_child(observe, stream):
    observed = observe()
    configure_logging(observed.app, stream=stream)

    @observed.app.get("/")
    def home():
        with observed.provider.get_tracer("test").start_as_current_span("child"):
            observed.app.logger.warning("in the child")
        return ""

    observed.client().get("/")
    (child,) = [span for span in observed.spans if span.name == "child"]
    assert only(stream)["span_id"] == f"{child.context.span_id:016x}" != observed.record["span_id"]
    assert only(stream)["trace_id"] == observed.record["trace_id"]


def test_a_line_in_a_streamed_body_carries_the_ids(observe, stream):
    observed = observe()
    configure_logging(observed.app, stream=stream)

    @observed.app.get("/")
    def home():
        def body():
            logging.getLogger("shop").warning("chunk")
            yield "x"

        return body()

    observed.client().get("/", buffered=True)
    assert only(stream)["request_id"] == observed.record["request_id"]
    assert only(stream)["trace_id"] == observed.record["trace_id"]


def test_a_line_outside_a_request_has_no_ids(observe, stream):
    observed = observe()
    configure_logging(observed.app, stream=stream)
    observed.client().get("/")
    logging.getLogger("shop").warning("later")
    assert not {"request_id", "trace_id", "span_id"} & only(stream).keys()


def test_the_processor_works_in_any_chain():
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("test").start_as_current_span("job") as span:
        found = add_request_context(None, "info", {"event": "x", "request_id": "given"})
    context = span.get_span_context()
    ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    assert found == {"event": "x", "request_id": "given", **ids}


def test_the_processor_falls_back_to_the_records_own_ids():
    record = RequestRecord(None, "shop", {}, "GET", 0, 0, lambda record: None)
    record.request_id, record.trace_id, record.span_id = "r", "a" * 32, "b" * 16
    token = current_record.set(record)
    try:
        assert not trace.get_current_span().get_span_context().is_valid
        found = add_request_context(None, "info", {"request_id": "forged"})
    finally:
        current_record.reset(token)
    assert found == {"request_id": "r", "trace_id": "a" * 32, "span_id": "b" * 16}


# Where settings come from.


def test_an_observed_apps_settings_are_used(observe):
    observed = observe(service_name="observed", log_level="ERROR")
    configure_logging(observed.app)
    logging.getLogger("shop").warning("left out")
    logging.getLogger("shop").error("written")
    (record,) = observed.records()
    assert (record["event"], record["service"]) == ("written", "observed")


def test_an_apps_configuration_is_used_without_an_observability(tmp_path):
    app = Flask("shop")
    app.config["OBSERVABILITY_LOG_STREAM"] = str(tmp_path / "app.log")
    configure_logging(app)
    logging.getLogger("shop").warning("hello")
    assert json.loads((tmp_path / "app.log").read_text())["service"] == "shop"


def test_the_environment_is_used_without_an_app(stream, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-environment")
    monkeypatch.setenv("OBSERVABILITY_LOG_LEVEL", "error")
    configure_logging(stream=stream)
    logging.getLogger("shop").warning("left out")
    logging.getLogger("shop").error("written")
    assert (only(stream)["event"], only(stream)["service"]) == ("written", "from-environment")


def test_the_console_is_for_people(stream):
    configure_logging(stream=stream, format="console")
    log_exception(logging.getLogger("shop"))
    assert "[error    ] failed" in stream.getvalue()
    assert "ValueError: no stock" in stream.getvalue()


@pytest.mark.parametrize("given", [{"level": "LOUD"}, {"format": "xml"}, {"stream": 5}])
@pytest.mark.parametrize("is_observed", [False, True])
def test_an_impossible_value_is_refused_and_nothing_changes(observe, given, is_observed):
    before = logging.getLogger().handlers[:]
    with pytest.raises(ConfigurationError):
        configure_logging(observe().app if is_observed else None, **given)
    assert logging.getLogger().handlers == before


# What goes wrong.


class Broken:
    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __repr__


def test_a_value_that_cannot_be_rendered_is_rendered(stream, bare_the_root):
    bare_the_root()
    configure_logging(stream=stream)
    logging.getLogger("shop").info("x", extra={"broken": Broken(), "bytes": b"\xff", "text": "\udcff"})
    structlog.get_logger("shop").info("y", broken=Broken(), event_object={1, 2})
    assert [record["event"] for record in records(stream)] == ["x", "y"]


def test_a_message_that_cannot_be_made_goes_to_handle_error(stream, capsys, bare_the_root):
    bare_the_root()
    configure_logging(stream=stream)
    logging.getLogger("shop").info("%s", Broken())
    assert records(stream) == []
    assert "Logging error" in capsys.readouterr().err


def test_a_stream_that_cannot_be_written_raises_nothing(capsys, tmp_path):
    configure_logging(stream=str(tmp_path / "missing" / "app.log"))
    logging.getLogger("shop").warning("x")
    structlog.get_logger("shop").warning("x")
    assert "FileNotFoundError" in capsys.readouterr().err


def test_a_standard_stream_that_breaks_raises_nothing():
    code = """
import logging, os, sys
from flask_signal_observability import configure_logging
reading, writing = os.pipe()
os.dup2(writing, 1)
os.close(reading)
configure_logging(stream="stdout")
for _ in range(100):
    logging.getLogger("shop").warning("x" * 1000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 0
    assert done.stderr.count(b"BrokenPipeError: ") == 100


def test_warnings_of_the_interpreter_are_left_alone(stream):
    configure_logging(stream=stream)
    with pytest.warns(UserWarning, match="hello"):
        warnings.warn("hello", UserWarning, stacklevel=1)
    assert records(stream) == []
