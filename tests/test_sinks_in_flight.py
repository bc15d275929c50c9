from __future__ import annotations

import threading
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_signal_observability.metrics_store.store import MetricsStore
from flask_signal_observability.record import RequestRecord
from flask_signal_observability.sinks.in_flight import ACTIVE_REQUESTS
from flask_signal_observability.sinks.in_flight import AppInFlight
from flask_signal_observability.sinks.in_flight import CONTEXTS
from flask_signal_observability.sinks.in_flight import InFlight
from flask_signal_observability.sinks.in_flight import scheme_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Observed


def in_flight() -> tuple[MetricsStore, AppInFlight]:
    store = MetricsStore()
    return store, InFlight(store).of("shop")


def active(store: MetricsStore) -> list[tuple[tuple[str, str], int]]:
    return [
        (labels[1:], number) for labels, number in store.read(exemplars=False).rows(store.families[ACTIVE_REQUESTS])
    ]


def contexts(store: MetricsStore) -> int:
    ((_, number),) = store.read(exemplars=False).rows(store.families[CONTEXTS])
    return number


def a_record(method: str = "GET", scheme: Any = "http") -> RequestRecord:
    return RequestRecord(None, "shop", {"wsgi.url_scheme": scheme}, method, 0, 0, lambda record: None)


@pytest.mark.parametrize(
    ("scheme", "label"),
    [("http", "http"), ("https", "https"), ("HTTP", "_OTHER"), ("gopher", "_OTHER"), ("", "_OTHER"), (None, "_OTHER")],
)
def test_a_scheme_is_one_of_three_labels(scheme: Any, label: str) -> None:
    assert scheme_of(scheme) == label
    store, app = in_flight()
    app.enter(a_record(scheme=scheme))
    assert active(store) == [(("GET", label), 1)]


def test_open_requests_are_counted_by_method_and_scheme_and_stay_at_0_when_all_have_left() -> None:
    store, app = in_flight()
    records = [a_record("GET"), a_record("GET"), a_record("POST"), a_record("GET", "https")]
    for record in records:
        app.enter(record)
    assert active(store) == [(("GET", "http"), 2), (("GET", "https"), 1), (("POST", "http"), 1)]
    for record in records:
        app.leave(record)
    assert active(store) == [(("GET", "http"), 0), (("GET", "https"), 0), (("POST", "http"), 0)]


def test_a_request_that_leaves_twice_or_never_came_is_no_less_than_none() -> None:
    store, app = in_flight()
    record, other = a_record(), a_record()
    app.enter(record)
    app.enter(other)
    for _ in range(2):
        app.leave(record)
        app.leave(a_record())
    assert active(store) == [(("GET", "http"), 1)]


def test_the_label_of_a_request_is_what_it_came_with_whatever_becomes_of_its_environ(
    observe: Callable[..., Observed],
) -> None:
    app = Flask("shop")
    observed = observe(app)
    seen: list[dict[str, str]] = []

    @app.route("/")
    def view() -> str:
        seen.extend(sample.labels for sample in observed.samples(ACTIVE_REQUESTS) if sample.value)
        return ""

    # Inside the boundary.
    app.wsgi_app.wsgi_app = ProxyFix(app.wsgi_app.wsgi_app)  # type: ignore[attr-defined]
    observed.client().get("/", headers={"X-Forwarded-Proto": "https"}, environ_base={"REMOTE_ADDR": "10.0.0.1"})
    assert observed.duration_sample.labels["url_scheme"] == "https"
    assert [labels["url_scheme"] for labels in seen] == ["http"]
    assert observed.value(ACTIVE_REQUESTS) == 0


def test_contexts_are_those_of_open_requests_and_those_outside() -> None:
    store, app = in_flight()
    record = a_record()
    record.contexts_before = 2
    app.enter(record)
    app.add_contexts(+1)
    assert contexts(store) == 3
    app.leave(record)
    assert contexts(store) == 1
    app.add_contexts(-1)
    assert contexts(store) == 0


def test_contexts_that_were_popped_but_not_pushed_here_never_make_the_gauge_negative() -> None:
    store, app = in_flight()
    app.add_contexts(-1)
    assert contexts(store) == 0
    app.add_contexts(+1)
    assert contexts(store) == 1


def test_two_requests_at_once_are_two_with_two_contexts(observe: Callable[..., Observed]) -> None:
    app = Flask("shop")
    observed = observe(app)
    inside, leave = threading.Barrier(3), threading.Event()

    @app.route("/")
    def view() -> str:
        inside.wait(10)
        leave.wait(10)
        return ""

    threads = [threading.Thread(target=observed.client().get, args=("/",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    during = observed.value(ACTIVE_REQUESTS), observed.value(CONTEXTS)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert during == (2, 2)
    assert (observed.value(ACTIVE_REQUESTS), observed.value(CONTEXTS)) == (0, 0)


def test_a_request_that_turns_out_to_be_excluded_is_counted_out(observe: Callable[..., Observed]) -> None:
    observed = observe(exclude=("endpoint:ping",))
    during: list[float] = []
    observed.app.add_url_rule("/ping", "ping", lambda: during.append(observed.value(ACTIVE_REQUESTS)) or "")
    observed.client().get("/ping")
    assert during == [0]
    assert observed.value(ACTIVE_REQUESTS) == 0


def test_requests_that_come_and_go_while_others_look_disturb_nobody() -> None:
    store, app = in_flight()
    stop = threading.Event()
    failures: list[Exception] = []

    def look() -> None:
        while not stop.is_set():
            try:
                list(store.collect())
            except RuntimeError as error:  # "dictionary changed size during iteration"
                failures.append(error)

    def serve() -> None:
        for number in range(2_000):
            record = a_record(f"M{number % 50}")
            app.enter(record)
            app.add_contexts(+1)
            app.add_contexts(-1)
            app.leave(record)

    looking = threading.Thread(target=look)
    serving = [threading.Thread(target=serve) for _ in range(2)]
    for thread in (looking, *serving):
        thread.start()
    for thread in serving:
        thread.join(30)
    stop.set()
    looking.join(30)
    assert failures == []
    assert {count for _, count in active(store)} == {0}
    assert contexts(store) == 0


def test_apps_of_one_name_share_their_counts() -> None:
    in_flight = InFlight(MetricsStore())
    assert in_flight.of("shop") is in_flight.of("shop")
    assert in_flight.of("shop") is not in_flight.of("admin")


def test_contexts_that_are_not_followed_are_none(observe: Callable[..., Observed]) -> None:
    observed = observe(context_signals=False)
    during: list[float] = []
    observed.app.add_url_rule("/", view_func=lambda: during.append(observed.value(CONTEXTS)) or "")
    observed.client().get("/")
    assert during == [0]
    assert observed.value(CONTEXTS) == 0
