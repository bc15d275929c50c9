"""What a request and ``access_logged`` leave in the two files under ``audit_format="json"``."""

from __future__ import annotations

import json

import flask
import pytest

from flask_signal_observability import access_logged
from flask_signal_observability import AuditRecord
from flask_signal_observability import parse_audit_line
from flask_signal_observability import parse_journal_line
from flask_signal_observability import reopen_files

PROXIED = {"X-Forwarded-For": "6.6.6.6, 198.51.100.1", "X-Request-ID": "abc"}


@pytest.fixture
def shop(observe):
    app = flask.Flask("shop")
    app.logger.disabled = True
    app.add_url_rule("/fine", "fine", lambda: "hello")
    app.add_url_rule("/error", "error", lambda: 1 // 0)

    @app.post("/orders/<int:number>")
    def change(number):
        flask.g.current_user = "alice"
        payload = {"status": ["open", "paid"], "password": "hunter2", "note": "Bearer abcdef.ghijkl.mnopqr"}
        access_logged.send("orders", action="changed", object=f"order {number}", outcome="success", changes=payload)
        return "changed"

    @app.post("/odd")
    def odd():
        loop = {}
        loop["loop"] = loop
        access_logged.send(
            "x", action=7, object=object, changes={"loop": loop, 1: {2}, "big": 2**70, "nan": float("nan")}
        )
        return "odd"

    return observe(app, audit_format="json", trusted_proxies=1)


def test_a_request_is_told_with_peer_claims_outcome_and_ids(shop):
    shop.client().get("/fine", headers=PROXIED)
    (line,) = shop.audit_lines
    record = parse_audit_line(line)
    assert isinstance(record, AuditRecord)
    assert (record.user, record.address, record.peer_address) == ("anonymous", "198.51.100.1", "127.0.0.1")
    assert record.claimed_addresses == ("6.6.6.6", "198.51.100.1")
    assert (record.method, record.action, record.object, record.path) == ("GET", "accessed", "/fine", "/fine")
    assert (record.outcome, record.status, record.request_id) == ("success", 200, "abc")
    assert record.trace_id == f"{shop.server_span.context.trace_id:032x}"
    assert list(json.loads(line))[:4] == ["id", "time", "user.id", "client.address"]


@pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/error", 500)])
def test_a_request_that_failed_says_so(shop, path, status):
    shop.client().get(path)
    record = parse_audit_line(shop.audit_lines[0])
    assert (record.outcome, record.status) == ("failure", status)


def test_what_access_logged_was_sent_is_told_with_secrets_masked(shop):
    shop.client().post("/orders/7", headers=PROXIED)
    (line,) = shop.audit_lines
    record = parse_audit_line(line)
    assert (record.user, record.action, record.object, record.outcome) == ("alice", "changed", "order 7", "success")
    assert record.changes == {"status": ["open", "paid"], "password": "REDACTED", "note": "Bearer REDACTED"}
    assert (record.status, record.request_id, record.claimed_addresses[0]) == (None, "abc", "6.6.6.6")


def test_any_payload_is_one_line_that_parses(shop):
    assert shop.client().post("/odd").status_code == 200
    record = parse_audit_line(shop.audit_lines[0])
    assert (record.action, record.object) == ("7", "<class 'object'>")
    assert record.changes["nan"] is None


def test_an_error_is_a_json_line_of_the_journal_with_the_ids_of_its_request(shop):
    shop.client().get("/error", headers=PROXIED)
    record = parse_journal_line(shop.journal_lines[0])
    assert (record.app, record.error) == ("<Flask 'shop'>", "ZeroDivisionError: integer division or modulo by zero")
    assert (record.request_id, record.trace_id) == ("abc", f"{shop.server_span.context.trace_id:032x}")


def test_outside_of_a_request_there_is_less_to_tell(shop):
    with shop.app.app_context():
        access_logged.send("cron", action="purged")
    record = parse_audit_line(shop.audit_lines[0])
    assert (record.user, record.address, record.path) == ("anonymous", "-", "-")
    assert (record.action, record.object, record.peer_address, record.request_id) == ("purged", "-", None, None)


def test_the_text_line_is_the_seeds_whatever_was_sent(observe):
    observed = observe()
    with observed.app.test_request_context("/x"):
        access_logged.send("x", action="deleted", changes={"a": 1})
    assert observed.audit_lines[0].endswith("] anonymous@- accessed /x")


def test_a_handler_of_sighup_may_reopen_the_files_at_once(shop):
    client = shop.client()
    client.get("/fine")
    old = shop.audit_path.rename(shop.audit_path.with_suffix(".1"))
    client.get("/fine")
    reopen_files()
    client.get("/fine")
    assert len(old.read_text().splitlines()) == 2
    assert len(shop.audit_lines) == 1


def test_every_option_of_the_file_works_together(observe, tmp_path):
    observed = observe(
        flask.Flask("all"),
        audit_format="json",
        audit_durability="group",
        audit_rotate_bytes=4096,
        audit_rotate_seconds=3600,
        audit_keep=2,
        audit_on_error="closed",
    )
    observed.app.add_url_rule("/", "home", lambda: "hello")
    for _ in range(5):
        assert observed.client().get("/").status_code == 200
    assert len(observed.audit_lines) == 5
