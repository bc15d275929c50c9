from __future__ import annotations

import json
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import Flask

from flask_signal_observability import annotate
from flask_signal_observability.ecs import ECS_NAMES
from flask_signal_observability.ecs import from_ecs
from flask_signal_observability.ecs import in_ecs
from flask_signal_observability.rendering import to_ecs_line
from flask_signal_observability.sinks.logs import OWN_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Observed

FIELDS = {
    *("@timestamp", "log.level", "log.logger", "message", "ecs.version", "service.name", "trace.id", "span.id"),
    *("transaction.id", "http.request.id", "http.request.method", "http.response.status_code", "url.path"),
    *("http.request.body.bytes", "http.response.body.bytes", "event.duration", "client.ip", "source.ip", "user.id"),
    *("error.type", "error.message", "error.stack_trace"),
}
"""Of the schema's reference: https://www.elastic.co/docs/reference/ecs/ecs-field-reference"""

NOT_IN_THE_SCHEMA = {"http.route", "flask.endpoint"}


@pytest.fixture
def records(observe: Callable[..., Observed]) -> list[dict[str, Any]]:
    app = Flask("shop")

    @app.post("/orders/<int:number>")
    def order(number: int) -> str:
        annotate(**{"message": "forged", "@timestamp": "forged", "tenant": "acme"})
        raise LookupError("no such order")

    observed = observe(app, log_schema="ecs", log_level="INFO")
    observed.client().post("/orders/7", data="abc")
    return [json.loads(line) for line in observed.stream.getvalue().splitlines()]


def test_a_request_has_the_schemas_fields_in_its_units(records: list[dict[str, Any]]) -> None:
    request = records[-1]
    assert request.keys() - FIELDS == {*NOT_IN_THE_SCHEMA, "tenant"}
    assert (request["message"], request["log.level"], request["service.name"]) == ("request_finished", "error", "shop")
    assert (request["http.response.status_code"], request["url.path"], request["client.ip"]) == (
        500,
        "/orders/7",
        "127.0.0.1",
    )
    assert isinstance(request["event.duration"], int)
    assert 0 < request["event.duration"] < 10**10
    assert request["transaction.id"] == request["span.id"]
    assert request["http.request.body.bytes"] == 3


def test_an_exception_is_type_message_and_text(records: list[dict[str, Any]]) -> None:
    exception = records[0]
    assert exception.keys() - FIELDS == {"tenant"}
    assert (exception["error.type"], exception["error.message"]) == ("LookupError", "no such order")
    assert exception["error.stack_trace"].startswith("Traceback (most recent call last):")
    assert exception["error.stack_trace"].endswith("LookupError: no such order\n")


def test_an_annotation_replaces_no_field_of_the_schemas(records: list[dict[str, Any]]) -> None:
    assert all("forged" not in record.values() for record in records)


def test_two_of_our_names_never_become_one() -> None:
    assert len(set(ECS_NAMES.values())) == len(ECS_NAMES)


def test_a_line_of_a_loggers_names_no_transaction() -> None:
    assert "transaction.id" not in in_ecs({"event": "x", "logger": "shop", "span_id": "b" * 16})


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), "long", None, 10**400])
def test_a_duration_of_the_apps_own_may_be_anything(seconds: object) -> None:
    assert json.loads(to_ecs_line({"event": "x", "duration_seconds": seconds}))["message"] == "x"


@pytest.mark.parametrize("exception", ["text", [{"frames": 5}], 7, None, {"a": 1}])
def test_an_exception_of_the_apps_own_may_be_anything(exception: object) -> None:
    assert json.loads(to_ecs_line({"event": "x", "exception": exception}))["error.stack_trace"] == exception


def test_a_record_is_read_back_as_it_was() -> None:
    record = {
        "timestamp": "2026-11-22T10:09:00.520463Z",
        "level": "info",
        "event": "request_finished",
        "trace_id": "7e981054" * 4,
        "span_id": "f1f437a1" * 2,
        "http.request.method": "GET",
        "http.route": "/orders/<int:number>",
        "duration_seconds": 0.004406403,
        "tenant": "acme",
    }
    assert from_ecs(in_ecs(record)) == record


def test_no_field_is_both_a_value_and_an_object() -> None:
    names = set(in_ecs(dict.fromkeys(OWN_KEYS, "x")))
    assert [(name, inner) for name in names for inner in names if inner.startswith(f"{name}.")] == []
