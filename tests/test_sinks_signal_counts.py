from __future__ import annotations

import itertools
import threading
from collections import Counter
from typing import TYPE_CHECKING

from flask import flash
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_signal_observability.catalogue import SIGNALS
from flask_signal_observability.metrics_store.store import MetricsStore
from flask_signal_observability.sinks.signal_counts import MAX_SEQUENCES
from flask_signal_observability.sinks.signal_counts import SignalCounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Observed

NAME = "flask_signals_total"


class Counted:
    """The signals of one app, and what a scrape says of them."""

    def __init__(self) -> None:
        self.store = MetricsStore()
        self.signals = SignalCounts(self.store).of("shop")
        self.add = self.signals.add

    def totals(self) -> dict[str, int]:
        rows = self.store.read(exemplars=False).rows(self.store.families[NAME])
        assert {app for (app, _), _ in rows} == {"shop"}
        return {signal: number for (_, signal), number in rows}


steps = st.lists(st.sampled_from(sorted(SIGNALS)), max_size=4) | st.none()


@given(st.lists(steps, max_size=30))
def test_every_signal_is_in_the_total_once_whenever_it_is_asked_for(steps: list[list[str] | None]) -> None:
    app_signals, sent = Counted(), Counter[str]()
    for signals in steps:
        if signals is None:
            assert app_signals.totals() == {signal: sent[signal] for signal in SIGNALS}
        else:
            app_signals.add(signals)
            sent.update(signals)
    assert app_signals.totals() == {signal: sent[signal] for signal in SIGNALS}


def test_ever_new_sequences_take_no_more_room_and_lose_nothing() -> None:
    app_signals, sent = Counted(), Counter[str]()
    for sequence in itertools.islice(itertools.product(sorted(SIGNALS), repeat=4), 3 * MAX_SEQUENCES + 10):
        app_signals.add(sequence)
        sent.update(sequence)
        assert len(app_signals.signals._sequences) <= MAX_SEQUENCES + 10
    assert app_signals.totals() == {signal: sent[signal] for signal in SIGNALS}


def test_threads_that_count_while_others_ask_lose_nothing() -> None:
    app_signals = Counted()
    threads, times = 4, 2 * MAX_SEQUENCES
    barrier = threading.Barrier(threads)
    asked: list[int] = []

    def count(number: int) -> None:
        barrier.wait(10)
        for turn in range(times):
            # A sequence of its own now and then, so that they are added up in the middle.
            app_signals.add(["request_started"] * (1 + number) + ["message_flashed"] * (turn % 100))
            if turn % 50 == 0:
                asked.append(app_signals.totals()["request_started"])

    workers = [threading.Thread(target=count, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    totals = app_signals.totals()
    assert totals["request_started"] == times * sum(range(1, threads + 1))
    assert totals["message_flashed"] == threads * sum(turn % 100 for turn in range(times))
    assert max(asked) <= totals["request_started"]


def test_all_ten_are_there_before_the_first_one_is_sent(observed: Observed) -> None:
    assert {sample.labels["signal"]: sample.value for sample in observed.samples(NAME)} == dict.fromkeys(SIGNALS, 0)


def test_a_view_that_flashes_ever_more_often_is_counted_to_the_last(observe: Callable[..., Observed]) -> None:
    app = Flask("shop")
    app.secret_key = "k"
    observed = observe(app)

    @app.route("/<int:times>")
    def view(times: int) -> str:
        for _ in range(times):
            flash("x")
        return ""

    client = observed.client()
    for times in range(40):
        client.get(f"/{times}")
    assert observed.value(NAME, signal="message_flashed") == sum(range(40))
    assert observed.value(NAME, signal="request_started") == 40


def test_apps_are_counted_under_their_names_and_those_of_one_name_together() -> None:
    store = MetricsStore()
    counts = SignalCounts(store)
    assert counts.of("shop") is counts.of("shop")
    counts.of("shop").add(["request_started"])
    counts.of("shop").add(["request_started"])
    counts.of("admin").add(["request_started"])
    rows = dict(store.read(exemplars=False).rows(store.families[NAME]))
    assert (rows["shop", "request_started"], rows["admin", "request_started"]) == (2, 1)
