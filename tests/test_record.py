from __future__ import annotations

import inspect

import pytest
from werkzeug.exceptions import NotFound

from flask_signal_observability.record import error_type_of
from flask_signal_observability.record import PendingRender
from flask_signal_observability.record import RequestRecord
from flask_signal_observability.record import Sink

STARTED_UNIX_NS = 1_795_342_140_000_000_000


def make_record() -> RequestRecord:
    return RequestRecord(None, "shop", {}, "GET", STARTED_UNIX_NS, 5_000, lambda record: setattr(record, "path", "/"))


class OutOfStock(LookupError):
    class Forever(Exception):
        pass


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ZeroDivisionError(), "ZeroDivisionError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (NotFound(), "werkzeug.exceptions.NotFound"),
        (OutOfStock(), f"{__name__}.OutOfStock"),
        (OutOfStock.Forever(), f"{__name__}.OutOfStock.Forever"),
    ],
)
def test_the_type_of_an_error_is_its_qualified_class_and_builtins_are_bare(error: BaseException, name: str) -> None:
    assert error_type_of(error) == name


def test_the_first_error_is_the_records() -> None:
    record = make_record()
    assert record.error is None
    first, second = ValueError("first"), KeyError("second")
    record.errors = (first, second)
    assert record.error is first


def test_a_request_that_is_running_has_no_duration_and_ends_where_it_began() -> None:
    record = make_record()
    assert record.duration_seconds == 0.0
    assert record.ended_unix_ns == STARTED_UNIX_NS


def test_the_end_is_the_start_and_the_duration() -> None:
    record = make_record()
    record.end(record.started_ns + 1_500_000_000)
    assert record.duration_seconds == 1.5
    assert record.ended_unix_ns == STARTED_UNIX_NS + 1_500_000_000


def test_a_record_is_described_by_its_reader() -> None:
    record = make_record()
    assert record.path == ""
    record.describe()
    assert record.path == "/"


def test_two_records_of_the_same_facts_are_two() -> None:
    assert make_record() != make_record()


def test_a_render_that_ended_is_an_event_with_start_end_and_error() -> None:
    render = PendingRender("page.html", 7, STARTED_UNIX_NS, 1_000)
    event = render.ended("shop", 3_500)
    assert (event.name, event.app_name, event.fields) == ("template_rendered", "shop", {"template": "page.html"})
    assert (event.started_unix_ns, event.unix_ns, event.duration_ns) == (
        STARTED_UNIX_NS,
        STARTED_UNIX_NS + 2_500,
        2_500,
    )
    assert event.error is None
    error = ValueError()
    assert render.ended("shop", 3_500, error).error is error


def test_each_stage_of_a_sink_may_be_left_alone() -> None:
    sink = Sink()
    stages = [method for name, method in inspect.getmembers(sink, inspect.ismethod) if not name.startswith("_")]
    assert {stage.__name__ for stage in stages} == {
        "abandon",
        "attach",
        "context",
        "detach",
        "event",
        "finish",
        "open",
        "signal",
        "start",
    }
    for stage in stages:
        assert stage(*[None] * len(inspect.signature(stage).parameters)) is None
