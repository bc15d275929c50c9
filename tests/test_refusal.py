"""``audit_on_error="closed"``: what is not audited is not answered."""

from __future__ import annotations

import contextlib
import logging

import flask
import pytest
from werkzeug.exceptions import ServiceUnavailable

from flask_signal_observability import access_logged
from flask_signal_observability import ConfigurationError
from flask_signal_observability import Observability
from flask_signal_observability import parse_audit_line

FULL = "/dev/full"


@pytest.fixture
def closed(observe):
    def make(**settings):
        app = flask.Flask("shop")
        app.secret_key = "k"

        @app.get("/")
        def home():
            flask.session["seen"] = True
            return "hello"

        app.add_url_rule("/stream", "stream", lambda: flask.Response(iter(["a", "b"])))
        app.add_url_rule("/error", "error", lambda: 1 // 0)

        @app.get("/sent")
        def sent():
            access_logged.send("x")
            return "sent"

        app.logger.disabled = True
        return observe(app, strict=False, audit_on_error="closed", **settings)

    return make


@pytest.mark.parametrize("path", ["/", "/stream", "/error", "/missing", "/sent"])
def test_a_request_that_cannot_be_audited_is_a_503_without_what_the_app_said(closed, path):
    observed = closed(audit_path=FULL)
    response = observed.client().get(path)
    assert response.status_code == 503
    assert "Set-Cookie" not in response.headers
    assert b"hello" not in response.data
    assert "X-Request-ID" in response.headers
    assert observed.value("flask_audit_records_total", outcome="lost") == 1
    assert observed.value("http_server_request_duration_seconds_count", http_response_status_code="503") == 1


@pytest.mark.parametrize(("path", "stage"), [("/", "answer"), ("/sent", "event")])
def test_the_log_says_that_the_request_was_refused(closed, caplog, path, stage):
    closed(audit_path=FULL).client().get(path)
    told = next(message for message in caplog.messages if message.startswith(f"audit failed at {stage}"))
    assert "refused with 503" in told


def test_the_body_that_is_not_sent_is_closed(closed):
    observed = closed(audit_path=FULL)
    closes = []

    @observed.app.get("/closing")
    def closing():
        response = flask.Response(iter(["a"]))
        response.call_on_close(lambda: closes.append(1))
        return response

    assert observed.client().get("/closing").status_code == 503
    assert closes == [1]


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/stream", 200), ("/error", 500), ("/missing", 404)])
def test_a_request_that_can_be_audited_is_answered_as_ever_and_told_once(closed, path, status):
    observed = closed(audit_format="json")
    response = observed.client().get(path)
    response.get_data()
    assert response.status_code == status
    (line,) = observed.audit_lines
    record = parse_audit_line(line)
    assert (record.path, record.status) == (path, status)
    assert record.outcome == ("success" if status < 400 else "failure")


def test_it_recovers_when_the_file_can_be_written_again(closed, tmp_path):
    (tmp_path / "logs").mkdir()
    observed = closed(audit_path=str(tmp_path / "logs" / "a.log"))
    client = observed.client()
    (tmp_path / "logs").rmdir()
    assert client.get("/").status_code == 503
    (tmp_path / "logs").mkdir()
    assert client.get("/").status_code == 200
    assert " lost 1 records " in (tmp_path / "logs" / "a.log").read_text()


def test_access_logged_raises_where_its_line_cannot_be_written(closed):
    observed = closed(audit_path=FULL, audit_requests=False)
    with observed.app.app_context(), pytest.raises(ServiceUnavailable):
        access_logged.send("outside")


def test_access_logged_raises_nothing_under_open(observe):
    observed = observe(strict=False, audit_path=FULL)
    with observed.app.app_context():
        access_logged.send("outside")
    assert observed.value("flask_audit_records_total", outcome="lost") == 1


def test_a_place_that_cannot_be_written_is_an_error_at_the_start(tmp_path):
    missing = tmp_path / "no" / "a.log"
    with pytest.raises(ConfigurationError, match=r"audit_path='.*' cannot be written: its directory .* does not exist"):
        Observability(flask.Flask("shop"), audit_on_error="closed", audit_path=missing, metrics=False, tracing=False)


@pytest.mark.parametrize("on_error", ["open", "stderr"])
def test_elsewhere_it_is_a_warning(observe, tmp_path, caplog, on_error):
    with caplog.at_level(logging.WARNING):
        observe(audit_on_error=on_error, audit_path=str(tmp_path / "no" / "a.log"))
    assert "audit_path=" in caplog.text
    assert "does not exist: make it, or give another path" in caplog.text


def test_a_link_and_a_directory_in_the_files_place_are_told_at_the_start(observe, tmp_path, caplog):
    (tmp_path / "link").symlink_to(tmp_path / "x")
    observe(audit_path=str(tmp_path / "link"), error_journal_path=str(tmp_path))
    assert "it is a symbolic link" in caplog.text
    assert "it is a directory" in caplog.text


def test_under_stderr_the_line_goes_there_and_the_request_goes_on(observe, capfd):
    observed = observe(strict=False, audit_on_error="stderr", audit_path=FULL)
    observed.app.add_url_rule("/", "home", lambda: "hello")
    assert observed.client().get("/").status_code == 200
    lines = [line for line in capfd.readouterr().err.splitlines() if " accessed " in line]
    assert [parse_audit_line(line).path for line in lines] == ["/"]
    assert observed.value("flask_audit_records_total", outcome="stderr") == 1
    assert observed.value("flask_audit_records_total", outcome="lost") == 0


def test_a_view_that_catches_the_refusal_is_a_503_all_the_same(closed):
    observed = closed(audit_path=FULL, audit_requests=True)

    @observed.app.get("/caught")
    def caught():
        with contextlib.suppress(ServiceUnavailable):
            access_logged.send("x")
        return "caught"

    response = observed.client().get("/caught")
    assert response.status_code == 503
    assert b"caught" not in response.data


def test_an_error_page_without_a_request_finished_is_refused_too(closed):
    observed = closed(audit_path=FULL, audit_requests=True)

    @observed.app.after_request
    def broken(response):
        raise RuntimeError("after")

    observed.app.testing = False
    assert observed.client().get("/").status_code == 503
    assert observed.value("flask_audit_records_total", outcome="lost") == 1


@pytest.mark.parametrize(("path", "status"), [(FULL, 503), ("audit.log", 200)])
def test_what_a_middleware_inside_answers_is_audited_first(observe, tmp_path, path, status):
    app = flask.Flask("shop")

    def middleware(environ, start_response):
        start_response("200 OK", [("Content-Length", "2")])
        return [b"hi"]

    app.wsgi_app = middleware
    audit_path = tmp_path / path  # an absolute one stays as it is
    observed = observe(app, strict=False, audit_on_error="closed", audit_requests=True, audit_path=audit_path)
    assert observed.client().get("/").status_code == status
    outcome = "lost" if status == 503 else "written"
    assert observed.value("flask_audit_records_total", outcome=outcome) == 1
