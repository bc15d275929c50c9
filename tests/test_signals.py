from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from flask import g
from prometheus_client import CollectorRegistry

from flask_signal_observability import access_logged
from flask_signal_observability import annotate
from flask_signal_observability import event_bus
from flask_signal_observability import signals
from flask_signal_observability.audit import payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Observed


@pytest.fixture(autouse=True)
def no_other_apps() -> None:
    """Apps of other tests are gone before a send outside of any app looks for the first."""
    gc.collect()
    signals._pipelines.clear()
    signals._warned_of_several = False
    payload._told.clear()


def test_the_seeds_signal_writes_the_seeds_line(observed: Observed) -> None:
    @observed.app.route("/dashboard")
    def dashboard() -> dict[str, str]:
        g.current_user = "alice"
        access_logged.send("dashboard_module")
        return {"status": "active"}

    observed.client().get("/dashboard")
    (line,) = observed.audit_lines
    assert line.endswith("] alice@127.0.0.1 accessed /dashboard")


def test_any_payload_and_any_sender_will_do(observed: Observed) -> None:
    class Hostile:
        __eq__ = __hash__ = None

        def __repr__(self) -> str:
            raise RuntimeError

    def view() -> str:
        access_logged.send(Hostile, sender="x", event=1, record=2, user="mallory", path="/forged", pipeline=Hostile())
        return ""

    observed.app.add_url_rule("/x", view_func=view)
    observed.client().get("/x")
    assert [line.split("] ")[1] for line in observed.audit_lines] == ["anonymous@127.0.0.1 accessed /x"]


def test_outside_a_request_the_line_says_so(observed: Observed) -> None:
    with observed.app.app_context():
        access_logged.send("cron")
    assert observed.audit_lines[0].endswith("anonymous@- accessed -")


def test_a_job_says_who_it_is_and_what_it_does(observed: Observed) -> None:
    with observed.app.app_context():
        access_logged.send("job", user="cron", path="/job", ip="10.0.0.1")
    access_logged.send("job", user="cron")
    assert [line.split("] ")[1] for line in observed.audit_lines] == [
        "cron@10.0.0.1 accessed /job",
        "cron@- accessed -",
    ]


def told_of_keywords(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "access_logged.send(" in record.getMessage()]


def test_what_a_line_of_text_has_no_room_for_is_told_once(observed: Observed, caplog: pytest.LogCaptureFixture) -> None:
    with observed.app.app_context():
        for _ in range(2):
            access_logged.send("x", action="deleted", mine=1)
    (told,) = told_of_keywords(caplog)
    assert told.startswith("access_logged.send(action=…): not in the audit line: a line of text has no room for it")


def test_a_mistyped_keyword_is_told_once(observe: Callable[..., Observed], caplog: pytest.LogCaptureFixture) -> None:
    observed = observe(audit_format="json")
    with observed.app.app_context():
        for _ in range(2):
            access_logged.send("x", action="deleted", actoin="deleted", quite_another=1)
    (told,) = told_of_keywords(caplog)
    assert "actoin" in told
    assert told.endswith("did you mean action?")


def test_a_request_that_is_given_a_user_of_its_own_is_told_that_it_knows_better(
    observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    with observed.app.test_request_context("/made"):
        access_logged.send("x", user="mallory")
    assert "in a request it is the request's own" in told_of_keywords(caplog)[0]


def test_in_a_request_context_without_a_server_the_line_names_its_path(observed: Observed) -> None:
    with observed.app.test_request_context("/made", environ_base={"REMOTE_ADDR": "203.0.113.7"}):
        g.current_user = "bob"
        access_logged.send("test")
    assert observed.audit_lines[0].endswith("bob@203.0.113.7 accessed /made")


def test_outside_any_app_it_goes_to_the_first_with_one_warning(
    observe: Callable[..., Observed], caplog: pytest.LogCaptureFixture
) -> None:
    first = observe(Flask("first"), registry=CollectorRegistry())
    second = observe(Flask("second"), registry=CollectorRegistry())
    access_logged.send("cron")
    access_logged.send("cron")
    assert len(first.audit_lines) == 2
    assert second.audit_lines == []
    assert len([record for record in caplog.records if "'first'" in record.getMessage()]) == 1


def test_without_any_observed_app_nothing_happens() -> None:
    access_logged.send("cron")


def test_the_bus_is_there_for_own_signals() -> None:
    assert event_bus["access-event"] is access_logged
    assert event_bus.signal("user-action") is event_bus.signal("user-action")


def test_annotations_are_on_the_span_and_in_the_record(observed: Observed) -> None:
    def view() -> str:
        annotate(tenant="acme", cart=[1, 2])
        annotate(tenant="acme-2")
        return ""

    observed.app.add_url_rule("/", view_func=view)
    observed.client().get("/")
    assert observed.record["tenant"] == "acme-2"
    assert observed.record["cart"] == [1, 2]
    assert observed.server_span.attributes["tenant"] == "acme-2"


def test_an_annotation_never_replaces_a_field_of_the_package(observed: Observed) -> None:
    forged = {"http.route": "/forged", "trace_id": "0", "level": "debug", "event": "x", "timestamp": 1, "service": "y"}

    def view() -> str:
        annotate(**forged)
        return ""

    observed.app.add_url_rule("/", view_func=view)
    observed.client().get("/")
    assert not forged.items() & observed.record.items()
    assert observed.server_span.attributes["http.route"] == "/"


def test_annotations_whose_text_fails_harm_nothing(observe: Callable[..., Observed]) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    observed = observe(strict=False)
    observed.app.add_url_rule("/", view_func=lambda: annotate(thing=Hostile()) or "")
    assert observed.client().get("/").status_code == 200
    assert observed.server_span.attributes["http.response.status_code"] == 200
    assert observed.record["http.response.status_code"] == 200


def test_an_annotation_outside_a_request_is_forgotten() -> None:
    annotate(tenant="acme")
